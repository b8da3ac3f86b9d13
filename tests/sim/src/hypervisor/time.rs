//! Time, as guests see it: system time, the time stamp counter that goes with it, and the wall clock.
//!
//! System time is that of the host: nanoseconds since its Xen was started. It is no property of the guest: one that is
//! restored on another host finds another system time there, which may be an earlier one, and another counter.
//!
//! Xen writes a pair of counter and system time for each virtual CPU now and then, and the guest counts on from
//! there. Each change takes two steps here, between which a guest may read: the version is odd then, and the new half
//! stands beside the old one.
#![forbid(unsafe_code)]

use std::time::Duration;

use xen_abi::shared_info::{PVCLOCK_TSC_STABLE, VcpuTimeInfo, WC_NSEC, WC_SEC, WC_SEC_HI, WC_VERSION};

use super::{Hypervisor, VcpuId, domain::Domain, shared::Area, timer::Timer};
use crate::rule::rules;

rules! {
    /// `version` is odd while a clock is written, and goes up before and after.
    CLOCK_VERSION: "xen/include/public/xen.h", "struct vcpu_time_info";
    /// System time is what has gone by since Xen was started, on this host.
    SYSTEM_TIME: "xen/include/public/xen.h", "struct vcpu_time_info";
    /// The wall clock is that of when system time was zero.
    WALL_CLOCK: "xen/common/time.c", "do_settime";
}

/// The clocks of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// The time stamp counter's frequency, in hertz. Xen does not run below 1 MHz.
    pub frequency: u64,
    /// How long the host's Xen had been running when the machine was switched on.
    pub uptime: Duration,
}

impl Default for Clock {
    /// 2.4 GHz, a day after the start.
    fn default() -> Self {
        Self { frequency: 2_400_000_000, uptime: Duration::from_hours(24) }
    }
}

/// A second, in nanoseconds.
const SECOND: u64 = 1_000_000_000;
/// The least frequency.
const MEGAHERTZ: u64 = 1_000_000;

impl Clock {
    /// System time in nanoseconds, so long after the machine was switched on.
    pub(crate) fn system_time(self, now: Duration) -> u64 {
        nanoseconds(self.uptime.saturating_add(now))
    }

    /// When it will be so late; at once if it was already.
    pub(crate) fn at(self, system_time: u64) -> Duration {
        Duration::from_nanos(system_time).saturating_sub(self.uptime)
    }

    /// The counter, so long after the machine was switched on. It counts from the host's start, and wraps.
    pub(crate) fn timestamp(self, now: Duration) -> u64 {
        let ticks = u128::from(self.system_time(now)) * u128::from(self.hertz()) / u128::from(SECOND);
        #[expect(clippy::cast_possible_truncation, reason = "a counter of 64 bits wraps")]
        let wrapped = ticks as u64;
        wrapped
    }

    fn hertz(self) -> u64 {
        self.frequency.max(MEGAHERTZ)
    }

    /// The factor and the shift by which ticks become nanoseconds.
    ///
    /// The shift brings the frequency above 1 GHz and up to 2 GHz, so that the factor has all its 32 bits.
    fn scale(self) -> (u32, i8) {
        let (mut hertz, mut shift) = (self.hertz(), 0);
        while hertz > 2 * SECOND {
            hertz /= 2;
            shift -= 1;
        }
        while hertz <= SECOND {
            hertz *= 2;
            shift += 1;
        }
        let factor = (SECOND << 32) / hertz;
        (u32::try_from(factor).expect("less than a nanosecond for each tick"), shift)
    }

