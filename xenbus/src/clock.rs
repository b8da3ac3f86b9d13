//! Time, as Xen tells it.
//!
//! Xen keeps two clocks for a guest, in pages that they share: each virtual CPU's *system time*, in its
//! [`VcpuTimeInfo`], and the *wall clock*, in the shared info page, which says how late it was when system time was
//! zero. The guest counts on from there with its time stamp counter, and asks nobody.
//!
//! | clock | begins | while the guest is paused, or saved | after a suspend that was not cancelled |
//! |---|---|---|---|
//! | [`SystemTime`] | when the Xen of this host was started | goes on | is another host's: earlier or later |
//! | [`WallTime`] | in 1970 | goes on | goes on, as well as the clocks of two hosts agree |
//! | [`kexec::time::Instant`] | with the executor | stands still | goes on where it stood |
//!
//! So system times of one epoch can be compared, and nothing else: not those of before a suspend with those of after
//! it; and those of two virtual CPUs only if the clocks of both have [`PVCLOCK_TSC_STABLE`] among their flags. What
//! must outlive a suspend is told in wall time, and changes when somebody sets the clock. A deadline of the guest's is
//! an instant of kexec's, so that it is not over because the guest was away for a day.
//!
//! A domain that is new since a suspend has a new shared info page, which has both clocks as soon as it is
//! [mapped again](crate::page::XenPage::renew), and no [`VcpuTimeInfo`] anywhere else before the place is registered
//! again.
//!
//! A page is read whole or not at all: Xen makes a version odd while it writes, and the next even number when it has
//! written. Nobody may be suspended in between, for the versions of two domains may be the same by chance: hence the
//! `&Dispatch`.
//!
//! Source: `xen/include/public/xen.h`, `vcpu_time_info` and `shared_info`; `update_domain_wallclock_time`
//! (`xen/common/time.c`).
//!
//! [`PVCLOCK_TSC_STABLE`]: xen_abi::shared_info::PVCLOCK_TSC_STABLE
#![forbid(unsafe_code)]

use core::{
    fmt, hint,
    sync::atomic::{Ordering::Acquire, fence},
    time::Duration,
};

use kexec::irql::Dispatch;
use xen_abi::{
    seam::{Access, Place, Processor},
    shared_info::{VcpuInfos, VcpuTimeInfo, WC_NSEC, WC_SEC, WC_SEC_HI, WC_VERSION},
};

/// How often a clock is read that is just being written, which takes Xen some nanoseconds.
pub const ATTEMPTS: u32 = 100;

/// Why there is no time to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockError {
    /// This virtual CPU has no clock among those that were asked.
    NoVcpu(usize),
    /// Xen was writing, at each of the [`ATTEMPTS`]: the last version that was seen.
    Unsettled(u32),
    /// Xen has never written this clock.
    Unwritten,
}

/// System time: nanoseconds since the Xen of this host was started. See [above](self) what it can be compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SystemTime(pub u64);

impl SystemTime {
    /// The system time at which the counter is so far, by a clock that was [read](stamp) in the same epoch on the same
    /// virtual CPU.
    ///
    /// A counter that is behind the clock, as that of another virtual CPU may be, is taken for one that is not ahead.
    /// What is more than 64 bits of nanoseconds is as many as they can be. Callable at any level.
    #[must_use]
    pub fn at(clock: &VcpuTimeInfo, timestamp: u64) -> Self {
        // The counter wraps: it is ahead by less than half its range, or behind.
        let ahead = timestamp.wrapping_sub(clock.tsc_timestamp).cast_signed();
        let ticks = u128::try_from(ahead).unwrap_or(0);
        let shift = u32::from(clock.tsc_shift.unsigned_abs());
        let shifted = if clock.tsc_shift < 0 {
            ticks.checked_shr(shift).unwrap_or(0)
        } else {
            // As 127 is the most, it is a power of two; what does not fit into 128 bits does not fit into 64 after the
            // rest.
            ticks.saturating_mul(1_u128.checked_shl(shift).unwrap_or(u128::MAX))
        };
        let since = shifted.saturating_mul(clock.tsc_to_system_mul.into()) >> 32;
        Self(clock.system_time.saturating_add(u64::try_from(since).unwrap_or(u64::MAX)))
    }

