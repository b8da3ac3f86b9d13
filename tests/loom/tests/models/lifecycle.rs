//! A task ends once, whatever comes together: wake, abort, completion, join, drop of the handle.

use crate::support::{Counted, Wait, WakerCell, executor, flag, model, pool, serve, settle};
use kexec_loom::Cancelled;
use loom::{
    future::block_on,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

/// The future is dropped once, and the epilogue is called once, with whichever outcome came first.
#[test]
fn abort_against_wake_against_completion() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        let (up, dropped) = (flag(false), Counted::new());
        let outcomes = Arc::new(AtomicUsize::new(0));
        let wait = Wait::with(&[&up], WakerCell::new(), dropped.clone());
        let seen = outcomes.clone();
        let epilogue = move |(): &mut (), _outcome: Result<u32, Cancelled>| {
            seen.fetch_add(1, Relaxed);
        };
        let task = executor.submit_with(*pool, move || wait, epilogue).expect("a slot is free");
        let waker = thread::spawn(move || {
            up.store(true, Relaxed);
            task.wake();
        });
        let aborter = thread::spawn(move || task.abort());
        serve(*executor, 2);
        waker.join().unwrap();
        aborter.join().unwrap();
        settle(*executor);
        assert_eq!((outcomes.load(Relaxed), dropped.drops(), executor.live()), (1, 1, 0));
        assert!(!task.is_live());
        assert!(!task.abort(), "a stale abort does nothing");
    });
}

/// The abort names a tenant that has ended; the slot's next tenant must not be hurt.
#[test]
fn stale_abort() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        let (ready, up) = (flag(true), flag(false));
        let wait = Wait::new(&[&ready]);
        let first = executor.spawn_with(*pool, move || wait).expect("a slot is free");
        let task = first.task();
        first.detach();
        settle(*executor);
        let aborter = thread::spawn(move || task.abort());
        let wait = Wait::new(&[&up]);
        let second = executor.spawn_with(*pool, move || wait).expect("the slot is free again");
        serve(*executor, 1);
        assert!(!aborter.join().unwrap(), "the first tenant had ended");
        up.store(true, Relaxed);
        second.task().wake();
        settle(*executor);
        assert!(second.try_take().expect("it has run").is_ok(), "the second tenant was aborted");
    });
}

/// A waker outlives its task and comes while the slot is being reused.
#[test]
fn stale_wake_on_a_reused_slot() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        let (up, cell) = (flag(true), WakerCell::new());
        let wait = Wait::with(&[&up], cell.clone(), Counted::new());
        executor.spawn_with(*pool, move || wait).expect("a slot is free").detach();
        settle(*executor);
        let waker = cell.get().expect("the first tenant was polled");
        let stale = thread::spawn(move || waker.wake());
        let target = *executor;
        let consumer = thread::spawn(move || serve(target, 1));
        let wait = Wait::new(&[&up]);
        // If the stale wake has the header queued, its entry serves the new tenant.
        let second = executor.spawn_with(*pool, move || wait).expect("the slot is free");
        stale.join().unwrap();
        consumer.join().unwrap();
        settle(*executor);
        assert!(second.try_take().expect("it has run").is_ok());
        assert_eq!(executor.live(), 0);
    });
}

/// As before, but the slot goes to another executor: the stale wake must find one or the other whole.
#[test]
fn stale_wake_on_a_slot_that_moved() {
    model(|| {
        let (here, there, pool) = (executor(8), executor(8), pool::<1>());
        let (up, cell) = (flag(true), WakerCell::new());
        let wait = Wait::with(&[&up], cell.clone(), Counted::new());
        here.spawn_with(*pool, move || wait).expect("a slot is free").detach();
        settle(*here);
        let waker = cell.get().expect("the first tenant was polled");
        let stale = thread::spawn(move || waker.wake());
        let wait = Wait::new(&[&up]);
        let moved = there.spawn_with(*pool, move || wait);
        settle(*there);
        stale.join().unwrap();
        settle(*here);
        settle(*there);
        if let Ok(moved) = moved {
            assert!(moved.try_take().expect("it has run").is_ok());
        }
        assert_eq!((here.live(), there.live()), (0, 0));
    });
}

/// Someone waits for the output on one thread while it is produced on another.
#[test]
fn join_against_finish() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        let output = Arc::new(7);
        let handle = executor.spawn_with(*pool, move || async move { output }).expect("a slot is free");
        let target = *executor;
        let consumer = thread::spawn(move || serve(target, 1));
        assert_eq!(*block_on(handle).expect("nobody cancels it"), 7);
        consumer.join().unwrap();
        assert_eq!(executor.live(), 0);
    });
}

/// The handle is moved while someone waits: a second waker replaces the first, around the end of the task.
#[test]
fn rejoin_against_finish() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        let output = Arc::new(7);
        let mut handle = executor.spawn_with(*pool, move || async move { output }).expect("a slot is free");
        let target = *executor;
        let consumer = thread::spawn(move || serve(target, 1));
        let mut cx = core::task::Context::from_waker(core::task::Waker::noop());
        if core::pin::Pin::new(&mut handle).poll(&mut cx).is_pending() {
            assert_eq!(*block_on(handle).expect("nobody cancels it"), 7);
        }
        consumer.join().unwrap();
        assert_eq!(executor.live(), 0);
    });
}

/// The handle is dropped around the end of the task, waited on or not; loom sees whether the output is leaked.
#[test]
fn drop_of_the_handle_against_finish() {
    for waited in [false, true] {
        model(move || {
            let (executor, pool) = (executor(8), pool::<1>());
            let output = Arc::new(7);
            let mut handle =
                executor.spawn_with(*pool, move || async move { output }).expect("a slot is free");
            if waited {
                let mut cx = core::task::Context::from_waker(core::task::Waker::noop());
                assert!(core::pin::Pin::new(&mut handle).poll(&mut cx).is_pending());
            }
            let target = *executor;
            let consumer = thread::spawn(move || serve(target, 1));
            drop(handle);
            consumer.join().unwrap();
            settle(*executor);
            assert_eq!(executor.live(), 0);
        });
    }
}
