//! `SCHED_OP`: waiting, shutting down, watchdogs.
//!
//! Nothing waits inside a hypercall here, for the guest's code and the simulation take turns on one thread. A virtual
//! CPU that blocks or polls goes on at once: a guest has to look again anyway, as it may be woken for nothing.
#![forbid(unsafe_code)]

use std::time::Duration;

use xen_abi::{
    Errno,
    event_channel::EvtchnPort,
    sched::{
        Poll, RemoteShutdown, SCHEDOP_BLOCK, SCHEDOP_PIN_OVERRIDE, SCHEDOP_POLL, SCHEDOP_REMOTE_SHUTDOWN,
        SCHEDOP_SHUTDOWN, SCHEDOP_SHUTDOWN_CODE, SCHEDOP_WATCHDOG, SCHEDOP_YIELD, SHUTDOWN_WATCHDOG,
        Shutdown, Watchdog,
    },
};

use super::{
    Hypervisor,
    call::{Answer, BAD_POINTER, Call, Refusal, int},
    event::{NO_SUCH_DOMAIN, PORT_NUMBER},
    timer::Timer,
};
use crate::rule::rules;

rules! {
    /// A command that this Xen does not have is answered with `ENOSYS`.
    SCHED_COMMAND: "xen/common/sched/core.c", "do_sched_op";
    /// So many ports can be polled: 128; `EINVAL` for more.
    POLL_PORTS: "xen/common/sched/core.c", "do_poll";
    /// Only a device model says that a domain has shut down: `EPERM` for others, even about themselves.
    REMOTE_SHUTDOWN: "xen/common/sched/core.c", "SCHEDOP_remote_shutdown";
    /// Only the hardware domain is pinned: `EPERM` for others.
    PIN_OVERRIDE: "xen/include/public/sched.h", "SCHEDOP_pin_override";
    /// A domain has two watchdogs: `ENOSPC` for one more.
    WATCHDOG_FULL: "xen/common/sched/core.c", "domain_watchdog";
    /// What is fed or stopped is a watchdog that was started: otherwise `EINVAL`.
    WATCHDOG_ID: "xen/common/sched/core.c", "domain_watchdog";
    /// The first reason that a domain gives for its shutdown is the one that counts.
    SHUTDOWN_LATCH: "xen/common/domain.c", "domain_shutdown";
}

/// Ports that can be polled.
const MOST_POLLED: u32 = 128;

/// How a domain ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending {
    /// The first reason that was given.
    code: Option<u32>,
    /// It has shut down: its virtual CPUs do not run any more.
    pub(crate) shut_down: bool,
    /// Which of its watchdogs are in use.
    watchdogs: [bool; 2],
}

impl Hypervisor {
    /// `SCHED_OP`
    pub(super) fn sched_op(&mut self, call: &mut Call<'_>) -> Answer {
        let (from, argument) = (call.from, call.arguments[1]);
        match int(call.arguments[0]) {
            SCHEDOP_YIELD => {}
            SCHEDOP_BLOCK => {
                if self.domain(from.domain)?.due(from.vcpu).is_none() {
                    self.block(from);
                }
            }
            SCHEDOP_POLL => self.poll(call)?,
            SCHEDOP_SHUTDOWN => {
                let Shutdown { reason } = call.memory.get(argument)?;
                self.shut_down(from.domain, byte(reason));
            }
            SCHEDOP_SHUTDOWN_CODE => {
                let Shutdown { reason } = call.memory.get(argument)?;
                self.domain(from.domain)?.ending.code.get_or_insert(byte(reason));
            }
            SCHEDOP_REMOTE_SHUTDOWN => {
                let RemoteShutdown { domain_id, .. } = call.memory.get(argument)?;
                return Err(if self.ports(domain_id.0).is_some() {
                    REMOTE_SHUTDOWN.refuses(Errno::EPERM)
                } else {
                    NO_SUCH_DOMAIN.refuses(Errno::ESRCH)
                });
            }
            SCHEDOP_WATCHDOG => return self.watchdog(from.domain, call.memory.get(argument)?),
            SCHEDOP_PIN_OVERRIDE => return Err(PIN_OVERRIDE.refuses(Errno::EPERM)),
            _ => return Err(SCHED_COMMAND.refuses(Errno::ENOSYS)),
        }
        Ok(0)
    }

    /// Looks at each port until one is pending, and at none if an interrupt is due.
    fn poll(&mut self, call: &Call<'_>) -> Result<(), Refusal> {
        let Poll { ports, nr_ports, .. } = call.memory.get(call.arguments[1])?;
        if nr_ports > MOST_POLLED {
            return Err(POLL_PORTS.refuses(Errno::EINVAL));
        }
        let domain = self.domain(call.from.domain)?;
        if domain.due(call.from.vcpu).is_some() {
            return Ok(());
        }
        for index in 0..u64::from(nr_ports) {
            let at = ports.checked_add(4 * index).ok_or(BAD_POINTER.refuses(Errno::EFAULT))?;
            let EvtchnPort(port) = call.memory.get(at)?;
            if domain.is_pending(port).ok_or(PORT_NUMBER.refuses(Errno::EINVAL))? {
                break;
            }
        }
        Ok(())
    }

    /// A domain shuts down. What becomes of it is the toolstack's affair, which is told once.
    pub(crate) fn shut_down(&mut self, domain: u16, reason: u32) {
        let Some(ending) = self.domains.get_mut(&domain).map(|domain| &mut domain.ending) else { return };
        let reason = *ending.code.get_or_insert(reason);
        if !std::mem::replace(&mut ending.shut_down, true) {
            self.shutdowns.push((domain, reason));
        }
    }

    /// The toolstack lets a domain go on that has shut down.
    pub(crate) fn resume(&mut self, domain: u16) {
        if let Some(domain) = self.domains.get_mut(&domain) {
            domain.ending.shut_down = false;
            domain.ending.code = None;
        }
    }

    fn watchdog(&mut self, domain: u16, Watchdog { id, timeout }: Watchdog) -> Answer {
        let at = self.now.saturating_add(Duration::from_secs(timeout.into()));
        let watchdogs = &mut self.domain(domain)?.ending.watchdogs;
        if id == 0 {
            let free = watchdogs.iter().position(|used| !used);
            let index = free.ok_or(WATCHDOG_FULL.refuses(Errno::ENOSPC))?;
            watchdogs[index] = true;
            self.timers.set(Timer::Watchdog(domain, index), at);
            return Ok(index as u64 + 1);
        }
        let index = id as usize - 1;
        let used = watchdogs.get_mut(index).filter(|used| **used);
        let used = used.ok_or(WATCHDOG_ID.refuses(Errno::EINVAL))?;
        if timeout == 0 {
            *used = false;
            self.timers.stop(Timer::Watchdog(domain, index));
        } else {
            self.timers.set(Timer::Watchdog(domain, index), at);
        }
        Ok(0)
    }

    /// A watchdog was not fed. A domain that has shut down already needs none.
    pub(super) fn watchdog_expired(&mut self, domain: u16) {
        if self.domains.get(&domain).is_some_and(|domain| !domain.ending.shut_down) {
            self.shut_down(domain, SHUTDOWN_WATCHDOG);
        }
    }
}

/// Xen keeps one byte of a reason.
const fn byte(reason: u32) -> u32 {
    reason & 0xFF
}
