//! What becomes of ports: bound, moved, sent to, closed.
//!
//! The caller is any domain, the control domain among them, which may do it to others as well.
#![forbid(unsafe_code)]

use xen_abi::{
    Errno,
    domid::DOMID_SELF,
    event_channel::{
        Status,
        fifo::EVTCHN_FIFO_NR_CHANNELS,
        virq::{NR_VIRQS, VIRQ_ARGO, VIRQ_DEBUG, VIRQ_TIMER, VIRQ_XENOPROF, VIRQ_XENPMU},
    },
};

use super::{
    Abi, BIND_ACCEPTED, CLOSE_OPEN, Events, FIXED_VCPU, NO_SUCH_DOMAIN, NO_SUCH_VCPU, OWN_PORTS, PORT_NUMBER,
    SEND_TO, VIRQ_HANDLER, VIRQ_NUMBER, VIRQ_ONCE, VIRQ_VCPU, XEN_ATTACHED,
    port::{Binding, Port, Ports},
};
use crate::hypervisor::{DOM0, Hypervisor, call::Refusal, domain::Domain};

/// Whose a virtual interrupt is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Virq {
    Vcpu,
    Domain,
    Global,
}

impl Virq {
    const fn of(number: u32) -> Self {
        match number {
            VIRQ_TIMER | VIRQ_DEBUG | VIRQ_XENOPROF | VIRQ_XENPMU => Self::Vcpu,
            VIRQ_ARGO => Self::Domain,
            _ => Self::Global,
        }
    }
}

impl Hypervisor {
    /// `EVTCHNOP_alloc_unbound`: a new port of `domain`, for `remote`.
    pub(crate) fn alloc_unbound(&mut self, caller: u16, domain: u16, remote: u16) -> Result<u32, Refusal> {
        let domain = self.resolve(caller, domain)?;
        let port = self.find_port(domain)?;
        Self::check_own(caller, domain)?;
        let remote = if remote == DOMID_SELF.0 { caller } else { remote };
        self.bind(domain, port, Binding::Unbound { remote }, 0);
        Ok(port)
    }

    /// `EVTCHNOP_bind_interdomain`: a new port of the caller's, which gets an event at once, for one may have been
    /// sent before.
    pub(crate) fn bind_interdomain(
        &mut self,
        caller: u16,
        remote: u16,
        remote_port: u32,
    ) -> Result<u32, Refusal> {
        let remote = self.resolve(caller, remote)?;
        let port = self.find_port(caller)?;
        let accepts = |port: &&mut Port| port.binding == Binding::Unbound { remote: caller };
        let peer = self.ports_mut(remote).and_then(|ports| ports.get_mut(remote_port)).filter(accepts);
        let peer = peer.ok_or(BIND_ACCEPTED.refuses(Errno::EINVAL))?;
        peer.binding = Binding::Interdomain { remote: caller, port };
        self.bind(caller, port, Binding::Interdomain { remote, port: remote_port }, 0);
        self.raise(caller, port);
        Ok(port)
    }

    /// `EVTCHNOP_bind_virq`
    pub(crate) fn bind_virq(&mut self, caller: u16, virq: u32, vcpu: u32) -> Result<u32, Refusal> {
        if virq >= NR_VIRQS {
            return Err(VIRQ_NUMBER.refuses(Errno::EINVAL));
        }
        if Virq::of(virq) != Virq::Vcpu && vcpu != 0 {
            return Err(VIRQ_VCPU.refuses(Errno::EINVAL));
        }
        self.check_vcpu(caller, vcpu)?;
        if Virq::of(virq) == Virq::Global && caller != DOM0 {
            return Err(VIRQ_HANDLER.refuses(Errno::EBUSY));
        }
        if self.virq_port(caller, vcpu, virq).is_some() {
            return Err(VIRQ_ONCE.refuses(Errno::EEXIST));
        }
        let port = self.find_port(caller)?;
        self.bind(caller, port, Binding::Virq(virq), vcpu);
        if let Some(ports) = self.ports_mut(caller) {
            ports.virqs.insert((vcpu, virq), port);
        }
        Ok(port)
    }

    /// `EVTCHNOP_bind_ipi`
    pub(crate) fn bind_ipi(&mut self, caller: u16, vcpu: u32) -> Result<u32, Refusal> {
        self.check_vcpu(caller, vcpu)?;
        let port = self.find_port(caller)?;
        self.bind(caller, port, Binding::Ipi, vcpu);
        Ok(port)
    }

