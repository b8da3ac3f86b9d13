//! Time as the guest sees it: instants, and what waits for one.
//!
//! ```
//! use core::time::Duration;
//! use kexec::time::{interval, sleep, timeout};
//!
//! async fn handshake() {
//!     // ...
//! }
//!
//! async fn frontend() {
//!     if timeout(Duration::from_secs(5), handshake()).await.is_err() {
//!         // The backend is not there.
//!     }
//!     sleep(Duration::from_millis(10)).await;
//!     let mut beat = interval(Duration::from_secs(1)).tolerance(Duration::from_millis(100));
//!     loop {
//!         let tick = beat.tick().await;
//!         // `tick.missed` beats have been left out.
//! #       break;
//!     }
//! }
//! ```
//!
//! - [`sleep()`] and [`sleep_until`] wait for a time;
//! - [`timeout()`] and [`timeout_at`] wait for a future, but not for longer;
//! - [`interval()`] waits again and again;
//! - [`now()`] tells the time.
//!
//! **When.** Never before the deadline, by the platform's clock; and not later than the deadline and the
//! [tolerance](Sleep::tolerance), but for what the platform takes to answer an alarm (on Windows, up to a tick of the
//! system) and what is polled first. A duration begins at the first poll. Timers of one deadline fire in no
//! particular order.
//!
//! **Cost.** A timer is a part of the future: no memory, and no limit. However many there are, an executor has one
//! alarm armed at its platform. To give a timer up is never told to the platform, which for that may run the executor
//! once for nothing: a timeout that never elapses costs next to nothing.
//!
//! **Where.** In a task: the clock and the timers are its executor's, up to `DISPATCH_LEVEL`. All of these futures may be
//! moved to another task or dropped by another thread. Something else that polls them, a `block_on` of the host or a
//! combinator with wakers of its own, has no clock: a [`timeout()`] says so, as [`Elapsed::NoClock`]; the others
//! panic in builds for a host (feature `std`), and in a kernel, where that would be a bugcheck, they are never ready.
//! (A task's waker belongs into its task: a sleep that another CPU polls with it while a run is ending is seen by the
//! run after that.) On a platform without a clock, a plain [`Polling`](crate::platform::polling::Polling), time stands
//! still, and no deadline comes.
#![forbid(unsafe_code)]

use core::{fmt, time::Duration};

mod interval;
mod sleep;
mod timeout;

pub use interval::{Behind, Interval, Tick, Ticking, Ticks, interval};
pub use sleep::{Now, Sleep, now, sleep, sleep_until};
pub use timeout::{Elapsed, Timeout, timeout, timeout_at};

/// A point in guest-running time: nanoseconds since a start that the platform chose.
///
/// Time in which the guest did not run (suspended, migrating, paused by a debugger) does not count,
/// so that a deadline never fires merely because the guest was away.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The platform's start of time.
    pub const START: Self = Self(0);
    /// The last instant that can be told, 584 years after the start: a deadline that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// The instant `nanos` nanoseconds after the start.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The instant `duration` later, or [`NEVER`](Self::NEVER) when that cannot be told.
    #[must_use]
    pub const fn after(self, duration: Duration) -> Self {
        // A duration of more than 584 years saturates as well.
        let nanos = if duration.as_secs() > u64::MAX / 1_000_000_000 {
            u64::MAX
        } else {
            duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos() as u64)
        };
        self.after_nanos(nanos)
    }

    /// The instant so many nanoseconds later, or [`NEVER`](Self::NEVER).
    #[inline]
    pub(crate) const fn after_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NEVER {
            f.write_str("never")
        } else {
            write!(f, "+{:?}", Duration::from_nanos(self.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A deadline computed from any two values is a deadline: it never wraps into the past.
    #[test]
    fn arithmetic_saturates() {
        let late = Instant::from_nanos(u64::MAX - 1);
        assert_eq!(late.after(Duration::from_nanos(1)), Instant::NEVER);
        assert_eq!(late.after(Duration::MAX), Instant::NEVER);
        assert_eq!(Instant::START.after(Duration::from_micros(50)).as_nanos(), 50_000);
        assert_eq!(Instant::START.since(late), Duration::ZERO);
        assert_eq!(late.since(Instant::START).as_nanos(), u128::from(u64::MAX - 1));
    }
}
