//! Each thing that can be wrong with a run is noticed, and called by its name.

use std::{
    future::pending,
    panic::catch_unwind,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use kexec::{
    Budget, Executor, JoinHandle, Pool, Table,
    irql::Dispatch,
    platform::mock::{Mock, Plan},
    shielded,
    sync::AutoEvent,
    task_table::Label,
    testing::{Imbalance, Problem, Scenario, Sim},
    time::{Sleep, interval, sleep},
    yield_now,
};

type Driver = &'static Executor<Mock>;
type Slots = &'static Table<512>;

fn driver(sim: &mut Sim) -> (Driver, Slots) {
    (sim.executor("driver"), sim.pool::<512, 4>())
}

/// Spawns a task, and lets it go.
fn spawn<F>(sim: &mut Sim, task: F)
where
    F: AsyncFnOnce(&mut Dispatch, ()) + Send + 'static,
{
    let (driver, slots) = driver(sim);
    driver.spawn(slots, task, ()).expect("a slot is free").detach();
}

/// What is wrong with the first run of a scenario in which nothing is right.
#[track_caller]
fn first_problem<W>(scenario: Scenario<W>) -> Problem {
    let report = scenario.seeds(0..0).enumerate();
    let failure = report.failures().first().expect("it was noticed");
    assert_eq!(failure.case.fault(), None, "{failure}");
    assert_eq!(failure.problems.len(), 1, "{failure}");
    failure.problems[0].clone()
}

/// A task that does not end when it is cancelled keeps its executor from being closed; the report tells where it is.
#[test]
fn a_task_that_does_not_end() {
    let scenario = Scenario::new("endless", |sim| {
        spawn(sim, async |_, ()| shielded(pending::<()>().label("the last buffer")).await);
    });
    let report = scenario.seeds(0..0).enumerate();
    let failure = &report.failures()[0];
    assert_eq!(failure.problems, [Problem::OpenExecutor("driver")]);
    assert!(
        failure.parked[0].contains("driver: ") && failure.parked[0].contains("\"the last buffer\""),
        "{failure}"
    );
}

/// An output that nobody takes holds a slot for ever.
#[test]
fn an_output_that_is_not_taken() {
    let scenario = Scenario::new("forgotten", |sim| -> JoinHandle<u32> {
        let (driver, slots) = driver(sim);
        driver.spawn(slots, async |_: &mut Dispatch, ()| 7, ()).expect("a slot is free")
    });
    let report = scenario.seeds(0..0).enumerate();
    assert_eq!(report.failures()[0].problems, [Problem::OpenExecutor("driver")]);
    assert!(report.failures()[0].parked[0].ends_with("ended, its output waits"), "{report}");
}

/// A wait without an end is a deadlock of whatever should have ended.
#[test]
fn a_wait_that_never_ends() {
    let scenario = Scenario::new("deadlock", |sim| {
        let (driver, slots) = driver(sim);
        let waits = async |_: &mut Dispatch, ()| AutoEvent::new(false).wait().await;
        let task = driver.spawn(slots, waits, ()).expect("a slot is free");
        sim.must_end("reader", task)
    });
    let report = scenario.seeds(0..0).enumerate();
    assert_eq!(report.failures()[0].problems, [Problem::Waits("reader")]);
    assert!(report.failures()[0].parked[0].contains("parked at event, "), "{report}");
}

/// Tasks that are always ready are not waited for for ever.
#[test]
fn no_rest() {
    let spin = Scenario::new("spin", |sim| {
        spawn(sim, async |_, ()| {
            loop {
                yield_now().await;
            }
        });
    });
    let report = spin.limits(500, Duration::MAX).seeds(0..0).enumerate();
    let failure = &report.failures()[0];
    assert_eq!(failure.problems, [Problem::Restless(500)]);
    assert_eq!(failure.trace.iter().filter(|line| line.starts_with("-- boundary")).count(), 501);
}

/// Nor are timers; unless they are said to go on.
#[test]
fn no_end_of_time() {
    let beat = || {
        Scenario::new("beat", |sim| {
            let beats = sim.counter("beats");
            spawn(sim, async move |_, ()| {
                let mut beat = interval(Duration::from_secs(1));
                loop {
                    beat.tick().await;
                    beats.raise();
                }
            });
        })
    };
    let limit = Duration::from_mins(1);
    assert_eq!(first_problem(beat().limits(10_000, limit)), Problem::TooLong(limit));
    let report = beat().lasting(limit).seeds(0..0).enumerate();
    assert!(report.is_ok(), "{report}");
    assert!(report.count("beats") > report.runs() * 30, "{report}");
}

/// A scope whose oldest member waits, whatever happens, for one that is cancelled before it: to close it has no end.
#[test]
fn a_scope_that_does_not_close() {
    let report = Scenario::new("scope", |sim| {
        let (driver, slots) = driver(sim);
        let device = driver.within(sim.scope("device"));
        let flushed = Arc::new(AutoEvent::new(false));
        let waits = async |_: &mut Dispatch, flushed: Arc<AutoEvent>| shielded(flushed.wait()).await;
        device.spawn(slots, waits, flushed.clone()).expect("a slot is free").detach();
        let sets = async |_: &mut Dispatch, flushed: Arc<AutoEvent>| flushed.set();
        device.spawn(slots, sets, flushed).expect("a slot is free").detach();
    })
    .seeds(0..0)
    .enumerate();
    let mut failures = report.failures().iter();
    let failure = failures.find(|failure| failure.case.fault().as_deref() == Some("close scope device"));
    let failure = failure.expect("it is noticed");
    // Before its first poll it is not shielded, and after the second one it has been told.
    assert_eq!(failure.case.boundary(), Some(1));
    assert_eq!(failure.problems, [Problem::OpenScope("device")]);
}

/// Completed twice, or never, or without having been begun: the books tell each by name.
#[test]
fn what_does_not_come_out_even() {
    let books = |opened: u32, closed: u32| {
        first_problem(Scenario::new("books", move |sim| {
            let requests = sim.ledger("requests");
            (0..opened).for_each(|_| requests.open("read 7"));
            (0..closed).for_each(|_| requests.close("read 7"));
        }))
    };
    for (opened, closed, how, text) in [
        (1, 2, Imbalance::Again { opened: 1, closed: 2 }, "closed twice"),
        (1, 0, Imbalance::Open { opened: 1, closed: 0 }, "opened, and never closed"),
        (0, 1, Imbalance::Again { opened: 0, closed: 1 }, "closed, and was never opened"),
        (3, 2, Imbalance::Open { opened: 3, closed: 2 }, "opened 3 times, and closed 2 times"),
    ] {
        let problem = books(opened, closed);
        assert_eq!(problem, Problem::Imbalance { ledger: "requests", entry: "read 7".into(), how });
        assert_eq!(problem.to_string(), format!("requests: `read 7` was {text}"));
    }
}

/// What is closed too early and opened after that has come out even, and is wrong all the same.
#[test]
fn closed_before_it_was_open() {
    let problem = first_problem(Scenario::new("books", |sim| {
        let grants = sim.ledger("grants");
        grants.close(3);
        grants.open(3);
    }));
    let how = Imbalance::Again { opened: 0, closed: 1 };
    assert_eq!(problem, Problem::Imbalance { ledger: "grants", entry: "3".into(), how });
}

/// A timer in leaked memory is in its executor's heap for ever.
#[test]
fn a_timer_that_is_leaked() {
    let report = Scenario::new("timer", |sim| {
        spawn(sim, async |_, ()| {
            let sleep: &'static mut Sleep = Box::leak(Box::new(sleep(Duration::from_secs(1))));
            Pin::static_mut(sleep).await;
        });
    })
    .enumerate();
    // Later it has fired.
    let failure = &report.failures()[0];
    assert_eq!(failure.case.to_string(), "timer/calm/1/close driver");
    assert_eq!(failure.problems, [Problem::Timer("driver")]);
}

/// Tasks in a store that the kit does not know would be spared all faults, and nobody would see that.
#[test]
fn a_store_that_the_kit_does_not_know() {
    static HIDDEN: Pool<512, 1> = Pool::new();
    let problem = first_problem(Scenario::new("hidden", |sim| {
        let (driver, _) = driver(sim);
        driver.spawn(&HIDDEN, async |_: &mut Dispatch, ()| (), ()).expect("a slot is free").detach();
    }));
    assert_eq!(problem, Problem::UnknownStore("driver"));
}

/// A slot that is used by somebody else, of whom the kit knows nothing, is not free in the end.
#[test]
fn a_slot_that_is_lost() {
    let problem = first_problem(Scenario::new("lost", |sim| {
        let (_, slots) = driver(sim);
        let another: Driver = Executor::leak(Mock::new(Plan::CALM), Budget::DEFAULT);
        another.spawn(slots, async |_: &mut Dispatch, ()| (), ()).expect("a slot is free").detach();
    }));
    assert_eq!(problem, Problem::Slots(1));
}

/// It is told of a static one, and finds it free after each run.
#[test]
fn a_store_of_the_drivers_own() {
    static OWN: Pool<512, 1> = Pool::new();
    let report = Scenario::new("own store", |sim| {
        let (driver, _) = driver(sim);
        sim.store(&OWN);
        driver
            .spawn(&OWN, async |_: &mut Dispatch, ()| yield_now().await, ())
            .expect("a slot is free")
            .detach();
    })
    .run();
    assert!(report.faults("abort") > 0, "{report}");
}

/// An assertion that fails, wherever it is, is one run's failure, and the enumeration goes on.
#[test]
fn a_panic() {
    let says = |text: &str| Problem::Panic(text.into());
    let in_a_task = Scenario::new("task", |sim| spawn(sim, async |_, ()| panic!("no grant is free")));
    assert_eq!(first_problem(in_a_task), says("no grant is free"));
    let in_a_check = Scenario::new("check", driver).check(|_, _| panic!("{} blocks are lost", 3));
    assert_eq!(first_problem(in_a_check), says("3 blocks are lost"));
    let at_rest = Scenario::new("rest", driver).at_rest(|_, _| panic!("not connected"));
    assert_eq!(first_problem(at_rest), says("not connected"));
    let in_the_scenario = Scenario::new("build", |sim| {
        sim.executor("driver");
        sim.executor("driver");
    });
    assert_eq!(first_problem(in_the_scenario), says("two executors are called `driver`"));
    let under_a_fault =
        Scenario::new("fault", driver).fault("backend dies", |_| panic!("not ready for that"));
    let report = under_a_fault.seeds(0..0).enumerate();
    assert_eq!(report.failures()[0].problems, [says("not ready for that")]);
    assert_eq!(report.failures().len(), 1, "{report}");
    assert!(report.runs() > 2, "{report}");
}

/// A scenario whose runs depend on more than the seed cannot be replayed: that is said, and not that all is well.
#[test]
fn chance_from_elsewhere() {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let report = Scenario::new("chance", |sim| {
        let turns = RUNS.fetch_add(1, Relaxed);
        spawn(sim, async move |_, ()| {
            for _ in 0..turns {
                yield_now().await;
            }
        });
    })
    .seeds(0..0)
    .enumerate();
    assert!(report.failures()[0].problems.contains(&Problem::Diverged), "{report}");
}

/// What is counted too rarely fails the test, though no run has failed.
#[test]
fn a_counter_below_its_floor() {
    let scenario = |floor| {
        Scenario::new("floor", |sim| {
            let grants = sim.counter("grants revoked");
            spawn(sim, async move |_, ()| grants.raise());
        })
        .seeds(0..0)
        .floor("grants revoked", floor)
        .floor("never counted", 0)
    };
    let counted = scenario(0).enumerate().count("grants revoked");
    assert!(counted > 0);
    assert!(scenario(counted).enumerate().is_ok());
    let report = scenario(counted + 1).enumerate();
    assert!(report.failures().is_empty() && !report.is_ok());
    let shortfall = &report.shortfalls()[0];
    assert_eq!((shortfall.name, shortfall.count, shortfall.floor), ("grants revoked", counted, counted + 1));
    let failed = catch_unwind(|| scenario(counted + 1).run()).expect_err("a test that calls it fails");
    let said = failed.downcast::<String>().expect("it says why");
    assert!(said.contains(&format!("below its floor: grants revoked: {counted}")), "{said}");
}

/// So does a protocol that has fewer steps than it had: somewhere the enumeration does not come any more.
#[test]
fn fewer_boundaries_than_before() {
    let scenario = |floor| {
        Scenario::new("boundaries", |sim| {
            spawn(sim, async |_, ()| {
                yield_now().await;
                yield_now().await;
            });
        })
        .seeds(0..2)
        .boundaries(floor)
    };
    assert_eq!(scenario(3).run().boundaries(), 3);
    let report = scenario(4).enumerate();
    let shortfall = &report.shortfalls()[0];
    assert_eq!((shortfall.name, shortfall.count, shortfall.floor), ("poll boundaries", 3, 4));
}