    /// `EVTCHNOP_bind_vcpu`
    pub(crate) fn bind_vcpu(&mut self, caller: u16, port: u32, vcpu: u32) -> Result<(), Refusal> {
        self.check_vcpu(caller, vcpu)?;
        let port = self.touchable(caller, port)?;
        match port.binding {
            Binding::Virq(virq) if Virq::of(virq) != Virq::Vcpu => port.vcpu = vcpu,
            Binding::Unbound { .. } | Binding::Interdomain { .. } => port.vcpu = vcpu,
            _ => return Err(FIXED_VCPU.refuses(Errno::EINVAL)),
        }
        Ok(())
    }

    /// `EVTCHNOP_send`
    pub(crate) fn send(&mut self, caller: u16, port: u32) -> Result<(), Refusal> {
        match self.touchable(caller, port)?.binding {
            Binding::Interdomain { remote, port } => self.raise(remote, port),
            Binding::Ipi => self.raise(caller, port),
            Binding::Unbound { .. } => {}
            _ => return Err(SEND_TO.refuses(Errno::EINVAL)),
        }
        Ok(())
    }

    /// `EVTCHNOP_close`
    pub(crate) fn close(&mut self, caller: u16, port: u32) -> Result<(), Refusal> {
        self.touchable(caller, port)?;
        self.release(caller, port)
    }

    /// Closes a port, even one of Xen's own. What was connected with it waits for the domain to connect again, and
    /// gets no event.
    fn release(&mut self, domain: u16, number: u32) -> Result<(), Refusal> {
        let port = self.ports(domain).and_then(|ports| ports.get(number)).copied();
        let port = port.ok_or(PORT_NUMBER.refuses(Errno::EINVAL))?;
        match port.binding {
            Binding::Free | Binding::Reserved => return Err(CLOSE_OPEN.refuses(Errno::EINVAL)),
            Binding::Interdomain { remote, port } => {
                if let Some(peer) = self.ports_mut(remote).and_then(|ports| ports.get_mut(port)) {
                    peer.binding = Binding::Unbound { remote: domain };
                }
            }
            Binding::Unbound { .. } | Binding::Virq(_) | Binding::Ipi => {}
        }
        if let Some(domain) = self.domains.get_mut(&domain) {
            domain.clear(number);
        }
        if let Some(ports) = self.ports_mut(domain) {
            ports.free(number);
        }
        self.notified.retain(|notified| domain != DOM0 || *notified != number);
        Ok(())
    }

    /// `EVTCHNOP_status`
    pub(crate) fn status(&self, caller: u16, status: Status) -> Result<Status, Refusal> {
        let domain = self.resolve(caller, status.dom.0)?;
        let port = self.ports(domain).and_then(|ports| ports.get(status.port.0));
        let port = port.ok_or(PORT_NUMBER.refuses(Errno::EINVAL))?;
        Self::check_own(caller, domain)?;
        Ok(Status { vcpu: port.vcpu, ..status.with_channel(port.binding.channel()) })
    }

    /// `EVTCHNOP_reset`: closes all that the guest can close, xenstore's and the console's among them, and goes back
    /// to the two-level ABI.
    pub(crate) fn reset(&mut self, caller: u16, domain: u16) -> Result<(), Refusal> {
        let domain = self.resolve(caller, domain)?;
        Self::check_own(caller, domain)?;
        for port in self.open_ports(domain, |port| !port.xen) {
            self.release(domain, port)?;
        }
        if let Some(domain) = self.domains.get_mut(&domain) {
            domain.events.abi = Abi::TwoLevel;
        }
        Ok(())
    }

    /// The domain comes to its end: its ports are closed, all of them, and it gets no new ones.
    pub(crate) fn destroy_events(&mut self, domain: u16) {
        for port in self.open_ports(domain, |_| true) {
            let released = self.release(domain, port);
            debug_assert!(released.is_ok(), "port {port} was open");
        }
        if let Some(ports) = self.ports_mut(domain) {
            ports.dying = true;
        }
        self.timers.forget(domain);
        self.faults.forget(domain);
    }

    fn open_ports(&self, domain: u16, which: impl Fn(&Port) -> bool) -> Vec<u32> {
        let ports = self.ports(domain).into_iter().flat_map(Ports::open);
        ports.filter(|(_, port)| which(port)).map(|(number, _)| number).collect()
    }

    /// A port that the domain builder makes, for the control domain to bind.
    pub(crate) fn builder_alloc_unbound(&mut self, domain: u16) -> Result<u32, Refusal> {
        self.alloc_unbound(DOM0, domain, DOM0)
    }

