//! What a scenario counts, and what must come out even.
#![forbid(unsafe_code)]

use core::fmt::{self, Display};
use std::{
    collections::BTreeMap,
    string::{String, ToString},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    vec::Vec,
};

/// A number that the report shows, added up over all runs, and that may have a [floor](super::Scenario::floor): how often
/// something happened that the enumeration is there to test.
#[derive(Clone, Debug)]
pub struct Counter(Arc<Mutex<u64>>);

impl Counter {
    /// One more.
    pub fn raise(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        let mut count = lock(&self.0);
        *count = count.saturating_add(more);
    }

    /// The number of this run so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        *lock(&self.0)
    }
}

/// What is opened and must be closed, once each, before the run is over: requests that are to be completed, grants that
/// are to be revoked, buffers that are to come back.
///
/// The entries that were closed are counted under the ledger's name, like a [`Counter`].
#[derive(Clone, Debug)]
pub struct Ledger {
    entries: Arc<Mutex<BTreeMap<String, Entry>>>,
    closed: Counter,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    opened: u32,
    closed: u32,
    /// How it was when it was first closed without being open.
    again: Option<Imbalance>,
}

/// How an entry has not come out even.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Imbalance {
    /// It was closed when it was not open.
    Again {
        /// How often it had been opened by then.
        opened: u32,
        /// How often it had been closed by then.
        closed: u32,
    },
    /// It was opened more often than it was closed.
    Open {
        /// How often it was opened.
        opened: u32,
        /// How often it was closed.
        closed: u32,
    },
}

impl Ledger {
    /// Something begins that has to end.
    pub fn open(&self, entry: impl Display) {
        let mut entries = lock(&self.entries);
        let entry = entries.entry(entry.to_string()).or_default();
        entry.opened = entry.opened.saturating_add(1);
    }

    /// It ends.
    pub fn close(&self, entry: impl Display) {
        let mut entries = lock(&self.entries);
        let entry = entries.entry(entry.to_string()).or_default();
        entry.closed = entry.closed.saturating_add(1);
        let Entry { opened, closed, .. } = *entry;
        if closed > opened {
            entry.again.get_or_insert(Imbalance::Again { opened, closed });
        }
        self.closed.raise();
    }

    /// How many are open.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.entries).values().filter(|entry| entry.opened > entry.closed).count()
    }
}

impl Display for Imbalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Again { opened: 0, closed: 1 } => f.write_str("closed, and was never opened"),
            Self::Again { opened: 1, closed: 2 } => f.write_str("closed twice"),
            Self::Again { opened, closed } => write!(f, "closed {closed} times, and opened {opened} times"),
            Self::Open { opened: 1, closed: 0 } => f.write_str("opened, and never closed"),
            Self::Open { opened, closed } => write!(f, "opened {opened} times, and closed {closed} times"),
        }
    }
}

/// The counters and ledgers of a run, by name.
#[derive(Debug, Default)]
pub(super) struct Books {
    counters: BTreeMap<&'static str, Counter>,
    ledgers: BTreeMap<&'static str, Ledger>,
}

impl Books {
    pub(super) fn counter(&mut self, name: &'static str) -> Counter {
        self.counters.entry(name).or_insert_with(|| Counter(Arc::default())).clone()
    }

    pub(super) fn ledger(&mut self, name: &'static str) -> Ledger {
        let closed = self.counter(name);
        self.ledgers.entry(name).or_insert_with(|| Ledger { entries: Arc::default(), closed }).clone()
    }

    /// What was counted.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counters.iter().map(|(name, counter)| (*name, counter.get()))
    }

    /// What has not come out even: ledger, entry and how.
    pub(super) fn imbalances(&self) -> Vec<(&'static str, String, Imbalance)> {
        let mut found = Vec::new();
        for (ledger, book) in &self.ledgers {
            for (name, &Entry { opened, closed, again }) in &*lock(&book.entries) {
                let open = (opened > closed).then_some(Imbalance::Open { opened, closed });
                found.extend(again.or(open).map(|imbalance| (*ledger, name.clone(), imbalance)));
            }
        }
        found
    }
}

/// A task that has panicked has left it as it was.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
