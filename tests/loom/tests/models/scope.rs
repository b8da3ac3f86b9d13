//! Scopes: members enter and leave while somebody closes, on other CPUs.

use core::{
    future::{Future, pending},
    pin::pin,
    task::{Context, Poll, Waker},
};

use crate::support::{Exec, Leaked, Place, Wait, WakerCell, executor, flag, model, pool, serve, settle};
use kexec_loom::{Scope, SpawnError};
use loom::thread;

fn scope() -> Leaked<Scope> {
    Leaked::new(Scope::new("scope"))
}

/// One poll of a close; whoever lets go of the scope does so when it is ready.
fn poll_close(scope: &'static Scope) -> Poll<()> {
    let close = pin!(scope.close().expect("nobody else closes it"));
    close.poll(&mut Context::from_waker(Waker::noop()))
}

/// The first poll of a close that nobody waits for.
fn begin_to_close(scope: &'static Scope) {
    let _closed = poll_close(scope);
}

/// Whoever settles the executors of a scope that is being closed finds it closed.
fn assert_closed(scope: &'static Scope, executors: &[&'static Exec]) {
    for _ in 0..4 {
        for executor in executors {
            settle(executor);
        }
    }
    assert_eq!(poll_close(scope), Poll::Ready(()), "the close is stuck");
    for executor in executors {
        assert_eq!(executor.live(), 0);
    }
}

/// A task that is let in is cancelled; one that is not comes back.
#[test]
fn enter_against_close() {
    model(|| {
        let (executor, pool, scope) = (executor(8), pool::<1>(), scope());
        let (target, slots, device) = (*executor, *pool, *scope);
        let spawning = thread::spawn(move || match target.within(device).spawn_with(slots, pending::<()>) {
            Ok(handle) => drop(handle),
            Err(error) => assert!(matches!(error, SpawnError::Closed(_)), "{error}"),
        });
        let first = poll_close(*scope);
        spawning.join().unwrap();
        if first.is_ready() {
            assert_eq!(executor.platform().rung(), 0, "nobody got in");
        }
        assert_closed(*scope, &[*executor]);
    });
}

/// The same for a slot that a stale wake has queued: its tenant is in the list before it can be marked.
#[test]
fn enter_by_a_stale_wake_against_close() {
    model(|| {
        let (executor, pool, scope) = (executor(8), pool::<1>(), scope());
        let (cell, up) = (WakerCell::new(), flag(true));
        let wait = Wait::with(&[&up], cell.clone(), crate::support::Counted::new());
        executor.spawn_with(*pool, move || wait).expect("a slot is free").detach();
        settle(*executor);
        cell.get().expect("it was polled").wake();
        let (target, slots, device) = (*executor, *pool, *scope);
        let spawning = thread::spawn(move || {
            drop(target.within(device).spawn_with(slots, pending::<()>));
            serve(target, 1);
        });
        begin_to_close(*scope);
        spawning.join().unwrap();
        assert_closed(*scope, &[*executor]);
    });
}

/// A member that ends by itself, or because it is cancelled, moves the close on: either way nobody is forgotten.
#[test]
fn leave_against_close() {
    model(|| {
        let (executor, pool, scope) = (executor(8), pool::<2>(), scope());
        executor.within(*scope).spawn_with(*pool, pending::<()>).expect("a slot is free").detach();
        executor.within(*scope).spawn_with(*pool, || async {}).expect("a slot is free").detach();
        let target = *executor;
        let consumer = thread::spawn(move || serve(target, 1));
        begin_to_close(*scope);
        consumer.join().unwrap();
        assert_closed(*scope, &[*executor]);
    });
}

