//! What one side did before, the other side sees: no lock, no doorbell and no join lends its ordering here.
//!
//! A `yield_now` costs none of the three preemptions: it lets the search begin with the other thread ahead.

use core::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use crate::support::{Mark, Place, Wait, executor, flag, model, pool, serve, settle};
use kexec_loom::Cancelled;
use loom::thread;

/// What the task wrote, whoever takes its output sees.
#[test]
fn the_output_reaches_the_handle() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        let place = Place::new();
        let written = place.clone();
        let task = move || async move {
            written.write();
            written
        };
        let handle = executor.spawn_with(*pool, task).expect("a slot is free");
        let target = *executor;
        let consumer = thread::spawn(move || serve(target, 1));
        thread::yield_now();
        match handle.try_take() {
            Ok(output) => {
                assert_eq!(output.expect("nobody cancels it").read(), 1);
            }
            Err(handle) => drop(handle),
        }
        consumer.join().unwrap();
        settle(*executor);
        assert_eq!((executor.live(), place.read()), (0, 1));
    });
}

/// An output that nobody takes is dropped by the executor or by the handle, which sees it whole.
#[test]
fn the_output_is_dropped_whole() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        let place = Place::new();
        let written = place.clone();
        let task = move || async move {
            written.write();
            Mark(written)
        };
        let handle = executor.spawn_with(*pool, task).expect("a slot is free");
        let target = *executor;
        let consumer = thread::spawn(move || serve(target, 1));
        thread::yield_now();
        drop(handle);
        consumer.join().unwrap();
        settle(*executor);
        assert_eq!((executor.live(), place.read()), (0, 2));
    });
}

/// What was written before an abort, whoever learns of the cancellation sees, even if a wake had queued the task.
#[test]
fn an_abort_shows_what_was_before_it() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        let place = Place::new();
        let (written, seen) = (place.clone(), place);
        let never = Wait::new(&[&flag(false)]);
        let epilogue = move |(): &mut (), outcome: Result<u32, Cancelled>| {
            assert_eq!(outcome, Err(Cancelled));
            assert_eq!(seen.read(), 1);
        };
        // Spawned, and so queued.
        let task = executor.submit_with(*pool, move || never, epilogue).expect("a slot is free");
        let aborter = thread::spawn(move || {
            written.write();
            assert!(task.abort());
        });
        serve(*executor, 1);
        aborter.join().unwrap();
        settle(*executor);
        assert_eq!(executor.live(), 0);
    });
}

/// Whoever finds an executor closed may free its memory, and so must see what the last run did.
#[test]
fn a_close_shows_the_last_run() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        let place = Place::new();
        let mark = Mark(place.clone());
        let task = move || async move {
            let _mark = mark;
            core::future::pending::<()>().await;
        };
        executor.spawn_with(*pool, task).expect("a slot is free").detach();
        let mut closing = pin!(executor.close().expect("nobody else closes it"));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(closing.as_mut().poll(&mut cx).is_pending());
        let target = *executor;
        let consumer = thread::spawn(move || target.try_run(&mut ()));
        if closing.as_mut().poll(&mut cx).is_ready() {
            assert_eq!(place.read(), 1);
        }
        consumer.join().unwrap();
        assert!(closing.as_mut().poll(&mut cx).is_ready());
    });
}

/// And what the last handle did: to the output, and to the waker of who had waited.
#[test]
fn a_close_shows_the_last_handle() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        let (output, waker) = (Place::new(), Place::new());
        let mark = Mark(output.clone());
        let mut handle = executor.spawn_with(*pool, move || async move { mark }).expect("a slot is free");
        wait(&mut handle, &waker);
        let mut closing = pin!(executor.close().expect("nobody else closes it"));
        let mut cx = Context::from_waker(Waker::noop());
        let holder = thread::spawn(move || drop(handle));
        thread::yield_now();
        for _ in 0..2 {
            if closing.as_mut().poll(&mut cx).is_ready() {
                assert_eq!((output.read(), waker.read()), (1, 1));
                break;
            }
            settle(*executor);
        }
        // The memory may go when no call is in progress any more.
        holder.join().unwrap();
        settle(*executor);
    });
}

/// What the run did to the future and to the slot is seen by the handle, if that is the last to let go, and by the slot's
/// next tenant; what it did to the waker of who waited comes after that, and is seen when the run has ended.
#[test]
fn the_last_to_let_go_sees_the_other() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        let (future, waker, again) = (Place::new(), Place::new(), Place::new());
        let mark = Mark(future.clone());
        let mut handle = executor.spawn_with(*pool, || async { drop(mark) }).expect("a slot is free");
        wait(&mut handle, &waker);
        let target = *executor;
        let consumer = thread::spawn(move || serve(target, 1));
        thread::yield_now();
        drop(handle);
        if executor.live() == 0 {
            assert_eq!(future.read(), 1);
            // Waits with the same cell; whether it has to depends on the run.
            let mut next = executor.spawn_with(*pool, || async {}).expect("the slot is free");
            let _ = poll(&mut next, &again);
        }
        consumer.join().unwrap();
        settle(*executor);
        assert_eq!(waker.read(), 1);
    });
}

/// Waits for the handle, with a waker that marks the place when nobody has it any more.
fn wait<T: Unpin>(handle: &mut kexec_loom::JoinHandle<T>, place: &Place) {
    assert!(poll(handle, place).is_pending(), "nobody has run yet");
}

/// Polls the handle, with a waker as for [`wait`].
fn poll<T: Unpin>(handle: &mut kexec_loom::JoinHandle<T>, place: &Place) -> Poll<Result<T, Cancelled>> {
    let joiner = Waker::from(std::sync::Arc::new(Mark(place.clone())));
    Pin::new(handle).poll(&mut Context::from_waker(&joiner))
}
