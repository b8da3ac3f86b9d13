//! What is where in a guest's memory: `HYPERVISOR_memory_op`.
//!
//! - [`physmap`]: putting pages of Xen's and of the guest's somewhere, and taking them out;
//! - [`reservation`]: how much RAM a guest has.
//!
//! `XENMEM_exchange`, which works for PV guests only, and what only a toolstack or a device model uses is not here: it is answered like
//! what does not exist.
#![forbid(unsafe_code)]

pub(super) mod physmap;
mod reservation;

use xen_abi::{
    DomId, Errno,
    domid::DOMID_SELF,
    memory::{
        self, XENMEM_ADD_TO_PHYSMAP, XENMEM_ADD_TO_PHYSMAP_BATCH, XENMEM_CURRENT_RESERVATION,
        XENMEM_DECREASE_RESERVATION, XENMEM_INCREASE_RESERVATION, XENMEM_MAXIMUM_GPFN,
        XENMEM_MAXIMUM_RESERVATION, XENMEM_MEMORY_MAP, XENMEM_POPULATE_PHYSMAP, XENMEM_REMOVE_FROM_PHYSMAP,
    },
};

use super::{
    DOM0, Hypervisor,
    call::{Answer, Call, Refusal},
    domain::Domain,
};
use crate::{ram::Moment, rule::rules};

rules! {
    /// A command that this Xen does not have is answered with `ENOSYS`.
    MEMORY_COMMAND: "xen/common/memory.c", "do_memory_op";
    /// A command that cannot be interrupted does not begin in the middle: `EINVAL`.
    MEMORY_BEGINNING: "xen/common/memory.c", "do_memory_op";
    /// Whoever asks about a domain that there is not is answered with `ESRCH`.
    MEMORY_NO_DOMAIN: "xen/common/memory.c", "do_memory_op";
    /// A guest can change and ask about no domain but itself.
    MEMORY_OTHER_DOMAIN: "xen/include/public/memory.h", "struct xen_memory_reservation, domid";
    /// A guest for which the toolstack has not written down a memory map is told that there is no such command.
    MEMORY_MAP: "xen/include/public/memory.h", "XENMEM_memory_map";
}

/// A command's lower bits say which it is; the upper ones, where it goes on after it was interrupted.
const COMMAND_BITS: u32 = 6;

impl Hypervisor {
    /// `HYPERVISOR_memory_op`
    pub(crate) fn memory_op(&mut self, call: &mut Call<'_>) -> Answer {
        let [command, argument, ..] = call.arguments;
        let (start, command) = (command >> COMMAND_BITS, command & ((1 << COMMAND_BITS) - 1));
        match command {
            XENMEM_INCREASE_RESERVATION | XENMEM_DECREASE_RESERVATION | XENMEM_POPULATE_PHYSMAP => {
                Ok(self.change_reservation(call, command, argument, start))
            }
            XENMEM_ADD_TO_PHYSMAP => self.add_to_physmap(call, argument, start),
            XENMEM_ADD_TO_PHYSMAP_BATCH => self.add_batch_to_physmap(call, argument, start),
            XENMEM_CURRENT_RESERVATION
            | XENMEM_MAXIMUM_RESERVATION
            | XENMEM_MAXIMUM_GPFN
            | XENMEM_REMOVE_FROM_PHYSMAP
                if start != 0 =>
            {
                Err(MEMORY_BEGINNING.refuses(Errno::EINVAL))
            }
            XENMEM_CURRENT_RESERVATION => Ok(self.asked(call, argument)?.ram.reserved),
            XENMEM_MAXIMUM_RESERVATION => Ok(self.asked(call, argument)?.ram.most_reserved),
            XENMEM_MAXIMUM_GPFN => {
                Ok(self.asked(call, argument)?.ram.physmap.highest().map_or(0, |gfn| gfn.0))
            }
            XENMEM_REMOVE_FROM_PHYSMAP => self.remove_from_physmap(call, argument),
            XENMEM_MEMORY_MAP => Err(MEMORY_MAP.refuses(Errno::ENOSYS)),
            _ => Err(MEMORY_COMMAND.refuses(Errno::ENOSYS)),
        }
    }

    /// The domain that a question is about.
    fn asked(&mut self, call: &Call<'_>, argument: u64) -> Result<&mut Domain, Refusal> {
        let memory::Domain { domid } = call.memory.get(argument)?;
        self.itself_of(call, domid)
    }

    /// The domain that a caller names, which must be itself.
    fn itself_of(&mut self, call: &Call<'_>, named: DomId) -> Result<&mut Domain, Refusal> {
        let caller = call.from.domain;
        let is_domain = named.0 == DOM0 || self.domains.contains_key(&named.0);
        if named != DOMID_SELF && named.0 != caller {
            return Err(if is_domain {
                MEMORY_OTHER_DOMAIN.refuses(Errno::EPERM)
            } else {
                MEMORY_NO_DOMAIN.refuses(Errno::ESRCH)
            });
        }
        self.domains.get_mut(&caller).ok_or(MEMORY_NO_DOMAIN.refuses(Errno::ESRCH))
    }

    fn moment(&self, call: &Call<'_>) -> Moment {
        Moment { at: self.now, site: call.site }
    }
}