/// Members on two CPUs leave at the same time, one of them with an epilogue; what they did is seen by whoever finds the
/// scope closed.
#[test]
fn two_leave_at_once() {
    model(|| {
        let (one, other, pool, scope) = (executor(8), executor(8), pool::<2>(), scope());
        let places = [Place::new(), Place::new()];
        let [first, second] = places.clone();
        let task = move || async move { first.write() };
        one.within(*scope).spawn_with(*pool, task).expect("a slot is free").detach();
        let epilogue = move |(): &mut (), _outcome| second.write();
        other.within(*scope).submit_with(*pool, || async {}, epilogue).expect("a slot is free");
        let target = *one;
        let consumer = thread::spawn(move || serve(target, 1));
        begin_to_close(*scope);
        serve(*other, 1);
        if poll_close(*scope).is_ready() {
            // No join has ordered the other thread's part.
            assert!(places.iter().all(|place| place.read() <= 1));
        }
        consumer.join().unwrap();
        assert_closed(*scope, &[*one, *other]);
    });
}

/// The scope is closed when the epilogue has returned, on whatever CPU, and not before.
#[test]
fn an_epilogue_against_close() {
    model(|| {
        let (executor, pool, scope) = (executor(8), pool::<1>(), scope());
        let place = Place::new();
        let written = place.clone();
        let epilogue = move |(): &mut (), _outcome| written.write();
        executor.within(*scope).submit_with(*pool, || async {}, epilogue).expect("a slot is free");
        let target = *executor;
        let consumer = thread::spawn(move || serve(target, 1));
        if poll_close(*scope).is_ready() || poll_close(*scope).is_ready() {
            assert_eq!(place.read(), 1);
        }
        consumer.join().unwrap();
        assert_closed(*scope, &[*executor]);
    });
}

/// Whoever finds the scope closed may give its memory back: the last member does not touch it any more.
#[test]
fn the_memory_of_a_closed_scope() {
    model(|| {
        let (executor, pool, scope) = (executor(8), pool::<1>(), scope());
        executor.within(*scope).spawn_with(*pool, || async {}).expect("a slot is free").detach();
        let target = *executor;
        let consumer = thread::spawn(move || serve(target, 1));
        let closed = poll_close(*scope).is_ready() || poll_close(*scope).is_ready();
        if closed {
            drop(scope);
            consumer.join().unwrap();
        } else {
            consumer.join().unwrap();
            assert_closed(*scope, &[*executor]);
        }
    });
}

/// A scope that enters another while that one is being closed is closed with it, or not let in.
#[test]
fn nest_against_close() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        let (outer, inner) = (scope(), scope());
        let (target, slots, around, within) = (*executor, *pool, *outer, *inner);
        let nesting = thread::spawn(move || {
            target.within(around).nest(within).is_ok_and(|spawner| {
                drop(spawner.spawn_with(slots, pending::<()>));
                true
            })
        });
        begin_to_close(*outer);
        let nested = nesting.join().unwrap();
        assert_closed(*outer, &[*executor]);
        assert_eq!(inner.is_closing(), nested);
        if nested {
            assert_eq!(inner.reopen(), Ok(()), "the inner one is closed before the outer one");
        }
    });
}

/// The memory of a scope within another may be given back as soon as it is closed by itself, even while the one around it is
/// being closed.
#[test]
fn the_memory_of_a_closed_inner_scope() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        let (outer, inner) = (scope(), scope());
        let within = executor.within(*outer).nest(*inner).expect("both are open");
        within.spawn_with(*pool, || async {}).expect("a slot is free").detach();
        let around = *outer;
        let closing = thread::spawn(move || begin_to_close(around));
        settle(*executor);
        let closed = poll_close(*inner).is_ready() || poll_close(*inner).is_ready();
        if closed {
            drop(inner);
        }
        closing.join().unwrap();
        assert_closed(*outer, &[*executor]);
    });
}

/// Both a scope and the one around it are being closed, by two threads, while a member ends.
#[test]
fn two_closes() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        let (outer, inner) = (scope(), scope());
        let within = executor.within(*outer).nest(*inner).expect("both are open");
        within.spawn_with(*pool, || async {}).expect("a slot is free").detach();
        let around = *outer;
        let closing = thread::spawn(move || begin_to_close(around));
        begin_to_close(*inner);
        settle(*executor);
        closing.join().unwrap();
        assert_closed(*inner, &[*executor]);
        assert_closed(*outer, &[*executor]);
    });
}
