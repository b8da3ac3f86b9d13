//! Grants: `HYPERVISOR_grant_table_op`, and what the control domain's backends do with them.
//!
//! Version 1 of the table, as on a Xen that was started with `gnttab=max-ver:1`. `GNTTABOP_swap_grant_ref`, which Xen lets a guest
//! use and no guest does, is not here.
//!
//! - [`table`]: a domain's table, and the use of an entry;
//! - [`map`]: mapping pages of others;
//! - [`copy`]: copying from and to them;
//! - [`backend`]: both for the control domain.
#![forbid(unsafe_code)]

pub(crate) mod backend;
mod copy;
mod map;
mod table;

use std::{mem::offset_of, ops::Range};

use xen_abi::{
    DomId, Errno,
    domid::DOMID_SELF,
    grant_table::{
        op::{
            self, GNTTABOP_COPY, GNTTABOP_GET_VERSION, GNTTABOP_MAP_GRANT_REF, GNTTABOP_QUERY_SIZE,
            GNTTABOP_SET_VERSION, GNTTABOP_SETUP_TABLE, GNTTABOP_UNMAP_GRANT_REF,
        },
        status::{GNTST_OKAY, GrantError},
    },
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

pub(crate) use self::table::{Table, Track, Tracks, entries};
use super::{
    DOM0, Hypervisor,
    call::{Answer, Call, Refusal},
};
use crate::{
    linear::BadAddress,
    ram::{Moment, XenPage},
    rule::rules,
};

rules! {
    /// Of the commands, an HVM guest has those that were found safe for it; another is answered with `ENOSYS`.
    GRANT_COMMAND: "xen/arch/x86/hvm/hypercall.c", "hvm_grant_table_op";
    /// More arguments than half of what a count can say are answered with `EINVAL`.
    GRANT_COUNT: "xen/common/grant_table.c", "do_grant_table_op";
    /// What has one argument takes one.
    GRANT_ONE: "xen/include/public/grant_table.h", "GNTTABOP_setup_table, GNTTABOP_query_size";
    /// There are versions 1 and 2.
    GRANT_VERSION: "xen/include/public/grant_table.h", "GNTTABOP_set_version";
    /// Version 2 cannot be had where it is switched off: as in the times when there was none.
    GRANT_MAX_VERSION: "docs/misc/xen-command-line.pandoc", "gnttab";
    /// Whoever asks about a domain that there is not is answered with `ESRCH`.
    GRANT_NO_DOMAIN: "xen/common/grant_table.c", "gnttab_get_version";
    /// A guest can ask about no other domain.
    GRANT_OTHER_DOMAIN: "xen/include/public/grant_table.h", "GNTTABOP_query_size, note 2";
}

/// Who makes a call, and when and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) domain: u16,
    pub(crate) moment: Moment,
}

/// Why a domain cannot be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stranger {
    Unknown,
    Forbidden,
}

impl Stranger {
    const fn status(self) -> GrantError {
        match self {
            Self::Unknown => GrantError::BAD_DOMAIN,
            Self::Forbidden => GrantError::PERMISSION_DENIED,
        }
    }

    const fn refusal(self) -> Refusal {
        match self {
            Self::Unknown => GRANT_NO_DOMAIN.refuses(Errno::ESRCH),
            Self::Forbidden => GRANT_OTHER_DOMAIN.refuses(Errno::EPERM),
        }
    }
}

/// What is written into an argument's `status`.
const fn status(outcome: Result<(), GrantError>) -> i16 {
    match outcome {
        Ok(()) => GNTST_OKAY,
        Err(error) => error.number(),
    }
}

/// The bytes of an argument that Xen writes back, if not all.
const fn field<T>(offset: usize) -> Range<usize> {
    offset..offset + size_of::<T>()
}

impl Hypervisor {
    /// `HYPERVISOR_grant_table_op`
    #[expect(clippy::cast_possible_truncation, reason = "Xen takes these as 32 bits, whatever is above")]
    pub(crate) fn grant_table_op(&mut self, call: &mut Call<'_>) -> Answer {
        let [command, array, count, ..] = call.arguments;
        let (command, count) = (u64::from(command as u32), count as u32);
        let known = [
            GNTTABOP_MAP_GRANT_REF,
            GNTTABOP_UNMAP_GRANT_REF,
            GNTTABOP_SETUP_TABLE,
            GNTTABOP_COPY,
            GNTTABOP_QUERY_SIZE,
            GNTTABOP_SET_VERSION,
            GNTTABOP_GET_VERSION,
        ];
        if !known.contains(&command) {
            return Err(GRANT_COMMAND.refuses(Errno::ENOSYS));
        }
        if i32::try_from(count).is_err() {
            return Err(GRANT_COUNT.refuses(Errno::EINVAL));
        }
        let all = |size| 0..size;
        match command {
            GNTTABOP_MAP_GRANT_REF => {
                let written = all(size_of::<op::MapGrantRef>());
                self.each(call, array, count, written, Self::map_grant_ref)
            }
            GNTTABOP_UNMAP_GRANT_REF => {
                let written = field::<i16>(offset_of!(op::UnmapGrantRef, status));
                self.each(call, array, count, written, |xen, caller, op: &mut op::UnmapGrantRef| {
                    op.status = status(xen.unmap_grant_ref(caller, op));
                })
            }
            GNTTABOP_COPY => {
                let written = field::<i16>(offset_of!(op::GrantCopy, status));
                self.each(call, array, count, written, |xen, caller, op: &mut op::GrantCopy| {
                    op.status = status(xen.copy(caller, op));
                })
            }
            GNTTABOP_SETUP_TABLE | GNTTABOP_QUERY_SIZE if count != 1 => Err(GRANT_ONE.refuses(Errno::EINVAL)),
            GNTTABOP_SETUP_TABLE => self.setup_table(call, array),
            GNTTABOP_QUERY_SIZE => {
                let written = all(size_of::<op::QuerySize>());
                self.each(call, array, 1, written, |xen, caller, op: &mut op::QuerySize| {
                    op.status = status(xen.query_size(caller, op));
                })
            }
            GNTTABOP_SET_VERSION => Self::set_version(call, array),
            _ => self.get_version(call, array),
        }
    }

