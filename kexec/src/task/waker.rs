//! The ways to wake a task: a standard [`Waker`], and [`TaskRef`], which costs one call less.
#![expect(unsafe_code, reason = "a waker is a pointer and a table of functions")]

use core::{
    fmt,
    mem::ManuallyDrop,
    ptr::{self, NonNull},
    task::{Context, RawWaker, RawWakerVTable, Waker},
};

use super::Task;
use crate::task::state::Abort;

static WAKER: RawWakerVTable = RawWakerVTable::new(clone, wake, wake, drop);

/// Wakers are not counted: cloning one is free, and dropping it is nothing.
fn clone(task: *const ()) -> RawWaker {
    RawWaker::new(task, &WAKER)
}

/// # Safety
///
/// `task` is the pointer of a [`Task`].
unsafe fn wake(task: *const ()) {
    // SAFETY: it is never null.
    let slot = unsafe { NonNull::new_unchecked(task.cast_mut().cast()) };
    // SAFETY: it was made from a task.
    unsafe { Task::new(slot) }.wake();
}

fn drop(_task: *const ()) {}

impl Task {
    /// (2) Makes the task ready. From any CPU, at any level, any number of times.
    #[inline]
    pub(crate) fn wake(self) {
        if !self.state().wake().is_queued() {
            // SAFETY: `QUEUED` has just been set.
            unsafe { self.enqueue() };
        }
    }

    /// The task that a waker is of, if it is a task's.
    #[inline]
    pub(crate) fn of(waker: &Waker) -> Option<Self> {
        if !ptr::eq(waker.vtable(), &raw const WAKER) {
            return None;
        }
        // SAFETY: the table says that the pointer is a task's, which is never null.
        let slot = unsafe { NonNull::new_unchecked(waker.data().cast_mut().cast()) };
        // SAFETY: as above.
        Some(unsafe { Self::new(slot) })
    }

    /// A waker that need not be dropped.
    #[inline]
    pub(crate) fn waker(self) -> ManuallyDrop<Waker> {
        let data = self.as_ptr().cast_const().cast();
        // SAFETY: the functions keep the contract of `RawWakerVTable` for a task's pointer.
        ManuallyDrop::new(unsafe { Waker::new(data, &WAKER) })
    }
}

/// A task by name: wakes or aborts it without a handle, from any CPU and at any level.
///
/// It names one tenant of a slot. An abort that comes after its end does nothing. A wake that does may
/// poll the slot's next tenant once for nothing, which every future must bear.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TaskRef {
    task: Task,
    generation: u64,
}

impl TaskRef {
    pub(crate) fn new(task: Task, generation: u64) -> Self {
        Self { task, generation }
    }

    /// The task that is being polled with this context; None if it is no task of this crate, or is polled by
    /// something in between that has a waker of its own.
    #[must_use]
    pub fn current(cx: &Context<'_>) -> Option<Self> {
        let task = Task::of(cx.waker())?;
        Some(Self::new(task, task.state().load().generation()))
    }

    /// Which of the tenants of its slot it is, in the order in which they came.
    #[must_use]
    pub fn generation(self) -> u64 {
        self.generation
    }

    /// Makes the task ready: what its waker does.
    #[inline]
    pub fn wake(self) {
        self.task.wake();
    }

    /// Asks for the task to be dropped instead of polled at its next turn; false if it had ended already.
    ///
    /// If the task is in the middle of a poll that makes it ready, it has its output all the same.
    #[expect(clippy::must_use_candidate, reason = "asking is what it is for")]
    pub fn abort(self) -> bool {
        match self.task.state().abort(self.generation) {
            Abort::Stale => false,
            Abort::Marked => true,
            Abort::Push => {
                // SAFETY: `QUEUED` has just been set.
                unsafe { self.task.enqueue() };
                true
            }
        }
    }

    /// Whether the task was asked to end, and has not ended.
    pub(crate) fn is_cancelled(self) -> bool {
        let state = self.task.state().load();
        state.generation() == self.generation && state.is_cancelled()
    }

    /// See [`Task::shield`].
    pub(crate) fn shield(self) {
        self.task.shield();
    }

    /// See [`Task::unshield`].
    pub(crate) fn unshield(self) {
        self.task.unshield();
    }

    /// Whether the task has not ended. It may end at any time.
    #[must_use]
    pub fn is_live(self) -> bool {
        let state = self.task.state().load();
        state.generation() == self.generation && state.is_live() && !state.is_done()
    }
}

impl fmt::Debug for TaskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskRef({:p}#{})", self.task.as_ptr(), self.generation)
    }
}
