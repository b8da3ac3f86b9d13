//! What is behind a task's header: first the closure, then the future it builds, then perhaps the output.
//!
//! The stages share one place. Which of them is there is not stored: a task's turn is a function, and the
//! function that builds the future puts the one that polls it in its own place.
#![expect(unsafe_code, reason = "the stages of a task share their memory")]

use core::{
    fmt,
    future::Future,
    marker::PhantomData,
    mem::{ManuallyDrop, offset_of},
    pin::Pin,
    ptr::NonNull,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll},
};

use crate::{
    executor::Consumer,
    home::Home,
    irql::Level,
    platform::Platform,
    scope::Scope,
    task::{Task, VTable, waker::TaskRef},
};

/// The task was dropped before it had an output: it was aborted, its scope or its executor was closed, or, on a host, it
/// panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the task was cancelled")
    }
}

impl core::error::Error for Cancelled {}

/// The body of a slot: the stages at its start, what makes the end of them behind.
#[repr(C)]
pub(crate) struct Body<B, F, T, E> {
    stage: Stage<B, F, T>,
    ending: E,
}

#[repr(C)]
union Stage<B, F, T> {
    build: ManuallyDrop<B>,
    future: ManuallyDrop<F>,
    output: ManuallyDrop<T>,
}

/// What is done with a task's outcome.
pub(crate) trait Ending<P: Platform, T>: Sized {
    /// Ends the task, whose future is gone.
    ///
    /// # Safety
    ///
    /// Called once, by the run, as the last thing in the last turn of a task with this ending.
    unsafe fn end(self, task: Task, outcome: Result<T, Cancelled>);
}

/// The output stays in the slot until the handle takes it.
pub(crate) struct Join;

/// The output goes to a function, when nothing of the task is left.
pub(crate) struct Epilogue<E>(pub(crate) E);

