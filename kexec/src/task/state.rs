//! The state of a task: one word, and every move that it can make.
//!
//! ```text
//!              (1) claim                            (3) begin
//!     FREE ----------------> LIVE QUEUED ------------------------------> LIVE, being polled
//!      ^                          ^                                         |        |
//!      |                          |  (2) wake, (4) abort: + CANCEL          | pending|
//!      |                          +------------------------ LIVE, parked <--+        |
//!      |                                                                             |
//!      |        without a handle                                  ready or cancelled |
//!      +--------------------------- (6) leave ---------------------------------------+
//!      |                                                                             |
//!      |        with a handle                                                (5) end |
//!      +------- (6) leave, by the later of the two ------- LIVE HANDLE DONE <--------+
//!                                                          (8) takes VALUE
//! ```
//!
//! - `QUEUED` is apart from the rest: it says that the header is in its executor's queue, or in the hands
//!   of whoever is about to put it there. A wake may set it at any time, on a free slot too; the run
//!   that then finds nothing to poll only clears it, and a tenant that moves in before takes the entry over
//!   (unless it is in another executor's queue: then it takes another slot). It is cleared *before* the poll,
//!   so that a wake during the poll is not lost.
//! - `LIVE` and `HANDLE` are two references to the slot: the executor's and the handle's. Who lets go last
//!   gives the slot back.
//! - `WAITING` says that the waker cell is full and belongs to whoever ends the task; while it is clear
//!   the cell is the handle's.
//! - The rest of the word is the generation, counted up by each claim.
#![forbid(unsafe_code)]

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::atomics::{AtomicU64, const_fn};

/// The future, or the closure that builds it, is in the slot; the executor has not let go of it.
const LIVE: u64 = 1;
/// In the queue, or about to be pushed by whoever set the bit.
const QUEUED: u64 = 1 << 1;
/// To be dropped instead of polled.
const CANCEL: u64 = 1 << 2;
/// The future is gone; the outcome stands.
const DONE: u64 = 1 << 3;
/// The outcome is a value, and it is in the slot.
const VALUE: u64 = 1 << 4;
/// A join handle exists.
const HANDLE: u64 = 1 << 5;
/// The joiner's waker is in its cell.
const WAITING: u64 = 1 << 6;
/// The task is in the control lane.
const CONTROL: u64 = 1 << 7;
/// The lowest bit of the generation.
const GENERATION: u64 = 1 << 8;

/// The state word.
#[derive(Debug)]
pub(crate) struct State(AtomicU64);

/// The state as it was at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Snapshot(u64);

/// What became of the cancellation of a scope's member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancel {
    /// The task will be dropped at its next turn. It is in the queue, or will find its scope closing when it begins.
    Marked,
    /// The same, and the caller must queue it.
    Push,
}

/// What became of an abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abort {
    /// The task has ended, or the slot has another tenant.
    Stale,
    /// The task will be dropped when the queue comes to it, where it already is.
    Marked,
    /// The same, and the caller must put it there.
    Push,
}

impl Snapshot {
    /// The state that somebody has written down as a number.
    #[cfg(feature = "table")]
    pub(crate) fn of_word(word: u64) -> Self {
        Self(word)
    }

    /// The number: part of the task table's format, as the bits above are.
    #[cfg(feature = "table")]
    pub(crate) fn word(self) -> u64 {
        self.0
    }

    pub(crate) fn is_live(self) -> bool {
        self.0 & LIVE != 0
    }

    pub(crate) fn is_queued(self) -> bool {
        self.0 & QUEUED != 0
    }

    pub(crate) fn is_cancelled(self) -> bool {
        self.0 & CANCEL != 0
    }

    pub(crate) fn is_done(self) -> bool {
        self.0 & DONE != 0
    }

    pub(crate) fn has_value(self) -> bool {
        self.0 & VALUE != 0
    }

    pub(crate) fn has_handle(self) -> bool {
        self.0 & HANDLE != 0
    }

