//! A dump is written or given up: whatever a task does, the wait for it ends.
#![expect(unsafe_code, reason = "doubles of the two exports that a dump calls, and the token of its CPU")]

use std::{cell::Cell, future::pending, time::Duration};

use kexec::{
    Budget, Executor, JoinHandle, Pool,
    irql::Dispatch,
    time::{Elapsed, sleep, timeout},
    yield_now,
};
use kexec_nt::crash::{Crash, DumpPlatform, platform};
use nt_sys::LARGE_INTEGER;

thread_local! {
    /// Microseconds stalled, in each test.
    static STALLED: Cell<i64> = const { Cell::new(0) };
    /// Whether the performance counter counts.
    static COUNTS: Cell<bool> = const { Cell::new(true) };
}

/// "`KeStallExecutionProcessor`": here it only counts.
#[unsafe(no_mangle)]
extern "C" fn KeStallExecutionProcessor(microseconds: u32) {
    STALLED.set(STALLED.get() + i64::from(microseconds));
}

/// "`KeQueryPerformanceCounter`": at 10 MHz, and no time passes but what is stalled.
///
/// # Safety
///
/// The frequency goes to its place, if there is one.
#[unsafe(no_mangle)]
unsafe extern "C" fn KeQueryPerformanceCounter(frequency: *mut LARGE_INTEGER) -> LARGE_INTEGER {
    // SAFETY: the caller's promise.
    if let Some(frequency) = unsafe { frequency.as_mut() } {
        *frequency = LARGE_INTEGER { QuadPart: 10_000_000 };
    }
    LARGE_INTEGER { QuadPart: if COUNTS.get() { STALLED.get() * 10 } else { 7 } }
}

const LIMIT: Duration = Duration::from_millis(5);

fn wait<T>(executor: &'static Executor<DumpPlatform>, task: JoinHandle<T>) -> Result<T, JoinHandle<T>> {
    // SAFETY: each test has an executor of its own, which nobody else runs.
    let mut crash = unsafe { Crash::assume() };
    crash.wait(executor, task, LIMIT).map(|outcome| outcome.expect("nobody cancels it"))
}

/// An executor and a slot, in `static`s as in an image.
macro_rules! world {
    () => {{
        static EXECUTOR: Executor<DumpPlatform> = Executor::new(platform(), Budget::DEFAULT);
        static POOL: Pool<256, 1> = Pool::new();
        (&EXECUTOR, &POOL)
    }};
}

/// One that is ready at once, and one that needs many more polls than a run has.
#[test]
fn a_task_that_ends_is_waited_for() {
    let (executor, pool) = world!();
    for polls in [0, 1, 1_000] {
        let count = async move |_: &mut Dispatch, polls: u32| {
            for _ in 0..polls {
                yield_now().await;
            }
            polls
        };
        let task = executor.spawn(pool, count, polls).expect("the slot is free");
        assert_eq!(wait(executor, task).ok(), Some(polls));
    }
}

/// A task that waits for what never comes, and one that is always ready and never done, are given up alike, after the
/// time that was allowed; the handle comes back, and can be waited for again.
#[test]
fn a_task_that_does_not_end_is_given_up() {
    let (executor, pool) = world!();
    let never = async |_: &mut Dispatch, ()| pending::<()>().await;
    given_up(executor, executor.spawn(pool, never, ()).expect("the slot is free"));

    let (executor, pool) = world!();
    let always = async |_: &mut Dispatch, ()| -> () {
        loop {
            yield_now().await;
        }
    };
    given_up(executor, executor.spawn(pool, always, ()).expect("the slot is free"));
}

/// Waits twice, the second time with a clock that stands still.
fn given_up(executor: &'static Executor<DumpPlatform>, mut task: JoinHandle<()>) {
    let limit = i64::try_from(LIMIT.as_micros()).expect("it is short");
    for counts in [true, false] {
        COUNTS.set(counts);
        let before = STALLED.get();
        task = wait(executor, task).expect_err("it has no end");
        assert!(task.task().is_live());
        assert_eq!(STALLED.get() - before, limit, "it had its time");
    }
    COUNTS.set(true);
}

/// Timers work: what a dump waits for may have a deadline of its own.
#[test]
fn a_task_that_waits_for_a_time() {
    let (executor, pool) = world!();
    let task = async |_: &mut Dispatch, ()| {
        sleep(Duration::from_millis(1)).await;
        timeout(Duration::from_millis(2), pending::<()>()).await
    };
    let task = executor.spawn(pool, task, ()).expect("the slot is free");
    assert!(matches!(wait(executor, task), Ok(Err(Elapsed::Deadline(_)))));
    assert_eq!(STALLED.get(), 3_000);
}
