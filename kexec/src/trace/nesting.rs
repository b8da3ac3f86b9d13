//! Whether this code was called by a sink.
//!
//! A sink may call anything, and that may emit. A kernel has no thread-local to notice it by; but what a sink calls is on
//! the sink's stack, a little below the call of the sink, and nothing else is there.
#![forbid(unsafe_code)]

use core::{
    ptr,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// How far below the call of a sink code is taken to be called by it. A kernel's stacks are small, and next to each other
/// with a page between them; a host's are not.
const REACH: usize = if cfg!(feature = "std") { 64 << 10 } else { 4 << 10 };

/// How many calls of sinks there may be at a time. It is also how deep they can nest, were one to reach further down.
const CALLS: usize = 32;

/// The calls of sinks that are in progress, each by an address on its stack; zero if there are less.
#[derive(Debug)]
pub(super) struct Nesting([AtomicUsize; CALLS]);

/// A call of a sink.
pub(super) struct Inside<'n>(&'n AtomicUsize);

impl Nesting {
    #[cfg(any(test, not(loom)))]
    pub(super) const fn new() -> Self {
        Self([const { AtomicUsize::new(0) }; CALLS])
    }

    /// Begins a call of a sink, until the result is dropped. None inside of one, or when there are too many.
    pub(super) fn enter(&self) -> Option<Inside<'_>> {
        let mark = 0_u8;
        let here = ptr::from_ref(&mark).addr();
        let mut free = None;
        for call in &self.0 {
            let there = call.load(Relaxed);
            if there == 0 {
                free = free.or(Some(call));
            } else if there.wrapping_sub(here) < REACH {
                return None;
            }
        }
        let mine = |call: &&AtomicUsize| call.compare_exchange(0, here, Relaxed, Relaxed).is_ok();
        free.filter(mine).or_else(|| self.0.iter().find(mine)).map(Inside)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use super::*;

    /// What is below a call is inside of it; what comes after it, and other threads, are not.
    #[test]
    #[cfg_attr(miri, ignore = "an interpreter's stack has no order")]
    fn below_is_inside() {
        #[inline(never)]
        fn below(nesting: &Nesting) -> bool {
            nesting.enter().is_none()
        }
        let nesting = Nesting::new();
        for _ in 0..=CALLS {
            let inside = nesting.enter();
            assert!(inside.is_some() && below(&nesting));
        }
        let barrier = Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let inside = nesting.enter();
                    barrier.wait();
                    assert!(inside.is_some() && below(&nesting));
                    barrier.wait();
                });
            }
        });
    }

    /// More calls than there is room for are not let in, so that nothing can nest without end.
    #[test]
    fn there_are_not_more_calls_than_so_many() {
        let nesting = Nesting(core::array::from_fn(|n| AtomicUsize::new(n.saturating_add(1))));
        assert!(nesting.enter().is_none(), "the addresses are below any stack");
    }
}
