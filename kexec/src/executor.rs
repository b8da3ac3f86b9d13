//! The executor: one queue, one consumer at a time, runs that end.
//!
//! In reading order: [`queue`], the way in; [`lanes`], what a run has taken; [`live`], who is still here;
//! [`timers`], who waits for a time; this file, the run; [`spawn`] and [`close`], the two ends of a task's life;
//! [`traced`], runs that tell what they do.
#![expect(unsafe_code, reason = "the consumer's state belongs to whoever claimed the queue")]

use core::{fmt, num::NonZeroU32, ptr::NonNull, sync::atomic::AtomicBool, task::Waker, time::Duration};

use self::{
    counters::Counters,
    lanes::Lanes,
    live::Live,
    queue::{Pushed, Queue},
    timers::Timers,
    traced::{Quota, WayIn},
};
use crate::{
    atomics::{Owned, const_fn},
    home::Home,
    platform::{Platform, Ring},
    task::{Header, Link, Links, Task},
    time::Instant,
    trace::task::COMPILED_IN,
};

pub(crate) mod close;
mod counters;
pub(crate) mod lanes;
pub(crate) mod live;
pub(crate) mod queue;
pub(crate) mod spawn;
pub(crate) mod timers;
mod traced;

pub use counters::Stats;

/// The queue is looked at again after so many polls, however many tasks are waiting: a control task that is
/// woken in the middle of a long run waits for no more.
const LOOK_AGAIN: u32 = 16;

/// How long a run may last: whatever is reached first ends it, after the poll that reached it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Polls a run.
    pub polls: NonZeroU32,
    /// Time a run.
    pub time: Duration,
}

impl Budget {
    /// 64 polls or 50 µs: half of what a DPC should take.
    pub const DEFAULT: Self = Self::new(64, Duration::from_micros(50));

    /// So many polls (at least one) or so much time.
    #[must_use]
    pub const fn new(polls: u32, time: Duration) -> Self {
        let polls = match NonZeroU32::new(polls) {
            Some(polls) => polls,
            None => NonZeroU32::MIN,
        };
        Self { polls, time }
    }

    const fn limits(self) -> Limits {
        let polls = self.polls.get();
        let nanos = Instant::START.after(self.time).as_nanos();
        Limits { polls, nanos, quota: Quota::new(polls) }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What one run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Turns: tasks that were polled, dropped because they were cancelled, or found to be gone, and doorbells that kept
    /// the run from parking because somebody else answered them.
    pub polls: u32,
    /// Why the run ended.
    pub end: End,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing was left to do. The next wake rings.
    Parked,
    /// The budget of polls was used up. A doorbell has been rung.
    Polls,
    /// The budget of time was used up. A doorbell has been rung.
    Time,
    /// Timers are due: they became so during the run, or were more than its budget of polls. A doorbell has been
    /// rung.
    Timers,
    /// The executor was closing and its last task is gone. It will not run again.
    Closed,
}

/// An executor and the platform that runs it.
///
/// It is reached through `&'static` references only. One in memory that a device owns is made `'static` by
/// its owner, who promises, before the memory is given back, that
/// 1. the executor was [closed](Self::close) and [silenced](crate::Closed::silence);
/// 2. no waker, [`TaskRef`](crate::TaskRef) or handle of any of its tasks is left, nor a future of this crate that one
///    of them polled and then gave away;
/// 3. no call of its methods, or of theirs, is in progress.
#[repr(C)]
pub struct Executor<P> {
    /// First, so that a pointer to it is one to the executor.
    core: Core,
    platform: P,
    limits: Limits,
}

/// A budget, as a run needs it.
struct Limits {
    polls: u32,
    nanos: u64,
    quota: Quota,
}

/// What does not depend on the platform: all that a task knows of its executor.
pub(crate) struct Core {
    name: &'static str,
    pub(crate) queue: Queue,
    pub(crate) live: Live,
    /// How tasks get into the queue.
    pub(crate) way_in: WayIn,
    /// The last turn was of a task that had not begun, and was dropped. For the run.
    pub(crate) refused: AtomicBool,
    /// Reads the platform's clock.
    pub(crate) clock: unsafe fn(NonNull<Self>) -> Instant,
    /// Calls a function at `DISPATCH_LEVEL`.
    pub(crate) raised: CallRaised,
    pub(crate) timers: Timers,
    /// Cancels everything, once, when the executor is being closed.
    pub(crate) janitor: Header,
    consumer: Owned<Consumer>,
    counters: Counters,
}

/// Calls a function at `DISPATCH_LEVEL`, as the executor's platform does that.
pub(crate) type CallRaised = unsafe fn(NonNull<Core>, &mut dyn FnMut());

/// What belongs to the run.
#[derive(Debug)]
pub(crate) struct Consumer {
    lanes: Lanes,
    /// All tasks that have begun, newest first.
    tasks: Option<Task>,
    overruns: Overruns,
    /// Who waits for the close, once that is certain to happen.
    closer: Option<Waker>,
    /// What a task has panicked with, for whoever called the run.
    #[cfg(feature = "std")]
    panic: Option<Panic>,
}

/// See [`std::panic::catch_unwind`].
#[cfg(feature = "std")]
pub(crate) type Panic = std::boxed::Box<dyn core::any::Any + Send>;

impl<P: Platform> Executor<P> {
    const_fn! {
        /// An executor without tasks, for a `static` or a device's memory.
        #[must_use]
        pub fn new(platform: P, budget: Budget) -> Self {
            Self::named("", platform, budget)
        }
    }

