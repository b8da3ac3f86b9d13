//! The mutex: one at a time, in order, across awaits.

use std::{mem::ManuallyDrop, pin::pin, thread};

use kexec::{
    platform::mock::keep,
    sync::{Mutex, MutexGuard},
    yield_now,
};

use crate::support::{Log, calm, poll, slots, spawn};

/// Tasks that take the lock and are not done with it for some turns: nobody gets in between, and they go in order.
#[test]
fn one_at_a_time_across_awaits() {
    let (executor, slots, log) = (calm(), slots(), Log::default());
    let mutex = keep(Mutex::new(0_u32));
    for who in 0..4 {
        let log = log.clone();
        spawn(executor, slots, async move {
            for _ in 0..2 {
                let mut value = mutex.lock().await;
                let before = *value;
                for _ in 0..3 {
                    yield_now().await;
                    assert!(mutex.try_lock().is_none());
                }
                *value = before + 1;
                log.note(who);
            }
        });
    }
    executor.settle();
    assert_eq!(log.take(), [0, 1, 2, 3, 0, 1, 2, 3]);
    assert_eq!(*mutex.try_lock().expect("nobody has it"), 8);
}

/// A task that is cancelled with the guard unlocks; the next one finds what it has left.
#[test]
fn a_cancelled_holder_unlocks() {
    let (executor, slots, log) = (calm(), slots(), Log::default());
    let mutex = keep(Mutex::new("before"));
    let holder = spawn(executor, slots, async {
        let mut value = mutex.lock().await;
        *value = "half done";
        std::future::pending::<()>().await;
    });
    log.after(executor, slots, 0, async {
        assert_eq!(*mutex.lock().await, "half done");
    });
    executor.settle();
    assert_eq!(log.take(), []);
    holder.abort();
    executor.settle();
    assert_eq!(log.take(), [0]);
}

/// While somebody waits, the lock is free for nobody else, though nobody has it.
#[test]
fn try_lock_does_not_pass_a_waiter() {
    let (executor, log) = (calm(), Log::default());
    let mutex = keep(Mutex::new(()));
    let guard = mutex.try_lock().expect("nobody has it");
    log.after(executor, slots(), 0, mutex.lock());
    executor.settle();
    drop(guard);
    assert!(mutex.try_lock().is_none(), "somebody waits");
    executor.settle();
    assert_eq!(log.take(), [0]);
    assert!(mutex.try_lock().is_some());
}

/// A guard may go to another thread, and is dropped there.
#[test]
fn a_guard_travels() {
    let mutex = Mutex::new(1);
    let mut guard = pollster::block_on(mutex.lock());
    thread::scope(|scope| {
        scope.spawn(move || {
            *guard += 1;
            drop(guard);
        });
        assert_eq!(*pollster::block_on(mutex.lock()), 2);
    });
    assert_eq!(mutex.into_inner(), 2);
}

/// The ways around the lock, for who has the mutex to itself; also after a guard that was never dropped.
#[test]
fn without_locking() {
    let mut mutex = Mutex::<Vec<u32>>::default();
    mutex.get_mut().push(1);
    let _kept = ManuallyDrop::new(mutex.try_lock().expect("nobody has it"));
    assert!(mutex.try_lock().is_none());
    assert!(poll(pin!(mutex.lock())).is_pending());
    mutex.get_mut().push(2);
    assert_eq!(mutex.into_inner(), [1, 2]);
}

/// What is seen of a mutex does not depend on having it.
#[test]
fn shown() {
    let mutex = Mutex::new(7);
    assert_eq!(format!("{mutex:?}"), "Mutex { value: 7 }");
    let guard = mutex.try_lock().expect("nobody has it");
    assert_eq!(format!("{guard:?} {mutex:?}"), "7 Mutex { value: <locked> }");
    assert!(format!("{:?}", mutex.lock()).starts_with("Wait { queued: false"));
}

/// What is `Send` and `Sync` by what is in it. What is not: `tests/ui/mutex_not_shared.rs`.
#[test]
fn sent_and_shared() {
    fn sent(_: impl Send) {}
    fn shared(_: &(impl Sync + ?Sized)) {}
    let mutex = Mutex::new(std::cell::Cell::new(0));
    shared(&mutex);
    sent(mutex.lock());
    let guard: MutexGuard<'_, _> = mutex.try_lock().expect("nobody has it");
    sent(guard);
}
