//! Guest-running time, from the performance counter.
//!
//! The counter can be read at any level, in a crash dump, too. It goes on while the guest does not run; what is known
//! of that, the suspend service [says](suspended), and it does not count.
#![expect(unsafe_code, reason = "foreign functions")]

use core::{
    num::NonZeroU64,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use kexec::time::Instant;
use nt_sys::{LARGE_INTEGER, ntddk};

const NANOS: u64 = 1_000_000_000;

/// The time that does not count, in nanoseconds.
static AWAY: AtomicU64 = AtomicU64::new(0);

/// Says that the performance counter has gone on for so long while the guest did not run: the time of all executors of
/// this image goes on from where it was, and no deadline comes any sooner.
///
/// Callable at any level. Whoever suspends calls it before another CPU goes on, once for each suspension, with what
/// the counter itself says. A reader that was caught in the middle gets a time that is too early, which executors
/// take for the latest that they know.
pub fn suspended(time: Duration) {
    let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    // Not a plain addition, which would wrap: time may stand still, but not go back.
    AWAY.update(Relaxed, Relaxed, |away| away.saturating_add(time));
}

/// The time now. Callable at any level, in a crash dump, too; an executor that runs often has the frequency at hand.
#[must_use]
pub fn now() -> Instant {
    let (clock, ticks) = Clock::read();
    running(clock.nanos(ticks))
}

/// What remains of the time since the counter began.
fn running(since_boot: u64) -> Instant {
    Instant::from_nanos(since_boot.saturating_sub(AWAY.load(Relaxed)))
}

/// The performance counter and its frequency, which is fixed at boot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    frequency: NonZeroU64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self::read().0
    }

    /// With what the counter is at.
    fn read() -> (Self, u64) {
        let mut frequency = LARGE_INTEGER { QuadPart: 0 };
        // SAFETY: it may be called at any level, and the argument is a place for its answer.
        let ticks = unsafe { ntddk::KeQueryPerformanceCounter(&raw mut frequency) };
        // SAFETY: all of the union is the answer.
        let ticks = unsafe { ticks.QuadPart };
        // SAFETY: all bytes of the union were written above, and any value is an integer.
        let frequency = unsafe { frequency.QuadPart };
        let frequency = NonZeroU64::new(frequency.unsigned_abs()).unwrap_or(NonZeroU64::MIN);
        (Self { frequency }, ticks.unsigned_abs())
    }

    /// The time since the counter began to count, at boot, without that in which the guest did not run.
    #[inline]
    pub(crate) fn now(self) -> Instant {
        // SAFETY: it may be called at any level, and the frequency is not asked for.
        let ticks = unsafe { ntddk::KeQueryPerformanceCounter(core::ptr::null_mut()) };
        // SAFETY: all of the union is the answer.
        let ticks = unsafe { ticks.QuadPart };
        // First the counter: see `suspended`.
        running(self.nanos(ticks.unsigned_abs()))
    }

    /// In two parts, so that neither overflows for 584 years.
    fn nanos(self, ticks: u64) -> u64 {
        // A remainder is below the frequency: the product fits up to 18 GHz, and saturates beyond.
        let part = (ticks % self.frequency).saturating_mul(NANOS) / self.frequency;
        (ticks / self.frequency).saturating_mul(NANOS).saturating_add(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nanos(frequency: u64, ticks: u64) -> u64 {
        Clock { frequency: NonZeroU64::new(frequency).unwrap_or(NonZeroU64::MIN) }.nanos(ticks)
    }

    /// Exact at the frequencies that Windows has, and after years of uptime.
    #[test]
    fn converts_ticks() {
        const DAY: u64 = 86_400;
        for frequency in [3_579_545, 10_000_000, 14_318_180, 2_400_000_000] {
            assert_eq!(nanos(frequency, 0), 0);
            assert_eq!(nanos(frequency, frequency), NANOS);
            assert_eq!(nanos(frequency, 1), NANOS / frequency);
            let days = 10_000;
            assert_eq!(nanos(frequency, frequency * DAY * days), NANOS * DAY * days);
        }
        assert_eq!(nanos(1, u64::MAX), u64::MAX);
    }

    /// Suspensions add up and do not count; more of them than there was time makes it stand still, and not wrap.
    #[test]
    fn does_not_count_suspensions() {
        const BOOT: u64 = 5_000_000_000;
        assert_eq!(running(BOOT).as_nanos(), BOOT);
        let mut last = running(BOOT);
        for second in 1..=4_u64 {
            suspended(Duration::from_secs(1));
            // The counter has gone on for as long, and for a nanosecond in which the guest ran.
            let now = running(BOOT + second * NANOS + second);
            assert_eq!(now.since(last), Duration::from_nanos(1));
            last = now;
        }
        assert_eq!(last.as_nanos(), BOOT + 4);
        suspended(Duration::MAX);
        assert_eq!(running(u64::MAX - 1), Instant::START);
    }
}
