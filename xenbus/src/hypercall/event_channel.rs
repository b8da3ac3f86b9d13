//! `HYPERVISOR_event_channel_op`. All of these are callable at any level.
#![forbid(unsafe_code)]

use xen_abi::{
    Errno, Hypervisor,
    domid::{DOMID_SELF, DomId},
    event_channel::{
        AllocUnbound, BindInterdomain, BindIpi, BindVcpu, BindVirq, Close, EvtchnPort, Reset, Send, Status,
        Unmask, fifo::SetPriority,
    },
};

use super::command;

/// A new port, with which that domain can connect.
///
/// # Errors
///
/// What Xen answered: `ENOSPC`, if there is no port left.
pub fn alloc_unbound<H: Hypervisor>(hypervisor: &H, remote: DomId) -> Result<EvtchnPort, Errno> {
    let mut argument = AllocUnbound { dom: DOMID_SELF, remote_dom: remote, ..AllocUnbound::default() };
    command::ALLOC_UNBOUND.call(hypervisor, &mut argument)?;
    Ok(argument.port)
}

/// A new port that is connected with another domain's, and pending at once.
///
/// # Errors
///
/// What Xen answered: `EINVAL`, if that port does not wait for this domain.
pub fn bind_interdomain<H: Hypervisor>(
    hypervisor: &H,
    remote: DomId,
    port: EvtchnPort,
) -> Result<EvtchnPort, Errno> {
    let mut argument =
        BindInterdomain { remote_dom: remote, remote_port: port, ..BindInterdomain::default() };
    command::BIND_INTERDOMAIN.call(hypervisor, &mut argument)?;
    Ok(argument.local_port)
}

/// A new port for a virtual interrupt (`VIRQ_*`) of a virtual CPU; for a global one, that is CPU 0.
///
/// # Errors
///
/// What Xen answered: `EEXIST`, if it has a port already; `ENOENT`, if there is no such CPU.
pub fn bind_virq<H: Hypervisor>(hypervisor: &H, virq: u32, vcpu: u32) -> Result<EvtchnPort, Errno> {
    let mut argument = BindVirq { virq, vcpu, ..BindVirq::default() };
    command::BIND_VIRQ.call(hypervisor, &mut argument)?;
    Ok(argument.port)
}

/// A new port that the domain sends to itself, and whose upcalls a virtual CPU has for good.
///
/// # Errors
///
/// What Xen answered: `ENOENT`, if there is no such CPU.
pub fn bind_ipi<H: Hypervisor>(hypervisor: &H, vcpu: u32) -> Result<EvtchnPort, Errno> {
    let mut argument = BindIpi { vcpu, ..BindIpi::default() };
    command::BIND_IPI.call(hypervisor, &mut argument)?;
    Ok(argument.port)
}

/// Lets a virtual CPU have a port's upcalls.
///
/// # Errors
///
/// What Xen answered: `EINVAL`, if the port cannot be moved; `ENOENT`, if there is no such CPU.
pub fn bind_vcpu<H: Hypervisor>(hypervisor: &H, port: EvtchnPort, vcpu: u32) -> Result<(), Errno> {
    command::BIND_VCPU.call(hypervisor, &mut BindVcpu { port, vcpu }).map(drop)
}

/// Frees a port.
///
/// # Errors
///
/// What Xen answered: `EINVAL`, if it is free.
pub fn close<H: Hypervisor>(hypervisor: &H, port: EvtchnPort) -> Result<(), Errno> {
    command::CLOSE.call(hypervisor, &mut Close { port }).map(drop)
}

/// Makes the other end of a channel pending.
///
/// # Errors
///
/// What Xen answered: `EINVAL`, if the port has no other end.
pub fn send<H: Hypervisor>(hypervisor: &H, port: EvtchnPort) -> Result<(), Errno> {
    command::SEND.call(hypervisor, &mut Send { port }).map(drop)
}

/// Says what a port of this domain's is.
///
/// # Errors
///
/// What Xen answered: `EINVAL`, if there is no such port.
pub fn status<H: Hypervisor>(hypervisor: &H, port: EvtchnPort) -> Result<Status, Errno> {
    let mut argument = Status { dom: DOMID_SELF, port, ..Status::default() };
    command::STATUS.call(hypervisor, &mut argument)?;
    Ok(argument)
}

/// Unmasks a port, and makes the upcall if something has come.
///
/// # Errors
///
/// What Xen answered: `EINVAL`, if there is no such port.
pub fn unmask<H: Hypervisor>(hypervisor: &H, port: EvtchnPort) -> Result<(), Errno> {
    command::UNMASK.call(hypervisor, &mut Unmask { port }).map(drop)
}

/// Chooses the queue of a port (`EVTCHN_FIFO_PRIORITY_*`): zero is the first to be looked at.
///
/// # Errors
///
/// What Xen answered: `ENOSYS`, without the FIFO ABI; `EINVAL`, if there is no such priority.
pub fn set_priority<H: Hypervisor>(hypervisor: &H, port: EvtchnPort, priority: u32) -> Result<(), Errno> {
    command::SET_PRIORITY.call(hypervisor, &mut SetPriority { port, priority }).map(drop)
}

/// Frees all ports, those of the toolstack's too, and goes back to the bitmaps: Xen lets go of the pages of the FIFO
/// ABI.
///
/// # Errors
///
/// What Xen answered.
pub(crate) fn reset<H: Hypervisor>(hypervisor: &H) -> Result<(), Errno> {
    command::RESET.call(hypervisor, &mut Reset { dom: DOMID_SELF }).map(drop)
}
