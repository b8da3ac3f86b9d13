//! A reply slot: one value, from one sender to one receiver.
//!
//! ```text
//!         claim                      send, or drop of the sender
//!     0 ---------> SENDER RECEIVER* -----------------------------> RECEIVER*
//!     ^                   |                                           |
//!     |                   | drop of the receiver                      |
//!     |                   v                                           |
//!     +--------------- SENDER            drop of the receiver         |
//!     +---------------------------------------------------------------+
//! ```
//!
//! `WAITING` goes with `RECEIVER` once that has left its waker: who sends then wakes it.
//!
//! The cell is the sender's while there is one, then the receiver's. A sender that finds the receiver gone takes its
//! value back before it lets go, so that the cell of a free slot is empty.
#![expect(unsafe_code, reason = "the value's cell belongs to one end after the other")]

use core::{
    cell, fmt,
    future::Future,
    marker::PhantomData,
    mem::ManuallyDrop,
    pin::Pin,
    sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release},
    task::{Context, Poll},
};

use super::waiters::Leader;
use crate::{
    atomics::{AtomicU32, Owned, const_fn},
    task_table::{Kind, Leaf},
};

/// The sender has neither sent nor been dropped.
const SENDER: u32 = 1;
/// The receiver exists.
const RECEIVER: u32 = 1 << 1;
/// It has left its waker.
const WAITING: u32 = 1 << 2;

static ONE_SHOT: Kind = Kind::new("one-shot");

/// A place for the answer to one request at a time: in a `static`, in a device's memory, or in a task.
///
/// ```
/// use kexec::sync::oneshot::OneShot;
///
/// // What a store's reply fills in, request after request.
/// static REPLY: OneShot<u32> = OneShot::new();
///
/// let (reply, answer) = REPLY.claim().expect("no request is under way");
/// assert!(REPLY.claim().is_none(), "now there is one");
/// reply.send(7).expect("someone waits");
/// assert_eq!(pollster::block_on(answer), Ok(7));
/// assert!(REPLY.claim().is_some());
/// ```
pub struct OneShot<T> {
    ends: AtomicU32,
    receiver: Leader,
    value: Owned<Option<T>>,
    /// `Owned` is shared whatever it holds; a slot is not.
    _value: PhantomData<cell::UnsafeCell<T>>,
}

// SAFETY: the value is moved in by one end and out by one end, by the protocol of `ends`; nobody else reaches it.
unsafe impl<T: Send> Sync for OneShot<T> {}

/// The sender was dropped without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the sender was dropped without a value; no answer will come to this request")
    }
}

impl core::error::Error for Closed {}

impl<T> OneShot<T> {
    const_fn! {
        /// A slot without ends.
        #[must_use]
        pub fn new() -> Self {
            Self {
                ends: AtomicU32::new(0),
                receiver: Leader::new(),
                value: Owned::new(None),
                _value: PhantomData,
            }
        }
    }

    /// Makes the two ends, unless the last two are still there. Callable at any level.
    ///
    /// Acquire: the cell was theirs.
    #[track_caller]
    pub fn claim(&self) -> Option<(Sender<'_, T>, Receiver<'_, T>)> {
        self.ends.compare_exchange(0, SENDER | RECEIVER, Acquire, Relaxed).ok()?;
        Some(self.both())
    }

    /// Makes the two ends of a slot that nobody else has; ends that were forgotten stay so, with their value dropped.
    #[track_caller]
    pub fn split(&mut self) -> (Sender<'_, T>, Receiver<'_, T>) {
        *self = Self { ends: AtomicU32::new(SENDER | RECEIVER), ..Self::new() };
        self.both()
    }

    #[track_caller]
    fn both(&self) -> (Sender<'_, T>, Receiver<'_, T>) {
        (Sender { slot: self }, Receiver { slot: self, waiting: 0, leaf: Leaf::new(&ONE_SHOT) })
    }

    /// Wakes the receiver, if it waited when the sender left.
    fn wake(&self, before: u32) {
        if before & WAITING != 0 {
            self.receiver.call();
        }
    }
}

impl<T> Default for OneShot<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for OneShot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneShot")
            .field("ends", &(self.ends.load(Relaxed) & (SENDER | RECEIVER)).count_ones())
            .finish_non_exhaustive()
    }
}

