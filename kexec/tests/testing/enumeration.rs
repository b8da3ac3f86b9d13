//! Each kind of fault happens at each boundary, and each run can be had again.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    future::{pending, poll_fn},
    num::NonZeroUsize,
    process::Command,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use kexec::{
    Cancelled, PassiveWork, Table,
    irql::{Dispatch, Passive},
    platform::mock::{Mock, keep},
    testing::{Joined, Scenario, Sim},
    time::sleep,
    yield_now,
};

use crate::ask::ask_scenario;

/// By seed and kind of fault, at which boundaries it happened.
type Happened = Arc<Mutex<BTreeMap<(Option<u64>, String), BTreeSet<u32>>>>;

struct World {
    outcome: Joined<u32>,
    own: Arc<Mutex<u32>>,
}

/// A task of three polls, one of them by a timer, in a scope.
fn three_polls(sim: &mut Sim) -> World {
    let (driver, slots): (_, &Table<512>) = (sim.executor("driver"), sim.pool::<512, 1>());
    let device = sim.scope("device");
    let task = async |_: &mut Dispatch, ()| {
        yield_now().await;
        sleep(Duration::from_secs(1)).await;
        7
    };
    let task = driver.within(device).spawn(slots, task, ()).expect("a slot is free");
    World { outcome: sim.must_end("task", task), own: Arc::default() }
}

/// N boundaries and the beginning are places for a fault, and each kind happens at each of them, under each seed: to
/// tasks as long as there is one. What happens is what the fault is called.
#[test]
fn every_fault_at_every_boundary() {
    let happened: Happened = Arc::default();
    let seen = happened.clone();
    let report = Scenario::new("three polls", three_polls)
        .fault("own", |world| *world.own.lock().unwrap() += 1)
        .check(move |world, case| {
            let kind = case.fault().unwrap_or_default();
            let ends = matches!(kind.as_str(), "abort" | "close scope device" | "close driver");
            // Under a seed, a step may be more than one poll.
            if case.seed().is_none() {
                let in_time = case.boundary().is_some_and(|boundary| boundary < 3);
                let outcome = if ends && in_time { Err(Cancelled) } else { Ok(7) };
                assert_eq!(world.outcome.outcome(), Some(outcome));
            }
            assert_eq!(*world.own.lock().unwrap(), u32::from(kind == "own"));
            if let Some(boundary) = case.boundary() {
                let new = seen.lock().unwrap().entry((case.seed(), kind)).or_default().insert(boundary);
                assert!(new, "twice the same");
            }
        })
        .seeds(5..7)
        .run();
    assert_eq!(report.boundaries(), 3);
    let happened = happened.lock().unwrap();
    for seed in [None, Some(5), Some(6)] {
        let of = |kind: &str| happened.get(&(seed, kind.to_owned())).cloned().unwrap_or_default();
        let all = of("own");
        let count = u32::try_from(all.len()).unwrap();
        assert_eq!(all, (0..count).collect(), "none is left out");
        if seed.is_none() {
            assert_eq!(count, 4);
        }
        for kind in ["suspend", "close scope device", "close driver"] {
            assert_eq!(of(kind), all, "{kind} under {seed:?}");
        }
        for kind in ["abort", "wake"] {
            assert_eq!(of(kind), (0..count - 1).collect(), "{kind} under {seed:?}");
        }
    }
    let runs: usize = happened.values().map(BTreeSet::len).sum();
    assert_eq!(report.runs(), runs as u64 + 3, "and three runs without a fault");
}

