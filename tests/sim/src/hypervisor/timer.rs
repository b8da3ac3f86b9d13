//! What Xen is to do when so much time has gone by.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::VcpuId;

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A virtual CPU's `VCPUOP_set_singleshot_timer`.
    Singleshot(VcpuId),
    /// A virtual CPU's `VCPUOP_set_periodic_timer`.
    Periodic(VcpuId),
    /// A domain's `SCHEDOP_watchdog`, by number.
    Watchdog(u16, usize),
    /// An event that was asked to be late.
    LateEvent(u64),
}

impl Timer {
    const fn domain(self) -> Option<u16> {
        match self {
            Self::Singleshot(vcpu) | Self::Periodic(vcpu) => Some(vcpu.domain),
            Self::Watchdog(domain, _) => Some(domain),
            Self::LateEvent(_) => None,
        }
    }
}

/// The timers that are set, each once.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeMap<Timer, Duration>,
    order: BTreeSet<(Duration, Timer)>,
}

impl Timers {
    /// Sets a timer, or sets it anew, to a time since the machine was switched on.
    pub(crate) fn set(&mut self, timer: Timer, at: Duration) {
        self.stop(timer);
        self.due.insert(timer, at);
        self.order.insert((at, timer));
    }

    pub(crate) fn stop(&mut self, timer: Timer) {
        if let Some(at) = self.due.remove(&timer) {
            self.order.remove(&(at, timer));
        }
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes off the first one that is due by now.
    pub(super) fn expired(&mut self, now: Duration) -> Option<Timer> {
        let (at, timer) = *self.order.first()?;
        (at <= now).then(|| {
            self.stop(timer);
            timer
        })
    }

    /// Stops those of a domain.
    pub(super) fn forget(&mut self, domain: u16) {
        self.due.retain(|timer, _| timer.domain() != Some(domain));
        self.order.retain(|(_, timer)| timer.domain() != Some(domain));
    }
}