/// The end that gives the value. Dropping it says that there will be none. Both may be done at any level.
pub struct Sender<'a, T> {
    slot: &'a OneShot<T>,
}

impl<T> Sender<'_, T> {
    /// Gives the value to the receiver, and wakes it. Callable at any level.
    ///
    /// Release, for the value; Acquire, for the receiver's waker.
    ///
    /// # Errors
    ///
    /// The receiver is gone: here is the value.
    pub fn send(self, value: T) -> Result<(), T> {
        let slot = self.slot;
        // SAFETY: the cell is the sender's.
        unsafe { slot.value.with(|cell| *cell = Some(value)) };
        let mut seen = slot.ends.load(Relaxed);
        while seen & RECEIVER != 0 {
            match slot.ends.compare_exchange_weak(seen, seen & !SENDER, AcqRel, Relaxed) {
                Ok(before) => {
                    // It has left.
                    let _sender = ManuallyDrop::new(self);
                    slot.wake(before);
                    return Ok(());
                }
                Err(now) => seen = now,
            }
        }
        // SAFETY: without a receiver, the cell is still the sender's.
        unsafe { slot.value.with(Option::take) }.map_or(Ok(()), Err)
    }

    /// Whether the receiver is gone, so that an answer need not be made. Callable at any level.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.slot.ends.load(Relaxed) & RECEIVER == 0
    }
}

impl<T> Drop for Sender<'_, T> {
    /// Release: if the receiver has gone, the slot is free, and the cell the next sender's. Acquire, as for a value.
    fn drop(&mut self) {
        self.slot.wake(self.slot.ends.fetch_and(!SENDER, AcqRel));
    }
}

impl<T> fmt::Debug for Sender<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("closed", &self.is_closed()).finish()
    }
}

/// The end that waits for the value. Dropping it gives the value back to the sender, or drops it.
///
/// **Cancel-safe:** loses nothing. `(&mut receiver).await` may be dropped and repeated. The slot has the waker of the last
/// poll until the receiver is dropped.
#[must_use = "the value is dropped with the receiver"]
pub struct Receiver<'a, T> {
    slot: &'a OneShot<T>,
    /// `WAITING`, once that is set.
    waiting: u32,
    leaf: Leaf,
}

impl<T> Receiver<'_, T> {
    /// Takes the outcome if there is one, otherwise gives the receiver back. Callable at any level.
    ///
    /// # Errors
    ///
    /// The sender has not decided: here is the receiver.
    pub fn try_take(mut self) -> Result<Result<T, Closed>, Self> {
        self.outcome().ok_or(self)
    }

    /// What the sender left, once it has.
    ///
    /// Acquire, for the value.
    fn outcome(&mut self) -> Option<Result<T, Closed>> {
        if self.slot.ends.load(Acquire) & SENDER != 0 {
            return None;
        }
        // SAFETY: the sender has left the cell to the receiver.
        Some(unsafe { self.slot.value.with(Option::take) }.ok_or(Closed))
    }
}

impl<T> Future for Receiver<'_, T> {
    type Output = Result<T, Closed>;

    /// Polled again after it was ready, it says [`Closed`]: there is nothing left to give.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(outcome) = this.outcome() {
            return Poll::Ready(outcome);
        }
        this.slot.receiver.name_alone(cx.waker());
        this.waiting = WAITING;
        // Release, for the name.
        if this.slot.ends.fetch_or(WAITING, Release) & SENDER == 0
            && let Some(outcome) = this.outcome()
        {
            return Poll::Ready(outcome);
        }
        this.leaf.park(cx);
        Poll::Pending
    }
}

impl<T> Drop for Receiver<'_, T> {
    /// Release: the next sender finds the cell empty.
    fn drop(&mut self) {
        let Self { slot, waiting, .. } = *self;
        drop(slot.receiver.forget_other());
        // Relaxed: the receiver has not touched the cell.
        if slot.ends.compare_exchange(SENDER | RECEIVER | waiting, SENDER, Relaxed, Relaxed).is_err() {
            drop(self.outcome());
            slot.ends.store(0, Release);
        }
    }
}

impl<T> fmt::Debug for Receiver<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sent = self.slot.ends.load(Relaxed) & SENDER == 0;
        f.debug_struct("Receiver").field("finished", &sent).finish()
    }
}
