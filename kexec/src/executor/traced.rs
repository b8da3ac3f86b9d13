//! Runs that tell what they do, and how an executor comes to make them.
//!
//! A run that is not traced must not pay for those that are. So it does not ask. Two things that every executor has
//! anyway are exchanged while its tasks are traced: the function through which tasks come into the queue, and the
//! budget of polls, which is none. So a run is at its end before its first turn, and then goes on as another instance of
//! itself, which has the whole budget.
#![expect(unsafe_code, reason = "a function is kept where it can be exchanged")]

use core::{
    mem,
    ptr::NonNull,
    sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use super::{Consumer, Core, Executor, LOOK_AGAIN, Progress, Run};
use crate::{
    platform::Platform,
    task::{Link, Task, state::Snapshot},
    time::Instant,
    trace::{
        self, Parked, Then, What,
        task::{COMPILED_IN, tell},
    },
};

/// How a task gets into a queue: pushes it and rings if that is needed, on the platform's terms.
type Enqueue = unsafe fn(NonNull<Core>, Task);

/// An [`Enqueue`] that can be exchanged. A plain `core` atomic even under loom: nothing is ordered by it.
#[derive(Debug)]
pub(crate) struct WayIn(AtomicPtr<()>);

impl WayIn {
    pub(super) const fn new(enqueue: Enqueue) -> Self {
        Self(AtomicPtr::new(enqueue as *mut ()))
    }

    fn exchange(&self, enqueue: Enqueue) {
        self.0.store(enqueue as *mut (), Relaxed);
    }

    #[inline]
    pub(crate) fn get(&self) -> Enqueue {
        // SAFETY: only functions of this type are ever put there.
        unsafe { mem::transmute::<*mut (), Enqueue>(self.0.load(Relaxed)) }
    }
}

/// How many polls a run makes unless it is traced: the executor's budget, or none. Nothing is ordered by it.
///
/// A run may find it changed half-way: it is then at its end, or goes on.
#[derive(Debug)]
pub(super) struct Quota {
    polls: AtomicU32,
    /// The first number of polls at which the run looks at its queue and its budget.
    first_look: AtomicU32,
}

impl Quota {
    pub(super) const fn new(polls: u32) -> Self {
        Self { polls: AtomicU32::new(polls), first_look: AtomicU32::new(first_look(polls)) }
    }

    fn set(&self, polls: u32) {
        self.polls.store(polls, Relaxed);
        self.first_look.store(first_look(polls), Relaxed);
    }

    #[inline]
    pub(super) fn polls(&self) -> u32 {
        self.polls.load(Relaxed)
    }

    #[inline]
    pub(super) fn first_look(&self) -> u32 {
        self.first_look.load(Relaxed)
    }
}

const fn first_look(polls: u32) -> u32 {
    if polls < LOOK_AGAIN { polls } else { LOOK_AGAIN }
}

impl<P: Platform> Executor<P> {
    /// Traces the tasks of this executor, or ceases to: wakes at once, polls from the next run on. Callable at any level.
    ///
    /// While it is on, the clock is read before and after each poll; the task table shows the last and the longest poll
    /// of each task, but for the poll in which it ends; and the [sink](trace::Sink::activity), if there is one, is told
    /// of doorbells, runs, spawns, wakes and polls. Without the feature `max-trace` it is never on.
    pub fn trace_tasks(&'static self, on: bool) {
        if COMPILED_IN {
            let enqueue = if on { Self::enqueue::<true> } else { Self::enqueue::<false> };
            self.core.way_in.exchange(enqueue);
            self.limits.quota.set(if on { 0 } else { self.limits.polls });
        }
    }

    /// The run after its begin, traced. It makes a new start, so that one that is not traced need not keep anything for it.
    #[cold]
    pub(super) fn go_on_traced(&'static self) -> (Run, Instant) {
        let progress = self.progress(self.core.timers.now());
        // Only runs count runs, and this is one.
        let run = self.core.counters.read().runs;
        self.tell(progress.now, What::RunBegan { run });
        let (done, latest) = self.go_on::<true>(Link::END, progress);
        let (Run { polls, end }, ended) = (done, latest.max(self.platform.now()));
        self.tell(ended, What::RunEnded { run, polls, end });
        (done, ended)
    }

    /// A task's turn, timed.
    ///
    /// # Safety
    ///
    /// As for [`Task::turn`]; `found` is what it was taken off the queue as.
    pub(super) unsafe fn traced_turn(
        &'static self,
        task: Task,
        found: Snapshot,
        consumer: &mut Consumer,
        run: &mut Progress,
    ) {
        if task == self.core.janitor() {
            // SAFETY: passed on.
            return unsafe { task.turn(found.is_cancelled(), consumer) };
        }
        let began = self.read_clock(run);
        let subject = trace::Task::of(task, found);
        self.tell(began, What::PollBegan(subject));
        self.core.refused.store(false, Relaxed);
        // SAFETY: passed on.
        unsafe { task.turn(found.is_cancelled(), consumer) };
        let ended = self.read_clock(run);
        let took = ended.since(began);
        // Another tenant may have the slot by now.
        let now = task.state().load();
        let then = if now.generation() == found.generation() && now.is_live() {
            Then::Parked(note(task, took))
        } else if found.is_cancelled() || self.core.refused.load(Relaxed) {
            Then::Cancelled
        } else {
            Then::Ended
        };
        self.tell(ended, What::PollEnded { task: subject, took, then });
    }

    /// A task is about to be pushed, by whoever has set its `QUEUED`.
    #[cold]
    pub(super) fn tell_queued(&'static self, task: Task) {
        let state = task.state().load();
        if !state.is_live() || task == self.core.janitor() {
            return;
        }
        let subject = trace::Task::of(task, state);
        #[cfg(feature = "table")]
        let begun = task.header().record.has_begun();
        #[cfg(not(feature = "table"))]
        let begun = true;
        let what = if begun { What::Woken(subject) } else { What::Spawned(subject) };
        self.tell(self.platform.now(), what);
    }

    #[cold]
    pub(super) fn tell_ring(&'static self) {
        self.tell(self.platform.now(), What::Rang);
    }

    /// The time, which does not go back within a run.
    fn read_clock(&self, run: &mut Progress) -> Instant {
        run.now = run.now.max(self.platform.now());
        run.now
    }

    fn tell(&'static self, time: Instant, what: What) {
        tell(self.id(), time, what);
    }

    fn id(&'static self) -> NonNull<Core> {
        NonNull::from(self).cast()
    }
}

/// Notes in the task's record how long its poll took. Returns where it has parked.
#[cfg(feature = "table")]
fn note(task: Task, took: Duration) -> Parked {
    let record = &task.header().record;
    record.timed(u32::try_from(took.as_nanos()).unwrap_or(u32::MAX));
    record.parked()
}

/// There is no record.
#[cfg(not(feature = "table"))]
fn note(_task: Task, _took: Duration) -> Parked {
    Parked::default()
}

#[cfg(all(test, feature = "std", feature = "table", not(loom)))]
mod tests {
    use std::{format, string::String};

    use super::*;
    use crate::{
        Budget, Pool, Table,
        platform::mock::{Mock, Plan, keep},
        task_table::Label,
        yield_now,
    };

    /// The table shows the last poll and the longest, of the slot's present tenant only, and with nobody listening.
    #[test]
    fn polls_are_timed() {
        let executor: &'static Executor<Mock> = Executor::leak(Mock::new(Plan::CALM), Budget::DEFAULT);
        let slots: &Table<256> = keep(Pool::<256, 1>::new());
        let takes = move |micros: [u64; 3]| {
            let task = move || async move {
                for micros in micros {
                    executor.platform().pass(Duration::from_micros(micros));
                    yield_now().label("again").await;
                }
            };
            assert!(
                executor.spawn_with(slots, task).map(crate::JoinHandle::detach).is_ok(),
                "the slot is free"
            );
            executor.settle();
            let shown = slots.claim(executor.id(), false).map(|slot| {
                let shown = format!("{:?}", slot.task.header().record);
                slot.give_back();
                shown
            });
            shown.unwrap_or_default()
        };
        let has = |shown: &String, longest: u64, last: u64| {
            shown.contains(&format!("longest: {longest}")) && shown.contains(&format!("last: {last}"))
        };
        let shown = takes([1, 2, 3]);
        assert!(has(&shown, 0, 0), "not traced: {shown}");
        executor.trace_tasks(true);
        let shown = takes([3, 9, 5]);
        assert!(has(&shown, 9_000, 5_000), "{shown}");
        let shown = takes([0, 10_000_000, 1]);
        assert!(has(&shown, u32::MAX.into(), 1_000), "{shown}");
        executor.trace_tasks(false);
        let shown = takes([1, 2, 3]);
        assert!(has(&shown, 0, 0), "the next tenant's: {shown}");
    }
}
