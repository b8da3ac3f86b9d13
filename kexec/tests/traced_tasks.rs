//! What an executor tells of its tasks, in which order, and that nothing else changes by it.

use std::{
    future::{pending, poll_fn},
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use kexec::{
    Budget, Executor, Pool, Table, TaskRef,
    irql::Dispatch,
    platform::mock::{Mock, Plan, keep},
    task_table::Label,
    trace::{self, Activity, Event, ExecutorId, Output, Sink, Then, What},
    yield_now,
};

type Exec = &'static Executor<Mock>;
type Slots = &'static Table<512>;

/// An image has one output: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps what it is told, a line each.
#[derive(Default)]
struct Told(Mutex<(Vec<String>, Vec<ExecutorId>)>);

impl Sink for Told {
    fn event(&self, _event: &Event<'_>) {}

    fn activity(&self, Activity { executor, time, what }: &Activity) {
        let name = |task: &trace::Task| {
            let name = task.name.expect("there is a table").rsplit("::").next().unwrap_or_default();
            assert_eq!(task.site.expect("there is a table").file(), "kexec/tests/traced_tasks.rs");
            name.to_owned()
        };
        let line = match what {
            What::RunBegan { run } => format!("run {run}"),
            What::RunEnded { run, polls, end } => format!("run {run} {end:?} after {polls}"),
            What::Rang => "rang".to_owned(),
            What::Spawned(task) => format!("spawned {}", name(task)),
            What::Woken(task) => format!("woken {}", name(task)),
            What::PollBegan(task) => format!("poll {}", name(task)),
            What::PollEnded { task, took, then } => {
                let then = match then {
                    Then::Parked(parked) => {
                        // Lines change with the file.
                        let line = parked.leaf.map(|(_, place)| place.line().to_string()).unwrap_or_default();
                        parked.to_string().replace(&format!("kexec/tests/traced_tasks.rs:{line}"), "here")
                    }
                    Then::Ended => "ended".to_owned(),
                    Then::Cancelled => "cancelled".to_owned(),
                };
                format!("{} {then} in {took:?}", name(task))
            }
            what => panic!("{what:?}"),
        };
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.0.push(format!("{:>2} {line}", time.as_nanos() / 1_000));
        told.1.push(*executor);
    }
}

impl Told {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).0)
    }
}

