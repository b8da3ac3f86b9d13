//! No wake is lost, whoever wakes and whoever runs.

use crate::support::{Exec, ROOM, Wait, executor, flag, model, pool, serve, settle};
use kexec_loom::{Table, TaskRef};
use loom::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

/// A task that waits for the flags, detached; and its name.
fn waiting(executor: &'static Exec, pool: &'static Table<ROOM>, flags: &[&Arc<AtomicBool>]) -> TaskRef {
    let wait = Wait::new(flags);
    let handle = executor.spawn_with(pool, move || wait).expect("a slot is free");
    handle.detach()
}

fn raise_and_wake(flag: Arc<AtomicBool>, task: TaskRef) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        flag.store(true, Relaxed);
        task.wake();
    })
}

/// Each waker raises its own flag: the last poll must see both.
#[test]
fn two_wakers() {
    model(|| {
        let (executor, pool) = (executor(1), pool::<1>());
        let flags = [flag(false), flag(false)];
        let task = waiting(*executor, *pool, &[&flags[0], &flags[1]]);
        let wakers = flags.map(|flag| raise_and_wake(flag, task));
        serve(*executor, 2);
        for waker in wakers {
            waker.join().unwrap();
        }
        settle(*executor);
        assert_eq!(executor.live(), 0, "a wake was lost");
    });
}

/// The wake comes while another thread is the consumer.
#[test]
fn against_the_running_consumer() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        let up = flag(false);
        let task = waiting(*executor, *pool, &[&up]);
        let target = *executor;
        let consumer = thread::spawn(move || serve(target, 2));
        up.store(true, Relaxed);
        task.wake();
        consumer.join().unwrap();
        settle(*executor);
        assert_eq!(executor.live(), 0, "a wake was lost");
    });
}

/// The task is queued already; the second wake must still show what was written before it.
#[test]
fn redundant() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        let up = flag(false);
        let task = waiting(*executor, *pool, &[&up]);
        let waker = raise_and_wake(up, task);
        serve(*executor, 1);
        waker.join().unwrap();
        settle(*executor);
        assert_eq!(executor.live(), 0, "a wake was lost");
    });
}

/// Two CPUs answer doorbells that order nothing: the queue alone hands the future from one to the other.
#[test]
fn the_consumer_migrates() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        let up = flag(false);
        let task = waiting(*executor, *pool, &[&up]);
        let target = *executor;
        let other = thread::spawn(move || serve(target, 2));
        up.store(true, Relaxed);
        task.wake();
        serve(*executor, 2);
        other.join().unwrap();
        settle(*executor);
        assert_eq!(executor.live(), 0, "a wake was lost");
    });
}

/// A run that has used up its budget gives its role up before it rings, and another CPU takes the rest.
#[test]
fn the_rest_of_a_budget_migrates() {
    model(|| {
        let (executor, pool) = (executor(1), pool::<2>());
        let up = flag(false);
        let first = waiting(*executor, *pool, &[&up]);
        let second = waiting(*executor, *pool, &[&up]);
        let target = *executor;
        let other = thread::spawn(move || serve(target, 2));
        up.store(true, Relaxed);
        first.wake();
        second.wake();
        serve(*executor, 2);
        other.join().unwrap();
        settle(*executor);
        assert_eq!(executor.live(), 0, "a wake was lost");
    });
}
