//! The end of an executor: nobody in, everybody out, the door locked.
//!
//! 1. [`Live`](super::live::Live) refuses new tasks.
//! 2. The janitor, a header of the executor's own, is woken; its turn cancels every task that has begun.
//!    One that was let in before and begins after is cancelled at its first turn.
//! 3. Whoever lets go of the last slot leaves the rest to the run, which, instead of parking, ends the janitor
//!    and shuts the queue: from then on a stale waker finds it closed, and rings nobody.
//! 4. [`Closed::silence`] waits for the doorbells that were still on their way.
#![expect(
    unsafe_code,
    reason = "the janitor's waker cell is shared with the run by the protocol of `WAITING`"
)]

use core::{
    fmt,
    future::Future,
    pin::Pin,
    ptr::NonNull,
    task::{Context, Poll, Waker},
};

use super::{Consumer, Core, Executor};
use crate::{
    irql::Passive,
    platform::Platform,
    task::{Task, VTable},
    task_table::{Kind, Leaf},
};

/// The janitor's turn. It is never cancelled.
pub(super) static SWEEP: VTable = VTable { poll: sweep, cancel: sweep };

fn sweep(_janitor: Task, consumer: &mut Consumer) {
    consumer.sweep();
}

/// Someone else is closing this executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadyClosing;

impl fmt::Display for AlreadyClosing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the executor is being closed by someone else; wait for that close")
    }
}

impl core::error::Error for AlreadyClosing {}

impl<P: Platform> Executor<P> {
    /// Closes the executor: refuses spawns, cancels every task, waits until each slot has been given back.
    ///
    /// Nothing happens before the first poll. An output that nobody has taken keeps its slot: take it, or drop
    /// the handle. A task whose turn does not end keeps the executor open, and the future pending, for ever.
    ///
    /// To be awaited elsewhere: a task of this executor that awaits it is cancelled like all others.
    ///
    /// **Cancel-safe:** the closing goes on when the future is dropped; another `close` can wait for it.
    ///
    /// # Errors
    ///
    /// Another future of `close` exists.
    #[track_caller]
    pub fn close(&'static self) -> Result<Close<P>, AlreadyClosing> {
        if self.core.janitor().state().take_handle().has_handle() {
            return Err(AlreadyClosing);
        }
        Ok(Close { executor: self, asked: false, leaf: Leaf::new(&CLOSE) })
    }
}

static CLOSE: Kind = Kind::new("executor to close");

/// The future of [`Executor::close`].
#[must_use = "nothing is closed before the first poll"]
pub struct Close<P: Platform> {
    executor: &'static Executor<P>,
    asked: bool,
    leaf: Leaf,
}

impl<P: Platform> Future for Close<P> {
    type Output = Closed<P>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Closed<P>> {
        let executor = self.executor;
        // SAFETY: this future is the janitor's only handle.
        let ended = unsafe { executor.core.janitor().poll_end(cx) };
        if !self.asked {
            self.asked = true;
            executor.core.live.close();
            // SAFETY: the pointer is to all of the executor.
            unsafe { Core::wake_janitor(NonNull::from(executor).cast()) };
        }
        if executor.core.queue.is_closed() {
            return Poll::Ready(Closed { executor });
        }
        if ended {
            // The run has ended the janitor, too late for this waker, and is a few instructions from shutting the
            // queue. As an `AtomicWaker` does when it is registered with while it wakes: look again.
            cx.waker().wake_by_ref();
        }
        self.leaf.park(cx);
        Poll::Pending
    }
}

impl<P: Platform> Drop for Close<P> {
    fn drop(&mut self) {
        let janitor = self.executor.core.janitor();
        // SAFETY: this future is the janitor's only handle.
        unsafe { janitor.forget_waiter() };
        janitor.state().leave_handle(false);
    }
}

impl<P: Platform> fmt::Debug for Close<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Close").field("asked", &self.asked).finish_non_exhaustive()
    }
}

/// An executor without tasks, whose queue is shut.
#[must_use = "doorbells may still be on their way"]
pub struct Closed<P: Platform> {
    executor: &'static Executor<P>,
}

impl<P: Platform> Closed<P> {
    /// Waits until no doorbell is on its way and no run that one caused is in progress.
    ///
    /// What is left to the owner before the executor's memory may go is said at [`Executor`].
    pub fn silence(self, passive: &mut Passive) -> Rundown {
        self.executor.platform.silence(passive);
        Rundown { _proof: () }
    }
}

impl<P: Platform> fmt::Debug for Closed<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closed")
    }
}

/// Proof that an executor has no task, no run and no doorbell left.
#[derive(Debug)]
pub struct Rundown {
    _proof: (),
}

impl Core {
    /// The executor's own task.
    pub(super) fn janitor(&'static self) -> Task {
        // SAFETY: the header lives as long as the executor, and it has no body.
        unsafe { Task::new(NonNull::from(&self.janitor)) }
    }

    /// Ends the janitor. The waker of who waits for the close, if someone does.
    pub(super) fn end_janitor(&'static self) -> Option<Waker> {
        // SAFETY: only the run calls this, and the janitor is the run's.
        unsafe { self.janitor().end(false) }
    }

    /// Gives the janitor a turn.
    ///
    /// # Safety
    ///
    /// `core` is an executor's, with provenance over all of it.
    pub(crate) unsafe fn wake_janitor(core: NonNull<Self>) {
        // SAFETY: valid by the caller's promise.
        let this: &'static Self = unsafe { core.as_ref() };
        let janitor = this.janitor();
        if !janitor.state().wake().is_queued() {
            // SAFETY: the caller's promise, and `QUEUED` has just been set.
            unsafe { (this.way_in.get())(core, janitor) };
        }
    }
}