/// Calls `f` with a sink that is told.
fn told<R>(f: impl FnOnce(&'static Told) -> R) -> R {
    let sink = keep(Told::default());
    trace::set_output(Some(keep(Output::new(sink))));
    let result = f(sink);
    trace::set_output(None);
    result
}

fn traced(budget: Budget) -> Exec {
    let executor = Executor::leak(Mock::new(Plan::CALM), budget);
    executor.trace_tasks(true);
    executor
}

fn slots() -> Slots {
    keep(Pool::<512, 4>::new())
}

fn pass(executor: Exec, micros: u64) {
    executor.platform().pass(Duration::from_micros(micros));
}

async fn steps(_: &mut Dispatch, executor: Exec) {
    pass(executor, 3);
    yield_now().label("first").await;
    pass(executor, 4);
    poll_fn(|_| if executor.platform().time().as_nanos() < 20_000 { Poll::Pending } else { Poll::Ready(()) })
        .await;
    pass(executor, 1);
}

async fn parks(_: &mut Dispatch, (): ()) {
    pending::<()>().await;
}

async fn ends(_: &mut Dispatch, (): ()) {}

async fn rewinds(_: &mut Dispatch, executor: Exec) {
    executor.platform().rewind(Duration::from_micros(5));
}

/// A life, from the spawn to the end, with everything that is told on the way.
#[test]
fn a_life() {
    let _alone = alone();
    let told = told(|told| {
        let executor = traced(Budget::DEFAULT);
        let task = executor.spawn(slots(), steps, executor).expect("a slot is free").detach();
        pass(executor, 1);
        executor.settle();
        pass(executor, 12);
        task.wake();
        task.wake();
        executor.settle();
        told.take()
    });
    let expected = [
        " 0 spawned steps",
        " 0 rang",
        " 1 run 1",
        " 1 poll steps",
        " 4 woken steps",
        r#" 4 steps yield here "first" in 3µs"#,
        " 4 poll steps",
        " 8 steps unlabelled in 4µs",
        " 8 run 1 Parked after 2",
        "20 woken steps",
        "20 rang",
        "20 run 2",
        "20 poll steps",
        "21 steps ended in 1µs",
        "21 run 2 Parked after 1",
    ];
    assert_eq!(told, expected);
}

/// Ends that are none of its own: aborted at an await, before its first turn, and by a close that comes before that.
#[test]
fn cancelled() {
    let _alone = alone();
    let (told, closing) = told(|told| {
        let executor = traced(Budget::DEFAULT);
        let slots = slots();
        let spawn = || executor.spawn(slots, parks, ()).expect("a slot is free").detach();
        let begun = spawn();
        executor.settle();
        told.take();
        begun.abort();
        spawn().abort();
        executor.settle();
        let aborted = told.take();
        spawn();
        let mut close = pin!(executor.close().expect("nobody else closes it"));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(close.as_mut().poll(&mut cx).is_pending());
        executor.settle();
        assert!(close.as_mut().poll(&mut cx).is_ready());
        (aborted, told.take())
    });
    let aborted = [
        " 0 woken parks",
        " 0 rang",
        " 0 spawned parks",
        " 0 run 2",
        " 0 poll parks",
        " 0 parks cancelled in 0ns",
        " 0 poll parks",
        " 0 parks cancelled in 0ns",
        " 0 run 2 Parked after 2",
    ];
    assert_eq!(told, aborted);
    let closed = [
        " 0 spawned parks",
        " 0 rang",
        " 0 run 3",
        " 0 poll parks",
        " 0 parks cancelled in 0ns",
        " 0 run 3 Closed after 2",
    ];
    assert_eq!(closing, closed, "the janitor is no task");
}

/// A slot whose next tenant has moved in before its poll's end is told: the end is that of the first one.
#[test]
fn the_next_tenant_is_another() {
    let _alone = alone();
    let told = told(|told| {
        let executor = traced(Budget::DEFAULT);
        let one: Slots = keep(Pool::<512, 1>::new());
        let epilogue = move |_: &mut Dispatch, _| {
            executor.spawn(one, parks, ()).expect("the slot is free").detach();
        };
        executor.submit(one, ends, (), epilogue).expect("a slot is free");
        executor.settle();
        told.take()
    });
    let expected = [
        " 0 spawned ends",
        " 0 rang",
        " 0 run 1",
        " 0 poll ends",
        " 0 spawned parks",
        " 0 ends ended in 0ns",
        " 0 poll parks",
        " 0 parks unlabelled in 0ns",
        " 0 run 1 Parked after 2",
    ];
    assert_eq!(told, expected);
}

/// A run that ends at its budget, and a second executor: each has its own name and its own numbers.
#[test]
fn two_executors() {
    let _alone = alone();
    told(|told| {
        let executors = [traced(Budget::new(1, Duration::MAX)), traced(Budget::DEFAULT)];
        for executor in executors {
            executor.spawn(slots(), steps, executor).expect("a slot is free").detach();
            executor.settle();
        }
        let told = told.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (lines, names) = &*told;
        let of = |name: ExecutorId| -> Vec<_> {
            let mine = lines.iter().zip(names).filter(|(line, of)| **of == name && line.contains(" run "));
            mine.map(|(line, _)| line.as_str()).collect()
        };
        let first = [" 0 run 1", " 3 run 1 Polls after 1", " 3 run 2", " 7 run 2 Parked after 1"];
        assert_eq!(of(names[0]), first);
        assert_eq!(of(*names.last().expect("there are some")), [" 0 run 1", " 7 run 1 Parked after 2"]);
    });
}

/// A clock that goes back: within a run, time does not.
#[test]
fn a_clock_that_goes_back() {
    let _alone = alone();
    let told = told(|told| {
        let executor = traced(Budget::DEFAULT);
        pass(executor, 9);
        executor.spawn(slots(), rewinds, executor).expect("a slot is free").detach();
        executor.settle();
        told.take()
    });
    assert_eq!(told.last().map(String::as_str), Some(" 9 run 1 Parked after 1"));
    assert_eq!(told[told.len() - 2], " 9 rewinds ended in 0ns");
}

/// Tracing is turned on and off between runs; what is off tells nothing and reads no clock.
#[test]
fn on_and_off() {
    let _alone = alone();
    told(|told| {
        let executor: Exec = Executor::leak(Mock::new(Plan::CALM), Budget::DEFAULT);
        let task = executor.spawn(slots(), parks, ()).expect("a slot is free").detach();
        executor.settle();
        let reads = || executor.platform().counts().clock_reads;
        for (on, lines, clock) in [(false, 0, 1), (true, 6, 6), (true, 6, 6), (false, 0, 1)] {
            executor.trace_tasks(on);
            let before = reads();
            task.wake();
            executor.settle();
            assert_eq!((told.take().len(), reads() - before), (lines, clock), "{on}");
        }
    });
}

/// Tracing that is turned on and off in the middle of runs ends none of them late: each keeps to its budget.
#[test]
fn on_and_off_in_the_middle() {
    let _alone = alone();
    for (budget, tasks) in [(20, 1), (20, 3), (5, 3), (40, 2)] {
        let executor = traced(Budget::new(budget, Duration::MAX));
        let slots = slots();
        for n in 0..tasks {
            let task = async move |_: &mut Dispatch, ()| {
                for round in 0..200 {
                    executor.trace_tasks((round / 7 + n) % 3 == 0);
                    yield_now().await;
                }
            };
            executor.spawn(slots, task, ()).expect("a slot is free").detach();
        }
        executor.settle();
        assert_eq!(executor.live(), 0);
        let trace = executor.platform().trace();
        let runs = trace.iter().filter_map(|line| line.rsplit_once(" after ")?.1.parse::<u32>().ok());
        let longest = runs.max().expect("there are runs");
        assert!(longest <= budget, "{longest} polls of {budget}");
    }
}

/// A traced executor without an output, and one whose output has gone, run like any other.
#[test]
fn nobody_listens() {
    let _alone = alone();
    let executor = traced(Budget::DEFAULT);
    let task = executor.spawn(slots(), steps, executor).expect("a slot is free").detach();
    executor.settle();
    pass(executor, 20);
    task.wake();
    executor.settle();
    assert_eq!(executor.live(), 0);
}

/// A storm is the same storm when it is traced: the same doorbells, polls and notes, to the last one.
#[test]
fn tracing_changes_nothing() {
    let _alone = alone();
    let storm = |seed, traced: bool| {
        let plan = Plan { clock_goes_back: 0, ..Plan::wild(seed) };
        let executor: Exec = Executor::leak(Mock::new(plan), Budget::new(5, Duration::from_micros(20)));
        executor.trace_tasks(traced);
        let slots = slots();
        let task = async move |_: &mut Dispatch, n: u32| {
            for round in 0..n {
                executor.platform().note(format_args!("{n} {round}"));
                pass(executor, 3);
                yield_now().await;
            }
        };
        let names: Vec<TaskRef> =
            (5..9).map(|n| executor.spawn(slots, task, n).expect("a slot is free").detach()).collect();
        for name in &names {
            executor.platform().haunt(*name);
        }
        executor.step();
        names[2].abort();
        executor.settle();
        assert_eq!(executor.live(), 0);
        (executor.platform().trace(), executor.stats())
    };
    for seed in 0..100 {
        assert_eq!(told(|_| storm(seed, true)), storm(seed, false), "seed {seed}");
    }
}
