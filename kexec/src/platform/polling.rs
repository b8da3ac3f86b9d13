//! A loop that asks: no interrupts, no threads, no clock of its own.
//!
//! Ringing only raises a flag, and an alarm is a time that whoever asks compares with the clock. The crash-dump path, a bare-metal guest before its interrupts are up,
//! and a program that owns its loop run an executor so.
#![expect(unsafe_code, reason = "the confined form takes its caller's word that one thread does the polling")]

use core::{
    fmt,
    marker::PhantomData,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::{Alarm, AnyFuture, Platform, Ring};
use crate::{
    irql::{Level, Passive, Raise},
    time::Instant,
};

/// The platform of an executor that is asked to run.
///
/// As `Polling`, anyone may do the asking, from any thread, and futures must be `Send`. As
/// [`Polling<L, Confined>`](Self::confined), its maker promises that threads do not matter.
///
/// ```
/// use kexec::{Budget, Executor, Pool, platform::polling::Polling};
///
/// static POOL: Pool<64, 4> = Pool::new();
/// static EXECUTOR: Executor<Polling> = Executor::new(Polling::new(), Budget::DEFAULT);
///
/// let handle = EXECUTOR.spawn_with(&POOL, || async { 6 * 7 }).expect("the pool has room");
/// while EXECUTOR.platform().is_rung() {
///     EXECUTOR.try_run(&mut ());
/// }
/// assert_eq!(handle.try_take().expect("it has run"), Ok(42));
/// ```
///
/// Unless it is given [a clock](Self::with_clock), time stands still: a run ends at its budget of polls, and a task
/// that sleeps for any time sleeps for ever.
pub struct Polling<L = (), W = Anyone> {
    rung: AtomicBool,
    clock: Option<fn() -> Instant>,
    /// When the alarm goes off, in nanoseconds; never, if none is armed.
    alarm: AtomicU64,
    _for: PhantomData<fn(L, W)>,
}

/// Any thread may run the executor, so that its futures must be `Send`.
#[derive(Debug)]
pub enum Anyone {}

/// The executor's tasks cannot tell threads apart: its maker has promised.
#[derive(Debug)]
pub enum Confined {}

impl Polling {
    /// A platform whose executor any thread may run.
    #[must_use]
    pub const fn new() -> Self {
        Self::still()
    }
}

impl Default for Polling {
    fn default() -> Self {
        Self::new()
    }
}

impl<L: Level> Polling<L, Confined> {
    /// A platform whose tasks hold tokens and need not be `Send`.
    ///
    /// # Safety
    ///
    /// Either no thread-local can be reached by the executor's tasks (a kernel image), or one and the
    /// same thread makes all calls of `try_run`.
    #[must_use]
    pub const unsafe fn confined() -> Self {
        Self::still()
    }
}

impl<L, W> Polling<L, W> {
    const fn still() -> Self {
        Self {
            rung: AtomicBool::new(false),
            clock: None,
            alarm: AtomicU64::new(Instant::NEVER.as_nanos()),
            _for: PhantomData,
        }
    }

    /// Gives it a clock: guest-running time, read at the level at which the executor is asked and run.
    ///
    /// ```
    /// use core::time::Duration;
    /// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    /// use kexec::{Budget, Executor, Pool, platform::polling::Polling, time::{Instant, sleep}};
    ///
    /// fn ticks() -> Instant {
    ///     static TICKS: AtomicU64 = AtomicU64::new(0); // stands for a counter of the hardware
    ///     Instant::from_nanos(TICKS.fetch_add(100, Relaxed))
    /// }
    ///
    /// static POOL: Pool<256, 4> = Pool::new();
    /// static EXECUTOR: Executor<Polling> = Executor::new(Polling::new().with_clock(ticks), Budget::DEFAULT);
    ///
    /// let handle = EXECUTOR.spawn_with(&POOL, || sleep(Duration::from_micros(5))).expect("the pool has room");
    /// while !handle.is_finished() {
    ///     if EXECUTOR.platform().is_rung() {
    ///         EXECUTOR.try_run(&mut ());
    ///     }
    /// }
    /// ```
    #[must_use]
    pub const fn with_clock(mut self, clock: fn() -> Instant) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Takes the doorbell: whether it has been rung since the last call, or the alarm has gone off. The caller that
    /// gets true runs the executor.
    pub fn is_rung(&self) -> bool {
        let rung = self.rung.swap(false, Ordering::Acquire);
        // Both are taken: one run answers for both.
        self.has_gone_off() || rung
    }

    /// Whether the alarm's time has come. True once for each alarm.
    fn has_gone_off(&self) -> bool {
        let alarm = self.alarm.load(Ordering::Relaxed);
        alarm != Instant::NEVER.as_nanos()
            && self.clock.is_some_and(|clock| clock().as_nanos() >= alarm)
            && self
                .alarm
                .compare_exchange(alarm, Instant::NEVER.as_nanos(), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

// SAFETY: a level of nothing needs no raising; with tokens, `confined`'s caller runs alone on its CPU.
unsafe impl<L, W> Raise for Polling<L, W> {
    type Restore = ();

    fn raise(&self) {}
}

// SAFETY: this is what `confined` makes its caller promise.
unsafe impl<L: Level> AnyFuture for Polling<L, Confined> {}

// SAFETY: a doorbell is a flag, which runs nothing.
unsafe impl<L: Level, W: 'static> Platform for Polling<L, W> {
    type Level = L;

    fn ring(&self, _why: Ring) {
        self.rung.store(true, Ordering::Release);
    }

    fn arm(&self, alarm: Option<Alarm>) {
        let at = alarm.map_or(Instant::NEVER, |alarm| alarm.at);
        self.alarm.store(at.as_nanos(), Ordering::Relaxed);
    }

    fn is_armed(&self) -> bool {
        self.alarm.load(Ordering::Relaxed) != Instant::NEVER.as_nanos()
    }

    fn now(&self) -> Instant {
        self.clock.map_or(Instant::START, |clock| clock())
    }

    fn past(&self, deadline: Instant) -> bool {
        self.clock.is_some_and(|clock| clock() >= deadline)
    }

    fn may_run(&self) -> bool {
        true
    }

    fn silence(&self, _passive: &mut Passive) {
        self.rung.store(false, Ordering::Relaxed);
        self.arm(None);
    }
}

impl<L, W> fmt::Debug for Polling<L, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Polling").field("rung", &self.rung).finish_non_exhaustive()
    }
}
