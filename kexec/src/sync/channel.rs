//! A bounded channel: many senders, one receiver, no allocation.
//!
//! ```text
//!    send: 1. reserve: take a free slot from the word, its number with it     word: free, next, CLOSED
//!          2. fill it; if the receiver waits for this one, wake it            slots: EMPTY, AWAITED, FULL
//!    recv: 1. empty the next slot
//!          2. count it as free; if somebody waits to send, wake the first
//! ```
//!
//! - A send is two read-modify-writes, and a receive is one. None of them waits for another: a sender that is interrupted
//!   between its two steps holds up the values of those that have reserved after it, which are received when it has gone
//!   on; but nobody spins.
//! - The slots are reserved in turn, and so the order of each sender is kept, and the order of different ones is that of
//!   their reservations.
//! - The receiver waits for one slot, the next, and says so in that slot: filling it is what wakes.
//!
//! In reading order: this file, the channel and its senders; `slot`, the hand-over; `receiver`.
#![expect(unsafe_code, reason = "who has reserved a slot fills it")]

use core::{
    cell, fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
    task::{Context, Poll, ready},
};

use pin_project::pin_project;

pub use self::receiver::{Receiver, Receiving, TryRecvError};
use self::slot::{Filled, Slot};
use super::waiters::{Leader, Source, Turn, Wait, Waiters};
use crate::{
    atomics::{AtomicU64, const_fn},
    task_table::{Kind, Leaf},
};

mod receiver;
mod slot;

/// In the word: nobody sends any more.
const CLOSED: u64 = 1;
/// One in the number of the slot that is reserved next.
const NEXT: u64 = CLOSED << 1;
/// One free slot. The two numbers have 30 bits each.
const FREE: u64 = 1 << 32;

/// In the ends: the receiver exists.
const RECEIVER: u64 = 1;
/// Senders exist, or the last one has not quite left.
const SENDERS: u64 = 1 << 1;
/// One sender.
const SENDER: u64 = 1 << 2;
/// A sender and the receiver.
const BOTH: u64 = RECEIVER | SENDERS | SENDER;

static SEND: Kind = Kind::new("channel send");

/// A queue of at most `N` values, from many senders to one receiver: in a `static`, a device's memory, or a task.
///
/// A channel can be claimed again when all its ends are gone. `N` is between 1 and 2^30 - 1; others do not compile:
///
/// ```compile_fail
/// use kexec::sync::channel::Channel;
///
/// static NO_ROOM: Channel<u32, 0> = Channel::new();
/// ```
///
/// ```
/// use kexec::sync::channel::Channel;
///
/// static EVENTS: Channel<u32, 8> = Channel::new();
///
/// # pollster::block_on(async {
/// let (sender, mut receiver) = EVENTS.claim().expect("it has no ends");
/// // In an interrupt, and anywhere else:
/// sender.try_send(1).expect("there is room");
/// // In a task, which waits if there is none:
/// sender.send(2).await.expect("the receiver is there");
/// assert_eq!(receiver.recv().await, Some(1));
/// drop(sender);
/// assert_eq!(receiver.recv().await, Some(2));
/// assert_eq!(receiver.recv().await, None);
/// # });
/// ```
pub struct Channel<T, const N: usize> {
    /// The free slots, for which senders wait.
    waiters: Waiters<()>,
    /// The receiver, if it waits.
    receiver: Leader,
    ends: AtomicU64,
    slots: [Slot<T>; N],
    /// A slot is shared whatever it holds; a channel is not.
    _value: PhantomData<cell::UnsafeCell<T>>,
}

// SAFETY: a value is moved in by one thread and out by one, and nobody sees it in between.
unsafe impl<T: Send, const N: usize> Sync for Channel<T, N> {}

/// Nobody receives any more. The value comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Closed<T>(pub T);

impl<T> fmt::Display for Closed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the channel is closed; drop the sender")
    }
}

impl<T> fmt::Debug for Closed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closed")
    }
}

impl<T> core::error::Error for Closed<T> {}

