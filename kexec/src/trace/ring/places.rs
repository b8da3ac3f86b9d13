//! The entries of a ring as words, and the protocol by which writers and readers share them.
//!
//! ```text
//!            (1) mark              (2) words, (3) done
//!     done n ---------> writing n + N ----------------> done n + N
//! ```
//!
//! - Each entry takes a number, and with it a place; from the mark until it is done, the place is the writer's. Nobody
//!   waits: who finds another writer there, or a newer entry, has been overtaken by the whole ring, and its entry is lost.
//! - A reader takes the words only if the place was done with the number that it wants before *and* after. So each word is
//!   written with Release and read with Acquire: whoever has read a word of a newer entry sees the mark that came before.
#![forbid(unsafe_code)]
#![cfg_attr(not(loom), expect(unreachable_pub, reason = "the models reach it"))]
#![cfg_attr(
    loom,
    expect(
        clippy::new_without_default,
        clippy::must_use_candidate,
        reason = "it is public for the models only"
    )
)]

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::Totals;
use crate::atomics::{AtomicU64, const_fn};

/// The last `N` entries of `WORDS` words each.
#[derive(Debug)]
#[repr(C)]
pub struct Places<const N: usize, const WORDS: usize> {
    /// How many entries there were.
    entries: AtomicU64,
    /// How many of them were never written.
    lost: AtomicU64,
    kept: [Place<WORDS>; N],
}

/// The place of an entry.
#[derive(Debug)]
#[repr(C)]
struct Place<const WORDS: usize> {
    /// Zero at first; twice the number of entries up to this one, less one while it is being written.
    state: AtomicU64,
    words: [AtomicU64; WORDS],
}

const fn writing(number: u64) -> u64 {
    done(number).wrapping_sub(1)
}

const fn done(number: u64) -> u64 {
    number.wrapping_add(1).wrapping_mul(2)
}

impl<const WORDS: usize> Place<WORDS> {
    const_fn! {
        fn new() -> Self {
            #[cfg(not(loom))]
            let words = [const { AtomicU64::new(0) }; WORDS];
            #[cfg(loom)]
            let words = core::array::from_fn(|_| AtomicU64::new(0));
            Self { state: AtomicU64::new(0), words }
        }
    }

    /// Writes an entry, unless somebody else is writing or has written a newer one; false then.
    ///
    /// Acquire: the words come after those of the writer before.
    fn write(&self, number: u64, words: &[u64; WORDS]) -> bool {
        let seen = self.state.load(Relaxed);
        let taken = seen % 2 == 1 || seen > writing(number);
        if taken || self.state.compare_exchange(seen, writing(number), Acquire, Relaxed).is_err() {
            return false;
        }
        for (place, word) in self.words.iter().zip(words) {
            place.store(*word, Release);
        }
        self.state.store(done(number), Release);
        true
    }

    /// Reads that entry, if it is here.
    fn read(&self, number: u64) -> Option<[u64; WORDS]> {
        if self.state.load(Acquire) != done(number) {
            return None;
        }
        let mut words = [0; WORDS];
        for (word, place) in words.iter_mut().zip(&self.words) {
            *word = place.load(Acquire);
        }
        (self.state.load(Relaxed) == done(number)).then_some(words)
    }
}

impl<const N: usize, const WORDS: usize> Places<N, WORDS> {
    const_fn! {
        /// No entries.
        #[must_use]
        pub fn new() -> Self {
            #[cfg(not(loom))]
            let places = [const { Place::new() }; N];
            #[cfg(loom)]
            let places = core::array::from_fn(|_| Place::new());
            Self { entries: AtomicU64::new(0), lost: AtomicU64::new(0), kept: places }
        }
    }

    /// Puts an entry behind the others.
    pub fn push(&self, words: &[u64; WORDS]) {
        let number = self.entries.fetch_add(1, Relaxed);
        if !self.place(number).is_some_and(|place| place.write(number, words)) {
            self.lost.fetch_add(1, Relaxed);
        }
    }

    /// The entry of this number, if it is there and nobody writes over it.
    pub fn read(&self, number: u64) -> Option<[u64; WORDS]> {
        self.place(number)?.read(number)
    }

    /// How many entries there were.
    pub fn totals(&self) -> Totals {
        Totals { events: self.entries.load(Relaxed), lost: self.lost.load(Relaxed) }
    }

    fn place(&self, number: u64) -> Option<&Place<WORDS>> {
        let index = number.checked_rem(N as u64)?;
        self.kept.get(usize::try_from(index).ok()?)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// A writer that was overtaken by the whole ring does not write over a newer entry, nor into one that is being written.
    #[test]
    fn too_late() {
        let place = Place::<1>::new();
        assert!(place.write(4, &[44]) && !place.write(0, &[40]) && !place.write(4, &[40]));
        assert_eq!((place.read(0), place.read(4)), (None, Some([44])));
        place.state.store(writing(8), Relaxed);
        assert!(!place.write(12, &[52]) && !place.write(4, &[40]));
        assert_eq!([4, 8, 12].map(|number| place.read(number)), [None; 3], "it is being written");
        place.state.store(done(8), Relaxed);
        assert!(place.write(12, &[52]));
        assert_eq!(place.read(12), Some([52]));
    }
}
