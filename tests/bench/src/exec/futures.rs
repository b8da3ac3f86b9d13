//! The futures that every executor runs, and what they share with the harness.
//!
//! They are written by hand and do next to nothing, so that the figures are the executor's; they count
//! their polls, so that a case can tell that the work was done.

use std::future::Future;
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

static POLLS: AtomicU64 = AtomicU64::new(0);

/// How often futures of this module were polled since the program started.
#[must_use]
pub fn polls() -> u64 {
    POLLS.load(Relaxed)
}

/// Not a read-modify-write: that would be one locked instruction more for each poll.
fn count_poll() {
    POLLS.store(POLLS.load(Relaxed) + 1, Relaxed);
}

/// Where a parked task leaves its waker.
#[derive(Debug)]
pub struct Berth(OnceLock<Waker>);

impl Berth {
    /// A berth for as long as the program runs, as a task that is `'static` needs it.
    #[must_use]
    pub fn leak() -> &'static Self {
        Box::leak(Box::new(Self(OnceLock::new())))
    }

    /// The waker of the task that parked here.
    ///
    /// # Panics
    ///
    /// If no task has.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.0.get().expect("the task was polled and has parked").clone()
    }
}

/// Is never ready. Leaves its waker at the first poll, and later only counts: what an executor's waker
/// costs to clone is not part of a wake.
#[derive(Debug)]
pub struct Park {
    berth: &'static Berth,
    parked: bool,
}

impl Park {
    /// A future that leaves its waker at `berth`.
    #[must_use]
    pub fn at(berth: &'static Berth) -> Self {
        Self { berth, parked: false }
    }
}

impl Future for Park {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        count_poll();
        if !self.parked {
            self.parked = true;
            self.berth.0.get_or_init(|| cx.waker().clone());
        }
        Poll::Pending
    }
}

/// Wakes itself and is pending, a number of times; then it is ready.
#[derive(Debug)]
pub struct Yields {
    left: u64,
}

impl Yields {
    /// A future that yields `count` times.
    #[must_use]
    pub fn new(count: u64) -> Self {
        Self { left: count }
    }
}

impl Future for Yields {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        count_poll();
        if self.left == 0 {
            return Poll::Ready(());
        }
        self.left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Is ready at once. The size of `core::future::Ready<()>`, one byte: a future of no size at all would
/// spare some executors an allocation that any other future costs.
#[derive(Debug, Default)]
pub struct Trivial {
    done: bool,
}

impl Future for Trivial {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        count_poll();
        assert!(!self.done, "polled after it was ready");
        self.done = true;
        Poll::Ready(())
    }
}