/// Why a value was not sent at once. It comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// No slot is free, or those that are will go to those who wait.
    Full(T),
    /// Nobody receives any more.
    Closed(T),
}

impl<T> TrySendError<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(value) | Self::Closed(value) => value,
        }
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => {
                "the channel is full; wait for a free slot with `send`, or make the channel larger"
            }
            Self::Closed(_) => "the channel is closed; drop the sender",
        })
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full",
            Self::Closed(_) => "Closed",
        })
    }
}

impl<T> core::error::Error for TrySendError<T> {}

/// How many slots are free.
const fn free(word: u64) -> u64 {
    word / FREE
}

/// The number of the slot that is reserved next.
const fn next(word: u64) -> usize {
    (word % FREE / NEXT) as usize
}

impl<T, const N: usize> Channel<T, N> {
    /// The word of a channel with both its ends new.
    const OPEN: u64 = {
        assert!(0 < N && N < 1 << 30, "a channel has at least one slot, and fewer than 2^30");
        FREE.wrapping_mul(N as u64)
    };

    const_fn! {
        /// A channel without ends.
        #[must_use]
        pub fn new() -> Self {
            Self {
                waiters: Waiters::new(Self::OPEN),
                receiver: Leader::new(),
                ends: AtomicU64::new(0),
                #[cfg(not(loom))]
                slots: [const { Slot::new() }; N],
                #[cfg(loom)]
                slots: core::array::from_fn(|_| Slot::new()),
                _value: PhantomData,
            }
        }
    }

    /// Makes the two ends, unless some of the last ones are still there. Callable at any level.
    ///
    /// Acquire: the channel was theirs.
    #[track_caller]
    pub fn claim(&self) -> Option<(Sender<'_, T, N>, Receiver<'_, T, N>)> {
        self.ends.compare_exchange(0, BOTH, Acquire, Relaxed).ok()?;
        for slot in &self.slots {
            slot.reopen();
        }
        self.waiters.update(|_| Some(Self::OPEN));
        Some(self.both())
    }

    /// Makes the two ends of a channel that nobody else has; ends that were forgotten stay so, with their values dropped.
    #[track_caller]
    pub fn split(&mut self) -> (Sender<'_, T, N>, Receiver<'_, T, N>) {
        // One by one: all of them might be too much for a kernel's stack.
        for slot in &mut self.slots {
            *slot = Slot::new();
        }
        self.waiters = Waiters::new(Self::OPEN);
        self.receiver = Leader::new();
        self.ends = AtomicU64::new(BOTH);
        self.both()
    }

    #[track_caller]
    fn both(&self) -> (Sender<'_, T, N>, Receiver<'_, T, N>) {
        (Sender { channel: self }, Receiver::new(self))
    }

    /// The slot of that number.
    ///
    /// # Safety
    ///
    /// There is one.
    unsafe fn slot(&self, number: usize) -> &Slot<T> {
        // SAFETY: passed on.
        unsafe { self.slots.get_unchecked(number) }
    }

    /// The number of the slot after this one.
    const fn after(number: usize) -> usize {
        let after = number.wrapping_add(1);
        if after == N { 0 } else { after }
    }
}

impl<T, const N: usize> Source for Channel<T, N> {
    type Ask = ();
    /// The number of a slot, reserved; None if the channel is closed.
    type Got<'a>
        = Option<usize>
    where
        T: 'a;

    fn waiters(&self) -> &Waiters<()> {
        &self.waiters
    }

    fn grant(&self, word: u64, (): ()) -> Option<u64> {
        if word & CLOSED != 0 {
            return Some(word);
        }
        let (free, next) = (free(word).checked_sub(1)?, Self::after(next(word)) as u64);
        Some(free.wrapping_mul(FREE) | next.wrapping_mul(NEXT))
    }

    fn got(&self, word: u64, (): ()) -> Option<usize> {
        (word & CLOSED == 0).then_some(next(word))
    }
}

impl<T, const N: usize> Default for Channel<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize> fmt::Debug for Channel<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.waiters.word();
        f.debug_struct("Channel")
            .field("free", &free(word))
            .field("closed", &(word & CLOSED != 0))
            .finish_non_exhaustive()
    }
}

