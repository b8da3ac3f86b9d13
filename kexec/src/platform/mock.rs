//! A platform for tests: several CPUs, virtual time, and every disturbance that a platform is allowed.
//!
//! One OS thread plays all CPUs, so that a run is a function of its [`Plan`]: the same seed gives the same
//! trace, to the last doorbell. Nothing happens by itself; [`step`](Executor::step) answers the doorbell that
//! is due next, and time passes only as doorbells travel and as tasks [say so](Mock::pass), or when the test lets it:
//! [`advance`](Executor::advance) goes from alarm to alarm, and [`suspend`](Mock::suspend) is time in which the guest
//! does not run.
//!
//! What may go wrong is drawn from the seed at every point where the executor calls the platform: between
//! marking a task and pushing it, between push and doorbell, between two polls. There another CPU may
//! answer a doorbell that nobody rang, wake a task for nothing, or call the test's own
//! [interrupt](Mock::on_interrupt).
//!
//! ```
//! use kexec::{Budget, Executor, Pool, platform::mock::{Mock, Plan}, task_size};
//!
//! async fn answer(_: &mut kexec::irql::Dispatch, (): ()) -> u32 {
//!     kexec::yield_now().await;
//!     42
//! }
//!
//! static POOL: Pool<{ task_size(&answer) }, 1> = Pool::new();
//!
//! let executor = Executor::leak(Mock::new(Plan::CALM), Budget::DEFAULT);
//! let handle = executor.spawn(&POOL, answer, ()).expect("the pool has room");
//! executor.settle();
//! assert_eq!(handle.try_take().expect("it has run"), Ok(42));
//! assert_eq!(executor.platform().trace(), ["ring wake", "run cpu0", "parked after 2"]);
//! ```
#![expect(unsafe_code, reason = "this is where the tokens of simulated CPUs come from")]
#![expect(clippy::arithmetic_side_effects, reason = "a test's platform; overflow shows as a failure")]

use core::{fmt, time::Duration};
use std::{
    boxed::Box,
    format,
    string::{String, ToString},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    thread::{self, ThreadId},
    vec::Vec,
};

use super::{Alarm, AnyFuture, Platform, Ring};
use crate::{
    Budget, End, Executor, Run, TaskRef,
    irql::{Dispatch, Level, Passive, Raise},
    time::Instant,
};

/// One chance in so many; zero is never.
pub type Odds = u32;

/// What a mock does, and what it does wrong.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Everything else is drawn from this.
    pub seed: u64,
    /// CPUs that answer doorbells.
    pub cpus: u32,
    /// The longest time that a doorbell is on its way.
    pub delay: Duration,
    /// A doorbell arrives twice, or an alarm goes off twice.
    pub duplicates: Odds,
    /// An alarm goes off before its time.
    pub early_alarms: Odds,
    /// A CPU answers a doorbell that nobody rang, or an alarm in the middle of something.
    pub spurious_runs: Odds,
    /// One of the tasks that were [named](Mock::haunt) is woken for nothing.
    pub spurious_wakes: Odds,
    /// The test's interrupt comes.
    pub interrupts: Odds,
    /// The clock is read as earlier than it was.
    pub clock_goes_back: Odds,
    /// After so many overruns in a row a worker answers instead of a CPU.
    pub worker_after: Option<u32>,
}

impl Plan {
    /// One CPU, no delay, nothing goes wrong.
    pub const CALM: Self = Self {
        seed: 0,
        cpus: 1,
        delay: Duration::ZERO,
        duplicates: 0,
        early_alarms: 0,
        spurious_runs: 0,
        spurious_wakes: 0,
        interrupts: 0,
        clock_goes_back: 0,
        worker_after: None,
    };

    /// Four CPUs, and everything goes wrong now and then.
    #[must_use]
    pub const fn wild(seed: u64) -> Self {
        Self {
            seed,
            cpus: 4,
            delay: Duration::from_micros(20),
            duplicates: 7,
            early_alarms: 9,
            spurious_runs: 11,
            spurious_wakes: 13,
            interrupts: 5,
            clock_goes_back: 17,
            worker_after: Some(3),
        }
    }
}

