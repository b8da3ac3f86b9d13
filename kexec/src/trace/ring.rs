//! The last events, in fixed memory: for a debugger, a dump, and whoever asks.
//!
//! This file is about lines of text; [`places`] keeps them as words.
#![forbid(unsafe_code)]

use core::fmt::{self, Write};

use self::places::Places;
use super::{Event, Level, Sink};
use crate::{atomics::const_fn, time::Instant};

pub(crate) mod places;

/// The words of an entry before its text: the time, and what [`Head`] has.
const HEAD: usize = 2;

/// A sink that keeps the last `N` events, each as a line of up to `WORDS * 8 - 16` bytes. Longer ones are cut.
///
/// It is found in memory by its first bytes, `kexec event ring`; the counters and the entries follow, the text of each as
/// it is read. A task, an interrupt and a bugcheck callback may write and [read](Self::entries) it at the same time.
#[repr(C, align(16))]
pub struct Ring<const N: usize, const WORDS: usize = 16> {
    _magic: [u8; 16],
    places: Places<N, WORDS>,
}

/// How many events a ring has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// All of them.
    pub events: u64,
    /// Those that were never written, because as many as the ring holds came while one was being written.
    pub lost: u64,
}

impl<const N: usize, const WORDS: usize> Ring<N, WORDS> {
    const_fn! {
        /// An empty ring.
        #[must_use]
        pub fn new() -> Self {
            const { assert!(N > 0 && WORDS > HEAD && WORDS <= 64, "a ring of no entries, or of too short or long ones") };
            Self { _magic: *b"kexec event ring", places: Places::new() }
        }
    }

    /// The entries that are there, the oldest first, without those that are being written or overwritten meanwhile.
    ///
    /// Callable at any level, while others write.
    #[must_use]
    pub fn entries(&self) -> Entries<'_, N, WORDS> {
        let end = self.totals().events;
        Entries { places: &self.places, next: end.saturating_sub(N as u64), end }
    }

    /// How many events there were.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.places.totals()
    }
}

impl<const N: usize, const WORDS: usize> Default for Ring<N, WORDS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize, const WORDS: usize> fmt::Debug for Ring<N, WORDS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("totals", &self.totals()).finish_non_exhaustive()
    }
}

impl<const N: usize, const WORDS: usize> Sink for Ring<N, WORDS> {
    /// Formats on the stack, so that the entry is being written for a few instructions only.
    fn event(&self, event: &Event<'_>) {
        let mut line = Line::<WORDS> { bytes: [[0; 8]; WORDS], end: HEAD.wrapping_mul(8), cut: false };
        // An error says that the rest does not fit, which the line has noted.
        let _rest = write!(line, "{}: {}", event.site().module(), event.message());
        let head = Head { level: event.level(), cut: line.cut, suppressed: event.suppressed() };
        let time = event.time().unwrap_or(Instant::NEVER).as_nanos();
        let length = line.end.saturating_sub(HEAD.wrapping_mul(8));
        let mut words = line.bytes.map(u64::from_ne_bytes);
        for (word, value) in words.iter_mut().zip([time, head.to_word(length)]) {
            *word = value;
        }
        self.places.push(&words);
    }
}

/// What an entry has beside its time and its text, and the text's length.
struct Head {
    level: Level,
    cut: bool,
    suppressed: u32,
}

impl Head {
    fn to_word(&self, length: usize) -> u64 {
        u64::from(self.level as u8)
            | u64::from(self.cut) << 8
            | (length as u64) << 16
            | u64::from(self.suppressed) << 32
    }
}

/// A line that is being written.
struct Line<const WORDS: usize> {
    bytes: [[u8; 8]; WORDS],
    end: usize,
    cut: bool,
}

impl<const WORDS: usize> Write for Line<WORDS> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.as_flattened_mut().get_mut(self.end..).unwrap_or_default();
        let fits = text.floor_char_boundary(room.len());
        for (to, from) in room.iter_mut().zip(text.bytes().take(fits)) {
            *to = from;
        }
        self.end = self.end.saturating_add(fits);
        self.cut = fits < text.len();
        if self.cut { Err(fmt::Error) } else { Ok(()) }
    }
}

/// The entries of a ring: see [`Ring::entries`].
#[derive(Debug)]
pub struct Entries<'r, const N: usize, const WORDS: usize> {
    places: &'r Places<N, WORDS>,
    next: u64,
    end: u64,
}

impl<const N: usize, const WORDS: usize> Iterator for Entries<'_, N, WORDS> {
    type Item = Entry<WORDS>;

    fn next(&mut self) -> Option<Entry<WORDS>> {
        while self.next < self.end {
            let number = self.next;
            self.next = number.saturating_add(1);
            if let Some(words) = self.places.read(number) {
                return Some(Entry { number, bytes: words.map(u64::to_ne_bytes) });
            }
        }
        None
    }
}

/// An event, as a ring has kept it.
///
/// Its `Display` is a line like that of an [`Event`], with `..` where it was cut.
#[derive(Clone, Copy)]
pub struct Entry<const WORDS: usize> {
    number: u64,
    bytes: [[u8; 8]; WORDS],
}

impl<const WORDS: usize> Entry<WORDS> {
    /// How many events came before. Numbers that are missing were lost or overwritten.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// When it was emitted, if the output had a clock.
    #[must_use]
    pub fn time(&self) -> Option<Instant> {
        Some(Instant::from_nanos(self.word(0))).filter(|time| *time != Instant::NEVER)
    }

    /// How much it mattered.
    #[must_use]
    pub fn level(&self) -> Level {
        Level::of_number((self.word(1) & 0xFF) as u32).unwrap_or(Level::Error)
    }

    /// How many events of the same place had been suppressed before it.
    #[must_use]
    pub fn suppressed(&self) -> u32 {
        (self.word(1) >> 32) as u32
    }

    /// Whether the end of the line is missing.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.word(1) >> 8 & 1 != 0
    }

    /// The module and the message.
    #[must_use]
    pub fn text(&self) -> &str {
        let length = usize::from((self.word(1) >> 16 & 0xFFFF) as u16);
        let text = self.bytes.as_flattened().get(HEAD.wrapping_mul(8)..).and_then(|text| text.get(..length));
        // It was written as a string, and cut between characters.
        text.and_then(|text| core::str::from_utf8(text).ok()).unwrap_or_default()
    }

    fn word(&self, index: usize) -> u64 {
        self.bytes.get(index).map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    }
}

impl<const WORDS: usize> fmt::Display for Entry<WORDS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = if self.is_cut() { ".." } else { "" };
        write!(f, "{:5} {}{cut}", self.level(), self.text())?;
        match self.suppressed() {
            0 => Ok(()),
            suppressed => write!(f, " ({suppressed} suppressed)"),
        }
    }
}

impl<const WORDS: usize> fmt::Debug for Entry<WORDS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self}", self.number)
    }
}
