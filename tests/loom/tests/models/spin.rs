//! A public spin lock: one holder at a time, who sees what the last one did.
#![expect(unsafe_code, reason = "loom's threads have no levels, so that a token is what they say it is")]

use crate::support::{Leaked, Place, model};
use kexec_loom::{
    irql::{Dispatch, Level},
    sync::SpinLock,
};
use loom::thread;

/// Runs `f` with a token.
fn at_dispatch<R>(f: impl FnOnce(&Dispatch) -> R) -> R {
    // SAFETY: a thread of a model has its CPU for itself.
    f(&unsafe { Dispatch::assume() })
}

/// Two that wait for it.
#[test]
fn two_holders() {
    model(|| {
        let lock = Leaked::new(SpinLock::new(Place::new()));
        let target = *lock;
        let other = thread::spawn(move || at_dispatch(|at| target.lock(at).write()));
        at_dispatch(|at| lock.lock(at).write());
        other.join().unwrap();
        assert_eq!(at_dispatch(|at| lock.lock(at).read()), 2);
    });
}

/// One that waits for it, and one that tries before it waits: it takes nothing from the other.
#[test]
fn one_that_tries() {
    model(|| {
        let lock = Leaked::new(SpinLock::new(Place::new()));
        let target = *lock;
        let other = thread::spawn(move || at_dispatch(|at| target.lock(at).write()));
        let had = at_dispatch(|at| lock.try_lock(at).map(|place| place.write()).is_some());
        at_dispatch(|at| lock.lock(at).write());
        other.join().unwrap();
        assert_eq!(at_dispatch(|at| lock.lock(at).read()), 2 + u32::from(had));
    });
}