    fn stamp(self, now: Duration, version: u32) -> VcpuTimeInfo {
        let (tsc_to_system_mul, tsc_shift) = self.scale();
        VcpuTimeInfo {
            version,
            tsc_timestamp: self.timestamp(now),
            system_time: self.system_time(now),
            tsc_to_system_mul,
            tsc_shift,
            flags: PVCLOCK_TSC_STABLE,
            ..VcpuTimeInfo::default()
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The version that says that a change has begun.
const fn begun(version: u32) -> u32 {
    version.wrapping_add(1) | 1
}

impl Domain {
    /// Begins to write a virtual CPU's clock: the new counter stands beside the old time.
    fn begin_clock(&mut self, vcpu: u32, now: Duration) {
        let Some(info) = self.info(vcpu) else { return };
        let Some(old) = self.ram.load(info.time()) else { return };
        let new = self.clock.stamp(now, begun(old.version));
        self.ram.store(info.time(), &VcpuTimeInfo { system_time: old.system_time, ..new });
    }

    /// Writes a virtual CPU's clock, and leaves it valid.
    pub(super) fn write_clock(&mut self, vcpu: u32, now: Duration) {
        let Some(info) = self.info(vcpu) else { return };
        let Some(old) = self.ram.load(info.time()) else { return };
        let done = begun(old.version).wrapping_add(1);
        self.ram.store(info.time(), &self.clock.stamp(now, done));
    }

    /// Begins to write the wall clock: the new seconds stand beside the old fraction.
    fn begin_wall_clock(&mut self, at_start: Duration) {
        let seconds = at_start.as_secs();
        #[expect(clippy::cast_possible_truncation, reason = "in two halves")]
        let (low, high) = (seconds as u32, (seconds >> 32) as u32);
        self.ram.update(Area::SharedInfo.at(WC_VERSION), begun);
        self.ram.store(Area::SharedInfo.at(WC_SEC), &low);
        self.ram.store(Area::SharedInfo.at(WC_SEC_HI), &high);
    }

    /// Writes the wall clock, and leaves it valid.
    pub(super) fn write_wall_clock(&mut self, at_start: Duration) {
        self.begin_wall_clock(at_start);
        self.ram.store(Area::SharedInfo.at(WC_NSEC), &at_start.subsec_nanos());
        self.ram.update(Area::SharedInfo.at(WC_VERSION), |version| version.wrapping_add(1));
    }
}

/// When and what Xen writes.
#[derive(Debug)]
pub(crate) struct Timekeeping {
    /// The wall clock when the machine was switched on, since 1970.
    pub(super) wall_clock: Duration,
    /// How often the virtual CPUs' clocks are written.
    pub(super) period: Duration,
    /// When they are next.
    next: Duration,
    /// What was begun, and is to be finished at the next opportunity.
    begun: Vec<Begun>,
}

#[derive(Clone, Copy, Debug)]
enum Begun {
    Clock(VcpuId),
    WallClock(u16),
}

impl Default for Timekeeping {
    /// It is the 1st of January 2026, and clocks are written every second, as Xen does.
    fn default() -> Self {
        Self {
            wall_clock: Duration::from_hours(24 * 20_454),
            period: Duration::from_secs(1),
            next: Duration::ZERO,
            begun: Vec::new(),
        }
    }
}

impl Hypervisor {
    /// Lets time pass: it is so long since the machine was switched on.
    pub(crate) fn pass(&mut self, now: Duration) {
        self.now = self.now.max(now);
        self.keep_time();
        while let Some(timer) = self.timers.expired(self.now) {
            match timer {
                Timer::Singleshot(vcpu) => self.tick(vcpu),
                Timer::Periodic(vcpu) => self.periodic(vcpu),
                Timer::Watchdog(domain, _) => self.watchdog_expired(domain),
                Timer::LateEvent(event) => self.deliver_late(event),
            }
        }
    }

    /// When something will happen by itself, if nothing else does.
    pub(crate) fn next_timer(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// A domain's system time, in nanoseconds.
    pub(crate) fn system_time(&self, domain: u16) -> u64 {
        let clock = self.domains.get(&domain).map(|domain| domain.clock);
        clock.unwrap_or_default().system_time(self.now)
    }

    /// The time stamp counter, as a domain reads it.
    pub(crate) fn timestamp(&self, domain: u16) -> u64 {
        let clock = self.domains.get(&domain).map(|domain| domain.clock);
        clock.unwrap_or_default().timestamp(self.now)
    }

    /// Sets the wall clock: the time since 1970, now.
    pub(crate) fn set_wall_clock(&mut self, to: Duration) {
        self.time.wall_clock = to.saturating_sub(self.now);
        for (id, domain) in &mut self.domains {
            domain.begin_wall_clock(self.time.wall_clock.saturating_sub(domain.clock.uptime));
            self.time.begun.push(Begun::WallClock(*id));
        }
    }

    /// Writes the clocks of a domain that has just been built.
    pub(crate) fn start_clocks(&mut self, domain: u16) {
        let (now, wall_clock) = (self.now, self.time.wall_clock);
        let Some(domain) = self.domains.get_mut(&domain) else { return };
        domain.write_wall_clock(wall_clock.saturating_sub(domain.clock.uptime));
        for vcpu in domain.vcpus.keys().copied().collect::<Vec<_>>() {
            domain.write_clock(vcpu, now);
        }
    }

    /// Finishes what was begun, and begins anew when it is time to.
    fn keep_time(&mut self) {
        for begun in std::mem::take(&mut self.time.begun) {
            match begun {
                Begun::Clock(VcpuId { domain, vcpu }) => {
                    if let Some(domain) = self.domains.get_mut(&domain) {
                        domain.write_clock(vcpu, self.now);
                    }
                }
                Begun::WallClock(domain) => {
                    if let Some(domain) = self.domains.get_mut(&domain) {
                        domain.write_wall_clock(self.time.wall_clock.saturating_sub(domain.clock.uptime));
                    }
                }
            }
        }
        if self.now < self.time.next {
            return;
        }
        self.time.next = self.now.saturating_add(self.time.period);
        for (id, domain) in &mut self.domains {
            for vcpu in domain.vcpus.keys().copied().collect::<Vec<_>>() {
                domain.begin_clock(vcpu, self.now);
                self.time.begun.push(Begun::Clock(VcpuId { domain: *id, vcpu }));
            }
        }
    }
}
