//! The exact sequence of doorbells and polls, for one of each situation.
//!
//! These are the executor's promises about *when*: one doorbell a park, none for a wake inside a run, runs that end
//! at their budget, lanes, the order of an end.

use std::{
    future::{Future, pending, poll_fn},
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use kexec::{
    Budget, Cancelled, End, Executor, JoinHandle, Pool, Run, SpawnError, Table,
    irql::{Dispatch, Level},
    platform::mock::{Mock, Plan, Seat, keep},
    yield_now,
};

type Exec = &'static Executor<Mock>;
type Slots = &'static Table<512>;

const POLLS: Budget = Budget::new(64, Duration::MAX);

fn calm(budget: Budget) -> Exec {
    Executor::leak(Mock::new(Plan::CALM), budget)
}

fn data() -> Slots {
    keep(Pool::<512, 70>::new())
}

fn control() -> Slots {
    keep(Pool::<512, 70>::control())
}

/// A task that notes each of its polls and parks.
fn parked(executor: Exec, slots: Slots, name: &'static str) -> JoinHandle<()> {
    let poll = move || {
        poll_fn(move |_| {
            executor.platform().note(format_args!("poll {name}"));
            Poll::<()>::Pending
        })
    };
    executor.spawn_with(slots, poll).expect("a slot is free")
}

/// A task that notes each of its polls and yields, so many times; each poll takes `time`.
fn yielding(executor: Exec, slots: Slots, name: &'static str, times: u32, time: Duration) -> JoinHandle<()> {
    let task = async move || {
        for _ in 0..times {
            executor.platform().note(format_args!("poll {name}"));
            executor.platform().pass(time);
            yield_now().await;
        }
    };
    executor.spawn(slots, async move |_: &mut Dispatch, ()| task().await, ()).expect("a slot is free")
}

#[track_caller]
fn assert_trace(executor: Exec, expected: &[&str]) {
    assert_eq!(executor.platform().take_trace(), expected);
}

#[test]
fn one_doorbell_a_park() {
    let executor = calm(POLLS);
    let task = parked(executor, data(), "a").task();
    assert_trace(executor, &["ring wake"]);
    task.wake();
    task.wake();
    executor.settle();
    assert_trace(executor, &["run cpu0", "poll a", "parked after 1"]);
    for _ in 0..3 {
        task.wake();
    }
    assert_trace(executor, &["ring wake"]);
    executor.settle();
    assert_trace(executor, &["run cpu0", "poll a", "parked after 1"]);
}

#[test]
fn no_doorbell_for_a_wake_inside_a_run() {
    let executor = calm(POLLS);
    yielding(executor, data(), "a", 3, Duration::ZERO).detach();
    executor.settle();
    assert_trace(executor, &["ring wake", "run cpu0", "poll a", "poll a", "poll a", "parked after 4"]);
}

#[test]
fn many_wakes_one_doorbell() {
    let (executor, slots) = (calm(Budget::new(100, Duration::MAX)), data());
    let tasks: Vec<_> = (0..64).map(|_| parked(executor, slots, "x").task()).collect();
    executor.settle();
    executor.platform().take_trace();
    for task in tasks {
        task.wake();
    }
    assert_trace(executor, &["ring wake"]);
    let run = executor.answer(Seat::Cpu(0));
    assert_eq!(run, Some(Run { polls: 64, end: End::Parked }));
}

#[test]
fn a_run_ends_at_its_budget_of_polls() {
    let (executor, slots) = (calm(Budget::new(2, Duration::MAX)), data());
    for name in ["a", "b", "c"] {
        parked(executor, slots, name).detach();
    }
    executor.settle();
    let first = ["ring wake", "run cpu0", "poll a", "poll b", "ring again 1", "out of polls after 2"];
    let second = ["run cpu0", "poll c", "parked after 1"];
    assert_trace(executor, &[&first[..], &second].concat());
}

/// The budget is used up together with the work: there is nothing to ring for.
#[test]
fn a_run_that_is_just_long_enough_parks() {
    let (executor, slots) = (calm(Budget::new(2, Duration::MAX)), data());
    parked(executor, slots, "a").detach();
    parked(executor, slots, "b").detach();
    executor.settle();
    assert_trace(executor, &["ring wake", "run cpu0", "poll a", "poll b", "parked after 2"]);
}

#[test]
fn a_run_ends_at_its_deadline() {
    let (executor, slots) = (calm(Budget::new(64, Duration::from_micros(50))), data());
    for name in ["a", "b", "c"] {
        yielding(executor, slots, name, 1, Duration::from_micros(30)).detach();
    }
    executor.settle();
    let first = ["ring wake", "run cpu0", "poll a", "poll b", "ring again 1", "out of time after 2"];
    let second = ["run cpu0", "poll c", "parked after 4"];
    assert_trace(executor, &[&first[..], &second].concat());
    let counts = executor.platform().counts();
    assert_eq!((counts.clock_reads, executor.stats().runs), (2, 2), "the clock is read once a run");
}

/// A wake that comes while a doorbell is on its way for the rest of a budget does not ring again.
#[test]
fn no_doorbell_while_one_is_on_its_way() {
    let (executor, slots) = (calm(Budget::new(1, Duration::MAX)), data());
    let a = parked(executor, slots, "a").task();
    parked(executor, slots, "b").detach();
    assert!(executor.step());
    executor.platform().take_trace();
    a.wake();
    assert_trace(executor, &[]);
    executor.settle();
    let rest = [
        "run cpu0",
        "poll b",
        "ring again 2",
        "out of polls after 1",
        "run cpu0",
        "poll a",
        "parked after 1",
    ];
    assert_trace(executor, &rest);
}

#[test]
fn control_goes_before_data() {
    let (executor, data, control) = (calm(POLLS), data(), control());
    parked(executor, data, "d1").detach();
    parked(executor, control, "c1").detach();
    parked(executor, data, "d2").detach();
    parked(executor, control, "c2").detach();
    executor.settle();
    let polls = ["poll c1", "poll c2", "poll d1", "poll d2"];
    assert_trace(executor, &[&["ring wake", "run cpu0"][..], &polls, &["parked after 4"]].concat());
}

/// A control lane that is never empty leaves one turn in seventeen to data.
#[test]
fn control_does_not_starve_data() {
    let (executor, data, control) = (calm(Budget::new(51, Duration::MAX)), data(), control());
    for _ in 0..3 {
        parked(executor, data, "d").detach();
    }
    for _ in 0..20 {
        yielding(executor, control, "c", 10, Duration::ZERO).detach();
    }
    executor.answer(Seat::Cpu(0));
    let polls: String =
        executor.platform().trace().iter().filter_map(|line| line.strip_prefix("poll ")).collect();
    let seventeen = format!("{}d", "c".repeat(16));
    assert_eq!(polls, seventeen.repeat(3));
}

/// A control task that becomes ready in the middle of a long run waits for 16 polls at most.
#[test]
fn data_does_not_keep_control_waiting() {
    let (executor, data) = (calm(POLLS), data());
    let urgent = parked(executor, control(), "urgent").task();
    executor.settle();
    let wakes = executor.spawn_with(data, move || async move { urgent.wake() });
    wakes.expect("a slot is free").detach();
    for _ in 0..40 {
        parked(executor, data, "d").detach();
    }
    executor.platform().take_trace();
    executor.settle();
    let trace = executor.platform().take_trace();
    let at = trace.iter().position(|line| line == "poll urgent").expect("it was woken");
    assert!(at <= 17, "{at} lines before it: {trace:?}");
}

#[test]
fn a_doorbell_with_nothing_to_do() {
    let executor = calm(POLLS);
    assert_eq!(executor.answer(Seat::Cpu(0)), Some(Run { polls: 0, end: End::Parked }));
    parked(executor, data(), "a").detach();
    executor.answer(Seat::Cpu(0));
    // The doorbell that was rung arrives late: the work has been done.
    executor.settle();
    assert_trace(
        executor,
        &[
            "run cpu0",
            "parked after 0",
            "ring wake",
            "run cpu0",
            "poll a",
            "parked after 1",
            "run cpu0",
            "parked after 0",
        ],
    );
}

/// A second doorbell, answered by another CPU in the middle of a run, finds a consumer, which looks round once more
/// and counts that as a turn.
#[test]
fn a_doorbell_that_arrives_twice() {
    let executor = calm(POLLS);
    let slots = data();
    executor
        .spawn_with(slots, move || async move {
            assert_eq!(executor.answer(Seat::Cpu(1)), None);
        })
        .expect("a slot is free")
        .detach();
    executor.settle();
    assert_trace(executor, &["ring wake", "run cpu0", "run cpu1", "busy", "parked after 2"]);
}

/// Whoever is at the right level becomes the consumer, and nothing is rung.
#[test]
fn a_submit_that_runs_at_once() {
    let (executor, slots) = (calm(POLLS), data());
    // The level comes from the task that submits, on another executor.
    let caller = calm(POLLS);
    let submit = async move |level: &mut Dispatch, ()| {
        let (handle, run) = executor.try_run_with(level, |_| parked(executor, slots, "a"));
        handle.detach();
        run
    };
    let submitted = caller.spawn(slots, submit, ()).expect("a slot is free");
    caller.settle();
    let run = submitted.try_take().expect("it has run").expect("it was not cancelled");
    assert_eq!(run, Some(Run { polls: 1, end: End::Parked }));
    assert_trace(executor, &["poll a"]);
}

/// What such a run leaves behind at its budget is rung for once.
#[test]
fn a_submit_that_runs_out_of_its_budget() {
    let (executor, slots) = (calm(Budget::new(1, Duration::MAX)), data());
    let caller = calm(POLLS);
    let submit = async move |level: &mut Dispatch, ()| {
        executor.try_run_with(level, |_| ["a", "b"].map(|name| parked(executor, slots, name).detach())).1
    };
    let submitted = caller.spawn(slots, submit, ()).expect("a slot is free");
    caller.settle();
    let run = submitted.try_take().expect("it has run").expect("it was not cancelled");
    assert_eq!(run, Some(Run { polls: 1, end: End::Polls }));
    executor.settle();
    assert_trace(executor, &["poll a", "ring again 1", "run cpu0", "poll b", "parked after 1"]);
}

/// A consumer that is never done hands its role to a worker, and has it back after the worker has parked.
#[test]
fn overruns_go_to_a_worker_and_back() {
    let plan = Plan { worker_after: Some(3), ..Plan::CALM };
    let executor: Exec = Executor::leak(Mock::new(plan), Budget::new(1, Duration::MAX));
    yielding(executor, data(), "a", 4, Duration::ZERO).detach();
    let b = parked(executor, data(), "b").task();
    executor.settle();
    let seats: Vec<_> = executor
        .platform()
        .take_trace()
        .into_iter()
        .filter(|line| {
            line.starts_with("run") || line.starts_with("ring again") || line.starts_with("parked")
        })
        .collect();
    let handed = ["run cpu0", "ring again 1", "run cpu0", "ring again 2", "run cpu0", "ring again 3"];
    let worked = ["run worker", "ring again 4", "run worker", "ring again 5", "run worker", "parked after 1"];
    assert_eq!(seats, [&handed[..], &worked].concat());
    b.wake();
    executor.settle();
    assert_trace(executor, &["ring wake", "run cpu0", "poll b", "parked after 1"]);
    assert_eq!(executor.stats().overruns, 5);
    // The next overrun is the first in a row again: it goes to a CPU.
    let c = parked(executor, data(), "c").task();
    b.wake();
    executor.settle();
    let once = ["ring wake", "run cpu0", "poll c", "ring again 1", "out of polls after 1"];
    assert_trace(executor, &[&once[..], &["run cpu0", "poll b", "parked after 1"]].concat());
    assert!(c.is_live());
}

/// Output moved out, future dropped, slot freed, epilogue called, and only then the count goes down.
#[test]
fn the_order_of_an_end() {
    struct Noted(Exec, &'static str);
    impl Drop for Noted {
        fn drop(&mut self) {
            self.0.platform().note(self.1);
        }
    }
    let executor = calm(POLLS);
    let one: Slots = keep(Pool::<512, 1>::new());
    let request = async move |_: &mut Dispatch, guard: Noted| {
        yield_now().await;
        drop(guard);
        Noted(executor, "output dropped")
    };
    let epilogue = move |_: &mut Dispatch, outcome: Result<Noted, Cancelled>| {
        executor.platform().note("epilogue");
        assert_eq!(executor.live(), 1, "the task still counts");
        parked(executor, one, "the slot's next task").detach();
        assert_eq!(executor.live(), 2);
        drop(outcome);
    };
    executor.submit(one, request, Noted(executor, "future dropped"), epilogue).expect("a slot is free");
    executor.settle();
    let trace = [
        "ring wake",
        "run cpu0",
        "future dropped",
        "epilogue",
        "output dropped",
        "poll the slot's next task",
    ];
    assert_trace(executor, &[&trace[..], &["parked after 3"]].concat());
    assert_eq!(executor.live(), 1);
}

/// Whoever is woken by a task's end and takes its outcome finds its slot free: a pool of one is enough for one task
/// after another.
#[test]
fn a_joined_task_has_left_its_slot() {
    /// Joins the task in the wake itself, on the run's stack: nobody can be quicker.
    struct Joiner(Exec, Slots, Mutex<Option<JoinHandle<u32>>>);
    impl Wake for Joiner {
        fn wake(self: Arc<Self>) {
            let handle = self.2.lock().expect("no panic").take().expect("woken once");
            assert_eq!(handle.try_take().expect("it has ended"), Ok(7));
            parked(self.0, self.1, "the slot's next task").detach();
        }
    }
    let (executor, one): (Exec, Slots) = (calm(POLLS), keep(Pool::<512, 1>::new()));
    let handle = executor.spawn(one, async |_: &mut Dispatch, ()| 7, ()).expect("a slot is free");
    let joiner = Arc::new(Joiner(executor, one, Mutex::new(None)));
    let waker = Waker::from(joiner.clone());
    let mut handle = handle;
    assert!(pin!(&mut handle).poll(&mut Context::from_waker(&waker)).is_pending());
    *joiner.2.lock().expect("no panic") = Some(handle);
    executor.settle();
    assert_trace(executor, &["ring wake", "run cpu0", "poll the slot's next task", "parked after 2"]);
}

/// The order of an end for one that is cancelled: before it began, and at an await.
#[test]
fn the_order_of_a_cancelled_end() {
    struct Noted(Exec);
    impl Drop for Noted {
        fn drop(&mut self) {
            self.0.platform().note("future dropped");
        }
    }
    let (executor, slots) = (calm(POLLS), data());
    for begun in [false, true] {
        let request = async |_: &mut Dispatch, _guard: Noted| pending::<()>().await;
        let epilogue =
            move |_: &mut Dispatch, outcome| executor.platform().note(format_args!("epilogue {outcome:?}"));
        let task = executor.submit(slots, request, Noted(executor), epilogue).expect("a slot is free");
        if begun {
            executor.settle();
        }
        executor.platform().take_trace();
        assert!(task.abort());
        executor.settle();
        let end = ["run cpu0", "future dropped", "epilogue Err(Cancelled)", "parked after 1"];
        let doorbell: &[&str] = if begun { &["ring wake"] } else { &[] };
        assert_trace(executor, &[doorbell, &end].concat());
    }
}

/// A close cancels the newest task first, refuses what comes meanwhile, and rings nobody afterwards.
#[test]
fn a_close_from_the_first_to_the_last_doorbell() {
    struct Noted(Exec, u32);
    impl Drop for Noted {
        fn drop(&mut self) {
            self.0.platform().note(format_args!("drop {}", self.1));
        }
    }
    let (executor, slots) = (calm(POLLS), data());
    let mut names = Vec::new();
    for n in 1..=2 {
        let handle = executor.spawn(
            slots,
            async |_: &mut Dispatch, _guard: Noted| pending::<()>().await,
            Noted(executor, n),
        );
        let handle = handle.expect("a slot is free");
        names.push(handle.task());
        handle.detach();
    }
    executor.settle();
    executor.platform().take_trace();
    let mut closing = pin!(executor.close().expect("nobody else closes it"));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(closing.as_mut().poll(&mut cx).is_pending());
    let refused = executor.spawn_with(slots, || async {});
    assert!(matches!(refused, Err(SpawnError::Closed(_))));
    executor.settle();
    assert!(closing.as_mut().poll(&mut cx).is_ready());
    assert_trace(executor, &["ring wake", "run cpu0", "drop 2", "drop 1", "closed after 3"]);
    names.into_iter().for_each(kexec::TaskRef::wake);
    assert_eq!(executor.answer(Seat::Cpu(0)), None, "it does not run again");
    assert_eq!((executor.live(), executor.platform().doorbells()), (0, 0));
}

/// The token of a task is of its platform's level; a level that promises nothing is one, too.
#[test]
fn a_level_that_promises_nothing() {
    fn assert_level<L: Level>() {}
    assert_level::<()>();
    let executor: &'static Executor<Mock<()>> = Executor::leak(Mock::new(Plan::CALM), POLLS);
    let handle = executor.spawn(data(), async |(): &mut (), n: u32| n, 3).expect("a slot is free");
    executor.settle();
    assert_eq!(handle.try_take().expect("it has run"), Ok(3));
}