    /// What has gone by since an earlier time of the same epoch; nothing, if it was not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Reads the system time on this virtual CPU, whose clock is the one of this number in a page: that of
/// [`VCPU_INFO`](xen_abi::shared_info::VCPU_INFO) in the shared info page, or one that was registered elsewhere.
///
/// At `DISPATCH_LEVEL` or above.
///
/// ```
/// use kexec::irql::Dispatch;
/// use xen_abi::shared_info::VCPU_INFO;
/// use xenbus::{
///     clock::{ClockError, WallTime, Zone, system_time, wall_clock},
///     seam::{Access, Processor},
/// };
///
/// fn now<A: Access>(at: &Dispatch, cpu: &impl Processor, shared: &A) -> Result<WallTime, ClockError> {
///     let since_start = system_time(at, cpu, shared, VCPU_INFO, 0)?;
///     Ok(wall_clock(at, shared)?.at(since_start, Zone::Utc))
/// }
/// ```
///
/// # Errors
///
/// See [`ClockError`].
pub fn system_time<A: Access>(
    at: &Dispatch,
    processor: &impl Processor,
    page: &A,
    clocks: VcpuInfos,
    vcpu: usize,
) -> Result<SystemTime, ClockError> {
    // The counter is read while the clock is known to be that of the processor below: both change when it changes.
    read(at, page, clocks, vcpu, || processor.timestamp())
        .map(|(clock, timestamp)| SystemTime::at(&clock, timestamp))
}

/// Reads a virtual CPU's clock as a whole, for whoever wants its flags, or [tells](SystemTime::at) several times by it.
///
/// At `DISPATCH_LEVEL` or above.
///
/// # Errors
///
/// See [`ClockError`].
pub fn stamp<A: Access>(
    at: &Dispatch,
    page: &A,
    clocks: VcpuInfos,
    vcpu: usize,
) -> Result<VcpuTimeInfo, ClockError> {
    read(at, page, clocks, vcpu, || ()).map(|(clock, ())| clock)
}

/// A clock, and what is read besides while it does not change.
fn read<A: Access, T>(
    at: &Dispatch,
    page: &A,
    clocks: VcpuInfos,
    vcpu: usize,
    besides: impl Fn() -> T,
) -> Result<(VcpuTimeInfo, T), ClockError> {
    let there = clocks.time.get(vcpu).zip(clocks.time_version.get(vcpu));
    let (clock, version) = there.ok_or(ClockError::NoVcpu(vcpu))?;
    let (clock, besides) = settled(at, page, version, || (page.read(clock), besides()))?;
    // A clock that is there moves.
    if clock.tsc_to_system_mul == 0 { Err(ClockError::Unwritten) } else { Ok((clock, besides)) }
}

/// What the wall clock said when system time was zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallClock {
    /// Since the beginning of 1970. It can be before that.
    seconds: i64,
    /// And so many nanoseconds.
    nanoseconds: u32,
}

/// Reads the wall clock from the shared info page. At `DISPATCH_LEVEL` or above.
///
/// # Errors
///
/// [`ClockError::Unsettled`] and [`ClockError::Unwritten`].
pub fn wall_clock<A: Access>(at: &Dispatch, shared: &A) -> Result<WallClock, ClockError> {
    let words = settled(at, shared, WC_VERSION, || {
        [shared.load(WC_SEC), shared.load(WC_SEC_HI), shared.load(WC_NSEC)]
    })?;
    let [low, high, nanoseconds] = words;
    if words == [0; 3] {
        return Err(ClockError::Unwritten);
    }
    // Xen adds the domain's offset, which has a sign.
    let seconds = (u64::from(high) << 32 | u64::from(low)).cast_signed();
    Ok(WallClock { seconds, nanoseconds })
}

