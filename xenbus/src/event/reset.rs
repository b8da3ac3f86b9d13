//! All event channels closed at once, but for those that the toolstack has made.
//!
//! `EVTCHNOP_reset` closes the store's and the console's, too. The daemons at their other ends do not notice: their
//! ports wait for this domain again, and are bound again, to ports that may have other numbers.
#![forbid(unsafe_code)]

use xen_abi::{
    Errno, Hypervisor,
    event_channel::{Channel, EvtchnPort, fifo::EVTCHN_FIFO_PRIORITY_DEFAULT},
    hvm::params::{HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_STORE_EVTCHN},
};

use super::error::ResetError;
use crate::hypercall::{event_channel, hvm};

/// The parameters that name ports of the toolstack's.
const PARAMETERS: [u32; 2] = [HVM_PARAM_STORE_EVTCHN, HVM_PARAM_CONSOLE_EVTCHN];

/// Whether the domain has gone over to the FIFO ABI.
///
/// The bitmaps have no priorities: Xen says so before it says that port 0 cannot have one (`evtchn_port_set_priority`).
pub(super) fn is_fifo_in_use<H: Hypervisor>(hypervisor: &H) -> bool {
    let answer = event_channel::set_priority(hypervisor, EvtchnPort(0), EVTCHN_FIFO_PRIORITY_DEFAULT);
    answer == Err(Errno::EACCES)
}

/// Resets, and connects the store and the console again.
///
/// If one of the two cannot be connected, the other is all the same; the first that was lost is the error.
pub(super) fn preserving<H: Hypervisor>(
    hypervisor: &H,
    reset: impl FnOnce() -> Result<(), Errno>,
) -> Result<(), ResetError> {
    let mut before = [Channel::Closed; 2];
    for (parameter, channel) in PARAMETERS.into_iter().zip(&mut before) {
        *channel =
            channel_of(hypervisor, parameter).map_err(|errno| ResetError::Unknown { parameter, errno })?;
    }
    reset().map_err(ResetError::Refused)?;
    let mut outcome = Ok(());
    for (parameter, channel) in PARAMETERS.into_iter().zip(before) {
        if let Err(errno) = connect(hypervisor, parameter, channel) {
            // Nobody is to take somebody else's port for it.
            let _ = hvm::set_param(hypervisor, parameter, 0);
            outcome = outcome.and(Err(ResetError::Lost { parameter, errno }));
        }
    }
    outcome
}

/// What the port is that a parameter names; closed, if it names none.
fn channel_of<H: Hypervisor>(hypervisor: &H, parameter: u32) -> Result<Channel, Errno> {
    let value = hvm::get_param(hypervisor, parameter)?;
    let Ok(port) = u32::try_from(value) else { return Ok(Channel::Closed) };
    match event_channel::status(hypervisor, EvtchnPort(port)) {
        Ok(status) => status.channel().ok_or(Errno::EINVAL),
        Err(Errno::EINVAL) => Ok(Channel::Closed),
        Err(errno) => Err(errno),
    }
}

/// Makes a port like the one before, and has the parameter name it.
fn connect<H: Hypervisor>(hypervisor: &H, parameter: u32, channel: Channel) -> Result<(), Errno> {
    let port = match channel {
        Channel::Interdomain(domain, port) => event_channel::bind_interdomain(hypervisor, domain, port)?,
        // The daemon has not come yet, and knows the number of before: as a rule, this is the same.
        Channel::Unbound(domain) => event_channel::alloc_unbound(hypervisor, domain)?,
        Channel::Closed | Channel::Pirq(_) | Channel::Virq(_) | Channel::Ipi => return Ok(()),
    };
    hvm::set_param(hypervisor, parameter, port.0.into()).inspect_err(|_| {
        // Nobody would find it.
        let _ = event_channel::close(hypervisor, port);
    })
}
