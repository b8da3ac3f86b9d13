//! Who is called when a signal comes: the first in the queue.
#![expect(unsafe_code, reason = "a task's address is kept without its type")]

use core::{
    ptr,
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
    task::Waker,
};

use crate::{
    atomics::{AtomicPtr, AtomicWaker, const_fn},
    task::{Header, Link, Task},
};

/// The leader is polled by something else than a task, and its waker is in the cell for that.
const OTHER: usize = 1;

const _: () = assert!(align_of::<Header>() > OTHER, "no task has that address");

/// The leader's task, which is read by whoever signals, and written by the leader and by whoever leaves it the lead.
///
/// A task is called by its address: nothing is taken out and nothing put back, so that no signal has to wait for
/// another one that was interrupted half-way.
#[derive(Debug)]
pub(in crate::sync) struct Leader {
    task: AtomicPtr<Header>,
    other: AtomicWaker,
}

impl Leader {
    const_fn! {
        pub(in crate::sync) fn new() -> Self {
            Self { task: AtomicPtr::new(ptr::null_mut()), other: AtomicWaker::new() }
        }
    }

    /// Names the leader; None: something else than a task, which is going to [`register`](Self::register). Returns a
    /// waker that is not needed any more.
    ///
    /// Release, for a task's header, which may be new.
    pub(super) fn name(&self, task: Option<Task>) -> Option<Waker> {
        let stale = self.forget_other();
        self.task.store(task.map_or(ptr::without_provenance_mut(OTHER), Task::as_ptr), Release);
        stale
    }

    /// The waker of a leader that has been named as something else than a task. It may be woken at once; so this is not
    /// done with the queue locked, and by nobody but the leader.
    pub(super) fn register(&self, waker: &Waker) {
        self.other.register(waker);
    }

    /// Names the only one there can be, which then looks whether a signal has come meanwhile.
    pub(in crate::sync) fn name_alone(&self, waker: &Waker) {
        let task = Task::of(waker);
        drop(self.name(task));
        if task.is_none() {
            self.register(waker);
        }
    }

    /// What would wake the leader. Relaxed: see [`Waiters::take_waker`](super::Waiters::take_waker).
    pub(super) fn take(&self) -> Option<Waker> {
        let leader = self.task.load(Relaxed);
        if leader.addr() == OTHER {
            return self.other.take();
        }
        // SAFETY: what is stored there is null, `OTHER`, or a task's pointer.
        let task = unsafe { Link::new(leader) }.task()?;
        Some(Waker::clone(&task.waker()))
    }

    /// Wakes the leader.
    ///
    /// Acquire: it may be another one than at the time of the signal.
    #[inline]
    pub(in crate::sync) fn call(&self) {
        let leader = self.task.load(Acquire);
        if leader.addr() == OTHER {
            self.other.wake();
        // SAFETY: what is stored there is null, `OTHER`, or a task's pointer.
        } else if let Some(task) = unsafe { Link::new(leader) }.task() {
            task.wake();
        }
    }

    /// Takes the leader's waker out, if it has one here: it may leave. Who has no leader to call, calls nobody.
    ///
    /// Relaxed: only the leader, and whoever takes its place, writes it.
    pub(in crate::sync) fn forget_other(&self) -> Option<Waker> {
        if self.task.load(Relaxed).addr() == OTHER { self.other.take() } else { None }
    }
}