/// Those faults whose outcome is that of an undisturbed run have happened all the same.
#[test]
fn a_fault_is_seen_in_the_trace() {
    let scenario = Scenario::new("three polls", three_polls);
    let trace = |key: &str| scenario.replay(key).expect("there is such a run").trace;
    let count = |key: &str, what: &str| trace(key).iter().filter(|line| line.contains(what)).count();
    assert_eq!(count("three polls/calm", "driver: alarm"), 1);
    assert_eq!(count("three polls/calm/2/suspend", "driver: alarm"), 2, "early, and again at its time");
    assert_eq!(count("three polls/calm/2/wake 0", "parked at sleep"), 2);
    assert_eq!(count("three polls/calm", "parked at sleep"), 1);
}

/// A task that is spared is not aborted alone; all else happens to it.
#[test]
fn a_task_that_is_spared() {
    let report = Scenario::new("spared", |sim| {
        let (driver, slots): (_, &Table<512>) = (sim.executor("driver"), sim.pool::<512, 2>());
        for _ in 0..2 {
            let task = driver.spawn(slots, async |_: &mut Dispatch, ()| yield_now().await, ());
            sim.spare(task.expect("a slot is free").detach());
        }
    })
    .run();
    assert_eq!(report.faults("abort"), 0);
    assert!(report.faults("wake") > 0 && report.faults("close driver") > 0, "{report}");
}

/// The same key, the same run, to the last line; another key, another run.
#[test]
fn replays_are_exact() {
    let keys = [
        "ask/calm",
        "ask/calm/2/abort 0",
        "ask/calm/4/peer dies",
        "ask/1",
        "ask/1/2/wake 0",
        "ask/3/0/suspend",
    ];
    let trace = |key: &str| ask_scenario().replay(key).expect("there is such a run").trace;
    let traces = keys.map(trace);
    assert_eq!(traces, keys.map(trace));
    let different: BTreeSet<_> = traces.iter().collect();
    assert_eq!(different.len(), keys.len());
    // In the middle of others, whose pools it uses, it is the same as alone.
    let scenario = ask_scenario();
    assert!(scenario.enumerate().is_ok());
    for (key, trace) in keys.iter().zip(&traces) {
        assert_eq!(&scenario.replay(key).expect("there is such a run").trace, trace);
    }
}

/// A key of a run that there is not gives nothing, and nothing else either.
#[test]
fn keys_that_name_no_run() {
    let scenario = ask_scenario();
    for key in [
        "",
        "ask",
        "ask/",
        "ask/wild",
        "ask/calm/",
        "ask/calm/2",
        "ask/calm/99/suspend",
        "ask/calm/2/abort 7",
        "ask/calm/2/no such fault",
        "ask/18446744073709551616",
        "other/calm",
        "ask/calm/-1/suspend",
    ] {
        assert!(scenario.replay(key).is_none(), "{key:?}");
    }
}

/// The same enumeration, the same report.
#[test]
fn the_report_is_the_same_each_time() {
    let reports = [(); 2].map(|()| ask_scenario().enumerate().to_string());
    assert_eq!(reports[0], reports[1]);
}

/// A test as others write it, for the next one.
#[test]
fn a_test_like_any_other() {
    ask_scenario().run();
}

