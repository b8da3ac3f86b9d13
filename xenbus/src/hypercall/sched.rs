//! `HYPERVISOR_sched_op`. All of these are callable at any level.
#![forbid(unsafe_code)]

use xen_abi::{Errno, Hypervisor, sched::Shutdown};

use super::command;

/// Stops the domain for this reason, one of `SHUTDOWN_*`.
///
/// After `SHUTDOWN_SUSPEND` it comes back: false in a new domain, true if nothing has changed.
///
/// # Errors
///
/// What Xen answered: the domain runs on.
pub fn shutdown<H: Hypervisor>(hypervisor: &H, reason: u32) -> Result<bool, Errno> {
    command::SHUTDOWN.call(hypervisor, &mut Shutdown { reason }).map(|answer| answer != 0)
}

/// Says for which reason, one of `SHUTDOWN_*`, the domain will have shut down when it does.
///
/// # Errors
///
/// What Xen answered.
pub fn shutdown_code<H: Hypervisor>(hypervisor: &H, reason: u32) -> Result<(), Errno> {
    command::SHUTDOWN_CODE.call(hypervisor, &mut Shutdown { reason }).map(drop)
}
