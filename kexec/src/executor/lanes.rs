//! What a run has taken and not yet polled: two first-in first-out lists, the control lane ahead.
#![expect(unsafe_code, reason = "the links of a queued task are owned by the run that took it")]

use crate::task::{Link, Task};

/// After so many control tasks in a row, one data task has its turn if one is waiting.
const CONTROL_STREAK: u32 = 16;

/// A list of queued tasks, linked by `next`.
#[derive(Debug)]
struct Fifo {
    first: Link,
    /// Meaningless while the list is empty.
    last: Link,
}

/// The two lanes. Part of the consumer: only the run touches it.
#[derive(Debug)]
pub(crate) struct Lanes {
    control: Fifo,
    data: Fifo,
    streak: u32,
}

/// # Safety
///
/// Here and below, of every task: it was taken off the queue by the run, whose the link is since.
#[inline]
unsafe fn next(task: Task) -> Link {
    // SAFETY: the caller is the run.
    unsafe { task.header().next.read() }
}

#[inline]
unsafe fn set_next(task: Task, next: Link) {
    // SAFETY: the caller is the run.
    unsafe { task.header().next.write(next) }
}

impl Fifo {
    const fn new() -> Self {
        Self { first: Link::END, last: Link::END }
    }

    /// Appends a list of one task or more, whose last link is the end.
    #[inline]
    unsafe fn append(&mut self, first: Task, last: Task) {
        if self.first.is_end() {
            self.first = first.into();
        } else if let Some(before) = self.last.task() {
            // SAFETY: the list is the run's.
            unsafe { set_next(before, first.into()) };
        }
        self.last = last.into();
    }

    #[inline]
    fn pop(&mut self) -> Option<Task> {
        let task = self.first.task()?;
        // SAFETY: the list is the run's.
        self.first = unsafe { next(task) };
        Some(task)
    }
}

impl Lanes {
    pub(crate) const fn new() -> Self {
        Self { control: Fifo::new(), data: Fifo::new(), streak: 0 }
    }

    /// Puts what was taken off the queue, the newest first, behind what is here, the oldest first.
    ///
    /// # Safety
    ///
    /// The caller is the run that took it.
    #[inline]
    pub(crate) unsafe fn admit(&mut self, newest: Link) {
        let (mut at, mut oldest, mut control) = (newest, Link::END, false);
        while let Some(task) = at.task() {
            // SAFETY: as promised.
            at = unsafe { next(task) };
            // SAFETY: as promised.
            unsafe { set_next(task, oldest) };
            oldest = task.into();
            control |= task.state().load().is_control();
        }
        let (Some(first), Some(last)) = (oldest.task(), newest.task()) else { return };
        if control {
            // SAFETY: as promised.
            unsafe { self.sort(first) };
        } else {
            // SAFETY: as promised.
            unsafe { self.data.append(first, last) };
        }
    }

    /// Puts a list, the oldest first, behind what is here, each task into its lane.
    #[cold]
    unsafe fn sort(&mut self, oldest: Task) {
        let mut at = Link::from(oldest);
        while let Some(task) = at.task() {
            // SAFETY: as in `admit`.
            at = unsafe { next(task) };
            // SAFETY: as in `admit`.
            unsafe { set_next(task, Link::END) };
            let lane = if task.state().load().is_control() { &mut self.control } else { &mut self.data };
            // SAFETY: as in `admit`.
            unsafe { lane.append(task, task) };
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.control.first.is_end() && self.data.first.is_end()
    }

    /// Whose turn it is.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Task> {
        if !self.control.first.is_end() && (self.streak < CONTROL_STREAK || self.data.first.is_end()) {
            self.streak = self.streak.saturating_add(1);
            self.control.pop()
        } else {
            let task = self.data.pop()?;
            self.streak = 0;
            Some(task)
        }
    }
}