/// Who answers a doorbell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// A CPU's DPC.
    Cpu(u32),
    /// The thread that takes over from a consumer that is never done.
    Worker,
}

#[derive(Clone, Copy, Debug)]
struct Doorbell {
    due: Instant,
    seat: Seat,
}

/// An alarm, and the moment at which it goes off.
#[derive(Clone, Copy, Debug)]
struct Armed {
    alarm: Alarm,
    due: Instant,
}

/// A seeded generator (splitmix64): the platform's only source of chance.
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, or zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.roll().checked_rem(bound).unwrap_or(0)
    }

    fn hits(&mut self, odds: Odds) -> bool {
        odds != 0 && self.below(u64::from(odds)) == 0
    }
}

#[derive(Debug)]
struct State {
    dice: Dice,
    now: Instant,
    doorbells: Vec<Doorbell>,
    armed: Option<Armed>,
    haunted: Vec<TaskRef>,
    trace: Vec<String>,
    traced: bool,
    digest: u64,
    counts: Counts,
}

/// How often the executor asked what of its platform.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Doorbells because a task became ready.
    pub wakes: u64,
    /// Doorbells because a budget was used up.
    pub agains: u64,
    /// Alarms that were armed.
    pub arms: u64,
    /// Readings of the clock.
    pub clock_reads: u64,
    /// Glances at the deadline.
    pub glances: u64,
}

type Interrupt = Box<dyn FnMut() + Send>;

/// The platform. `L` is the level that its CPUs play.
pub struct Mock<L: Level = Dispatch> {
    plan: Plan,
    thread: ThreadId,
    state: Mutex<State>,
    /// How often the CPU that is playing has raised its level.
    raised: &'static AtomicU32,
    disturbing: AtomicBool,
    interrupt: Mutex<Option<Interrupt>>,
    executor: OnceLock<&'static Executor<Self>>,
}

impl<L: Level> Mock<L> {
    /// A platform for this thread.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            thread: thread::current().id(),
            state: Mutex::new(State {
                dice: Dice(plan.seed),
                now: Instant::START,
                doorbells: Vec::new(),
                armed: None,
                haunted: Vec::new(),
                trace: Vec::new(),
                traced: true,
                digest: 0,
                counts: Counts::default(),
            }),
            raised: keep(AtomicU32::new(0)),
            disturbing: AtomicBool::new(false),
            interrupt: Mutex::new(None),
            executor: OnceLock::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The virtual time.
    pub fn time(&self) -> Instant {
        self.state().now
    }

    /// Lets virtual time pass, as a task that computes does.
    pub fn pass(&self, time: Duration) {
        let mut state = self.state();
        state.now = state.now.after(time);
    }

    /// Takes virtual time back, as a broken clock does.
    pub fn rewind(&self, time: Duration) {
        let mut state = self.state();
        let back = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        state.now = Instant::from_nanos(state.now.as_nanos().saturating_sub(back));
    }

    /// Suspends the guest for so long. Its own time stands still, but not the one in which alarms are counted: one may
    /// go off early.
    pub fn suspend(&self, time: Duration) {
        let mut state = self.state();
        let now = state.now;
        if let Some(armed) = &mut state.armed {
            armed.due = now.after(armed.due.since(now).saturating_sub(time));
        }
    }

    /// When something will happen next by itself: a doorbell arrives, or the alarm goes off. It may be in the past, and is
    /// then late.
    pub fn due(&self) -> Option<Instant> {
        let state = self.state();
        let doorbells = state.doorbells.iter().map(|doorbell| doorbell.due);
        doorbells.chain(state.armed.map(|armed| armed.due)).min()
    }

    /// The alarm that is armed and has not gone off.
    pub fn alarm(&self) -> Option<Alarm> {
        self.state().armed.map(|armed| armed.alarm)
    }

    /// Adds a line to the trace.
    pub fn note(&self, line: impl fmt::Display) {
        self.state().add(line);
    }

