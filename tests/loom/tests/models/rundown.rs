//! Rundown protection: whoever has waited for the last guard is alone, and is woken.

use core::{
    future::Future,
    task::{Context, Waker},
};

use crate::support::{Leaked, Place, executor, model, pool, settle};
use kexec_loom::sync::RundownRef;
use loom::{future::block_on, thread};

fn rundown() -> Leaked<RundownRef> {
    Leaked::new(RundownRef::new())
}

/// A guard is had before the rundown, which then waits for it and sees what was done under it; or not at all.
#[test]
fn acquire_against_run_down() {
    model(|| {
        let (rundown, place) = (rundown(), Place::new());
        let (target, used) = (*rundown, place.clone());
        let using = thread::spawn(move || {
            if let Some(_guard) = target.acquire() {
                used.write();
            }
        });
        block_on(rundown.run_down());
        place.write();
        using.join().unwrap();
        assert!(rundown.acquire().is_none());
    });
}

/// Two guards, of which the last one wakes, and a task that is not polled unless it is woken.
#[test]
fn the_last_of_two_guards_against_a_task_that_waits() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        let (rundown, place) = (rundown(), Place::new());
        let (target, ours) = (*rundown, rundown.acquire().expect("it does not run down"));
        let guard = rundown.acquire().expect("it does not run down");
        let (used, seen) = (place.clone(), place.clone());
        let task = move || async move {
            target.run_down().await;
            seen.write();
        };
        let using = thread::spawn(move || {
            used.write();
            drop(guard);
        });
        drop(ours);
        // The task is new to the other thread as well.
        let handle = executor.spawn_with(*pool, task).expect("a slot is free");
        settle(*executor);
        using.join().unwrap();
        settle(*executor);
        assert_eq!(handle.try_take().expect("a wake was lost"), Ok(()));
        assert_eq!(place.read(), 2);
    });
}

/// The first of two who wait gives up while the last guard goes: the other one is woken.
#[test]
fn the_last_guard_against_a_waiter_that_gives_up() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        let rundown = rundown();
        let (target, guard) = (*rundown, rundown.acquire().expect("it does not run down"));
        let mut given_up = Some(Box::pin(rundown.run_down()));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(given_up.as_mut().is_some_and(|wait| wait.as_mut().poll(&mut cx).is_pending()));
        let handle = executor.spawn_with(*pool, move || target.run_down()).expect("a slot is free");
        settle(*executor);
        let using = thread::spawn(move || drop(guard));
        given_up = None;
        settle(*executor);
        using.join().unwrap();
        settle(*executor);
        assert_eq!(handle.try_take().expect("a wake was lost"), Ok(()));
        drop(given_up);
    });
}

/// Whoever is let in again sees what was done in between.
#[test]
fn acquire_against_reinit() {
    model(|| {
        let (rundown, place) = (rundown(), Place::new());
        block_on(rundown.run_down());
        let (target, used) = (*rundown, place.clone());
        let using = thread::spawn(move || {
            if let Some(_guard) = target.acquire() {
                used.write();
            }
        });
        place.write();
        assert_eq!(rundown.reinit(), Ok(()));
        using.join().unwrap();
    });
}

/// A waiter of the last rundown does not wait for the next one.
#[test]
fn reinit_against_a_waiter() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        let rundown = rundown();
        let (target, guard) = (*rundown, rundown.acquire().expect("it does not run down"));
        let waiting = rundown.run_down();
        let handle = executor.spawn_with(*pool, move || waiting).expect("a slot is free");
        let owning = thread::spawn(move || {
            drop(guard);
            assert_eq!(target.reinit(), Ok(()));
            target.acquire().map(core::mem::ManuallyDrop::new).is_some()
        });
        settle(*executor);
        assert!(owning.join().unwrap(), "it is used again, for ever");
        settle(*executor);
        assert_eq!(handle.try_take().expect("a wake was lost"), Ok(()));
    });
}

/// A rundown sees what was done under the guards before it begins again.
#[test]
fn reinit_against_the_last_guard() {
    model(|| {
        let (rundown, place) = (rundown(), Place::new());
        let (guard, used) = (rundown.acquire().expect("it does not run down"), place.clone());
        drop(rundown.run_down());
        let using = thread::spawn(move || {
            used.write();
            drop(guard);
        });
        thread::yield_now();
        if rundown.reinit().is_ok() {
            place.write();
        }
        using.join().unwrap();
    });
}