    const_fn! {
        /// The same with a name, by which the [task table](crate::task_table) shows it.
        #[must_use]
        pub fn named(name: &'static str, platform: P, budget: Budget) -> Self {
            Self {
                core: Core {
                    name,
                    queue: Queue::new(),
                    live: Live::new(),
                    way_in: WayIn::new(Self::enqueue::<false>),
                    refused: AtomicBool::new(false),
                    clock: Self::clock,
                    raised: Self::raised,
                    timers: Timers::new(),
                    janitor: Header::resident(&close::SWEEP),
                    consumer: Owned::new(Consumer {
                        lanes: Lanes::new(),
                        tasks: None,
                        overruns: Overruns { last: 0, in_a_row: 0 },
                        closer: None,
                        #[cfg(feature = "std")]
                        panic: None,
                    }),
                    counters: Counters::new(),
                },
                platform,
                limits: budget.limits(),
            }
        }
    }

    /// Its name; empty if it was made without one.
    pub fn name(&self) -> &'static str {
        self.core.name
    }

    /// The platform.
    pub fn platform(&self) -> &P {
        &self.platform
    }

    /// What the runs so far have done. Callable at any level; the numbers may be of different moments.
    pub fn stats(&self) -> Stats {
        self.core.counters.read()
    }

    /// How many tasks hold a slot: those that have not ended, and those whose output nobody has taken. What
    /// the others did is seen by the caller.
    pub fn live(&self) -> u32 {
        self.core.live.count()
    }

    /// Whether a task, or what a task has left behind, waits for a time.
    pub fn has_timers(&self) -> bool {
        !self.core.timers.is_empty()
    }

    /// Becomes the consumer, if nobody is, and polls what is ready until nothing is or the budget is used up.
    ///
    /// None if there is a consumer already (it will find what the caller has just queued), if the executor
    /// is closed, or if the platform does not let this thread poll. With nothing to do it is harmless.
    ///
    /// This is the answer to a doorbell. Whoever is at the right level and about to make something ready saves
    /// the doorbell with [`try_run_with`](Self::try_run_with).
    #[inline]
    pub fn try_run(&'static self, level: &mut P::Level) -> Option<Run> {
        self.try_run_with(level, |_| ()).1
    }

    /// Like [`try_run`](Self::try_run), after `first`, whose spawns and wakes do not ring.
    ///
    /// The role is taken before `first` begins, so that whatever it makes ready is found by this run. If
    /// somebody else has the role, `first` is called all the same, and rings if that one has parked meanwhile.
    pub fn try_run_with<R>(
        &'static self,
        level: &mut P::Level,
        first: impl FnOnce(&mut P::Level) -> R,
    ) -> (R, Option<Run>) {
        let claimed = if self.platform.may_run() { self.core.queue.claim() } else { None };
        let result = first(level);
        (result, claimed.map(|newest| self.consume(newest)))
    }