    /// The trace so far: doorbells, runs, and what was [noted](Self::note).
    pub fn trace(&self) -> Vec<String> {
        self.state().trace.clone()
    }

    /// The trace since it was last taken.
    pub fn take_trace(&self) -> Vec<String> {
        core::mem::take(&mut self.state().trace)
    }

    /// Stops keeping the trace, for a long run; its [digest](Self::digest) goes on.
    pub fn forget_trace(&self) {
        let mut state = self.state();
        state.traced = false;
        state.trace.clear();
    }

    /// A hash of everything that was ever added to the trace.
    pub fn digest(&self) -> u64 {
        self.state().digest
    }

    /// How often the executor asked what of the platform.
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Doorbells that are on their way.
    pub fn doorbells(&self) -> usize {
        self.state().doorbells.len()
    }

    /// Names a task to be woken for nothing now and then, as long as it lives and after.
    pub fn haunt(&self, task: TaskRef) {
        self.state().haunted.push(task);
    }

    /// What another CPU does when the plan says so. It is not interrupted itself.
    pub fn on_interrupt(&self, interrupt: impl FnMut() + Send + 'static) {
        *self.interrupt.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(interrupt));
    }

    /// Does something while every other CPU is captured, as a kernel does when it suspends: no doorbell is answered, and no task woken for
    /// nothing, in the middle of it.
    pub fn captured<R>(&self, work: impl FnOnce() -> R) -> R {
        let before = self.disturbing.swap(true, Relaxed);
        let outcome = work();
        self.disturbing.store(before, Relaxed);
        outcome
    }

    /// A point at which other CPUs may do something. What they do is not disturbed itself.
    fn disturb(&self) {
        if self.disturbing.swap(true, Relaxed) {
            return;
        }
        let outer = self.raised.swap(0, Relaxed);
        let (run, wake, interrupt) = {
            let mut state = self.state();
            let State { dice, haunted, .. } = &mut *state;
            let run = dice.hits(self.plan.spurious_runs);
            let wake = dice.hits(self.plan.spurious_wakes).then(|| dice.below(haunted.len() as u64));
            let wake = wake.and_then(|index| haunted.get(usize::try_from(index).ok()?).copied());
            (run, wake, dice.hits(self.plan.interrupts))
        };
        if let Some(task) = wake {
            task.wake();
        }
        if interrupt
            && let Some(interrupt) = &mut *self.interrupt.lock().unwrap_or_else(PoisonError::into_inner)
        {
            interrupt();
        }
        if run && let Some(executor) = self.executor.get() {
            let mut state = self.state();
            if state.armed.is_some_and(|armed| armed.due <= state.now) {
                state.armed = None;
                state.add("alarm");
            }
            drop(state);
            executor.answer(Seat::Cpu(self.some_cpu()));
        }
        self.raised.store(outer, Relaxed);
        self.disturbing.store(false, Relaxed);
    }

    fn some_cpu(&self) -> u32 {
        self.state().some_cpu(&self.plan)
    }

    /// Whose doorbell arrives next, which makes it that time; with a limit, only one that arrives by then. An alarm whose
    /// moment comes before that goes off.
    fn next(&self, until: Option<Instant>) -> Option<Seat> {
        let mut state = self.state();
        loop {
            let first = state.doorbells.iter().enumerate().min_by_key(|(_, doorbell)| doorbell.due);
            let first = first.map(|(index, doorbell)| (index, *doorbell));
            let horizon =
                until.unwrap_or_else(|| first.map_or(state.now, |(_, next)| next.due.max(state.now)));
            if let Some(Armed { due, .. }) = state.armed
                && due <= first.map_or(horizon, |(_, next)| next.due.min(horizon)).max(state.now)
            {
                state.go_off(due, &self.plan);
                continue;
            }
            let (index, next) = first?;
            if until.is_some_and(|until| next.due > until) {
                return None;
            }
            state.doorbells.remove(index);
            state.now = state.now.max(next.due);
            return Some(next.seat);
        }
    }
}

impl State {
    fn some_cpu(&mut self, plan: &Plan) -> u32 {
        u32::try_from(self.dice.below(u64::from(plan.cpus))).unwrap_or(0)
    }

