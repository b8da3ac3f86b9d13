//! What a suspend needs of the mock: nobody comes in between.
#![cfg(feature = "std")]

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use kexec::{
    Budget, Executor, Pool,
    irql::Dispatch,
    platform::mock::{Mock, Plan, keep},
    time::sleep,
    yield_now,
};

async fn busy(_: &mut Dispatch, turns: &'static AtomicU32) {
    loop {
        turns.fetch_add(1, Relaxed);
        yield_now().await;
    }
}

/// Under a plan that answers a doorbell, or interrupts, at every point there is, no task has a turn and no interrupt comes while the
/// processors are captured; and both go on afterwards.
#[test]
fn nothing_happens_in_between() {
    let plan = Plan { spurious_runs: 1, interrupts: 1, ..Plan::wild(3) };
    let executor: &'static Executor<Mock> = Executor::leak(Mock::new(plan), Budget::new(1, Duration::MAX));
    let happened: &AtomicU32 = keep(AtomicU32::new(0));
    executor.platform().on_interrupt(|| {
        happened.fetch_add(1, Relaxed);
    });
    let slots = keep(Pool::<512, 2>::new());
    let task = executor.spawn(slots, busy, happened).expect("a slot is free");
    executor.step();
    let mock = executor.platform();
    let before = happened.load(Relaxed);
    let inside = mock.captured(|| {
        // Where others would come in between.
        executor.spawn(slots, busy, happened).expect("a slot is free").detach();
        mock.captured(|| task.abort());
        happened.load(Relaxed)
    });
    assert_eq!(inside, before, "it was alone");
    executor.step();
    assert!(happened.load(Relaxed) > before, "it goes on");
}

/// A timer that is armed is seen, and one that is given up is not.
#[test]
fn timers_are_seen() {
    let executor: &'static Executor<Mock> = Executor::leak(Mock::new(Plan::CALM), Budget::DEFAULT);
    let slots = keep(Pool::<512, 1>::new());
    assert!(!executor.has_timers());
    let sleeps = async |_: &mut Dispatch, ()| sleep(Duration::from_secs(1)).await;
    let task = executor.spawn(slots, sleeps, ()).expect("a slot is free");
    executor.settle();
    assert!(executor.has_timers());
    task.abort();
    executor.settle();
    assert!(!executor.has_timers());
}
