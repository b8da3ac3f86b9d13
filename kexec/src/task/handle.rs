//! Waiting for a task: the handle, and the protocol of the waker cell.
#![expect(
    unsafe_code,
    reason = "the output and the waker cell belong to the handle at times that the state tells"
)]

use core::{
    fmt,
    future::Future,
    marker::PhantomData,
    mem,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use super::{Task, body::Cancelled, state::Snapshot, waker::TaskRef};
use crate::{
    executor::Core,
    task_table::{Kind, Leaf},
};

pub(crate) static JOIN: Kind = Kind::new("task to end");

impl Task {
    /// (5) Ends the task: its outcome stands. Who waits for it, if someone does.
    ///
    /// # Safety
    ///
    /// The caller is the run; a value, if there is one, is in the slot.
    pub(crate) unsafe fn end(self, value: bool) -> Option<Waker> {
        let before = self.state().end(value);
        if before.is_done() || !before.is_waiting() {
            return None;
        }
        // SAFETY: the first end that finds `WAITING` owns the cell.
        unsafe { self.set_waiter(None) }
    }

    /// (7) Whether the task has ended; if not, `cx` is woken when it does.
    ///
    /// # Safety
    ///
    /// The caller is the task's only handle.
    pub(crate) unsafe fn poll_end(self, cx: &Context<'_>) -> bool {
        let state = self.state().outcome();
        if state.is_done() || (state.is_waiting() && self.state().unwait().is_done()) {
            return true;
        }
        // SAFETY: without `WAITING`, the cell is the handle's.
        unsafe { self.set_waiter(Some(cx.waker().clone())) };
        let too_late = self.state().wait().is_done();
        if too_late {
            // SAFETY: the end came first and left the cell alone.
            unsafe { self.set_waiter(None) };
        }
        too_late
    }

    /// Takes the waker back, if there is one.
    ///
    /// # Safety
    ///
    /// The caller is the task's only handle.
    pub(crate) unsafe fn forget_waiter(self) {
        let state = self.state().load();
        if state.is_waiting() && !state.is_done() && !self.state().unwait().is_done() {
            // SAFETY: without `WAITING`, the cell is the handle's.
            unsafe { self.set_waiter(None) };
        }
    }
}

/// A spawned task, and its output once it has ended.
///
/// The slot is held until the output has been taken or the handle dropped. Dropping it detaches the task,
/// which goes on. Awaiting it (at any level that the waiting task runs at) gives the output.
///
/// **Cancel-safe:** `(&mut handle).await` may be dropped and repeated.
#[must_use = "dropping the handle detaches the task: say so with `detach`"]
pub struct JoinHandle<T> {
    task: Task,
    generation: u64,
    /// The outcome has been given out, and the slot back: it may be another tenant's.
    taken: bool,
    leaf: Leaf,
    _output: PhantomData<T>,
}

// SAFETY: the handle is a reference to the task and a right to the output, which may go to another thread.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: a shared handle only aborts and looks.
unsafe impl<T: Send> Sync for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    /// # Safety
    ///
    /// The task's state has `HANDLE`, which this handle is, and its output is a `T`.
    pub(crate) unsafe fn new(task: Task, generation: u64, leaf: Leaf) -> Self {
        Self { task, generation, taken: false, leaf, _output: PhantomData }
    }

    /// The task's name.
    #[must_use]
    pub fn task(&self) -> TaskRef {
        TaskRef::new(self.task, self.generation)
    }

    /// Asks for the task to be dropped at its next turn; false if it has ended. Its outcome is then
    /// [`Cancelled`], unless it becomes ready before that turn.
    #[expect(clippy::must_use_candidate, reason = "asking is what it is for")]
    pub fn abort(&self) -> bool {
        self.task().abort()
    }

    /// Whether there is an outcome to take.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        !self.taken && self.task.state().outcome().is_done()
    }

    /// Lets the task go on alone; its output will be dropped where it runs. What is left of it here is its name.
    #[expect(clippy::must_use_candidate, reason = "letting go is what it is for")]
    pub fn detach(self) -> TaskRef {
        self.task()
    }

    /// Takes the outcome if there is one, otherwise gives the handle back.
    ///
    /// # Errors
    ///
    /// The task has not ended: here is the handle.
    pub fn try_take(mut self) -> Result<Result<T, Cancelled>, Self> {
        // A taken outcome has gone by way of a poll, which says the same.
        if self.taken || self.is_finished() { Ok(self.take()) } else { Err(self) }
    }

    /// (8) Moves the outcome out of an ended task.
    fn take(&mut self) -> Result<T, Cancelled> {
        if mem::replace(&mut self.taken, true) {
            return Err(Cancelled);
        }
        let task = self.task;
        let value = task.state().outcome().has_value();
        let outcome = if value {
            // SAFETY: the outcome stands and is a value; it is read once, since it is taken from now on.
            Ok(unsafe { task.body::<T>().read() })
        } else {
            Err(Cancelled)
        };
        // SAFETY: the handle's reference is still there.
        let core = unsafe { task.core() };
        let before = task.state().leave_handle(true);
        // SAFETY: the reference has been given up.
        unsafe { Self::left(task, core, before) };
        outcome
    }

    /// Gives the slot back if the executor has let go of it already.
    ///
    /// # Safety
    ///
    /// The handle's reference was given up, at which `before` was the state; `core` is the task's.
    unsafe fn left(task: Task, core: core::ptr::NonNull<Core>, before: Snapshot) {
        if before.is_live() {
            return;
        }
        // SAFETY: that was the last reference.
        unsafe { task.release() };
        // SAFETY: the task is still counted, so that its executor is there.
        if unsafe { core.as_ref() }.live.leave() {
            // SAFETY: the pointer was the task's; the executor's owner waits for calls such as this one.
            unsafe { Core::wake_janitor(core) };
        }
    }
}

impl<T> Unpin for JoinHandle<T> {}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, Cancelled>;

    /// Polled again after it was ready, it says [`Cancelled`]: there is nothing left to give.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: this is the handle, as long as nothing was taken.
        if self.taken || unsafe { self.task.poll_end(cx) } {
            return Poll::Ready(self.take());
        }
        self.leaf.park(cx);
        Poll::Pending
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        let Self { task, taken, .. } = *self;
        if taken {
            return;
        }
        // SAFETY: this is the handle.
        unsafe { task.forget_waiter() };
        // SAFETY: the handle's reference is still there.
        let core = unsafe { task.core() };
        let before = task.state().leave_handle(false);
        if !before.is_live() && before.has_value() {
            // SAFETY: the executor has let go and nobody took the value.
            unsafe { task.body::<T>().drop_in_place() };
        }
        // SAFETY: the reference has been given up.
        unsafe { Self::left(task, core, before) };
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("task", &self.task())
            .field("finished", &self.is_finished())
            .finish()
    }
}
