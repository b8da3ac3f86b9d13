//! A closed executor has nobody left: no task, no output, no consumer. The models then give its memory back.

use core::{
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Waker},
};

use crate::support::{Counted, Wait, WakerCell, close, executor, flag, model, pool, serve, settle};
use kexec_loom::{End, SpawnError};
use loom::{
    future::block_on,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
};

/// A spawn that comes together with the close is refused, or cancelled, and either way gone.
#[test]
fn spawn_against_close() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        let (target, slots) = (*executor, *pool);
        let dropped = Counted::new();
        let never = Wait::with(&[&flag(false)], WakerCell::new(), dropped.clone());
        let spawner = thread::spawn(move || match target.spawn_with(slots, move || never) {
            Ok(handle) => drop(handle),
            Err(error) => assert!(matches!(error, SpawnError::Closed(_)), "{error}"),
        });
        let mut closing = pin!(executor.close().expect("nobody else closes it"));
        let mut cx = Context::from_waker(Waker::noop());
        let _ = closing.as_mut().poll(&mut cx);
        serve(*executor, 1);
        spawner.join().unwrap();
        settle(*executor);
        assert!(closing.as_mut().poll(&mut cx).is_ready(), "{} tasks are left", executor.live());
        assert_eq!(dropped.drops(), 1);
    });
}

/// The closer waits on one thread while the last run is on another: it may free everything when it wakes.
#[test]
fn close_against_the_last_run() {
    model(|| {
        let executor = executor(8);
        let pool = pool::<1>();
        let never = Wait::new(&[&flag(false)]);
        executor.spawn_with(*pool, move || never).expect("a slot is free").detach();
        let target = *executor;
        let consumer = thread::spawn(move || {
            serve(target, 3);
        });
        let mut closing = Box::pin(executor.close().expect("nobody else closes it"));
        let mut cx = Context::from_waker(Waker::noop());
        let _ = closing.as_mut().poll(&mut cx);
        consumer.join().unwrap();
        settle(*executor);
        assert!(closing.as_mut().poll(&mut cx).is_ready());
        drop(closing);
    });
}

/// The closer sleeps until it is woken, by a run on another thread.
#[test]
fn the_closer_is_woken() {
    model(|| {
        let executor = executor(8);
        let target = *executor;
        let mut closing = Box::pin(executor.close().expect("nobody else closes it"));
        let mut consumer = None;
        let _closed = block_on(poll_fn(|cx| {
            let polled = closing.as_mut().poll(cx);
            consumer.get_or_insert_with(|| thread::spawn(move || target.try_run(&mut ())));
            // Woken too early, it looks again: loom must let the consumer go on.
            thread::yield_now();
            polled
        }));
        let run = consumer.map(thread::JoinHandle::join).expect("it was started").unwrap();
        assert_eq!(run.expect("there was no other consumer").end, End::Closed);
        assert!(executor.try_run(&mut ()).is_none(), "it does not run again");
        drop(closing);
        // Nor does that call change anything: it is closed for whoever asks later.
        close(*executor);
    });
}

/// An output that nobody has taken keeps the executor open; the handle's last act ends it, on another thread.
#[test]
fn close_against_the_last_handle() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        let output = Arc::new(7);
        let handle = executor.spawn_with(*pool, move || async move { output }).expect("a slot is free");
        settle(*executor);
        let holder = thread::spawn(move || drop(handle));
        let mut closing = pin!(executor.close().expect("nobody else closes it"));
        let mut cx = Context::from_waker(Waker::noop());
        let _ = closing.as_mut().poll(&mut cx);
        serve(*executor, 2);
        holder.join().unwrap();
        settle(*executor);
        assert!(closing.as_mut().poll(&mut cx).is_ready(), "{} tasks are left", executor.live());
    });
}

/// A stale waker that comes together with the close rings nobody afterwards, and its slot can be used elsewhere.
#[test]
fn stale_wake_against_close() {
    model(|| {
        let (first, second, pool) = (executor(8), executor(8), pool::<1>());
        let (up, cell) = (flag(true), WakerCell::new());
        let wait = Wait::with(&[&up], cell.clone(), Counted::new());
        first.spawn_with(*pool, move || wait).expect("a slot is free").detach();
        settle(*first);
        let waker = cell.get().expect("it was polled");
        let stale = thread::spawn(move || waker.wake());
        {
            let mut closing = pin!(first.close().expect("nobody else closes it"));
            let mut cx = Context::from_waker(Waker::noop());
            let _ = closing.as_mut().poll(&mut cx);
            serve(*first, 2);
            stale.join().unwrap();
            settle(*first);
            assert!(closing.as_mut().poll(&mut cx).is_ready());
        }
        let rung = first.platform().rung();
        cell.get().expect("it was polled").wake();
        assert_eq!(first.platform().rung(), rung, "a closed executor rings nobody");
        let wait = Wait::new(&[&up]);
        second.spawn_with(*pool, move || wait).expect("the slot can be used elsewhere").detach();
        settle(*second);
        assert_eq!(second.live(), 0);
    });
}

/// A waker that is later still meets a spawn that takes the slot to another executor.
#[test]
fn stale_wake_after_the_close() {
    model(|| {
        let (first, second, pool) = (executor(8), executor(8), pool::<1>());
        let (up, cell) = (flag(true), WakerCell::new());
        let wait = Wait::with(&[&up], cell.clone(), Counted::new());
        first.spawn_with(*pool, move || wait).expect("a slot is free").detach();
        settle(*first);
        close(*first);
        let waker = cell.get().expect("it was polled");
        let stale = thread::spawn(move || waker.wake());
        thread::yield_now();
        let wait = Wait::new(&[&up]);
        // In the moment in which the wake has marked the slot, it cannot be had.
        let spawned = second.spawn_with(*pool, move || wait).map(kexec_loom::JoinHandle::detach).is_ok();
        stale.join().unwrap();
        settle(*second);
        assert_eq!(second.live(), 0);
        assert!(
            spawned || second.spawn_with(*pool, || async {}).map(drop).is_ok(),
            "the mark was taken back"
        );
        settle(*second);
    });
}

/// One closer gives up, another thread takes over.
#[test]
fn the_close_changes_hands() {
    model(|| {
        let executor = executor(8);
        let target = *executor;
        let first = thread::spawn(move || {
            if let Ok(closing) = target.close() {
                let mut closing = pin!(closing);
                let mut cx = Context::from_waker(Waker::noop());
                let _ = closing.as_mut().poll(&mut cx);
            }
        });
        if let Ok(closing) = executor.close() {
            let mut closing = pin!(closing);
            let mut cx = Context::from_waker(Waker::noop());
            let _ = closing.as_mut().poll(&mut cx);
        }
        first.join().unwrap();
        close(*executor);
        let _ = flag(false).load(Relaxed);
    });
}
