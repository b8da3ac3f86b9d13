//! Signals from interrupt level, at every point at which a platform can be interrupted.

use std::{
    pin::pin,
    sync::{
        Mutex as Plain,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use kexec::{
    TaskRef,
    platform::mock::{Plan, keep},
    sync::{AutoEvent, ManualEvent, Mutex, Semaphore},
    yield_now,
};

use crate::support::{executor, poll, slots, spawn};

const SEEDS: u64 = if cfg!(miri) { 3 } else { 300 };
const TASKS: u32 = 6;

/// Permits that interrupts bring back, in ones and twos, while tasks take them, in ones and twos, and are aborted: each
/// permit is had by one, and in the end all are there.
#[test]
fn every_permit_is_had_once() {
    let mut interrupts = 0_u64;
    for seed in 0..SEEDS {
        let (executor, slots) = (executor(Plan::wild(seed)), slots());
        executor.platform().forget_trace();
        let semaphore = keep(Semaphore::new(3));
        let (given, brought) = (keep(AtomicU32::new(0)), keep(AtomicU32::new(0)));
        let tasks = keep(Plain::new(Vec::<TaskRef>::new()));
        executor.platform().on_interrupt(move || {
            let count = brought.fetch_add(1, Relaxed);
            if semaphore.release(1 + count % 2).is_err() {
                let _fewer = semaphore.release(1);
            }
            if count % 5 == 0
                && let Some(task) = tasks.lock().unwrap().pop()
            {
                task.abort();
            }
        });
        for who in 0..TASKS {
            let task = spawn(executor, slots, async move {
                for round in 0..4 {
                    let permits = semaphore.acquire(1 + (who + round) % 2).await.expect("it is open");
                    given.fetch_add(permits.count(), Relaxed);
                    yield_now().await;
                    if round % 2 == 0 {
                        permits.forget();
                    }
                }
            });
            executor.platform().haunt(task);
            tasks.lock().unwrap().push(task);
        }
        executor.settle();
        // The interrupts that are still to come bring what is missing.
        for _ in 0..100 {
            let _enough = semaphore.release(1);
            executor.settle();
        }
        assert_eq!(executor.live(), 0, "seed {seed}: somebody hangs");
        assert_eq!(semaphore.available(), 3, "seed {seed}");
        interrupts += u64::from(brought.load(Relaxed));
    }
    assert!(interrupts > SEEDS * 10, "{interrupts} interrupts are not enough to show anything");
}

/// Each set that finds the event clear is taken once.
#[test]
fn every_signal_is_taken_once() {
    for seed in 0..SEEDS {
        let (executor, slots) = (executor(Plan::wild(seed)), slots());
        executor.platform().forget_trace();
        let event = keep(AutoEvent::new(false));
        let (set, taken) = (keep(AtomicU32::new(0)), keep(AtomicU32::new(0)));
        executor.platform().on_interrupt(move || {
            if !event.is_set() {
                set.fetch_add(1, Relaxed);
                event.set();
            }
        });
        for _ in 0..TASKS {
            let task = spawn(executor, slots, async move {
                for _ in 0..5 {
                    event.wait().await;
                    taken.fetch_add(1, Relaxed);
                }
            });
            executor.platform().haunt(task);
        }
        executor.settle();
        while executor.live() != 0 {
            let before = taken.load(Relaxed);
            if !event.is_set() {
                set.fetch_add(1, Relaxed);
                event.set();
            }
            executor.settle();
            assert!(taken.load(Relaxed) > before, "seed {seed}: a signal was lost");
        }
        let left = u32::from(event.is_set());
        assert_eq!(set.load(Relaxed), taken.load(Relaxed) + left, "seed {seed}");
    }
}

/// A pulse from an interrupt releases everybody who waited, on two executors, with a mutex in between.
#[test]
fn a_pulse_releases_everybody() {
    for seed in 0..SEEDS {
        let (executors, slots) = ([executor(Plan::wild(seed)), executor(Plan::wild(!seed))], slots());
        let (event, through) = (keep(ManualEvent::new(false)), keep(Mutex::new(0)));
        for executor in executors {
            executor.platform().forget_trace();
            executor.platform().on_interrupt(move || {
                event.set();
                event.reset();
            });
            for _ in 0..TASKS {
                let task = spawn(executor, slots, async move {
                    event.wait().await;
                    let mut count = through.lock().await;
                    yield_now().await;
                    *count += 1;
                });
                executor.platform().haunt(task);
            }
        }
        while executors.iter().map(|executor| executor.step()).fold(false, |any, one| any | one) {}
        event.set();
        while executors.iter().map(|executor| executor.step()).fold(false, |any, one| any | one) {}
        assert_eq!(through.try_lock().map(|count| *count), Some(2 * TASKS), "seed {seed}: somebody hangs");
        event.reset();
        assert!(poll(pin!(event.wait())).is_pending());
    }
}