    /// Sends a doorbell on its way, or two.
    fn send(&mut self, from: Instant, seat: Seat, plan: &Plan) {
        let times = 1 + u32::from(self.dice.hits(plan.duplicates));
        for _ in 0..times {
            let delay = self.dice.below(u64::try_from(plan.delay.as_nanos()).unwrap_or(u64::MAX));
            let due = from.after(Duration::from_nanos(delay));
            self.doorbells.push(Doorbell { due, seat });
        }
    }

    fn go_off(&mut self, due: Instant, plan: &Plan) {
        self.armed = None;
        self.add("alarm");
        let seat = Seat::Cpu(self.some_cpu(plan));
        self.send(due.max(self.now), seat, plan);
    }

    fn add(&mut self, line: impl fmt::Display) {
        let line = line.to_string();
        // FNV-1a, over the lines and their ends.
        for byte in line.bytes().chain([b'\n']) {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
        if self.traced {
            self.trace.push(line);
        }
    }
}

/// Keeps a value to the end of the program, where a checker for leaks finds it kept, and not what it has lost.
pub fn keep<T: Sync + 'static>(value: T) -> &'static T {
    static KEPT: Mutex<Vec<&(dyn Sync + 'static)>> = Mutex::new(Vec::new());
    let value: &'static T = Box::leak(Box::new(value));
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(value);
    value
}

impl<P: Platform> Executor<P> {
    /// An executor that lives to the end of the test.
    #[must_use]
    pub fn leak(platform: P, budget: Budget) -> &'static Self {
        keep(Self::new(platform, budget))
    }
}

impl<L: Level> Executor<Mock<L>> {
    /// Answers the doorbell that is due next; false if none is on its way.
    pub fn step(&'static self) -> bool {
        let mock = self.platform();
        mock.executor.get_or_init(|| self);
        let next = mock.next(None);
        if let Some(seat) = next {
            self.answer(seat);
        }
        next.is_some()
    }

    /// Answers doorbells until none is on its way.
    ///
    /// # Panics
    ///
    /// When that does not end: a million doorbells were answered.
    pub fn settle(&'static self) {
        for _ in 0..1_000_000 {
            if !self.step() {
                return;
            }
        }
        assert_eq!(self.platform().doorbells(), 0, "the tasks never rest");
    }

    /// Lets time pass, and answers the doorbells and the alarms that come meanwhile, in their order.
    ///
    /// # Panics
    ///
    /// When that does not end: a million doorbells were answered.
    pub fn advance(&'static self, time: Duration) {
        let mock = self.platform();
        mock.executor.get_or_init(|| self);
        let until = mock.time().after(time);
        for _ in 0..1_000_000 {
            let Some(seat) = mock.next(Some(until)) else { break };
            self.answer(seat);
        }
        assert!(mock.next(Some(until)).is_none(), "the tasks never rest");
        let mut state = mock.state();
        state.now = state.now.max(until);
    }

    /// Answers the doorbells that are on their way, lets time pass until the alarm goes off, and answers that; false
    /// if none is armed.
    pub fn advance_to_next_alarm(&'static self) -> bool {
        self.settle();
        let mock = self.platform();
        let Some(armed) = mock.state().armed else { return false };
        self.advance(armed.due.since(mock.time()));
        self.settle();
        true
    }

