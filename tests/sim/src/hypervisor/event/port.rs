//! The ports of a domain: which there are, and what each is bound to.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use xen_abi::{
    Errno,
    domid::DomId,
    event_channel::{Channel, EvtchnPort, fifo::EVTCHN_FIFO_PRIORITY_DEFAULT},
};

use super::{DYING, NO_FREE_PORT};
use crate::{audit::Mark, hypervisor::call::Refusal};

/// What a port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    /// Nothing: it can be allocated.
    Free,
    /// Port 0, which is never in use.
    Reserved,
    /// Waiting for a domain to connect.
    Unbound { remote: u16 },
    /// Connected with a port of a domain, which may be the same domain.
    Interdomain { remote: u16, port: u32 },
    /// For a virtual interrupt.
    Virq(u32),
    /// Sent to by its own domain.
    Ipi,
}

impl Binding {
    /// As `EVTCHNOP_status` says it.
    pub(super) const fn channel(self) -> Channel {
        match self {
            Self::Free | Self::Reserved => Channel::Closed,
            Self::Unbound { remote } => Channel::Unbound(DomId(remote)),
            Self::Interdomain { remote, port } => Channel::Interdomain(DomId(remote), EvtchnPort(port)),
            Self::Virq(virq) => Channel::Virq(virq),
            Self::Ipi => Channel::Ipi,
        }
    }
}

/// A queue of the FIFO ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueueId {
    pub(crate) vcpu: u32,
    pub(crate) priority: u32,
}

/// A port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port {
    pub(crate) binding: Binding,
    /// Xen itself is at this end (a device model's port): the guest cannot touch it.
    pub(crate) xen: bool,
    /// The virtual CPU that has its upcalls.
    pub(crate) vcpu: u32,
    /// FIFO: the queue for its next event.
    pub(crate) priority: u32,
    /// FIFO: the queue that it was linked into last, and may still be in. It outlives the binding.
    pub(crate) linked: QueueId,
    /// FIFO: there was an event and no word for it yet. It outlives the binding, too: Xen never forgets it.
    pub(crate) recorded: bool,
    /// How often it was bound.
    pub(crate) life: u32,
}

impl Port {
    const FREE: Self = Self {
        binding: Binding::Free,
        xen: false,
        vcpu: 0,
        priority: 0,
        linked: QueueId { vcpu: 0, priority: 0 },
        recorded: false,
        life: 0,
    };

    /// Whether events can be delivered at it.
    pub(crate) const fn is_usable(&self) -> bool {
        !self.xen && !matches!(self.binding, Binding::Free | Binding::Reserved)
    }
}

/// The ports of a domain.
#[derive(Clone, Debug)]
pub(crate) struct Ports {
    /// Made in lots of [`BUCKET`], which stay. A number beyond is not even that of a closed port.
    table: Vec<Port>,
    /// `max_evtchn_port`: the highest that the toolstack lets the domain have.
    highest: u32,
    /// Below it none is free.
    lowest: u32,
    /// The domain is on its end, and gets no new ones.
    pub(crate) dying: bool,
    /// The ports of virtual interrupts: by the virtual CPU that they were bound for, and the interrupt.
    pub(crate) virqs: BTreeMap<(u32, u32), u32>,
    /// How many are not free.
    mark: Mark,
}

/// `EVTCHNS_PER_BUCKET`: Xen makes the structures of ports by the page.
pub(crate) const BUCKET: u32 = 64;

impl Ports {
    pub(crate) fn new(highest: u32) -> Self {
        let mut table = vec![Port::FREE; BUCKET as usize];
        table[0].binding = Binding::Reserved;
        Self {
            table,
            highest: highest.min(i32::MAX.cast_unsigned()),
            lowest: 1,
            dying: false,
            virqs: BTreeMap::new(),
            mark: Mark::default(),
        }
    }

    /// The port of this number, if Xen has ever made one.
    pub(crate) fn get(&self, port: u32) -> Option<&Port> {
        self.table.get(port as usize)
    }

    pub(crate) fn get_mut(&mut self, port: u32) -> Option<&mut Port> {
        self.table.get_mut(port as usize)
    }

    /// Numbers below this are those of ports, if only closed ones.
    pub(crate) fn valid(&self) -> u32 {
        u32::try_from(self.table.len()).unwrap_or(u32::MAX)
    }

    /// The lowest free port. It stays free until it is [bound](Self::bind).
    ///
    /// One that is `busy` was closed, but is in a queue still.
    pub(super) fn find(&mut self, abi_has: u32, busy: impl Fn(u32) -> bool) -> Result<u32, Refusal> {
        if self.dying {
            return Err(DYING.refuses(Errno::EINVAL));
        }
        let bound = |port: &Port| port.binding != Binding::Free;
        while self.get(self.lowest).is_some_and(bound) {
            self.lowest += 1;
        }
        let known =
            (self.lowest..self.valid()).find(|port| !self.get(*port).is_some_and(bound) && !busy(*port));
        let port = known.unwrap_or_else(|| self.valid());
        if port > self.highest || port >= abi_has {
            return Err(NO_FREE_PORT.refuses(Errno::ENOSPC));
        }
        if port == self.valid() {
            self.table.resize(self.table.len() + BUCKET as usize, Port::FREE);
        }
        Ok(port)
    }

    /// Binds a port that was found.
    pub(super) fn bind(&mut self, port: u32, binding: Binding, vcpu: u32) {
        let Some(port) = self.table.get_mut(port as usize) else { return };
        if port.binding == Binding::Free {
            self.mark.raise();
        }
        *port = Port { binding, vcpu, life: port.life.wrapping_add(1), ..*port };
    }

    /// What Xen does to each port that it binds while the FIFO ABI is in use.
    pub(super) fn default_priority(&mut self, port: u32) {
        if let Some(port) = self.get_mut(port) {
            port.priority = EVTCHN_FIFO_PRIORITY_DEFAULT;
        }
    }

    /// Frees a port.
    pub(super) fn free(&mut self, port: u32) {
        self.lowest = self.lowest.min(port);
        self.virqs.retain(|_, bound| *bound != port);
        let Some(port) = self.table.get_mut(port as usize) else { return };
        if port.binding != Binding::Free {
            self.mark.lower();
        }
        *port = Port { binding: Binding::Free, xen: false, vcpu: 0, ..*port };
    }

    /// The most that were not free at once.
    pub(crate) fn most_open(&self) -> u64 {
        self.mark.most()
    }

    /// Those that are not free, in order.
    pub(crate) fn open(&self) -> impl Iterator<Item = (u32, &Port)> {
        let numbered = (0..).zip(&self.table);
        numbered.filter(|(_, port)| !matches!(port.binding, Binding::Free | Binding::Reserved))
    }
}
