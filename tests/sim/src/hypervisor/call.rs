//! From the number of a hypercall to what is done.
#![forbid(unsafe_code)]

use xen_abi::{
    Errno,
    hypercall::{EVENT_CHANNEL_OP, GRANT_TABLE_OP, HVM_OP, MEMORY_OP, SCHED_OP, VCPU_OP, XEN_VERSION},
};

use super::{Hypervisor, VcpuId};
use crate::{
    linear::{BadAddress, Linear},
    ram::Site,
    rule::{Rule, rules},
};

rules! {
    /// A hypercall that this Xen does not have is answered with `ENOSYS`.
    UNKNOWN_HYPERCALL: "xen/include/public/xen.h", "HYPERCALLS";
    /// A pointer at which nothing can be read or written, as the call needs it, is answered with `EFAULT`.
    BAD_POINTER: "xen/include/public/errno.h", "XEN_EFAULT";
}

/// Why a call was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) rule: Rule,
    pub(crate) error: Errno,
}

impl Rule {
    /// Refuses a hypercall.
    pub(crate) const fn refuses(self, error: Errno) -> Refusal {
        Refusal { rule: self, error }
    }
}

impl From<BadAddress> for Refusal {
    fn from(BadAddress(_): BadAddress) -> Self {
        BAD_POINTER.refuses(Errno::EFAULT)
    }
}

/// What a call answers.
pub(crate) type Answer = Result<u64, Refusal>;

/// A hypercall, as it arrives.
pub(crate) struct Call<'c> {
    pub(crate) from: VcpuId,
    /// Where in the guest's code it was made.
    pub(crate) site: Option<Site>,
    pub(crate) arguments: [u64; 5],
    pub(crate) memory: &'c mut dyn Linear,
}

/// An argument that Xen takes as an `int`.
pub(super) const fn int(argument: u64) -> u64 {
    argument & 0xFFFF_FFFF
}

impl Hypervisor {
    /// Does a call.
    pub(crate) fn call(&mut self, number: u32, call: &mut Call<'_>) -> Answer {
        self.run(call.from);
        match number {
            MEMORY_OP => self.memory_op(call),
            XEN_VERSION => self.xen_version(call),
            GRANT_TABLE_OP => self.grant_table_op(call),
            VCPU_OP => self.vcpu_op(call),
            SCHED_OP => self.sched_op(call),
            EVENT_CHANNEL_OP => self.event_channel_op(call),
            HVM_OP => self.hvm_op(call),
            _ => Err(UNKNOWN_HYPERCALL.refuses(Errno::ENOSYS)),
        }
    }
}