    /// The run, from the claim of the queue to the moment at which somebody else may claim it.
    #[inline]
    fn consume(&'static self, newest: Link) -> Run {
        let run = self.begin();
        self.go_on::<false>(newest, run).0
    }

    /// The run after its begin, with what has been taken off the queue. When it ended, if it was traced.
    #[inline]
    fn go_on<const TRACED: bool>(&'static self, mut newest: Link, mut run: Progress) -> (Run, Instant) {
        let end = loop {
            // SAFETY: the caller has claimed the queue, which makes this call the consumer until it parks, shuts the
            // queue or hands it back.
            let spent = unsafe {
                self.core.consumer.with(|consumer| self.drain::<TRACED>(consumer, newest, &mut run))
            };
            #[cfg(feature = "std")]
            self.pass_panic_on();
            if let Some(end) = spent {
                if COMPILED_IN && !TRACED && run.polls == 0 {
                    return self.go_on_traced();
                }
                break end;
            }
            if self.core.live.is_over() {
                if self.shut() {
                    return run.end(End::Closed);
                }
            } else if !self.is_covered() {
                break End::Timers;
            } else if self.core.queue.park() {
                return run.end(End::Parked);
            }
            newest = self.core.queue.take();
            if newest.is_end() {
                // A doorbell that somebody was refused for counts as a turn, or they could make a run endless.
                run.polls = run.polls.wrapping_add(1);
                if run.polls >= self.limits.polls {
                    break End::Polls;
                }
            }
        };
        self.hand_back();
        run.end(end)
    }

    /// If a task has panicked, leaves the rest to another run, and lets the caller of this one panic. For the consumer.
    #[cfg(feature = "std")]
    fn pass_panic_on(&'static self) {
        // SAFETY: the caller is the consumer.
        if let Some(panic) = unsafe { self.core.consumer.with(|consumer| consumer.panic.take()) } {
            self.hand_back();
            std::panic::resume_unwind(panic);
        }
    }

    #[inline]
    fn begin(&'static self) -> Progress {
        self.core.counters.count_run();
        let now = self.core.timers.tell(self.platform.now()).unwrap_or_else(|| {
            self.core.counters.count_clock_went_back();
            self.core.timers.now()
        });
        if self.core.timers.are_due(now) {
            self.expire(now);
        }
        self.progress(now)
    }

    /// A run that has done nothing yet.
    #[inline]
    fn progress(&self, now: Instant) -> Progress {
        Progress {
            polls: 0,
            look_again: self.limits.quota.first_look(),
            deadline: now.after_nanos(self.limits.nanos),
            now,
        }
    }

    /// Wakes who has waited long enough: as many as this run may poll. For the consumer.
    #[cold]
    fn expire(&'static self, now: Instant) {
        for _ in 0..self.limits.polls {
            let Some(task) = self.core.timers.expire(self.home(), now) else { return };
            task.wake();
        }
    }

    /// Whether a run will come for the first timer without a doorbell, or this one will not park. For the consumer.
    #[inline]
    fn is_covered(&'static self) -> bool {
        self.core.timers.is_empty() || self.core.queue.has_more() || self.cover()
    }

    /// Arms the platform for the first timer, unless it is armed for a time that is early enough. False if the timer
    /// is due: ringing is sooner than any alarm.
    #[cold]
    fn cover(&'static self) -> bool {
        let timers = &self.core.timers;
        if timers.is_armed_in_time() && self.platform.is_armed() {
            return true;
        }
        let Some(alarm) = timers.first(self.home()) else { return true };
        // Read again, because the run may have been long, and an alarm may be no finer than a tick of the system.
        let now = timers.tell(self.platform.now()).unwrap_or_else(|| timers.now());
        if now >= alarm.at {
            return false;
        }
        timers.note_armed(Some(alarm));
        self.platform.arm(Some(alarm));
        true
    }

    fn home(&'static self) -> Home {
        // SAFETY: the pointer is to all of this executor.
        unsafe { Home::new(NonNull::from(self).cast()) }
    }