impl<P: Platform, T> Ending<P, T> for Join {
    unsafe fn end(self, task: Task, outcome: Result<T, Cancelled>) {
        let value = outcome.is_ok();
        if let Ok(output) = outcome {
            // SAFETY: the stages are empty, and large enough for the output.
            unsafe { task.body().write(output) };
        }
        // SAFETY: the run holds a reference.
        let core = unsafe { task.core() };
        // SAFETY: this is the end of the task.
        let waiter = unsafe { task.end(value) };
        // SAFETY: this is the end of the task.
        if let Some(scope) = unsafe { task.scope() } {
            // SAFETY: the pointer is to all of the executor.
            scope.leave(task, unsafe { Home::new(core) });
        }
        let before = task.state().leave_executor();
        if !before.has_handle() {
            if before.has_value() {
                // SAFETY: nobody took the output, and nobody else can: the handle is gone.
                unsafe { task.body::<T>().drop_in_place() };
            }
            // SAFETY: this was the last reference.
            unsafe { task.release() };
            // SAFETY: the executor is running.
            unsafe { core.as_ref() }.live.leave();
        }
        // Last, so that whoever has joined a task finds its slot free.
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}

impl<P: Platform, T, E: FnOnce(&mut P::Level, Result<T, Cancelled>)> Ending<P, T> for Epilogue<E> {
    unsafe fn end(self, task: Task, outcome: Result<T, Cancelled>) {
        // SAFETY: the run holds a reference.
        let core = unsafe { task.core() };
        // SAFETY: this is the end of the task.
        let scope = unsafe { task.scope() };
        // SAFETY: the pointer is to all of the executor.
        let home = unsafe { Home::new(core) };
        if let Some(scope) = scope {
            scope.begin_to_leave(task, home);
        }
        task.state().leave_executor();
        // SAFETY: that was the only reference.
        unsafe { task.release() };
        // SAFETY: this is a run, which is at the platform's level, and no task of it is being polled.
        let mut level = unsafe { P::Level::assume() };
        (self.0)(&mut level, outcome);
        if let Some(scope) = scope {
            scope.left(home);
        }
        // SAFETY: the executor is running.
        unsafe { core.as_ref() }.live.leave();
    }
}

/// The turns of a task with this closure, future and ending.
pub(crate) struct Turns<P, B, F, E>(PhantomData<(P, B, F, E)>);

impl<P, B, F, E> Turns<P, B, F, E>
where
    P: Platform,
    B: FnOnce() -> F,
    F: Future,
    E: Ending<P, F::Output>,
{
    /// The turn of a task that has not begun.
    pub(crate) const BUILD: &'static VTable = &VTable { poll: Self::build, cancel: Self::refuse };
    /// The turn of one that has.
    const RESUME: &'static VTable = &VTable { poll: Self::resume, cancel: Self::cancel };

    const ENDING: usize = offset_of!(Body<B, F, F::Output, E>, ending);

    /// Puts the closure and the ending into a slot.
    ///
    /// # Safety
    ///
    /// The caller has claimed the slot, whose body has the size and alignment of a [`Body`] of these types.
    pub(crate) unsafe fn fill(task: Task, build: B, ending: E) {
        // SAFETY: the body is large enough, and empty.
        unsafe { task.body().write(build) };
        // SAFETY: as above.
        let place = unsafe { Self::ending(task) };
        // SAFETY: as above.
        unsafe { place.write(ending) };
    }

    /// # Safety
    ///
    /// The slot's body has the size of a [`Body`] of these types.
    unsafe fn ending(task: Task) -> NonNull<E> {
        // SAFETY: the offset is within the body.
        unsafe { task.body::<E>().byte_add(Self::ENDING) }
    }

    /// The first turn: builds the future and polls it.
    ///
    /// # Safety
    ///
    /// This and the other turns: called by the run of the task's executor, with the stage there that the
    /// function is for.
    unsafe fn build(task: Task, consumer: &mut Consumer) {
        // SAFETY: the run holds a reference.
        let core = unsafe { task.core() };
        // SAFETY: the task has not begun.
        let scope = unsafe { task.scope() };
        // SAFETY: the executor is running.
        if unsafe { core.as_ref() }.live.is_closing() || scope.is_some_and(Scope::is_closing) {
            // SAFETY: the same turn.
            return unsafe { Self::refuse(task, consumer) };
        }
        // SAFETY: the closure is there, and is not looked at again.
        let build: B = unsafe { task.body().read() };
        // SAFETY: the stages are empty now.
        unsafe { task.body().write(build()) };
        // SAFETY: this is the task's turn.
        unsafe { task.set_vtable(Self::RESUME) };
        consumer.link(task);
        // SAFETY: the future is there.
        unsafe { Self::resume(task, consumer) }
    }

    /// A turn: polls the future.
    unsafe fn resume(task: Task, consumer: &mut Consumer) {
        let waker = task.waker();
        #[cfg(feature = "table")]
        task.header().record.begin();
        // SAFETY: the future is there, and nobody else reaches it.
        let future = unsafe { task.body::<F>().as_mut() };
        // SAFETY: it stays where it is until it is dropped there.
        let future = unsafe { Pin::new_unchecked(future) };
        let polled = {
            let poll = || future.poll(&mut Context::from_waker(&waker));
            #[cfg(feature = "std")]
            let poll = || consumer.guard(poll);
            #[cfg(not(feature = "std"))]
            let poll = || Some(poll());
            poll()
        };
        match polled {
            // SAFETY: the future has ended.
            Some(Poll::Ready(output)) => unsafe { Self::finish(task, consumer, Ok(output)) },
            Some(Poll::Pending) => {
                #[cfg(feature = "table")]
                task.header().record.pause();
            }
            // SAFETY: the future has ended, by a panic.
            None => unsafe { Self::finish(task, consumer, Err(Cancelled)) },
        }
    }

    /// The turn of a cancelled task.
    unsafe fn cancel(task: Task, consumer: &mut Consumer) {
        if task.is_shielded() {
            let generation = task.state().load().generation();
            // SAFETY: the same turn.
            unsafe { Self::resume(task, consumer) };
            if !task.is_shielded() {
                // The section has ended, and the task has parked after it: here is the next turn, unless it has ended, too.
                TaskRef::new(task, generation).abort();
            }
            return;
        }
        // SAFETY: the future is there.
        unsafe { Self::finish(task, consumer, Err(Cancelled)) }
    }

    /// The turn of a task that was cancelled before it began.
    unsafe fn refuse(task: Task, _consumer: &mut Consumer) {
        // SAFETY: the run holds a reference.
        let core = unsafe { task.core() };
        // SAFETY: the executor is running.
        unsafe { core.as_ref() }.refused.store(true, Relaxed);
        // SAFETY: the closure is there, and is not looked at again.
        unsafe { task.body::<B>().drop_in_place() };
        // SAFETY: the stages are empty.
        unsafe { Self::end(task, Err(Cancelled)) }
    }

    /// Drops the future and ends the task.
    unsafe fn finish(task: Task, consumer: &mut Consumer, outcome: Result<F::Output, Cancelled>) {
        // SAFETY: the future is there, and is not looked at again.
        unsafe { task.body::<F>().drop_in_place() };
        consumer.unlink(task);
        // SAFETY: the stages are empty.
        unsafe { Self::end(task, outcome) }
    }

    unsafe fn end(task: Task, outcome: Result<F::Output, Cancelled>) {
        #[cfg(feature = "table")]
        task.header().record.end();
        // SAFETY: the ending has been there since `fill`.
        let ending = unsafe { Self::ending(task) };
        // SAFETY: it is not looked at again.
        let ending = unsafe { ending.read() };
        // SAFETY: this is the task's last turn.
        unsafe { ending.end(task, outcome) }
    }
}