/// What the report tells a person to type does what it says: this very program is told so, and runs that one run.
#[test]
fn what_the_report_says_to_type() {
    let replay = |key: &str| {
        let mut program = Command::new(env::current_exe().expect("it runs"));
        program
            .args(["--exact", "enumeration::a_test_like_any_other", "--nocapture"])
            .env("KEXEC_REPLAY", key);
        let output = program.output().expect("it can be started");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (passed, said) = replay("ask/2/1/peer dies");
    assert!(passed && said.contains("!! peer dies") && !said.contains("faults:"), "{said}");
    let (passed, said) = replay("ask/calm/99/peer dies");
    assert!(!passed, "{said}");
    let (passed, said) = replay("another scenario/calm");
    assert!(passed && said.contains("faults: abort"), "{said}");
}

/// Thousands of runs take the memory of a few: a pool goes from one run to the next, and its slots with their order.
#[test]
fn pools_are_used_again() {
    let pools: Arc<Mutex<BTreeSet<usize>>> = Arc::default();
    let seen = pools.clone();
    let world = move |sim: &mut Sim| {
        let driver = sim.executor("driver");
        for slots in [sim.pool::<512, 3>(), sim.control_pool::<512, 3>()] {
            seen.lock().unwrap().insert(std::ptr::from_ref(slots).addr());
            // They end in another order than the one in which they began.
            for turns in [2, 1, 3] {
                let task = async move |_: &mut Dispatch, ()| {
                    for _ in 0..turns {
                        yield_now().await;
                    }
                };
                driver.spawn(slots, task, ()).expect("a slot is free").detach();
            }
        }
    };
    let [used, fresh] = [(); 2].map(|()| Scenario::new("pools", world.clone()));
    let report = used.run();
    assert!(report.runs() > 100, "{report}");
    assert_eq!(pools.lock().unwrap().len(), 2);
    // By its number, a task is the same one as in pools that were never used.
    let trace =
        |scenario: &Scenario<()>| scenario.replay("pools/calm/3/abort 1").expect("there is such a run").trace;
    assert_eq!(trace(&used), trace(&fresh));
}

/// Under a seed, a task that only waits is woken for nothing by the plan as well, not only by the fault of that name.
#[test]
fn the_plan_knows_the_tasks() {
    let polls = |seeds| {
        let report = Scenario::new("haunted", |sim| {
            let (driver, slots): (_, &Table<512>) = (sim.executor("driver"), sim.pool::<512, 2>());
            let polls = sim.counter("polls");
            let waits = move || {
                poll_fn(move |_| {
                    polls.raise();
                    Poll::<()>::Pending
                })
            };
            driver.spawn_with(slots, waits).expect("a slot is free").detach();
            let works = async |_: &mut Dispatch, ()| {
                for _ in 0..20 {
                    yield_now().await;
                }
            };
            driver.spawn(slots, works, ()).expect("a slot is free").detach();
        })
        .seeds(seeds)
        .enumerate();
        (report.count("polls"), report.faults("wake"), report.runs())
    };
    let (calm, wakes, runs) = polls(0..0);
    assert!(calm <= runs + wakes, "once in each run, and once more if it is woken");
    let (both, more_wakes, more_runs) = polls(0..4);
    assert!(both > more_runs + more_wakes, "{both} polls in {more_runs} runs");
}

/// Says in which order the tasks of two machines have ended; each sleeps for as long as it is told.
fn race(sim: &mut Sim, sleeps: [Duration; 2]) -> Arc<Mutex<Vec<&'static str>>> {
    let order = Arc::<Mutex<Vec<_>>>::default();
    let slots = sim.pool::<512, 2>();
    for (name, sleeps) in ["one", "other"].into_iter().zip(sleeps) {
        let ended = order.clone();
        let task = async move |_: &mut Dispatch, ()| {
            sleep(sleeps).await;
            ended.lock().unwrap().push(name);
        };
        sim.executor(name).spawn(slots, task, ()).expect("a slot is free").detach();
    }
    order
}

/// Of machines that could go on at the same time, the seed says which one does.
#[test]
fn the_seed_says_who_is_first() {
    let seen: Arc<Mutex<BTreeSet<Vec<&str>>>> = Arc::default();
    let orders = seen.clone();
    Scenario::new("race", |sim| race(sim, [Duration::ZERO; 2]))
        .check(move |order, _| {
            orders.lock().unwrap().insert(order.lock().unwrap().clone());
        })
        .run();
    let seen = seen.lock().unwrap();
    assert!(seen.contains(&vec!["one", "other"]) && seen.contains(&vec!["other", "one"]), "{seen:?}");
}

/// All machines have one time: whose deadline is earlier is first, under every seed and fault that lets both end.
#[test]
fn one_time_for_all() {
    let seconds = [2, 1].map(Duration::from_secs);
    Scenario::new("deadlines", move |sim| race(sim, seconds))
        .check(|order, _| {
            let order = order.lock().unwrap();
            assert!(order.len() < 2 || *order == ["other", "one"], "{order:?}");
        })
        .run();
}

