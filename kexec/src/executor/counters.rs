//! What the runs have done, for whoever asks.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of an executor. Only the run writes them, so that counting costs no read-modify-write.
///
/// Plain `core` atomics even under loom: nothing is ordered by them.
#[derive(Debug)]
pub(super) struct Counters {
    runs: AtomicU64,
    polls: AtomicU64,
    stale: AtomicU64,
    overruns: AtomicU64,
    clock_went_back: AtomicU64,
}

/// What the runs of an executor have done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Runs that found no other consumer.
    pub runs: u64,
    /// Turns given to tasks.
    pub polls: u64,
    /// Turns of these that found the task gone: a waker outlived it.
    pub stale: u64,
    /// Runs that ended at their budget with work left.
    pub overruns: u64,
    /// Runs that began at an earlier time than the one before, and took that time instead.
    pub clock_went_back: u64,
}

fn add_one(counter: &AtomicU64) {
    counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
}

impl Counters {
    pub(super) const fn new() -> Self {
        Self {
            runs: AtomicU64::new(0),
            polls: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            overruns: AtomicU64::new(0),
            clock_went_back: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(super) fn count_run(&self) {
        add_one(&self.runs);
    }

    #[cold]
    pub(super) fn count_clock_went_back(&self) {
        add_one(&self.clock_went_back);
    }

    #[inline]
    pub(super) fn count_poll(&self) {
        add_one(&self.polls);
    }

    #[inline]
    pub(super) fn count_stale(&self) {
        add_one(&self.stale);
    }

    #[inline]
    pub(super) fn count_overrun(&self) {
        add_one(&self.overruns);
    }

    pub(super) fn read(&self) -> Stats {
        Stats {
            runs: self.runs.load(Relaxed),
            polls: self.polls.load(Relaxed),
            stale: self.stale.load(Relaxed),
            overruns: self.overruns.load(Relaxed),
            clock_went_back: self.clock_went_back.load(Relaxed),
        }
    }
}
