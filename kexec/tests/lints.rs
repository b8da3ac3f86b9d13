//! Guards and tokens may not live across an await, and clippy says so.
//!
//! Each function below does it on purpose and *expects* the lint: should clippy cease to notice, because a type was
//! renamed or `clippy.toml` no longer names it, the unfulfilled expectation fails the clippy level.

use std::task::{Context, Poll, Waker};

use kexec::{
    irql::{Dispatch, Passive},
    platform::{polling::Polling, thread::passive},
    span,
    sync::SpinLock,
    yield_now,
};

#[expect(clippy::await_holding_invalid_type, reason = "the CPU would stay raised while the task is parked")]
async fn holds_a_guard(at: &mut Passive) {
    let raised = at.raise(&Polling::new());
    yield_now().await;
    drop(raised);
}

#[expect(clippy::await_holding_invalid_type, reason = "a task borrows its token, and owns none")]
async fn holds_a_token(token: Dispatch) {
    yield_now().await;
    use_it(&token);
}

#[expect(clippy::await_holding_invalid_type, reason = "other CPUs would spin while the task is parked")]
async fn holds_a_lock(at: &Dispatch, lock: &SpinLock<u32>) {
    let locked = lock.lock(at);
    yield_now().await;
    drop(locked);
}

#[expect(clippy::await_holding_invalid_type, reason = "another task goes on in the middle of the stretch")]
async fn holds_a_span() {
    let span = span!("of a function").enter();
    yield_now().await;
    drop(span);
}

fn use_it(_: &Dispatch) {}

/// What a task is meant to do, about which clippy is silent: borrow the token, and raise between awaits.
async fn holds_nothing(at: &mut Passive) -> u32 {
    let before = at.raised(&Polling::new(), |_: &mut Dispatch| 1);
    yield_now().await;
    before + at.raised(&Polling::new(), |_: &mut Dispatch| 2)
}

#[test]
fn raising_between_awaits() {
    passive(|at| {
        let mut task = std::pin::pin!(holds_nothing(at));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(task.as_mut().poll(&mut cx).is_pending());
        assert_eq!(task.as_mut().poll(&mut cx), Poll::Ready(3));
    });
    // The others are here to be looked at, not to be run.
    let _ = (holds_a_guard, holds_a_token, holds_a_lock, holds_a_span);
}
