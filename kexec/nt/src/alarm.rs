//! An executor's one alarm: a KTIMER that queues the executor's KDPC.
#![expect(unsafe_code, reason = "NT is given the timer's address")]

use core::{cell::UnsafeCell, mem::MaybeUninit, time::Duration};

use kexec::{platform::Alarm, time::Instant};
use nt_sys::{_TIMER_TYPE, KDPC, KTIMER, LARGE_INTEGER, ULONG, ntddk};

/// NT counts time in these.
const NANOS_PER_TICK: u64 = 100;
/// And what a timer tolerates in these.
const NANOS_PER_MILLISECOND: u64 = 1_000_000;

/// Room for a KTIMER.
pub(crate) struct Timer(UnsafeCell<MaybeUninit<KTIMER>>);

impl Timer {
    pub(crate) fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// # Safety
    ///
    /// Nobody has the timer yet, and it stays where it is for as long as it is in use.
    pub(crate) unsafe fn init(&self) {
        // SAFETY: the caller's promise.
        unsafe { ntddk::KeInitializeTimerEx(self.timer(), _TIMER_TYPE::NotificationTimer) };
    }

    /// Sets the timer to queue the KDPC, in place of what it was set to; with None, to nothing.
    ///
    /// # Safety
    ///
    /// Timer and KDPC have been initialized; the caller is at `DISPATCH_LEVEL` at most.
    pub(crate) unsafe fn set(&self, alarm: Option<Alarm>, now: Instant, kdpc: *mut KDPC) {
        if let Some(alarm) = alarm {
            let (due, tolerable) = due(now, alarm);
            // SAFETY: the caller's promise.
            unsafe { ntddk::KeSetCoalescableTimer(self.timer(), due, 0, tolerable, kdpc) };
        } else {
            // SAFETY: the caller's promise.
            unsafe { ntddk::KeCancelTimer(self.timer()) };
        }
    }

    /// Whether it has still to expire: one that has is signaled, before its KDPC is queued, until it is set again.
    ///
    /// # Safety
    ///
    /// It has been initialized; the caller is at `DISPATCH_LEVEL` at most.
    pub(crate) unsafe fn is_set(&self) -> bool {
        // SAFETY: the caller's promise.
        (unsafe { ntddk::KeReadStateTimer(self.timer()) }) == nt_sys::FALSE
    }

    fn timer(&self) -> *mut KTIMER {
        self.0.get().cast()
    }
}

/// What NT wants to know of an alarm: how far from now, and how many milliseconds later will do.
///
/// Rounded to be late: a timer that expires early would only be set again. And at least a tick, for zero is not from now.
fn due(now: Instant, alarm: Alarm) -> (LARGE_INTEGER, ULONG) {
    let ticks = nanos(alarm.at.since(now)).div_ceil(NANOS_PER_TICK).max(1);
    // Negative: from now on. The largest is 29,000 years.
    let due = LARGE_INTEGER { QuadPart: i64::try_from(ticks).unwrap_or(i64::MAX).wrapping_neg() };
    let tolerable = nanos(alarm.by.since(alarm.at)) / NANOS_PER_MILLISECOND;
    // It must not look negative.
    (due, i32::try_from(tolerable).unwrap_or(i32::MAX).unsigned_abs())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(now: u64, at: u64, by: u64) -> (i64, ULONG) {
        let alarm = Alarm { at: Instant::from_nanos(at), by: Instant::from_nanos(by) };
        let (due, tolerable) = due(Instant::from_nanos(now), alarm);
        // SAFETY: any value is an integer.
        (unsafe { due.QuadPart }, tolerable)
    }

    /// A timer is never set to expire early, nor to tolerate more than was said; a time that has passed is a tick away,
    /// and what no timer can hold is as long as it can.
    #[test]
    fn rounds_to_be_late() {
        assert_eq!(told(0, 1_000_000, 1_000_000), (-10_000, 0));
        assert_eq!(told(50, 1_000_000, 1_000_000), (-10_000, 0));
        assert_eq!(told(0, 1, 1), (-1, 0));
        assert_eq!(told(500, 500, 2_000_499), (-1, 1));
        assert_eq!(told(500, 0, 2_000_500), (-1, 2));
        assert_eq!(told(0, u64::MAX - 1, u64::MAX - 1), (-184_467_440_737_095_517, 0));
        assert_eq!(told(0, 0, u64::MAX - 1).1, i32::MAX.unsigned_abs());
    }
}