    /// Gives every task that is ready its turn. Some when the budget is used up before that.
    #[inline]
    fn drain<const TRACED: bool>(
        &'static self,
        consumer: &mut Consumer,
        newest: Link,
        run: &mut Progress,
    ) -> Option<End> {
        // SAFETY: this run has taken it off the queue.
        unsafe { consumer.lanes.admit(newest) };
        loop {
            if run.polls >= run.look_again {
                if self.core.queue.has_more() {
                    // SAFETY: as above.
                    unsafe { consumer.lanes.admit(self.core.queue.take()) };
                }
                let most = if TRACED { self.limits.polls } else { self.limits.quota.polls() };
                if run.polls >= most && !consumer.lanes.is_empty() {
                    return Some(End::Polls);
                }
                run.look_again = most.min(run.polls.saturating_add(LOOK_AGAIN));
            }
            if run.polls != 0 && !consumer.lanes.is_empty() && self.platform.past(run.deadline) {
                return Some(End::Time);
            }
            let task = consumer.lanes.next()?;
            // A turn that finds nobody counts as well, or stale wakes could make a run endless.
            run.polls = run.polls.wrapping_add(1);
            self.core.counters.count_poll();
            let found = task.state().begin();
            if found.is_live() && TRACED {
                // SAFETY: this is the run, and the task was just taken off its queue.
                unsafe { self.traced_turn(task, found, consumer, run) };
            } else if found.is_live() {
                // SAFETY: this is the run, and the task was just taken off its queue.
                unsafe { task.turn(found.is_cancelled(), consumer) };
            } else {
                self.core.counters.count_stale();
            }
        }
    }

    /// Ceases to be the consumer with work left, and rings for it. For the consumer.
    fn hand_back(&'static self) {
        let runs = self.core.counters.read().runs;
        // SAFETY: the caller is the consumer.
        let overruns = unsafe { self.core.consumer.with(|consumer| consumer.overruns.count(runs)) };
        self.core.counters.count_overrun();
        self.core.queue.hand_back();
        self.platform.ring(Ring::Again { overruns });
    }

    /// Closes the queue for ever, unless something was pushed meanwhile. For the consumer.
    ///
    /// The executor may be gone as soon as that is done, so the closer's waker is taken out before.
    #[cold]
    fn shut(&'static self) -> bool {
        if self.core.timers.is_armed() {
            self.core.timers.note_armed(None);
            self.platform.arm(None);
        }
        // SAFETY: the caller is the consumer.
        let kept = unsafe { self.core.consumer.with(|consumer| consumer.closer.take()) };
        let closer = kept.or_else(|| self.core.end_janitor());
        let shut = self.core.queue.shut();
        if shut {
            closer.into_iter().for_each(Waker::wake);
        } else {
            // SAFETY: the caller is still the consumer.
            unsafe { self.core.consumer.with(|consumer| consumer.closer = closer) };
        }
        shut
    }

    /// Pushes a task and rings if nobody is on the way.
    ///
    /// # Safety
    ///
    /// `core` is that of an `Executor<P>`, with provenance over all of it. The caller has set the task's
    /// `QUEUED`.
    unsafe fn enqueue<const TRACED: bool>(core: NonNull<Core>, task: Task) {
        // SAFETY: as promised; the executor outlives its tasks' wakers.
        let executor: &'static Self = unsafe { core.cast().as_ref() };
        if TRACED {
            // The task cannot have its turn, nor end, before it is pushed.
            executor.tell_queued(task);
        }
        // Between push and doorbell nobody else would ring: the caller must not be preempted there.
        let _restore = executor.platform.raise();
        // SAFETY: the caller has set `QUEUED`.
        if unsafe { executor.core.push(task) } == Pushed::Parked {
            executor.platform.ring(Ring::Wake);
            if TRACED {
                executor.tell_ring();
            }
        }
    }

    /// Reads the clock.
    ///
    /// # Safety
    ///
    /// `core` is that of an `Executor<P>`, with provenance over all of it.
    unsafe fn clock(core: NonNull<Core>) -> Instant {
        // SAFETY: as promised; the executor outlives its tasks.
        unsafe { core.cast::<Self>().as_ref() }.platform.now()
    }

