//! Time, from the performance counter.
//!
//! It can be read at any level, in a crash dump, too. It goes on while the guest is suspended; what
//! guest-running time makes of that is the suspend service's matter.
#![expect(unsafe_code, reason = "foreign functions")]

use core::num::NonZeroU64;

use kexec::time::Instant;
use nt_sys::{LARGE_INTEGER, ntddk};

const NANOS: u64 = 1_000_000_000;

/// The performance counter and its frequency, which is fixed at boot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    frequency: NonZeroU64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let mut frequency = LARGE_INTEGER { QuadPart: 0 };
        // SAFETY: it may be called at any level, and the argument is a place for its answer.
        unsafe { ntddk::KeQueryPerformanceCounter(&raw mut frequency) };
        // SAFETY: all bytes of the union were written above, and any value is an integer.
        let frequency = unsafe { frequency.QuadPart };
        Self { frequency: NonZeroU64::new(frequency.unsigned_abs()).unwrap_or(NonZeroU64::MIN) }
    }

    /// The time since the counter began to count, at boot.
    #[inline]
    pub(crate) fn now(self) -> Instant {
        // SAFETY: it may be called at any level, and the frequency is not asked for.
        let ticks = unsafe { ntddk::KeQueryPerformanceCounter(core::ptr::null_mut()) };
        // SAFETY: all of the union is the answer.
        Instant::from_nanos(self.nanos(unsafe { ticks.QuadPart }.unsigned_abs()))
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
}