    pub(crate) fn is_waiting(self) -> bool {
        self.0 & WAITING != 0
    }

    pub(crate) fn is_control(self) -> bool {
        self.0 & CONTROL != 0
    }

    /// The state of a slot's next tenant.
    fn tenant(self, control: bool, handle: bool) -> Self {
        let lane = if control { CONTROL } else { 0 };
        let handle = if handle { HANDLE } else { 0 };
        Self((self.0 & !(GENERATION - 1)).wrapping_add(GENERATION) | LIVE | QUEUED | lane | handle)
    }

    /// Which tenant of the slot this is.
    pub(crate) fn generation(self) -> u64 {
        self.0 / GENERATION
    }
}

impl State {
    const_fn! {
        /// A free slot that never had a tenant.
        pub(crate) fn new() -> Self {
            Self(AtomicU64::new(0))
        }
    }

    const_fn! {
        /// A task that is parked for ever, for the executor's own header.
        pub(crate) fn resident() -> Self {
            Self(AtomicU64::new(LIVE | CONTROL))
        }
    }

    /// The state as it is now, for looking only.
    #[inline]
    pub(crate) fn load(&self) -> Snapshot {
        Snapshot(self.0.load(Relaxed))
    }

    /// (1) Takes a slot that came from the free list for a new tenant, and its place in the queue with it.
    ///
    /// None when a stale wake has the header queued: it cannot be pushed a second time.
    /// Acquire: the run that took a stale wake's entry off the queue is done with the header.
    #[inline]
    pub(crate) fn claim(&self, control: bool, handle: bool) -> Option<Snapshot> {
        let free = self.load();
        if free.is_queued() {
            return None;
        }
        let tenant = free.tenant(control, handle);
        self.0.compare_exchange(free.0, tenant.0, Acquire, Relaxed).ok().map(|_| tenant)
    }

    /// (1) For a slot that a stale wake has queued on the tenant's own executor, once it is filled: the entry
    /// that is there will do. Returns the state before; without `QUEUED` in it, the entry has been used up, and the
    /// caller pushes. And the new one.
    ///
    /// Release, for what is in the slot; Acquire, as for a wake.
    pub(crate) fn publish(&self, control: bool, handle: bool) -> (Snapshot, Snapshot) {
        let tenant = self.load().tenant(control, handle);
        (Snapshot(self.0.swap(tenant.0, AcqRel)), tenant)
    }

    /// Undoes a claim: nobody has seen the tenant.
    ///
    /// Relaxed: the slot goes back by way of the free list, which orders it.
    pub(crate) fn unclaim(&self) {
        self.0.fetch_and(!(LIVE | QUEUED | HANDLE), Relaxed);
    }

    /// (2) Marks the task ready. The caller pushes it unless it was queued already.
    ///
    /// Always a read-modify-write: the run that clears `QUEUED` thereby sees what was written before
    /// this wake, even if the bit had been set by an earlier one. Release is for that; Acquire, for
    /// the header's `next` and `exec`, which the last run to pop it has read.
    #[inline]
    pub(crate) fn wake(&self) -> Snapshot {
        Snapshot(self.0.fetch_or(QUEUED, AcqRel))
    }

    /// (3) Takes the header off the queue, to poll or drop what is there.
    ///
    /// Acquire, for what the wakers wrote; Release, because whoever queues it next overwrites `next`.
    /// The bit is set, so that taking it off is a subtraction: one instruction, where an `and` is a loop.
    #[inline]
    pub(crate) fn begin(&self) -> Snapshot {
        Snapshot(self.0.fetch_sub(QUEUED, AcqRel))
    }

    /// Takes a mark back that led to no push: the executor is closed.
    ///
    /// Release: the slot may go to another executor, whose address is then written over the one that was read.
    pub(crate) fn unmark(&self) {
        self.0.fetch_and(!QUEUED, Release);
    }