/// A sending end of a [`Channel`]. It is cloned and dropped at any level; the last one to go ends the channel.
pub struct Sender<'a, T, const N: usize> {
    channel: &'a Channel<T, N>,
}

impl<T, const N: usize> Sender<'_, T, N> {
    /// Sends a value, when there is room for it and those who came before have sent theirs. To be polled up to
    /// `DISPATCH_LEVEL`. If nobody receives any more, the output is an error with the value.
    ///
    /// **Cancel-safe:** loses its place. The value is dropped with the future, or has been sent by the poll that says so.
    #[track_caller]
    pub fn send(&self, value: T) -> Sending<'_, T, N> {
        Sending {
            channel: self.channel,
            value: Some(value),
            room: Wait::new(self.channel, (), Leaf::new(&SEND)),
        }
    }

    /// Sends a value, if there is room and nobody waits for it. Callable at any level.
    ///
    /// # Errors
    ///
    /// See [`TrySendError`].
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        match self.channel.waiters.take(Turn::Newcomer, |word| self.channel.grant(word, ())) {
            None => Err(TrySendError::Full(value)),
            Some(word) => {
                let reserved = self.channel.got(word, ());
                self.channel.fill(reserved, value).map_err(|Closed(value)| TrySendError::Closed(value))
            }
        }
    }

    /// Whether nobody receives any more. Callable at any level.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.channel.waiters.word() & CLOSED != 0
    }
}

impl<T, const N: usize> Channel<T, N> {
    /// Fills the slot that the caller has reserved, unless the channel was closed instead.
    fn fill(&self, reserved: Option<usize>, value: T) -> Result<(), Closed<T>> {
        let Some(number) = reserved else { return Err(Closed(value)) };
        // SAFETY: the slots are counted round.
        let slot = unsafe { self.slot(number) };
        // SAFETY: the caller has reserved it.
        match unsafe { slot.fill(value) } {
            Filled::Unseen => Ok(()),
            Filled::Awaited => {
                self.receiver.call();
                Ok(())
            }
            Filled::Gone(value) => Err(Closed(value)),
        }
    }
}

impl<T, const N: usize> Clone for Sender<'_, T, N> {
    fn clone(&self) -> Self {
        // Relaxed: while there is one sender, another makes no difference.
        self.channel.ends.fetch_add(SENDER, Relaxed);
        Self { channel: self.channel }
    }
}

impl<T, const N: usize> Drop for Sender<'_, T, N> {
    /// Release, both: whoever claims the channel finds it as the senders have left it.
    fn drop(&mut self) {
        let channel = self.channel;
        if channel.ends.fetch_sub(SENDER, Release) / SENDER != 1 {
            return;
        }
        // Closed before it is left: another may claim it then.
        let word = channel.waiters.set(CLOSED);
        // SAFETY: the slots are counted round.
        if unsafe { channel.slot(next(word)) }.knock() {
            channel.receiver.call();
        }
        channel.ends.fetch_and(!SENDERS, Release);
    }
}

impl<T, const N: usize> fmt::Debug for Sender<'_, T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("channel", self.channel).finish()
    }
}

/// The future of [`Sender::send`].
#[pin_project]
#[must_use = "nothing is sent before the future is ready"]
pub struct Sending<'a, T, const N: usize> {
    channel: &'a Channel<T, N>,
    value: Option<T>,
    #[pin]
    room: Wait<'a, Channel<T, N>>,
}

impl<T, const N: usize> Future for Sending<'_, T, N> {
    type Output = Result<(), Closed<T>>;

    /// Polled again after it was ready, it is so again.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.value.is_none() {
            return Poll::Ready(Ok(()));
        }
        let reserved = ready!(this.room.poll(cx));
        Poll::Ready(this.value.take().map_or(Ok(()), |value| this.channel.fill(reserved, value)))
    }
}

impl<T, const N: usize> fmt::Debug for Sending<'_, T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").field("channel", self.channel).field("sent", &self.value.is_none()).finish()
    }
}