impl WallClock {
    /// How late it is at a system time of the same epoch. Callable at any level.
    #[must_use]
    pub fn at(self, time: SystemTime, zone: Zone) -> WallTime {
        let start = i128::from(self.seconds).saturating_mul(SECOND).saturating_add(self.nanoseconds.into());
        WallTime { nanoseconds: start.saturating_add(time.0.into()), zone }
    }
}

/// What the wall clock shows.
///
/// The toolstack sets it to UTC and an offset of the domain's (`localtime`, `rtc_timeoffset`), and it moves with the
/// emulated real time clock when the guest sets that. So it shows what Windows takes the real time clock for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// UTC.
    Utc,
    /// The local time of the guest.
    Local,
}

impl Zone {
    /// What Windows takes it for: UTC, if `RealTimeIsUniversal` is not zero (a value of
    /// `Control\TimeZoneInformation`), and local time if it is zero or not there.
    #[must_use]
    pub const fn of_windows(real_time_is_universal: Option<u64>) -> Self {
        match real_time_is_universal {
            None | Some(0) => Self::Local,
            Some(_) => Self::Utc,
        }
    }
}

/// How late it is, to the nanosecond, in a [`Zone`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallTime {
    /// Since 1970-01-01 00:00.
    nanoseconds: i128,
    zone: Zone,
}

impl WallTime {
    /// Nanoseconds since 1970-01-01 00:00 of its [zone](Self::zone), leap seconds not counted.
    #[must_use]
    pub const fn unix_nanoseconds(self) -> i128 {
        self.nanoseconds
    }

    /// As Windows has it: full 100 nanoseconds since 1601-01-01 00:00 of its [zone](Self::zone). None, if it was
    /// earlier or is later than Windows counts, which is with 63 bits, to the year 30828.
    #[must_use]
    pub fn filetime(self) -> Option<u64> {
        let since_1601 = self.nanoseconds.checked_add(SECOND.saturating_mul(FROM_1601_TO_1970))?;
        let filetime = i64::try_from(since_1601.div_euclid(100)).ok()?;
        u64::try_from(filetime).ok()
    }

    /// Whether that is UTC, or local time.
    #[must_use]
    pub const fn zone(self) -> Zone {
        self.zone
    }
}

/// In nanoseconds.
const SECOND: i128 = 1_000_000_000;

/// In seconds: 369 years, of which 89 were leap years.
const FROM_1601_TO_1970: i128 = (369 * 365 + 89) * 24 * 60 * 60;

/// What was read while nobody wrote.
fn settled<A: Access, T>(
    _at: &Dispatch,
    page: &A,
    version: Place<u32>,
    mut read: impl FnMut() -> T,
) -> Result<T, ClockError> {
    let mut seen = 0;
    for _ in 0..ATTEMPTS {
        // Acquire: what is read now is not from before this version.
        seen = page.load(version);
        if seen.is_multiple_of(2) {
            let value = read();
            // Nor from after the next one: all of it is read before that is looked for.
            fence(Acquire);
            if page.load(version) == seen {
                return Ok(value);
            }
        }
        hint::spin_loop();
    }
    Err(ClockError::Unsettled(seen))
}

impl fmt::Display for ClockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVcpu(vcpu) => {
                write!(f, "the page has no clock of virtual CPU {vcpu}; register its vcpu_info")
            }
            Self::Unsettled(version) => {
                write!(f, "Xen was writing the clock, version {version}, for {ATTEMPTS} attempts; ask again")
            }
            Self::Unwritten => f.write_str("Xen has not written the clock; is the page mapped, and renewed?"),
        }
    }
}

impl core::error::Error for ClockError {}
