//! A slot of a channel's ring, with the word that says whose it is.
//!
//! Which slot's turn it is, is said elsewhere: a sender has reserved the one that it fills, and the receiver knows the
//! one that it empties next.
#![expect(unsafe_code, reason = "a slot's value belongs to one side after the other")]

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::atomics::{AtomicU32, Owned, const_fn};

/// Nothing in it: it is its next sender's, from the reservation on.
const EMPTY: u32 = 0;
/// The receiver waits for this slot, and has left its waker.
const AWAITED: u32 = 1;
/// The value is in it, and the receiver's.
const FULL: u32 = 1 << 1;
/// There is no receiver any more.
const GONE: u32 = 1 << 2;

/// A place for one value.
pub(super) struct Slot<T> {
    state: AtomicU32,
    value: Owned<Option<T>>,
}

/// What a sender found when it had filled a slot.
pub(super) enum Filled<T> {
    /// The receiver will come by.
    Unseen,
    /// The receiver waits for it.
    Awaited,
    /// The receiver is gone. The value comes back.
    Gone(T),
}

impl<T> Slot<T> {
    const_fn! {
        pub(super) fn new() -> Self {
            Self { state: AtomicU32::new(EMPTY), value: Owned::new(None) }
        }
    }

    /// Fills the slot.
    ///
    /// Release, for the value; Acquire, for the receiver's waker.
    ///
    /// # Safety
    ///
    /// The caller has reserved the slot, and does this once.
    pub(super) unsafe fn fill(&self, value: T) -> Filled<T> {
        // SAFETY: it is the caller's until it is full.
        unsafe { self.value.with(|cell| *cell = Some(value)) };
        let before = self.state.swap(FULL, AcqRel);
        if before & GONE != 0 {
            // SAFETY: nobody comes to empty it.
            return unsafe { self.value.with(Option::take) }.map_or(Filled::Unseen, Filled::Gone);
        }
        if before & AWAITED != 0 { Filled::Awaited } else { Filled::Unseen }
    }

    /// Empties the slot, if it is full.
    ///
    /// Acquire, for the value. Relaxed: it is the reservation that orders the next sender after this.
    ///
    /// # Safety
    ///
    /// The caller is the receiver, this slot is next, and nobody can reserve it before the caller says so.
    pub(super) unsafe fn empty(&self) -> Option<T> {
        if self.state.load(Acquire) & FULL == 0 {
            return None;
        }
        // SAFETY: it is full, and so the receiver's.
        let value = unsafe { self.value.with(Option::take) };
        self.state.store(EMPTY, Relaxed);
        value
    }

    /// Says that the receiver has left its waker and waits for this slot. Whoever fills it wakes it, unless it is full
    /// already.
    ///
    /// Release, for the waker. The next look acquires what was done before that, or before a [`knock`](Self::knock).
    pub(super) fn wait(&self) {
        self.state.fetch_or(AWAITED, Release);
    }

    /// Says that the receiver does not wait any more: its task may be gone when somebody fills the slot.
    ///
    /// Relaxed: nothing was done.
    pub(super) fn unwait(&self) {
        self.state.fetch_and(!AWAITED, Relaxed);
    }

    /// Whether the receiver waits for this slot. If not, and it does later, it sees what the caller has done before.
    ///
    /// Acquire and Release, for that.
    pub(super) fn knock(&self) -> bool {
        self.state.fetch_or(EMPTY, AcqRel) & AWAITED != 0
    }

    /// There is no receiver any more. Returns the value that was waiting for it.
    ///
    /// Acquire, for the value.
    ///
    /// # Safety
    ///
    /// The caller is the receiver, and nobody can reserve the slot any more.
    pub(super) unsafe fn abandon(&self) -> Option<T> {
        if self.state.swap(GONE, Acquire) & FULL == 0 {
            return None;
        }
        // SAFETY: it was full, and whoever fills it now finds it abandoned.
        unsafe { self.value.with(Option::take) }
    }

    /// Makes an abandoned slot an empty one.
    ///
    /// Relaxed: nobody knows of the slot yet.
    pub(super) fn reopen(&self) {
        self.state.store(EMPTY, Relaxed);
    }
}