    /// Calls `f` at `DISPATCH_LEVEL`.
    ///
    /// # Safety
    ///
    /// As for [`clock`](Self::clock).
    unsafe fn raised(core: NonNull<Core>, f: &mut dyn FnMut()) {
        // SAFETY: as promised; the executor outlives its tasks.
        let executor = unsafe { core.cast::<Self>().as_ref() };
        let _restore = executor.platform.raise();
        f();
    }
}

/// Runs that left work behind.
#[derive(Debug)]
struct Overruns {
    /// The number of the last one.
    last: u64,
    /// How many there were without another run between them.
    in_a_row: u32,
}

impl Overruns {
    /// Counts the run of that number. How many there are in a row.
    fn count(&mut self, run: u64) -> u32 {
        let before = if run.wrapping_sub(self.last) == 1 { self.in_a_row } else { 0 };
        *self = Self { last: run, in_a_row: before.saturating_add(1) };
        self.in_a_row
    }
}

/// What one run has done so far.
struct Progress {
    polls: u32,
    /// At so many polls, the queue and the budget are looked at.
    look_again: u32,
    deadline: Instant,
    /// The latest reading of the clock, if the run is traced.
    now: Instant,
}

impl Progress {
    #[inline]
    fn end(self, end: End) -> (Run, Instant) {
        (Run { polls: self.polls, end }, self.now)
    }
}

impl Core {
    /// Pushes a task, or lets go of it if the executor is closed, when there can be nothing left to poll.
    ///
    /// # Safety
    ///
    /// The caller has set the task's `QUEUED`.
    #[inline]
    unsafe fn push(&self, task: Task) -> Pushed {
        // SAFETY: passed on.
        let pushed = unsafe { self.queue.push(task) };
        if pushed == Pushed::Closed {
            task.state().unmark();
        }
        pushed
    }
}

impl Consumer {
    /// Calls `poll`. None if it panicked, which is kept for the end of the run: a task that panics ends alone.
    #[cfg(feature = "std")]
    pub(crate) fn guard<R>(&mut self, poll: impl FnOnce() -> R) -> Option<R> {
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(poll)) {
            Ok(polled) => Some(polled),
            Err(panic) => {
                self.panic.get_or_insert(panic);
                None
            }
        }
    }

    /// Takes a task into the list of those that have begun.
    pub(crate) fn link(&mut self, task: Task) {
        // SAFETY: the links of all tasks are the run's, and the consumer is the run's.
        unsafe { task.header().links.write(Links { previous: None, next: self.tasks }) };
        if let Some(next) = self.tasks {
            // SAFETY: as above.
            unsafe { next.header().links.with(|links| links.previous = Some(task)) };
        }
        self.tasks = Some(task);
    }

    /// Takes a task out of that list.
    pub(crate) fn unlink(&mut self, task: Task) {
        // SAFETY: the links of all tasks are the run's, and the consumer is the run's.
        let Links { previous, next } = unsafe { task.header().links.read() };
        match previous {
            // SAFETY: as above.
            Some(previous) => unsafe { previous.header().links.with(|links| links.next = next) },
            None => self.tasks = next,
        }
        if let Some(next) = next {
            // SAFETY: as above.
            unsafe { next.header().links.with(|links| links.previous = previous) };
        }
    }

    /// Cancels every task that has begun, the newest first.
    pub(crate) fn sweep(&mut self) {
        let mut at = self.tasks;
        while let Some(task) = at {
            // SAFETY: the links of all tasks are the run's, and the consumer is the run's.
            at = unsafe { task.header().links.read() }.next;
            if !task.state().sweep().is_queued() {
                // SAFETY: who has set `QUEUED` owns the link.
                unsafe { task.header().next.write(Link::END) };
                // SAFETY: the task is this run's, as if it had been pushed and taken.
                unsafe { self.lanes.admit(task.into()) };
            }
        }
    }
}

impl<P> fmt::Debug for Executor<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor").field("live", &self.core.live).finish_non_exhaustive()
    }
}
