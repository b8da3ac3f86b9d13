//! An event on its way to a domain.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, time::Duration};

use xen_abi::Errno;

use super::{Abi, PORT_NUMBER, port::Port};
use crate::hypervisor::{DOM0, Hypervisor, call::Refusal, domain::Domain, timer::Timer};

/// What becomes of an event that Xen ought to deliver at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFault {
    /// It never comes.
    Drop,
    /// It comes again after so long.
    Duplicate(Duration),
    /// It comes only after so long.
    Delay(Duration),
}

/// The faults that were asked for.
#[derive(Debug, Default)]
pub(crate) struct EventFaults {
    /// Events of each domain so far.
    seen: BTreeMap<u16, u64>,
    /// By domain, and which of its events it is.
    asked: BTreeMap<(u16, u64), EventFault>,
    /// On their way.
    late: BTreeMap<u64, Late>,
    next: u64,
}

/// An event that is late.
#[derive(Clone, Copy, Debug)]
struct Late {
    domain: u16,
    port: u32,
    /// A port that was closed and bound anew meanwhile does not get its predecessor's.
    life: u32,
}

impl EventFaults {
    fn of_next(&mut self, domain: u16) -> Option<EventFault> {
        let seen = self.seen.entry(domain).or_default();
        *seen += 1;
        self.asked.remove(&(domain, *seen))
    }

    pub(super) fn forget(&mut self, domain: u16) {
        self.seen.remove(&domain);
        self.asked.retain(|(of, _), _| *of != domain);
        self.late.retain(|_, late| late.domain != domain);
    }
}

impl Hypervisor {
    /// Asks for a fault at a domain's `nth` next event, counted from one. Domain 0 is the control domain.
    pub(crate) fn fault_event(&mut self, domain: u16, nth: u64, fault: EventFault) {
        let seen = self.faults.seen.get(&domain).copied().unwrap_or_default();
        self.faults.asked.insert((domain, seen.saturating_add(nth)), fault);
    }

    /// An event comes to a port.
    pub(super) fn raise(&mut self, domain: u16, port: u32) {
        match self.faults.of_next(domain) {
            None => self.deliver(domain, port),
            Some(EventFault::Drop) => {}
            Some(EventFault::Duplicate(after)) => {
                self.deliver(domain, port);
                self.postpone(domain, port, after);
            }
            Some(EventFault::Delay(after)) => self.postpone(domain, port, after),
        }
    }

    fn postpone(&mut self, domain: u16, port: u32, after: Duration) {
        let Some(life) = self.life(domain, port) else { return };
        self.faults.next += 1;
        self.faults.late.insert(self.faults.next, Late { domain, port, life });
        self.timers.set(Timer::LateEvent(self.faults.next), self.now.saturating_add(after));
    }

    /// An event that was late comes at last, if its channel is still there.
    pub(in crate::hypervisor) fn deliver_late(&mut self, event: u64) {
        let Some(Late { domain, port, life }) = self.faults.late.remove(&event) else { return };
        if self.life(domain, port) == Some(life) {
            self.deliver(domain, port);
        }
    }

    fn life(&self, domain: u16, port: u32) -> Option<u32> {
        Some(self.ports(domain)?.get(port)?.life)
    }

    fn deliver(&mut self, domain: u16, port: u32) {
        if let Some(domain) = self.domains.get_mut(&domain) {
            domain.raise(port);
        } else if domain == DOM0 && self.dom0.get(port).is_some_and(Port::is_usable) {
            self.notified.insert(port);
        }
    }
}

impl Domain {
    /// Makes a port pending, in whichever way the guest sees it.
    pub(crate) fn raise(&mut self, port: u32) {
        let Some(at) = self.usable(port) else { return };
        match self.events.abi {
            Abi::TwoLevel => self.two_level_raise(port, at),
            Abi::Fifo(_) => self.fifo_raise(port),
        }
    }

    /// `EVTCHNOP_unmask`
    pub(super) fn unmask(&mut self, port: u32) -> Result<(), Refusal> {
        if self.events.ports.get(port).is_none() {
            return Err(PORT_NUMBER.refuses(Errno::EINVAL));
        }
        if let Some(vcpu) = self.usable(port) {
            match self.events.abi {
                Abi::TwoLevel => self.two_level_unmask(port, vcpu),
                Abi::Fifo(_) => self.fifo_unmask(port),
            }
        }
        Ok(())
    }

    /// Takes back what is pending at a port that is closed, so that the next one with its number does not get it.
    pub(super) fn clear(&mut self, port: u32) {
        if self.usable(port).is_some() {
            match self.events.abi {
                Abi::TwoLevel => self.two_level_clear(port),
                Abi::Fifo(_) => self.fifo_clear(port),
            }
        }
    }

    /// Whether something is pending at a port; none if there is no such port.
    pub(in crate::hypervisor) fn is_pending(&self, port: u32) -> Option<bool> {
        self.events.ports.get(port)?;
        let pending = match self.events.abi {
            Abi::TwoLevel => self.two_level_is_pending(port),
            Abi::Fifo(_) => self.fifo_is_pending(port),
        };
        Some(self.usable(port).is_some() && pending)
    }

    /// The virtual CPU that has a port's upcalls, if events can be delivered at it.
    fn usable(&self, port: u32) -> Option<u32> {
        let port = self.events.ports.get(port)?;
        port.is_usable().then_some(port.vcpu)
    }
}
