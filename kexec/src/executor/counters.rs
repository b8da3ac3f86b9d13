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

fn add(counter: &AtomicU64, more: u32) {
    counter.store(counter.load(Relaxed).wrapping_add(u64::from(more)), Relaxed);
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
    pub(super) fn count_run(&self, clock_went_back: bool) {
        add(&self.runs, 1);
        if clock_went_back {
            add(&self.clock_went_back, 1);
        }
    }

    #[inline]
    pub(super) fn count_polls(&self, polls: u32) {
        add(&self.polls, polls);
    }

    #[inline]
    pub(super) fn count_stale(&self) {
        add(&self.stale, 1);
    }

    #[inline]
    pub(super) fn count_overrun(&self) {
        add(&self.overruns, 1);
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
