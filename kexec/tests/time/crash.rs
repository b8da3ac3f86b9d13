//! Waiting where nothing comes by itself: what is given up when, and that nothing is lost by it.

use std::{
    cell::Cell,
    future::{pending, poll_fn},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    task::{Poll, Waker},
    time::Duration,
};

use kexec::{
    Budget, Executor, JoinHandle, Pool,
    crash::Patience,
    platform::polling::Polling,
    time::{Instant, interval, sleep, timeout},
    yield_now,
};

use super::MS;

thread_local! {
    /// Each test's own clock, which its pauses move.
    static TIME: Cell<Instant> = const { Cell::new(Instant::START) };
}

fn clock() -> Instant {
    TIME.get()
}

fn pass(time: Duration) {
    TIME.set(TIME.get().after(time));
}

type Exec = &'static Executor<Polling>;

fn executor() -> Exec {
    Executor::leak(Polling::new().with_clock(clock), Budget::new(4, Duration::MAX))
}

fn spawn<T: Send + 'static>(executor: Exec, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let pool = kexec::platform::mock::keep(Pool::<512, 1>::new());
    executor.spawn_with(pool, || task).expect("a slot is free")
}

const PATIENCE: Patience = Patience { time: MS, pauses: u64::MAX };

/// Waits with pauses of a microsecond, which it counts.
fn wait<T>(executor: Exec, task: JoinHandle<T>) -> (Result<T, JoinHandle<T>>, u32) {
    let mut pauses = 0;
    let outcome = executor.block_on(&mut (), task, PATIENCE, |()| {
        pauses += 1;
        pass(Duration::from_micros(1));
    });
    (outcome.map(|output| output.expect("nobody cancels it")), pauses)
}

/// What does not wait is there without a pause; timers come when their time has, and not before.
#[test]
fn timers_work() {
    let executor = executor();
    assert!(matches!(wait(executor, spawn(executor, async { 5 })), (Ok(5), 0)));
    let task = spawn(executor, async {
        sleep(MS / 10).await;
        let answer = timeout(MS / 10, pending::<()>()).await;
        interval(MS / 10).tick().await;
        answer.is_err()
    });
    assert!(matches!(wait(executor, task), (Ok(true), 300)));
}

/// A task that waits for ever is given up at the deadline, and can be waited for again: nothing of it is lost.
#[test]
fn a_task_that_waits_for_ever() {
    let executor = executor();
    let event = super::Event::default();
    let waits = event.clone();
    let (outcome, pauses) = wait(executor, spawn(executor, async move { waits.wait().await }));
    assert_eq!(pauses, 1000);
    let task = outcome.expect_err("it waits");
    event.set();
    assert!(matches!(wait(executor, task), (Ok(()), 0)));
}

/// A task that is always ready does not keep the caller from looking at the time: one run for each look.
#[test]
fn a_task_that_is_always_ready() {
    let executor = executor();
    let polls = Arc::new(AtomicU32::new(0));
    let count = polls.clone();
    let task = spawn(executor, async move {
        loop {
            count.fetch_add(1, SeqCst);
            yield_now().await;
        }
    });
    let (outcome, pauses) = wait::<()>(executor, task);
    assert!(outcome.is_err() && pauses == 1000);
    assert_eq!(polls.load(SeqCst), 4 * 1001, "each run has its budget");
}

/// With a clock that stands still, or without one, the pauses are counted.
#[test]
fn a_clock_that_stands_still() {
    fn still() -> Instant {
        Instant::from_nanos(7)
    }
    for platform in [Polling::new().with_clock(still), Polling::new()] {
        let executor = Executor::leak(platform, Budget::DEFAULT);
        let mut pauses = 0;
        let patience = Patience { time: MS, pauses: 10 };
        let outcome = executor.block_on(&mut (), spawn(executor, sleep(MS)), patience, |()| pauses += 1);
        assert!(outcome.is_err());
        assert_eq!(pauses, 10);
    }
}

/// No patience at all: one look, no pause.
#[test]
fn no_patience() {
    let executor = executor();
    for patience in
        [Patience { time: Duration::ZERO, pauses: u64::MAX }, Patience { time: Duration::MAX, pauses: 0 }]
    {
        let never = |(): &mut ()| panic!("it does not pause");
        let outcome = executor.block_on(&mut (), spawn(executor, pending::<()>()), patience, never);
        assert!(outcome.is_err());
        let outcome = executor.block_on(&mut (), spawn(executor, async { 1 }), patience, never);
        assert_eq!(outcome.expect("it does not wait"), Ok(1));
    }
}

/// What an interrupt would have told, the pause looks for, and tells by a wake.
#[test]
fn a_pause_that_looks_at_the_ports() {
    let executor = executor();
    let port: Arc<Mutex<(u32, Option<Waker>)>> = Arc::default();
    let waits = port.clone();
    let task = spawn(
        executor,
        poll_fn(move |cx| {
            let mut port = waits.lock().expect("nobody panicked");
            port.1 = Some(cx.waker().clone());
            if port.0 == 3 { Poll::Ready(port.0) } else { Poll::Pending }
        }),
    );
    let outcome = executor.block_on(&mut (), task, PATIENCE, |()| {
        let mut port = port.lock().expect("nobody panicked");
        port.0 += 1;
        let waker = port.1.take();
        drop(port);
        waker.into_iter().for_each(Waker::wake);
    });
    assert_eq!(outcome.expect("the port has three"), Ok(3));
}
