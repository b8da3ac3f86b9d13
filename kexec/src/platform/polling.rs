//! A loop that asks: no interrupts, no threads, no clock of its own.
//!
//! Ringing only raises a flag. The crash-dump path, a bare-metal guest before its interrupts are up,
//! and a program that owns its loop run an executor so.
#![expect(unsafe_code, reason = "the confined form takes its caller's word that one thread does the polling")]

use core::{
    fmt,
    marker::PhantomData,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{AnyFuture, Platform, Ring};
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
pub struct Polling<L = (), W = Anyone> {
    rung: AtomicBool,
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
        Self { rung: AtomicBool::new(false), _for: PhantomData }
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
        Self { rung: AtomicBool::new(false), _for: PhantomData }
    }
}

impl<L, W> Polling<L, W> {
    /// Takes the doorbell: whether it has been rung since the last call. The caller that gets true runs
    /// the executor.
    pub fn is_rung(&self) -> bool {
        self.rung.swap(false, Ordering::Acquire)
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

    /// Time stands still: a run ends at its budget of polls.
    fn now(&self) -> Instant {
        Instant::START
    }

    fn past(&self, _deadline: Instant) -> bool {
        false
    }

    fn may_run(&self) -> bool {
        true
    }

    fn silence(&self, _passive: &mut Passive) {
        self.rung.store(false, Ordering::Relaxed);
    }
}

impl<L, W> fmt::Debug for Polling<L, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Polling").field("rung", &self.rung).finish_non_exhaustive()
    }
}
