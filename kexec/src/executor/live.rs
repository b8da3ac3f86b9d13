//! Who is still here: the count that a close waits for.
#![forbid(unsafe_code)]

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::atomics::{AtomicU32, const_fn};

/// No more tasks are let in.
const CLOSING: u32 = 1 << 31;

/// How many tasks hold a slot: those that have not ended, and those whose output nobody has taken.
#[derive(Debug)]
pub(crate) struct Live(AtomicU32);

impl Live {
    const_fn! {
        pub(crate) fn new() -> Self {
            Self(AtomicU32::new(0))
        }
    }

    /// One more; false if the executor is closing.
    ///
    /// Relaxed: while the new one is counted, nobody can find the count to be over.
    #[inline]
    pub(crate) fn enter(&self) -> bool {
        let mut seen = self.0.load(Relaxed);
        while seen & CLOSING == 0 {
            match self.0.compare_exchange_weak(seen, seen.wrapping_add(1), Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// One less; true if that was the last one of a closing executor.
    ///
    /// Release: what was done with the slot comes before the close that this may complete.
    #[inline]
    pub(crate) fn leave(&self) -> bool {
        self.0.fetch_sub(1, Release) == CLOSING | 1
    }

    /// Lets nobody in any more.
    pub(crate) fn close(&self) {
        self.0.fetch_or(CLOSING, Relaxed);
    }

    #[inline]
    pub(crate) fn is_closing(&self) -> bool {
        self.0.load(Relaxed) & CLOSING != 0
    }

    /// Whether the executor is closing and nobody is left.
    ///
    /// Acquire: whoever is told so sees what those who left have done.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.0.load(Acquire) == CLOSING
    }

    /// Tasks that hold a slot.
    ///
    /// Acquire: as for the end.
    pub(crate) fn count(&self) -> u32 {
        self.0.load(Acquire) & !CLOSING
    }
}