    /// Runs the executor as `seat` does, whether a doorbell was rung or not.
    pub fn answer(&'static self, seat: Seat) -> Option<Run> {
        let mock = self.platform();
        match seat {
            Seat::Cpu(cpu) => mock.note(format_args!("run cpu{cpu}")),
            Seat::Worker => mock.note("run worker"),
        }
        // SAFETY: a simulated CPU is at whatever level the simulation says, and does one thing at a time.
        let run = self.try_run(&mut unsafe { L::assume() });
        mock.note(match run {
            None => String::from("busy"),
            Some(Run { polls, end: End::Parked }) => format!("parked after {polls}"),
            Some(Run { polls, end: End::Polls }) => format!("out of polls after {polls}"),
            Some(Run { polls, end: End::Time }) => format!("out of time after {polls}"),
            Some(Run { polls, end: End::Timers }) => format!("timers due after {polls}"),
            Some(Run { polls, end: End::Closed }) => format!("closed after {polls}"),
        });
        run
    }
}

/// The level is restored when this is dropped.
#[derive(Debug)]
pub struct Restore(&'static AtomicU32);

impl Drop for Restore {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

// SAFETY: the one thread that plays all CPUs goes on with whatever it was doing.
unsafe impl<L: Level> Raise for Mock<L> {
    type Restore = Restore;

    fn raise(&self) -> Restore {
        // The task is marked and not pushed yet.
        self.disturb();
        self.raised.fetch_add(1, Relaxed);
        Restore(self.raised)
    }
}

// SAFETY: only the thread that made the mock may run it.
unsafe impl<L: Level> AnyFuture for Mock<L> {}

// SAFETY: doorbells are answered by the test's own calls, none of which is in progress when it calls `silence`.
unsafe impl<L: Level> Platform for Mock<L> {
    type Level = L;

    fn ring(&self, why: Ring) {
        match why {
            Ring::Wake => assert_ne!(self.raised.load(Relaxed), 0, "rung by a thread that can be preempted"),
            Ring::Again { .. } => assert_eq!(self.raised.load(Relaxed), 0, "rung in the middle of a wake"),
        }
        // The task is pushed, and nobody has been told.
        self.disturb();
        let cpu = self.some_cpu();
        let mut state = self.state();
        let seat = match why {
            Ring::Wake => {
                state.counts.wakes += 1;
                state.add("ring wake");
                Seat::Cpu(cpu)
            }
            Ring::Again { overruns } => {
                state.counts.agains += 1;
                state.add(format_args!("ring again {overruns}"));
                if self.plan.worker_after.is_some_and(|after| overruns >= after) {
                    Seat::Worker
                } else {
                    Seat::Cpu(cpu)
                }
            }
        };
        let now = state.now;
        state.send(now, seat, &self.plan);
    }

    fn arm(&self, alarm: Option<Alarm>) {
        assert_eq!(self.raised.load(Relaxed), 0, "armed in the middle of a wake, or with a lock held");
        let mut state = self.state();
        state.armed = None;
        match alarm {
            None => state.add("arm nothing"),
            Some(alarm @ Alarm { at, by }) => {
                assert!(at <= by && by < Instant::NEVER, "{alarm:?} cannot be met");
                state.counts.arms += 1;
                state.add(format_args!("arm {at:?} to {by:?}"));
                let (from, to) =
                    if state.dice.hits(self.plan.early_alarms) { (state.now, at) } else { (at, by) };
                let wait = u64::try_from(to.since(from).as_nanos()).unwrap_or(u64::MAX);
                let drawn = Duration::from_nanos(state.dice.below(wait.saturating_add(1)));
                state.armed = Some(Armed { alarm, due: from.after(drawn) });
            }
        }
        drop(state);
        // The alarm is armed, and the executor has not parked.
        self.disturb();
    }

    fn is_armed(&self) -> bool {
        self.state().armed.is_some()
    }

    fn now(&self) -> Instant {
        let mut state = self.state();
        state.counts.clock_reads += 1;
        let back = if state.dice.hits(self.plan.clock_goes_back) { state.dice.below(10_000) } else { 0 };
        Instant::from_nanos(state.now.as_nanos().saturating_sub(back))
    }

    fn past(&self, deadline: Instant) -> bool {
        // Between two polls.
        self.disturb();
        let mut state = self.state();
        state.counts.glances += 1;
        state.now >= deadline
    }

    fn may_run(&self) -> bool {
        thread::current().id() == self.thread
    }

    fn silence(&self, _passive: &mut Passive) {
        let mut state = self.state();
        state.doorbells.clear();
        assert!(state.armed.is_none(), "a closed executor has left its alarm armed");
    }
}

impl<L: Level> fmt::Debug for Mock<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mock").field("plan", &self.plan).field("state", &self.state).finish_non_exhaustive()
    }
}
