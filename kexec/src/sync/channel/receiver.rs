//! The end of a channel that takes the values out.
#![expect(unsafe_code, reason = "the receiver empties the slots, one after the other")]

use core::{
    fmt,
    future::Future,
    pin::Pin,
    sync::atomic::Ordering::Release,
    task::{Context, Poll},
};

use futures_util::Stream;

use super::{CLOSED, Channel, FREE, RECEIVER, free, slot::Slot};
use crate::task_table::{Kind, Leaf};

static RECEIVE: Kind = Kind::new("channel receive");

/// The receiving end of a [`Channel`], and a [`Stream`] of what is sent.
///
/// Dropping it closes the channel, and drops the values that nobody has received. It may be dropped at any level at
/// which they may be.
///
/// As a stream it is cancel-safe, too: a wait for the next item *loses nothing*. The channel has the waker of the last
/// poll until the receiver is dropped, or one of its [`recv`](Self::recv)s.
pub struct Receiver<'a, T, const N: usize> {
    channel: &'a Channel<T, N>,
    /// The slot that is next.
    head: usize,
    /// That slot says that it waits.
    waits: bool,
    /// Where the channel was claimed, for a stream has no other place.
    leaf: Leaf,
}

/// Why nothing was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// Nothing is there now.
    Empty,
    /// Nothing will ever be there: the channel is closed, or all senders are gone, and it has been drained.
    Closed,
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the channel is empty; wait for a value with `recv`",
            Self::Closed => "the channel is drained, and nobody can send any more; drop the receiver",
        })
    }
}

impl core::error::Error for TryRecvError {}

impl<'a, T, const N: usize> Receiver<'a, T, N> {
    /// The one receiver of a channel that has just been claimed.
    #[track_caller]
    pub(super) fn new(channel: &'a Channel<T, N>) -> Self {
        Self { channel, head: 0, waits: false, leaf: Leaf::new(&RECEIVE) }
    }

    /// Waits for a value. None when nothing will ever come: the channel is [closed](Self::close), or all senders are
    /// gone, and all that was sent has been received. To be polled up to `DISPATCH_LEVEL`.
    ///
    /// **Cancel-safe:** loses nothing. A value is taken by the poll that returns it.
    #[track_caller]
    pub fn recv(&mut self) -> Receiving<'_, 'a, T, N> {
        Receiving { receiver: self, leaf: Leaf::new(&RECEIVE) }
    }

    /// Takes a value that is there. Callable at any level.
    ///
    /// # Errors
    ///
    /// See [`TryRecvError`].
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        // SAFETY: this is the receiver, and the slot can be reserved when it is counted as free.
        if let Some(value) = unsafe { self.next().empty() } {
            self.head = Channel::<T, N>::after(self.head);
            self.waits = false;
            self.channel.waiters.add(FREE);
            return Ok(value);
        }
        // Nothing is reserved once it is closed; so nothing more will be filled when all are free.
        let word = self.channel.waiters.word();
        let over = word & CLOSED != 0 && free(word) == N as u64;
        Err(if over { TryRecvError::Closed } else { TryRecvError::Empty })
    }

    /// Lets nobody send any more; who waits to send gets its value back. What has been sent can still be received.
    /// Callable at any level.
    pub fn close(&mut self) {
        self.channel.waiters.set(CLOSED);
    }

    /// The slot that is next.
    fn next(&self) -> &Slot<T> {
        // SAFETY: the slots are counted round.
        unsafe { self.channel.slot(self.head) }
    }

    fn poll(&mut self, cx: &Context<'_>, leaf: Leaf) -> Poll<Option<T>> {
        let received = self.look();
        if received.is_ready() {
            return received;
        }
        self.channel.receiver.name_alone(cx.waker());
        self.waits = true;
        self.next().wait();
        // What came before that has woken nobody: a value, or the last sender's leave.
        let received = self.look();
        if received.is_pending() {
            leaf.park(cx);
        }
        received
    }

    fn look(&mut self) -> Poll<Option<T>> {
        match self.try_recv() {
            Ok(value) => Poll::Ready(Some(value)),
            Err(TryRecvError::Closed) => Poll::Ready(None),
            Err(TryRecvError::Empty) => Poll::Pending,
        }
    }

    /// Leaves no waker behind: its task may be gone when somebody sends.
    fn stop_waiting(&mut self) {
        if core::mem::take(&mut self.waits) {
            self.next().unwait();
        }
        drop(self.channel.receiver.forget_other());
    }
}

impl<T, const N: usize> Stream for Receiver<'_, T, N> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let this = self.get_mut();
        this.poll(cx, this.leaf)
    }
}

impl<T, const N: usize> Drop for Receiver<'_, T, N> {
    /// Release: whoever claims the channel again finds it as this has left it.
    fn drop(&mut self) {
        self.stop_waiting();
        self.close();
        for slot in &self.channel.slots {
            // SAFETY: this is the receiver, and a closed channel's slots are not reserved any more.
            drop(unsafe { slot.abandon() });
        }
        self.channel.ends.fetch_and(!RECEIVER, Release);
    }
}

impl<T, const N: usize> fmt::Debug for Receiver<'_, T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("channel", self.channel).finish_non_exhaustive()
    }
}

/// The future of [`Receiver::recv`].
#[must_use = "futures do nothing unless polled"]
pub struct Receiving<'r, 'a, T, const N: usize> {
    receiver: &'r mut Receiver<'a, T, N>,
    leaf: Leaf,
}

impl<T, const N: usize> Future for Receiving<'_, '_, T, N> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let this = self.get_mut();
        this.receiver.poll(cx, this.leaf)
    }
}

impl<T, const N: usize> Drop for Receiving<'_, '_, T, N> {
    fn drop(&mut self) {
        self.receiver.stop_waiting();
    }
}

impl<T, const N: usize> fmt::Debug for Receiving<'_, '_, T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiving").field("receiver", &self.receiver).finish_non_exhaustive()
    }
}