    /// (4) Marks the tenant `generation` to be dropped at the run's next turn.
    ///
    /// Acquire and Release: as for a wake.
    pub(crate) fn abort(&self, generation: u64) -> Abort {
        let mut seen = self.0.load(Relaxed);
        loop {
            if seen / GENERATION != generation || seen & (LIVE | DONE) != LIVE {
                return Abort::Stale;
            }
            match self.0.compare_exchange_weak(seen, seen | CANCEL | QUEUED, AcqRel, Relaxed) {
                Ok(before) if before & QUEUED == 0 => return Abort::Push,
                Ok(_) => return Abort::Marked,
                Err(now) => seen = now,
            }
        }
    }

    /// (4) Marks the present tenant, whoever it is.
    ///
    /// Acquire and Release: as for a wake. One that has not moved in yet is not marked, and this is a read-modify-write all
    /// the same: what the caller wrote before it is seen where the tenant begins.
    pub(crate) fn cancel(&self) -> Cancel {
        let mut seen = self.0.load(Relaxed);
        loop {
            let live = seen & (LIVE | DONE) == LIVE;
            let wanted = if live { seen | CANCEL | QUEUED } else { seen };
            match self.0.compare_exchange_weak(seen, wanted, AcqRel, Relaxed) {
                Ok(before) if live && before & QUEUED == 0 => return Cancel::Push,
                Ok(_) => return Cancel::Marked,
                Err(now) => seen = now,
            }
        }
    }

    /// (4) by the run itself, which queues the task if it was not.
    ///
    /// Relaxed: the run has the header anyway, and passes it to nobody else.
    pub(crate) fn sweep(&self) -> Snapshot {
        Snapshot(self.0.fetch_or(CANCEL | QUEUED, Relaxed))
    }

    /// (5) The outcome stands. Returns the state before: with `WAITING` in it, the waker cell is now the caller's.
    ///
    /// Release, for the value; Acquire, for the waker.
    #[inline]
    pub(crate) fn end(&self, value: bool) -> Snapshot {
        Snapshot(self.0.fetch_or(if value { DONE | VALUE } else { DONE }, AcqRel))
    }

    /// (6) The executor lets go. Without `HANDLE` in the state returned, the slot is the caller's to give back.
    ///
    /// Acquire and Release: the later of the two sees what the earlier did to the slot.
    #[inline]
    pub(crate) fn leave_executor(&self) -> Snapshot {
        Snapshot(self.0.fetch_and(!LIVE, AcqRel))
    }

    /// (6) The handle lets go; `took`: it has moved the value out. Without `LIVE` in the state returned, the
    /// slot is the caller's to give back.
    #[inline]
    pub(crate) fn leave_handle(&self, took: bool) -> Snapshot {
        Snapshot(self.0.fetch_and(if took { !(HANDLE | VALUE) } else { !HANDLE }, AcqRel))
    }

    /// Takes a handle on a task that is there already; with `HANDLE` in the state returned, someone has it.
    ///
    /// Relaxed: before it touches the waker cell, which was the last handle's, a handle looks at the outcome.
    pub(crate) fn take_handle(&self) -> Snapshot {
        Snapshot(self.0.fetch_or(HANDLE, Relaxed))
    }

    /// (7) The handle has filled the waker cell. With `DONE` in the state returned it was too late, and the
    /// cell is still the handle's.
    ///
    /// Release, for the waker.
    pub(crate) fn wait(&self) -> Snapshot {
        Snapshot(self.0.fetch_or(WAITING, Release))
    }

    /// (7) The handle wants its waker cell back. With `DONE` in the state returned, the task's end has had it.
    ///
    /// Relaxed: nobody but the handle has written the cell.
    pub(crate) fn unwait(&self) -> Snapshot {
        Snapshot(self.0.fetch_and(!WAITING, Relaxed))
    }

    /// (8) Whether the outcome stands, for the handle that will take it.
    ///
    /// Acquire, for the value.
    #[inline]
    pub(crate) fn outcome(&self) -> Snapshot {
        Snapshot(self.0.load(Acquire))
    }
}
