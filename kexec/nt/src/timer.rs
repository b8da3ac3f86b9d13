//! A KTIMER whose DPC wakes a task.
//!
//! The timer is only a wake-up; the clock decides. So it does no harm when a DPC comes that was meant for an
//! earlier setting, or when two of them become one.
#![expect(unsafe_code, reason = "NT is given the timer's address, and calls back with it")]

use core::{
    cell::UnsafeCell,
    fmt,
    future::Future,
    mem::MaybeUninit,
    pin::Pin,
    ptr,
    task::{Context, Poll},
    time::Duration,
};

use atomic_waker::AtomicWaker;
use kexec::time::Instant;
use nt_sys::{_TIMER_TYPE, KDPC, KTIMER, LARGE_INTEGER, PKDPC, PVOID, ntddk};

use crate::clock::Clock;

/// NT counts time in these.
const NANOS_PER_TICK: u64 = 100;

/// A timer for one task at a time.
#[derive(Debug)]
pub struct Timer(&'static Shared);

/// What NT has the address of.
struct Shared {
    timer: UnsafeCell<MaybeUninit<KTIMER>>,
    dpc: UnsafeCell<MaybeUninit<KDPC>>,
    waiter: AtomicWaker,
    clock: Clock,
}

// SAFETY: NT serializes what is done to a KTIMER and a KDPC.
unsafe impl Sync for Shared {}

/// Room for a [`Timer`].
pub struct TimerRoom(Shared);

impl Timer {
    /// Makes a timer in its device's memory. Up to `DISPATCH_LEVEL`.
    ///
    /// Before the memory is given back, the last [`After`] is dropped, and DPCs are flushed since: closing the executor
    /// whose task has the timer does the one, silencing a [`Dpc`](crate::Dpc) does the other.
    pub fn new(memory: &'static mut MaybeUninit<TimerRoom>) -> Self {
        let TimerRoom(shared) = memory.write(TimerRoom(Shared {
            timer: UnsafeCell::new(MaybeUninit::uninit()),
            dpc: UnsafeCell::new(MaybeUninit::uninit()),
            waiter: AtomicWaker::new(),
            clock: Clock::new(),
        }));
        let shared: &'static Shared = shared;
        // SAFETY: nobody has the timer yet; it stays where it is for as long as it is in use.
        unsafe { ntddk::KeInitializeTimerEx(shared.timer(), _TIMER_TYPE::NotificationTimer) };
        let context = ptr::from_ref(shared).cast_mut().cast();
        // SAFETY: as above.
        unsafe { ntddk::KeInitializeDpc(shared.dpc(), Some(expired), context) };
        Self(shared)
    }

    /// Waits for so long, and up to a tick of the system's clock more. Up to `DISPATCH_LEVEL`.
    ///
    /// **Cancel-safe:** dropping the future cancels the timer.
    pub fn after(&mut self, duration: Duration) -> After<'_> {
        After { timer: self, due: Due::In(duration) }
    }
}

impl Shared {
    fn timer(&self) -> *mut KTIMER {
        self.timer.get().cast()
    }

    fn dpc(&self) -> *mut KDPC {
        self.dpc.get().cast()
    }

    /// Sets the timer, whatever it was set to before.
    fn set(&self, from_now: Duration) {
        // Rounded up, because a timer that fires early would only be set again. At least one tick, and at most
        // what the type can hold, which is 29,000 years.
        let ticks = u64::try_from(from_now.as_nanos()).unwrap_or(u64::MAX).div_ceil(NANOS_PER_TICK).max(1);
        // Negative: from now on.
        let due = LARGE_INTEGER { QuadPart: i64::try_from(ticks).unwrap_or(i64::MAX).wrapping_neg() };
        // SAFETY: both were initialized by `Timer::new`; whoever polls a future is at `DISPATCH_LEVEL` at most.
        unsafe { ntddk::KeSetTimerEx(self.timer(), due, 0, self.dpc()) };
    }
}

/// The routine of the timer's DPC.
unsafe extern "C" fn expired(_dpc: PKDPC, context: PVOID, _: PVOID, _: PVOID) {
    // SAFETY: the context that `Timer::new` gave; the memory is there until DPCs have been flushed.
    let shared = unsafe { &*context.cast::<Shared>() };
    shared.waiter.wake();
}

/// The future of [`Timer::after`].
#[derive(Debug)]
#[must_use = "the timer is not set before the first poll"]
pub struct After<'t> {
    timer: &'t mut Timer,
    due: Due,
}

#[derive(Debug)]
enum Due {
    /// Not set yet.
    In(Duration),
    At(Instant),
}

impl Future for After<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = self.timer.0;
        let now = shared.clock.now();
        let at = match self.due {
            Due::At(at) => at,
            Due::In(duration) => now.after(duration),
        };
        self.due = Due::At(at);
        if now >= at {
            return Poll::Ready(());
        }
        shared.waiter.register(cx.waker());
        // Set at every poll: one that comes before its time, by another's wake, must not be the last.
        shared.set(at.since(now));
        Poll::Pending
    }
}

impl Drop for After<'_> {
    fn drop(&mut self) {
        let shared = self.timer.0;
        shared.waiter.take();
        // SAFETY: it was initialized by `Timer::new`; whoever drops a future is at `DISPATCH_LEVEL` at most.
        unsafe { ntddk::KeCancelTimer(shared.timer()) };
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("waiter", &self.waiter).finish_non_exhaustive()
    }
}

impl fmt::Debug for TimerRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
