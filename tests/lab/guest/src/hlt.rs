//! kexec's platform here: a loop that runs the executor when somebody has rung, and halts the processor until then.
//!
//! There is one processor, which does nothing else: all of the guest's code runs at `DISPATCH_LEVEL`, and only
//! interrupts are above.
#![expect(unsafe_code, reason = "the level of the code that runs is what this file decides")]

use core::{
    arch::asm,
    sync::atomic::{
        AtomicBool, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use kexec::{
    Executor,
    irql::{Dispatch, Level, Passive, Raise},
    platform::{Alarm, AnyFuture, Platform, Ring},
    time::Instant,
};
use xenbus::{seam::Processor, x86::Native};

use crate::apic;

/// A processor that waits for interrupts.
#[derive(Debug)]
pub(crate) struct Hlt {
    rung: AtomicBool,
    armed: AtomicBool,
    /// Ticks of the time stamp counter in a millisecond; zero, while time stands still.
    frequency: AtomicU64,
    /// The counter when the clock was started.
    start: AtomicU64,
}

const NANOSECONDS_PER_MILLISECOND: u128 = 1_000_000;

impl Hlt {
    /// Without a clock yet.
    pub(crate) const fn new() -> Self {
        Self {
            rung: AtomicBool::new(false),
            armed: AtomicBool::new(false),
            frequency: AtomicU64::new(0),
            start: AtomicU64::new(0),
        }
    }

    /// Begins to count time, by a time stamp counter of so many kHz.
    pub(crate) fn start_clock(&self, kilohertz: u32) {
        self.start.store(Native.timestamp(), Relaxed);
        self.frequency.store(kilohertz.into(), Relaxed);
    }

    /// The alarm has gone off. Called by its interrupt.
    pub(crate) fn go_off(&self) {
        self.armed.store(false, Relaxed);
        self.rung.store(true, Release);
    }

    /// Waits for an interrupt, unless somebody has rung.
    fn wait(&self) {
        // SAFETY: interrupts are off for a few instructions.
        unsafe { asm!("cli", options(nomem, nostack)) };
        if self.rung.load(Acquire) {
            // SAFETY: they were on.
            unsafe { asm!("sti", options(nomem, nostack)) };
        } else {
            // SAFETY: they come after the instruction that follows `sti`, so that whoever rings from here on ends it.
            unsafe { asm!("sti", "hlt", options(nomem, nostack)) };
        }
    }
}

/// Runs an executor, until `is_over`.
///
/// # Safety
///
/// Interrupts are on. No other code runs that has a token of any level.
pub(crate) unsafe fn run(executor: &'static Executor<Hlt>, is_over: impl Fn() -> bool) {
    // SAFETY: only interrupts come in between, which have no token.
    let mut at = unsafe { Dispatch::assume() };
    let hlt = executor.platform();
    while !is_over() {
        if hlt.rung.swap(false, Acquire) {
            executor.try_run(&mut at);
        } else {
            hlt.wait();
        }
    }
}

// SAFETY: there are no threads.
unsafe impl Raise for Hlt {
    type Restore = ();

    fn raise(&self) {}
}

// SAFETY: there are no thread-locals.
unsafe impl AnyFuture for Hlt {}

// SAFETY: a doorbell and an alarm are flags, which run nothing.
unsafe impl Platform for Hlt {
    type Level = Dispatch;

    fn ring(&self, _: Ring) {
        self.rung.store(true, Release);
    }

    fn arm(&self, alarm: Option<Alarm>) {
        // Before the timer, which may go off at once.
        self.armed.store(alarm.is_some(), Relaxed);
        apic::set_timer(alarm.map(|alarm| alarm.at.since(self.now())));
    }

    fn is_armed(&self) -> bool {
        self.armed.load(Relaxed)
    }

    fn now(&self) -> Instant {
        let ticks = Native.timestamp().wrapping_sub(self.start.load(Relaxed));
        let nanoseconds = (u128::from(ticks) * NANOSECONDS_PER_MILLISECOND)
            .checked_div(self.frequency.load(Relaxed).into())
            .unwrap_or(0);
        Instant::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    fn past(&self, deadline: Instant) -> bool {
        self.now() >= deadline
    }

    fn may_run(&self) -> bool {
        true
    }

    fn silence(&self, _: &mut Passive) {
        self.arm(None);
        self.rung.store(false, Relaxed);
    }
}
