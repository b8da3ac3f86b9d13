//! What was done before a signal is seen by whoever takes it.

use core::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use crate::support::{Leaked, Place, executor, model, serve, settle};
use kexec_loom::{
    Pool,
    sync::{AcquireError, AutoEvent, ManualEvent, Mutex, Semaphore, TryAcquireError},
};
use loom::thread;

/// What one poll finds, without waiting.
fn now<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(got) => Some(got),
        Poll::Pending => None,
    }
}

/// Both events, for a waiter that comes late and for one that only asks.
#[test]
fn before_a_set() {
    model(|| {
        let (auto, manual) = (Leaked::new(AutoEvent::new(false)), Leaked::new(ManualEvent::new(false)));
        let places = [Place::new(), Place::new()];
        let (targets, theirs) = ((*auto, *manual), places.clone());
        let other = thread::spawn(move || {
            theirs[0].write();
            targets.0.set();
            theirs[1].write();
            targets.1.set();
        });
        if now(auto.wait()).is_some() {
            assert_eq!(places[0].read(), 1);
        }
        if now(manual.wait()).is_some() {
            assert_eq!(places[1].read(), 1);
        }
        other.join().unwrap();
    });
}

/// A glance is enough.
#[test]
fn before_what_is_seen() {
    model(|| {
        let (event, place) = (Leaked::new(ManualEvent::new(false)), Place::new());
        let (target, theirs) = (*event, place.clone());
        let other = thread::spawn(move || {
            theirs.write();
            target.set();
        });
        if event.is_set() {
            assert_eq!(place.read(), 1);
        }
        other.join().unwrap();
    });
}

/// The value of a mutex, from guard to guard; loom sees two that have it at once.
#[test]
fn under_a_mutex() {
    model(|| {
        let mutex = Leaked::new(Mutex::new(0));
        let target = *mutex;
        let other = thread::spawn(move || {
            let mut taken = 0;
            for _ in 0..2 {
                if let Some(mut value) = target.try_lock() {
                    *value += 1;
                    taken += 1;
                }
            }
            taken
        });
        let mut taken = 0;
        if let Some(mut value) = mutex.try_lock() {
            *value += 1;
            taken += 1;
        }
        taken += other.join().unwrap();
        assert_eq!(mutex.try_lock().map(|value| *value), Some(taken));
    });
}

/// The same from task to task, whose executors are served by two threads.
#[test]
fn a_mutex_changes_hands() {
    model(|| {
        let (first, second) = (executor(8), executor(8));
        let (slots, mutex): (Leaked<Pool<512, 2>>, _) =
            (Leaked::new(Pool::new()), Leaked::new(Mutex::new(0)));
        for executor in [*first, *second] {
            let mutex = *mutex;
            let task = async move {
                let mut value = mutex.lock().await;
                kexec_loom::yield_now().await;
                *value += 1;
            };
            executor.spawn_with(*slots, move || task).expect("a slot is free").detach();
        }
        let target = *second;
        let other = thread::spawn(move || serve(target, 2));
        serve(*first, 2);
        other.join().unwrap();
        for _ in 0..2 {
            settle(*first);
            settle(*second);
        }
        assert_eq!(mutex.try_lock().map(|value| *value), Some(2), "a task was not called");
    });
}

/// What was done with a permit, when it comes back by itself, and when somebody else brings it.
#[test]
fn with_a_permit() {
    for forgotten in [false, true] {
        model(move || {
            let (semaphore, place) = (Leaked::new(Semaphore::new(1)), Place::new());
            let permits = semaphore.try_acquire(1).expect("it is there");
            let (target, theirs) = (*semaphore, place.clone());
            let other = thread::spawn(move || {
                theirs.write();
                if forgotten {
                    permits.forget();
                    target.release(1).expect("it was forgotten");
                }
            });
            // Loom lets nobody in before a load that another thread's load precedes.
            thread::yield_now();
            if let Ok(_permits) = semaphore.try_acquire(1) {
                assert_eq!(place.read(), 1);
            }
            other.join().unwrap();
        });
    }
}

/// A waiter is called when permits come back by themselves.
#[test]
fn a_permit_changes_hands() {
    model(|| {
        let (executor, slots): (_, Leaked<Pool<512, 1>>) = (executor(8), Leaked::new(Pool::new()));
        let semaphore = Leaked::new(Semaphore::new(1));
        let permits = semaphore.try_acquire(1).expect("it is there");
        let target = *semaphore;
        let task = async move { target.acquire(1).await.map(drop) };
        executor.spawn_with(*slots, move || task).expect("a slot is free").detach();
        let other = thread::spawn(move || drop(permits));
        serve(*executor, 2);
        other.join().unwrap();
        settle(*executor);
        assert_eq!(executor.live(), 0, "a signal was lost");
    });
}

/// Who is told that a semaphore is closed sees what was done before.
#[test]
fn before_a_close() {
    model(|| {
        let (semaphore, place) = (Leaked::new(Semaphore::new(1)), Place::new());
        let (target, theirs) = (*semaphore, place.clone());
        let other = thread::spawn(move || {
            theirs.write();
            target.close();
        });
        if let Err(TryAcquireError::Never(AcquireError::Closed)) = semaphore.try_acquire(1).map(drop) {
            assert_eq!(place.read(), 1);
        }
        other.join().unwrap();
    });
}
