//! A watch: the last value is never missed.
#![expect(unsafe_code, reason = "loom's threads have no levels, so that a token is what they say it is")]

use core::{
    future::Future,
    pin::pin,
    task::{Context, Waker},
};

use crate::support::{Leaked, Place, executor, model, pool, settle};
use kexec_loom::{
    irql::{Dispatch, Level},
    sync::Watch,
};
use loom::{future::block_on, thread};

/// Runs `f` with a token.
fn at_dispatch<R>(f: impl FnOnce(&Dispatch) -> R) -> R {
    // SAFETY: a thread of a model has its CPU for itself.
    f(&unsafe { Dispatch::assume() })
}

/// Whoever waits is woken, and sees all of the new value.
#[test]
fn send_against_changed() {
    model(|| {
        let watch = Leaked::new(Watch::new(None::<Place>));
        let mut watcher = watch.watcher();
        let target = *watch;
        let sending = thread::spawn(move || {
            let place = Place::new();
            place.write();
            at_dispatch(|at| target.send(at, Some(place)));
        });
        block_on(watcher.changed());
        assert_eq!(at_dispatch(|at| watcher.get(at)).map(|place| place.read()), Some(1));
        assert!(!watcher.has_changed(), "it is told of no value twice");
        sending.join().unwrap();
    });
}

/// Two senders at once: the watcher ends with the value that stands.
#[test]
fn two_senders() {
    model(|| {
        let watch = Leaked::new(Watch::new(0));
        let mut watcher = watch.watcher();
        let target = *watch;
        let sending = thread::spawn(move || at_dispatch(|at| target.send(at, 1)));
        let mut cx = Context::from_waker(Waker::noop());
        let waits = pin!(watcher.changed()).poll(&mut cx).is_pending();
        let before = at_dispatch(|at| watcher.get(at));
        at_dispatch(|at| watch.send(at, 2));
        sending.join().unwrap();
        assert!(waits || before == 1, "there was nothing else to be told of");
        assert!(watcher.has_changed(), "one of them came later than what it has seen");
        let last = at_dispatch(|at| watch.get(at));
        assert_eq!(at_dispatch(|at| watcher.get(at)), last);
        assert!(!watcher.has_changed());
    });
}

/// Two tasks wait: one lets the other go.
#[test]
fn send_against_two_tasks() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<2>());
        let watch = Leaked::new(Watch::new(0));
        let handles = [(); 2].map(|()| {
            let mut watcher = watch.watcher();
            let task = move || async move { watcher.changed().await };
            executor.spawn_with(*pool, task).expect("a slot is free")
        });
        let target = *watch;
        let sending = thread::spawn(move || at_dispatch(|at| target.send(at, 1)));
        settle(*executor);
        sending.join().unwrap();
        settle(*executor);
        for handle in handles {
            assert_eq!(handle.try_take().expect("a wake was lost"), Ok(()));
        }
    });
}
