//! Slots are claimed and given back from any thread, each to one tenant.

use core::{
    future::Future,
    pin::pin,
    task::{Context, Waker},
};

use crate::support::{Wait, close, executor, flag, model, pool, serve, settle};
use kexec_loom::SpawnError;
use loom::{
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
};

/// Two threads spawn while tasks end: the free list gives each slot to one of them.
#[test]
fn two_spawners_and_a_release() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<2>());
        let up = flag(true);
        for _ in 0..2 {
            let wait = Wait::new(&[&up]);
            executor.spawn_with(*pool, move || wait).expect("a slot is free").detach();
        }
        let (target, slots) = (*executor, *pool);
        let other = thread::spawn(move || {
            let wait = Wait::new(&[&up]);
            target.spawn_with(slots, move || wait).map(drop).is_ok()
        });
        serve(*executor, 1);
        let up = flag(true);
        let wait = Wait::new(&[&up]);
        let mine = executor.spawn_with(*pool, move || wait).map(drop).is_ok();
        other.join().unwrap();
        assert!(mine, "two slots were free, and at most one was taken");
        settle(*executor);
        assert_eq!(executor.live(), 0);
    });
}

/// Whoever waits for a free slot finds the one that is freed at the same moment, or is woken by it.
#[test]
fn a_vacancy_against_a_release() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        executor.spawn_with(*pool, || async {}).expect("a slot is free").detach();
        let woken = std::sync::Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        let target = *executor;
        let consumer = thread::spawn(move || serve(target, 1));
        let slots: &'static kexec_loom::Table<{ crate::support::ROOM }> = *pool;
        let mut vacancy = pin!(slots.vacancy());
        let ready = vacancy.as_mut().poll(&mut cx).is_ready();
        consumer.join().unwrap();
        settle(*executor);
        if !ready {
            assert!(woken.0.load(Relaxed), "the slot is free, and nobody was told");
            assert!(vacancy.as_mut().poll(&mut cx).is_ready());
        }
        executor.spawn_with(*pool, || async {}).expect("a slot is free").detach();
        settle(*executor);
    });
}

/// A waker that remembers that it was used, and orders nothing.
#[derive(Default)]
struct Woken(loom::sync::atomic::AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// A slot is given back by the handle's thread and taken by a third: all three see it whole.
#[test]
fn given_back_by_the_handle() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<2>());
        let outputs = [Arc::new(1), Arc::new(2)];
        let handles = outputs
            .map(|output| executor.spawn_with(*pool, move || async move { output }).expect("a slot is free"));
        settle(*executor);
        let taker = thread::spawn(move || {
            for handle in handles {
                handle.try_take().expect("it has run").expect("nobody cancels it");
            }
        });
        let mut spawned = Vec::new();
        for _ in 0..2 {
            let output = Arc::new(3);
            match executor.spawn_with(*pool, move || async move { output }) {
                Ok(handle) => spawned.push(handle),
                Err(error) => assert!(matches!(error, SpawnError::Full(_)), "{error}"),
            }
        }
        taker.join().unwrap();
        settle(*executor);
        for handle in spawned {
            assert_eq!(*handle.try_take().expect("it has run").expect("nobody cancels it"), 3);
        }
        assert_eq!(executor.live(), 0);
        let again: Vec<_> = (0..2)
            .map(|n| executor.spawn_with(*pool, move || async move { n }).expect("both are free"))
            .collect();
        settle(*executor);
        drop(again);
        assert_eq!(executor.live(), 0);
    });
}

/// A wake in the middle of the last poll leaves the header queued behind its own task's end.
#[test]
fn woken_in_its_last_poll() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        let up = flag(false);
        let wait = Wait::new(&[&up]);
        let handle = executor.spawn_with(*pool, move || wait).expect("a slot is free");
        let task = handle.task();
        handle.detach();
        let waker = thread::spawn(move || {
            up.store(true, Relaxed);
            task.wake();
            task.wake();
        });
        serve(*executor, 1);
        // Free as soon as the task has ended, however often it is queued.
        if executor.live() == 0 {
            executor.spawn_with(*pool, || async {}).expect("the slot is free").detach();
        }
        waker.join().unwrap();
        settle(*executor);
        assert_eq!(executor.live(), 0);
    });
}

/// A taker has read the top of the free list and what is below, and stalls; meanwhile both slots are taken and the
/// top one comes back. The list looks the same and is not: the lower slot is somebody's.
#[test]
fn the_top_comes_back() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<2>());
        let down = flag(false);
        let parked = |down| {
            let wait = Wait::new(&[down]);
            executor.spawn_with(*pool, move || wait).map(|handle| handle.task())
        };
        for task in [parked(&down), parked(&down)] {
            task.expect("both are free").abort();
        }
        settle(*executor);
        let (target, slots, never) = (*executor, *pool, down.clone());
        let slow = thread::spawn(move || {
            let wait = Wait::new(&[&never]);
            target.spawn_with(slots, move || wait).map(kexec_loom::JoinHandle::detach).ok()
        });
        let mut mine = [parked(&down), parked(&down)];
        if let [Ok(first), Ok(_)] = &mut mine {
            first.abort();
            settle(*executor);
        }
        slow.join().unwrap();
        settle(*executor);
        let busy = executor.live();
        let more = (0..3).filter(|_| parked(&down).is_ok()).count();
        assert_eq!(u32::try_from(more).unwrap(), 2 - busy, "a slot has two tenants, or none");
        close(*executor);
    });
}