    /// Does something with each argument of an array, and writes it, or some bytes of it, back.
    fn each<T: FromBytes + IntoBytes + Immutable>(
        &mut self,
        call: &mut Call<'_>,
        array: u64,
        count: u32,
        written: Range<usize>,
        work: impl Fn(&mut Self, Caller, &mut T),
    ) -> Answer {
        let caller = self.caller(call);
        for index in 0..u64::from(count) {
            // No array of 2^31 is so large that this could overflow; where it begins could be anywhere.
            let address = array.checked_add(index * size_of::<T>() as u64).ok_or(BadAddress(array))?;
            let mut argument = call.memory.get(address)?;
            work(self, caller, &mut argument);
            let there = address.checked_add(written.start as u64).ok_or(BadAddress(address))?;
            call.memory.write(there, &argument.as_bytes()[written.clone()])?;
        }
        Ok(0)
    }

    pub(crate) fn caller(&self, call: &Call<'_>) -> Caller {
        Caller { domain: call.from.domain, moment: Moment { at: self.now, site: call.site } }
    }

    /// Whether there is such a domain.
    fn is_domain(&self, domain: u16) -> bool {
        domain == DOM0 || self.domains.contains_key(&domain)
    }

    /// The domain that a caller names, which must be itself.
    fn itself(&self, caller: u16, named: DomId) -> Result<u16, Stranger> {
        if named == DOMID_SELF || named.0 == caller {
            Ok(caller)
        } else if self.is_domain(named.0) {
            Err(Stranger::Forbidden)
        } else {
            Err(Stranger::Unknown)
        }
    }

    fn query_size(&self, caller: Caller, op: &mut op::QuerySize) -> Result<(), GrantError> {
        let domain = self.itself(caller.domain, op.dom).map_err(Stranger::status)?;
        let grants = &self.domains.get(&domain).ok_or(GrantError::BAD_DOMAIN)?.grants;
        (op.nr_frames, op.max_nr_frames) = (grants.frames, grants.most_frames);
        Ok(())
    }

    /// Answers where the guest has put each page of its table, which in an HVM guest is nowhere until it says so.
    fn setup_table(&mut self, call: &mut Call<'_>, argument: u64) -> Answer {
        let op: op::SetupTable = call.memory.get(argument)?;
        let outcome = self.setup(call, &op);
        let there =
            argument.checked_add(offset_of!(op::SetupTable, status) as u64).ok_or(BadAddress(argument))?;
        call.memory.put(there, &status(outcome))?;
        Ok(0)
    }

    fn setup(&mut self, call: &mut Call<'_>, op: &op::SetupTable) -> Result<(), GrantError> {
        const NOWHERE: u64 = !0;
        let domain = self.itself(call.from.domain, op.dom).map_err(Stranger::status)?;
        let domain = self.domains.get_mut(&domain).ok_or(GrantError::BAD_DOMAIN)?;
        if op.nr_frames > domain.grants.most_frames {
            return Err(GrantError::GENERAL_ERROR);
        }
        domain.grow_grants(op.nr_frames);
        for frame in 0..op.nr_frames {
            let place = domain.ram.physmap.place_of(XenPage::GrantTable(frame));
            let there = op.frame_list.checked_add(u64::from(frame) * size_of::<u64>() as u64);
            let there = there.ok_or(GrantError::BAD_VIRT_ADDR)?;
            let place = place.map_or(NOWHERE, |gfn| gfn.0);
            call.memory.put(there, &place).map_err(|_| GrantError::BAD_VIRT_ADDR)?;
        }
        Ok(())
    }

    fn set_version(call: &mut Call<'_>, argument: u64) -> Answer {
        let asked: op::SetVersion = call.memory.get(argument)?;
        call.memory.put(argument, &op::SetVersion { version: 1 })?;
        match asked.version {
            1 => Ok(0),
            2 => Err(GRANT_MAX_VERSION.refuses(Errno::ENOSYS)),
            _ => Err(GRANT_VERSION.refuses(Errno::EINVAL)),
        }
    }

    fn get_version(&self, call: &mut Call<'_>, argument: u64) -> Answer {
        let op: op::GetVersion = call.memory.get(argument)?;
        self.itself(call.from.domain, op.dom).map_err(Stranger::refusal)?;
        call.memory.put(argument, &op::GetVersion { version: 1, ..op })?;
        Ok(0)
    }
}