/// The checks at rest come before anything is closed, the others when all is; executors are closed the newest first, and
/// devices last.
#[test]
fn the_order_of_an_end() {
    struct Told(&'static str, Arc<Mutex<Vec<&'static str>>>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.1.lock().unwrap().push(self.0);
        }
    }
    let report = Scenario::new("end", |sim| {
        let (told, slots) = (Arc::<Mutex<Vec<_>>>::default(), sim.pool::<512, 3>());
        let waits = async |_: &mut Dispatch, _told: Told| pending::<()>().await;
        for (executor, name) in [
            (sim.device("device"), "device"),
            (sim.executor("older"), "older"),
            (sim.executor("newer"), "newer"),
        ] {
            executor.spawn(slots, waits, Told(name, told.clone())).expect("a slot is free").detach();
        }
        told
    })
    .at_rest(|told, case| {
        if case.fault().is_none() {
            told.lock().unwrap().push("at rest");
        }
    })
    .check(|told, case| {
        let told = told.lock().unwrap();
        assert!(
            told.contains(&"older") && told.contains(&"newer") && told.last() == Some(&"device"),
            "{told:?}"
        );
        if case.fault().is_none() {
            assert_eq!(*told, ["at rest", "newer", "older", "device"]);
        }
    })
    .run();
    assert_eq!(report.faults("close device"), 0, "nothing happens to a device");
}

/// Passive work is done by a worker of the scenario's, whose tasks are struck like all others.
#[test]
fn passive_work_is_part_of_it() {
    type Worker = PassiveWork<Mock<Passive>, 512>;
    let report = Scenario::new("passive", |sim| {
        let (worker, driver) = (sim.worker("worker"), sim.executor("driver"));
        let passive: &'static Worker = keep(PassiveWork::new(worker, sim.pool::<512, 1>()));
        let task = async |_: &mut Dispatch, passive: &'static Worker| {
            let work = async |_: &mut Passive| {
                yield_now().await;
                7
            };
            passive.run(work).await
        };
        let task = driver.spawn(sim.pool::<512, 1>(), task, passive).expect("a slot is free");
        sim.must_end("task", task)
    })
    .check(|task, case| {
        if matches!(case.fault().as_deref(), None | Some("wake" | "suspend")) {
            assert_eq!(task.outcome(), Some(Ok(Ok(7))));
        }
    })
    .boundaries(4)
    .run();
    assert!(report.faults("close worker") > 0, "{report}");
}

/// A sample of the runs has one in so many of them, spread over all kinds and boundaries, and the report does not pass it off as the whole.
#[test]
fn a_sample() {
    let scenario = || {
        Scenario::new("sample", |sim| {
            let (driver, slots) = (sim.executor("driver"), sim.pool::<512, 1>());
            let works = async |_: &mut Dispatch, ()| {
                for _ in 0..40 {
                    yield_now().await;
                }
            };
            driver.spawn(slots, works, ()).expect("a slot is free").detach();
        })
        .seeds(0..0)
    };
    let whole = scenario().enumerate();
    let sample = scenario().one_in(NonZeroUsize::new(7).expect("it is not zero")).enumerate();
    assert_eq!(sample.boundaries(), whole.boundaries());
    // The run without a fault is always done.
    assert_eq!(sample.runs() - 1, (whole.runs() - 1).div_ceil(7));
    for kind in ["abort", "wake", "suspend", "close driver"] {
        assert!(sample.faults(kind) >= whole.faults(kind) / 7, "{sample}");
    }
    assert!(sample.to_string().contains("one in 7 of those with a fault"), "{sample}");
    assert!(!whole.to_string().contains("one in"), "{whole}");
}
