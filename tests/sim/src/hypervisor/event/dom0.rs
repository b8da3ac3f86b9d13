//! The control domain's end of event channels, for whoever plays a backend, a store or a console; and what else it
//! can do to guests here.
#![forbid(unsafe_code)]

use std::{collections::BTreeSet, error::Error, fmt, mem, time::Duration};

use xen_abi::Errno;

use super::deliver::EventFault;
use crate::{
    dom0::Dom0,
    guest::Guest,
    hypervisor::{DOM0, call::Refusal},
    rule::Rule,
};

/// The control domain asked for something that Xen refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// With this error,
    pub error: Errno,
    /// by this rule.
    pub rule: Rule,
}

impl From<Refusal> for Refused {
    fn from(Refusal { rule, error }: Refusal) -> Self {
        Self { error, rule }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error, self.rule.says.trim())
    }
}

impl Error for Refused {}

impl Dom0 {
    /// A new port, for a guest to connect with.
    ///
    /// # Errors
    ///
    /// There is no free one.
    pub fn alloc_unbound(&self, remote: &Guest) -> Result<u32, Refused> {
        let remote = remote.domain();
        Ok(self.xen(|xen| xen.alloc_unbound(DOM0, DOM0, remote))?)
    }

    /// A new port, connected with one of a guest's that waits for the control domain.
    ///
    /// # Errors
    ///
    /// The guest's port does not wait for it, or there is no free one.
    pub fn bind_interdomain(&self, remote: &Guest, port: u32) -> Result<u32, Refused> {
        let remote = remote.domain();
        Ok(self.xen(|xen| xen.bind_interdomain(DOM0, remote, port))?)
    }

    /// A new port for a virtual interrupt.
    ///
    /// # Errors
    ///
    /// It has one, or there is no such interrupt, or no free port.
    pub fn bind_virq(&self, virq: u32) -> Result<u32, Refused> {
        Ok(self.xen(|xen| xen.bind_virq(DOM0, virq, 0))?)
    }

    /// Raises a virtual interrupt of the control domain's.
    pub fn raise_virq(&self, virq: u32) {
        self.xen(|xen| xen.raise_virq(DOM0, 0, virq));
    }

    /// Sets the wall clock: the time since 1970, now.
    pub fn set_wall_clock(&self, to: Duration) {
        self.xen(|xen| xen.set_wall_clock(to));
    }

    /// Sends an event to the other end.
    ///
    /// # Errors
    ///
    /// The port is not one to send to.
    pub fn send(&self, port: u32) -> Result<(), Refused> {
        Ok(self.xen(|xen| xen.send(DOM0, port))?)
    }

    /// Closes a port. The guest's end waits for the control domain again.
    ///
    /// # Errors
    ///
    /// It is closed.
    pub fn close(&self, port: u32) -> Result<(), Refused> {
        Ok(self.xen(|xen| xen.close(DOM0, port))?)
    }

    /// A new port in a guest, which waits for the control domain: what a domain builder does for the store and the
    /// console.
    ///
    /// # Errors
    ///
    /// There is no free one.
    pub fn alloc_unbound_for(&self, guest: &Guest) -> Result<u32, Refused> {
        let domain = guest.domain();
        Ok(self.xen(|xen| xen.builder_alloc_unbound(domain))?)
    }

    /// A new port in a guest at which Xen itself is, as a device model has them: the guest cannot use it.
    ///
    /// # Errors
    ///
    /// There is no free one.
    pub fn alloc_xen_for(&self, guest: &Guest, vcpu: u32) -> Result<u32, Refused> {
        let domain = guest.domain();
        Ok(self.xen(|xen| xen.builder_alloc_xen(domain, vcpu))?)
    }

    /// Takes the ports at which something came.
    #[must_use]
    pub fn notified(&self) -> BTreeSet<u32> {
        self.xen(|xen| mem::take(&mut xen.notified))
    }

    /// Lets something go wrong with a guest's `nth` next event, counted from one.
    pub fn fault(&self, guest: &Guest, nth: u64, fault: EventFault) {
        let domain = guest.domain();
        self.xen(|xen| xen.fault_event(domain, nth, fault));
    }
}
