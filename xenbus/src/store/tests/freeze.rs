//! A CPU that stops for ever between two of its instructions: at any store to the framing, at any access to the page.
#![forbid(unsafe_code)]

use std::{
    boxed::Box,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread_local,
};

thread_local! {
    /// Steps that are still made.
    static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
}

struct Frozen;

/// Here it may stop.
pub(in crate::store) fn step() {
    let left = LEFT.get();
    if left == 0 {
        // No message is printed: it is no mistake.
        resume_unwind(Box::new(Frozen));
    }
    LEFT.set(left - 1);
}

/// Lets code run for so many steps; how many it has made, and whether that was all of it.
pub(super) fn for_steps(steps: u64, code: impl FnOnce()) -> (u64, bool) {
    LEFT.set(steps);
    let outcome = catch_unwind(AssertUnwindSafe(code));
    let made = steps - LEFT.replace(u64::MAX);
    match outcome {
        Ok(()) => (made, true),
        Err(stopped) if stopped.is::<Frozen>() => (made, false),
        Err(panic) => resume_unwind(panic),
    }
}
