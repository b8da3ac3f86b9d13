//! What every primitive here is made of: a word that says what there is, and those who wait for it to say more.
//!
//! ```text
//!    signal, anywhere                      leader, in its poll
//!    ----------------                      -------------------
//!    change the word ----------+           take from the word; if there is nothing:
//!    WAITERS was set?          |             1. name itself as leader
//!      call whoever is named   +---------->  2. set WAITERS, and look at the word by that
//! ```
//!
//! - A **signal** is one read-modify-write of the word and, if `WAITERS` was set in it, a wake of the leader. It takes no
//!   lock. Of two read-modify-writes of one word one is the first: either the leader sees the signal, or the signal sees
//!   that there is a leader, and who it is.
//! - Who **waits** is in a queue, first in, first out, behind a lock that only polls and drops of waits take. The first
//!   one is the leader. It takes what it waits for by itself, leaves, and passes the lead on: it names the next one, looks
//!   at the word for it in the same way, and wakes it if its turn has come.
//! - So nothing is ever handed to a waiter, and nothing is lost with one that is dropped, at whatever moment.
//! - `WAITERS` stays set while somebody is queued. A **newcomer** then takes nothing, but queues.
//!
//! In reading order: this file, the word and the signals; [`leader`], who is called; [`queue`], the list; [`wait`], the
//! future.
#![deny(unsafe_code)]

use core::{
    sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release},
    task::Waker,
};

use self::queue::Queue;
use crate::{
    atomics::{AtomicU64, const_fn},
    lock::Lock,
};

mod leader;
mod queue;
mod wait;

pub(super) use self::leader::Leader;
pub use self::wait::Wait;

/// Somebody is queued. The rest of the word is the primitive's.
const WAITERS: u64 = 1 << 63;

/// Something that can be waited for.
pub trait Source {
    /// What one waiter asks for.
    type Ask: Copy + Send + Sync;
    /// What it gets.
    type Got<'a>
    where
        Self: 'a;

    /// The word and the queue.
    fn waiters(&self) -> &Waiters<Self::Ask>;

    /// What the word will be when this has been granted; None if it has to wait. A grant that leaves the word as it is
    /// takes nothing, and so is given to newcomers ahead of those who are queued.
    ///
    /// It is called with the queue locked, by newcomers, and by each leader again once it has been named and has left its
    /// waker. It depends on nothing else, unless the primitive has a word of its own, which it then may change: see
    /// `rundown`.
    fn grant(&self, word: u64, ask: Self::Ask) -> Option<u64>;

    /// What somebody gets whose ask was granted when the word was `word`.
    fn got(&self, word: u64, ask: Self::Ask) -> Self::Got<'_>;
}

/// Whose turn it is to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nobody's who is queued.
    Newcomer,
    /// The leader's; or something is taken that nobody waits for.
    Leader,
}

/// A word, and those who wait for it to change.
#[derive(Debug)]
pub struct Waiters<A> {
    word: AtomicU64,
    leader: Leader,
    queue: Lock<Queue<A>>,
}

impl<A> Waiters<A> {
    const_fn! {
        /// Nobody waits. The highest bit of the word has to be left alone.
        pub(super) fn new(word: u64) -> Self {
            Self { word: AtomicU64::new(word), leader: Leader::new(), queue: Lock::new(Queue::new()) }
        }
    }

    /// The word.
    ///
    /// Acquire: whoever finds a change sees what was done before it.
    #[inline]
    pub(super) fn word(&self) -> u64 {
        self.word.load(Acquire) & !WAITERS
    }

    /// Signals: sets bits of the word. Returns what it was.
    ///
    /// This and all signals, Acquire and Release: whoever takes what is signalled sees what was done before; and the
    /// signal sees who the leader is.
    #[inline]
    pub(super) fn set(&self, bits: u64) -> u64 {
        self.signalled(self.word.fetch_or(bits, AcqRel))
    }

    /// Signals: clears bits of the word. Returns what it was.
    #[inline]
    pub(super) fn clear(&self, bits: u64) -> u64 {
        self.signalled(self.word.fetch_and(!bits, AcqRel))
    }

    /// Signals: adds to the word, without a carry into the highest bit. Returns what it was.
    #[inline]
    pub(super) fn add(&self, number: u64) -> u64 {
        self.signalled(self.word.fetch_add(number, AcqRel))
    }

    /// Signals: changes the word as `f` says; not at all, if it says None. Returns what it was then.
    #[inline]
    pub(super) fn update(&self, f: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        let mut seen = self.word.load(Relaxed);
        loop {
            let next = f(seen & !WAITERS)?;
            match self.word.compare_exchange_weak(seen, next | seen & WAITERS, AcqRel, Relaxed) {
                Ok(_) => return Some(self.signalled(seen)),
                Err(now) => seen = now,
            }
        }
    }

    /// What a signal would wake, for one that must not come back here after it. A leader that is no task then has to
    /// register again.
    ///
    /// Relaxed: the caller has a word of its own, by which it sees what each leader did before it was named, and that this
    /// is the leader still.
    pub(super) fn take_waker(&self) -> Option<Waker> {
        if self.word.load(Relaxed) & WAITERS != 0 { self.leader.take() } else { None }
    }

    #[inline]
    fn signalled(&self, before: u64) -> u64 {
        if before & WAITERS != 0 {
            self.leader.call();
        }
        before & !WAITERS
    }

    /// Changes the word as `grant` says, without a signal; not at all, if it says None, or if this is a newcomer that would
    /// take what others are queued for. Returns what the word was.
    ///
    /// Acquire, both: whoever takes something sees what was done before it was signalled.
    #[inline]
    pub(super) fn take(&self, turn: Turn, grant: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        loop {
            let seen = self.word.load(Acquire);
            let (word, waiters) = (seen & !WAITERS, seen & WAITERS);
            let left = grant(word)?;
            if left == word {
                return Some(word);
            }
            if turn == Turn::Newcomer && waiters != 0 {
                return None;
            }
            if self.word.compare_exchange_weak(seen, left | waiters, Acquire, Relaxed).is_ok() {
                return Some(word);
            }
        }
    }

    /// Says that there is a leader, who has been named. Returns the word.
    ///
    /// Release: whoever sees it sees the name.
    fn arm(&self) -> u64 {
        self.word.fetch_or(WAITERS, Release) & !WAITERS
    }

    /// Says that nobody is queued.
    ///
    /// Relaxed: what follows is ordered by the queue's lock.
    fn disarm(&self) {
        self.word.fetch_and(!WAITERS, Relaxed);
    }
}
