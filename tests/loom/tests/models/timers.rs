//! A timer is not lost between the run that arms the platform and the alarm, and belongs to one CPU at a time.

use core::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use crate::support::{executor, model, pool, settle};
use kexec_loom::time::{Sleep, sleep};
use loom::{
    sync::{Arc, Mutex},
    thread,
};

const NAP: Duration = Duration::from_nanos(10);

/// The alarm goes off at any moment after it was armed, and another CPU answers it, while the run that armed it is
/// about to park: whether it finds that run or not, somebody comes for the timer, or is asked to.
#[test]
fn an_alarm_against_the_park() {
    model(|| {
        let (executor, pool) = (executor(64), pool::<1>());
        executor.spawn_with(*pool, || sleep(NAP)).expect("a slot is free").detach();
        let target = *executor;
        let other = thread::spawn(move || {
            let bell = target.platform();
            if bell.goes_off() {
                bell.set_time(100);
                target.try_run(&mut ());
            }
        });
        settle(*executor);
        other.join().unwrap();
        settle(*executor);
        if executor.live() != 0 {
            let bell = executor.platform();
            assert!(bell.goes_off(), "nobody comes for the timer");
            bell.set_time(200);
            executor.try_run(&mut ());
        }
        assert_eq!(executor.live(), 0);
    });
}

/// An alarm that goes off before its time finds the run at work: the run must arm again.
#[test]
fn an_early_alarm_against_the_park() {
    model(|| {
        let (executor, pool) = (executor(64), pool::<1>());
        executor.spawn_with(*pool, || sleep(NAP)).expect("a slot is free").detach();
        let target = *executor;
        let other = thread::spawn(move || {
            if target.platform().goes_off() {
                target.try_run(&mut ());
            }
        });
        settle(*executor);
        other.join().unwrap();
        settle(*executor);
        let bell = executor.platform();
        assert!(bell.goes_off(), "nothing is armed for the timer");
        bell.set_time(100);
        executor.try_run(&mut ());
        assert_eq!(executor.live(), 0);
    });
}

/// A sleep that its task has given away is dropped, and its memory given back, while a run comes for its timer.
#[test]
fn a_drop_against_the_run() {
    model(|| {
        let (executor, pool) = (executor(64), pool::<2>());
        let hands = Arc::new(Mutex::new(None::<Pin<Box<Sleep>>>));
        let into = hands.clone();
        let begins = move || {
            let mut sleeps = Some(Box::pin(sleep(NAP)));
            poll_fn(move |cx| {
                let mut sleep = sleeps.take().expect("it is polled once");
                assert!(sleep.as_mut().poll(cx).is_pending());
                *into.lock().unwrap() = Some(sleep);
                Poll::Ready(())
            })
        };
        executor.spawn_with(*pool, begins).expect("a slot is free").detach();
        executor.spawn_with(*pool, || sleep(NAP)).expect("a slot is free").detach();
        settle(*executor);
        let sleep = hands.lock().unwrap().take();
        let other = thread::spawn(move || drop(sleep));
        executor.platform().set_time(100);
        executor.try_run(&mut ());
        other.join().unwrap();
        settle(*executor);
        assert_eq!(executor.live(), 0, "the other timer was lost");
    });
}
