//! kexec's platform here: on each virtual CPU, a loop that runs its executor when somebody has rung, and halts the
//! processor until then.
//!
//! Nothing else runs there: all of the guest's code runs at `DISPATCH_LEVEL`, and only interrupts are above.
//!
//! Who rings for another virtual CPU interrupts it, by its local APIC: that takes no port, works in every epoch and
//! before there are event channels, and does not hide it when an event channel loses something.
#![expect(unsafe_code, reason = "the level of the code that runs is what this file decides")]

use core::{
    sync::atomic::{
        AtomicBool, AtomicU32, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
    time::Duration,
};

use kexec::{
    Executor,
    irql::{Dispatch, Level, Passive, Raise},
    platform::{Alarm, AnyFuture, Platform, Ring},
    time::Instant,
};
use xenbus::{seam::Processor, x86::Native};

use crate::{apic, interrupts, smp};

/// A virtual CPU that waits for interrupts.
#[derive(Debug)]
pub(crate) struct Hlt {
    number: usize,
    rung: AtomicBool,
    armed: AtomicBool,
}

/// The guest's clock: the time stamp counter, which Xen keeps the same on all virtual CPUs (`hvm_set_guest_tsc_fixed`,
/// `xen/arch/x86/hvm/hvm.c`).
pub(crate) static CLOCK: Clock = Clock::standing();

/// A clock that counts on from some time.
#[derive(Debug)]
pub(crate) struct Clock {
    /// The CPUID leaf that tells the counter's frequency.
    leaf: AtomicU32,
    /// Ticks of the counter in a millisecond; zero, while time stands still.
    frequency: AtomicU64,
    /// The counter when the clock was set,
    start: AtomicU64,
    /// and nanoseconds, to which.
    since: AtomicU64,
}

const NANOSECONDS_PER_MILLISECOND: u128 = 1_000_000;

impl Clock {
    const fn standing() -> Self {
        Self {
            leaf: AtomicU32::new(0),
            frequency: AtomicU64::new(0),
            start: AtomicU64::new(0),
            since: AtomicU64::new(0),
        }
    }

    /// Begins to count time, by the frequency that is told there. While there is one virtual CPU.
    pub(crate) fn start(&self, leaf: u32) {
        self.leaf.store(leaf, Relaxed);
        self.go_on_from(Instant::START);
    }

    /// Goes on from that time, whatever the counter has done since, and whatever its frequency is now. When nobody else
    /// reads the clock.
    pub(crate) fn go_on_from(&self, now: Instant) {
        let [_, _, kilohertz, _] = Native.cpuid(self.leaf.load(Relaxed));
        self.since.store(now.as_nanos(), Relaxed);
        self.frequency.store(kilohertz.into(), Relaxed);
        self.start.store(Native.timestamp(), Relaxed);
    }

    /// The time.
    pub(crate) fn now(&self) -> Instant {
        // Another virtual CPU may have set it a moment ago, and be a moment ahead.
        let ticks = Native.timestamp().wrapping_sub(self.start.load(Relaxed)).cast_signed().max(0);
        let nanoseconds = (u128::from(ticks.cast_unsigned()) * NANOSECONDS_PER_MILLISECOND)
            .checked_div(self.frequency.load(Relaxed).into())
            .unwrap_or(0);
        let nanoseconds = u64::try_from(nanoseconds).unwrap_or(u64::MAX);
        Instant::from_nanos(self.since.load(Relaxed).saturating_add(nanoseconds))
    }

    /// Says from now on whether so long has gone by, by the counter alone: while interrupts are off, too, and whatever
    /// becomes of the clock.
    pub(crate) fn limit(&self, limit: Duration) -> impl Fn() -> bool {
        let start = Native.timestamp();
        let ticks = limit.as_millis() * u128::from(self.frequency.load(Relaxed));
        move || u128::from(Native.timestamp().wrapping_sub(start)) > ticks
    }
}

impl Hlt {
    /// That of the virtual CPU with this number.
    pub(crate) const fn of(number: usize) -> Self {
        Self { number, rung: AtomicBool::new(false), armed: AtomicBool::new(false) }
    }

    /// The alarm has gone off. Called by its interrupt, and where the timer may not be what it was.
    pub(crate) fn go_off(&self) {
        self.armed.store(false, Relaxed);
        self.rung.store(true, Release);
    }

    /// Has the loop go round once more.
    pub(crate) fn call(&self) {
        // Who has rung before has interrupted it, too.
        if !self.rung.swap(true, AcqRel) && smp::number() != self.number {
            // SAFETY: the vector has such a handler.
            unsafe { apic::interrupt(self.number, interrupts::BELL) };
        }
    }

    /// Waits for an interrupt, unless somebody has rung.
    fn wait(&self) {
        // SAFETY: interrupts are off for a few instructions.
        unsafe { interrupts::off() };
        if self.rung.load(Acquire) {
            // SAFETY: they were on.
            unsafe { interrupts::on() };
        } else {
            // SAFETY: they come after the instruction that follows `sti`, so that whoever rings from here on ends it.
            unsafe { interrupts::on_and_halt() };
        }
    }
}

/// Runs an executor, and what is to be done between two runs, until `is_over`.
///
/// # Safety
///
/// It is that of the virtual CPU that calls this, where interrupts are on, and no other code runs that has a token of
/// any level.
pub(crate) unsafe fn run(
    executor: &'static Executor<Hlt>,
    mut between: impl FnMut(&Dispatch),
    is_over: impl Fn() -> bool,
) {
    // SAFETY: only interrupts come in between, which have no token.
    let mut at = unsafe { Dispatch::assume() };
    let hlt = executor.platform();
    while !is_over() {
        between(&at);
        if hlt.rung.swap(false, AcqRel) {
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
        self.call();
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
        CLOCK.now()
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
