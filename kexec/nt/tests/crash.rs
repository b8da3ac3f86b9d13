//! A dump is written or given up: whatever a task does, the wait for it ends.
#![expect(unsafe_code, reason = "a double of the one export that a dump calls, and the token of its CPU")]

use std::{
    future::pending,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use kexec::{Budget, Executor, JoinHandle, Pool, irql::Dispatch, yield_now};
use kexec_nt::crash::{Crash, DumpPlatform, platform};

/// Microseconds stalled, over all tests.
static STALLED: AtomicU64 = AtomicU64::new(0);

/// "`KeStallExecutionProcessor`": here it only counts.
#[unsafe(no_mangle)]
extern "C" fn KeStallExecutionProcessor(microseconds: u32) {
    STALLED.fetch_add(microseconds.into(), Relaxed);
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
/// time that was allowed; the handle comes back.
#[test]
fn a_task_that_does_not_end_is_given_up() {
    let before = STALLED.load(Relaxed);
    let (executor, pool) = world!();
    let never = async |_: &mut Dispatch, ()| pending::<()>().await;
    let task = executor.spawn(pool, never, ()).expect("the slot is free");
    let Err(task) = wait(executor, task) else { panic!("it has no end") };
    assert!(task.task().is_live());

    let (executor, pool) = world!();
    let always = async |_: &mut Dispatch, ()| -> () {
        loop {
            yield_now().await;
        }
    };
    let task = executor.spawn(pool, always, ()).expect("the slot is free");
    let Err(task) = wait(executor, task) else { panic!("it has no end") };
    assert!(task.task().is_live());
    let limit = u64::try_from(LIMIT.as_micros()).expect("it is short");
    assert!(STALLED.load(Relaxed) - before >= 2 * limit, "each had its time");
}