    /// A port at which Xen itself is, for a device model in the control domain: the guest sees it, and cannot use it.
    pub(crate) fn builder_alloc_xen(&mut self, domain: u16, vcpu: u32) -> Result<u32, Refusal> {
        let port = self.alloc_unbound(DOM0, domain, DOM0)?;
        if let Some(port) = self.ports_mut(domain).and_then(|ports| ports.get_mut(port)) {
            port.xen = true;
            port.vcpu = vcpu;
        }
        Ok(port)
    }

    /// The port of a virtual interrupt, if it was bound.
    pub(crate) fn virq_port(&self, domain: u16, vcpu: u32, virq: u32) -> Option<u32> {
        self.ports(domain)?.virqs.get(&(vcpu, virq)).copied()
    }

    /// Raises a virtual interrupt. Nothing happens if it was not bound.
    pub(crate) fn raise_virq(&mut self, domain: u16, vcpu: u32, virq: u32) {
        if let Some(port) = self.virq_port(domain, vcpu, virq) {
            self.raise(domain, port);
        }
    }

    /// The domain that a caller names.
    pub(crate) fn resolve(&self, caller: u16, domain: u16) -> Result<u16, Refusal> {
        let domain = if domain == DOMID_SELF.0 { caller } else { domain };
        match self.ports(domain) {
            Some(_) => Ok(domain),
            None => Err(NO_SUCH_DOMAIN.refuses(Errno::ESRCH)),
        }
    }

    fn check_own(caller: u16, domain: u16) -> Result<(), Refusal> {
        if caller == domain || caller == DOM0 { Ok(()) } else { Err(OWN_PORTS.refuses(Errno::EPERM)) }
    }

    /// The control domain has one virtual CPU.
    fn check_vcpu(&self, domain: u16, vcpu: u32) -> Result<(), Refusal> {
        let has = match self.domains.get(&domain) {
            Some(domain) => domain.vcpus.contains_key(&vcpu),
            None => vcpu == 0,
        };
        if has { Ok(()) } else { Err(NO_SUCH_VCPU.refuses(Errno::ENOENT)) }
    }

    /// A port that its domain may do something with.
    fn touchable(&mut self, domain: u16, port: u32) -> Result<&mut Port, Refusal> {
        let port = self.ports_mut(domain).and_then(|ports| ports.get_mut(port));
        let port = port.ok_or(PORT_NUMBER.refuses(Errno::EINVAL))?;
        if port.xen { Err(XEN_ATTACHED.refuses(Errno::EINVAL)) } else { Ok(port) }
    }

    pub(crate) fn domain(&mut self, domain: u16) -> Result<&mut Domain, Refusal> {
        self.domains.get_mut(&domain).ok_or(NO_SUCH_DOMAIN.refuses(Errno::ESRCH))
    }

    pub(crate) fn ports(&self, domain: u16) -> Option<&Ports> {
        match domain {
            DOM0 => Some(&self.dom0),
            _ => Some(&self.domains.get(&domain)?.events.ports),
        }
    }

    fn ports_mut(&mut self, domain: u16) -> Option<&mut Ports> {
        match domain {
            DOM0 => Some(&mut self.dom0),
            _ => Some(&mut self.domains.get_mut(&domain)?.events.ports),
        }
    }

    fn find_port(&mut self, domain: u16) -> Result<u32, Refusal> {
        match domain {
            DOM0 => self.dom0.find(EVTCHN_FIFO_NR_CHANNELS, |_| false),
            _ => self.domain(domain)?.find_port(),
        }
    }

    fn bind(&mut self, domain: u16, port: u32, binding: Binding, vcpu: u32) {
        match self.domains.get_mut(&domain) {
            Some(domain) => domain.events.bind(port, binding, vcpu),
            None => self.dom0.bind(port, binding, vcpu),
        }
    }
}

impl Domain {
    fn find_port(&mut self) -> Result<u32, Refusal> {
        let Self { ram, events: Events { ports, abi, .. }, .. } = self;
        match &*abi {
            Abi::TwoLevel => ports.find(abi.ports(), |_| false),
            Abi::Fifo(fifo) => ports.find(abi.ports(), |port| fifo.is_linked(ram, port)),
        }
    }
}

impl Events {
    fn bind(&mut self, port: u32, binding: Binding, vcpu: u32) {
        self.ports.bind(port, binding, vcpu);
        if matches!(self.abi, Abi::Fifo(_)) {
            self.ports.default_priority(port);
        }
    }
}
