//! The record of a task, in its slot's header: words that the run, the leaves and the claim store, each whole.
//!
//! `turns` is odd while the task is being polled, and has [`OVER`] from the task's end until the next tenant's words are
//! there. Whoever reads it even, then the other words, then the same again, and has seen the same tenant's state
//! all the while, has read the words of one park:
//!
//! - what is stored during a poll is stored with Release, after `turns` became odd: who has seen any of it sees that, too;
//! - `turns` is made even with Release: who sees it sees the words of that poll;
//! - a new tenant's words are stored with Release, after its claim: who has seen one of them sees its generation.
//!
//! On x86 all of these are plain stores.
#![forbid(unsafe_code)]

use core::{
    hint::spin_loop,
    mem::offset_of,
    panic::Location,
    ptr::NonNull,
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
        fence,
    },
};

use super::{
    anchor::{distance, text_word},
    read::{half, long},
    scope::ScopeHead,
};
use crate::{executor::Core, task::Header};

/// Set in a leaf's word when the label is this park's.
pub(crate) const LABELLED: u64 = 1;
/// Set in `turns` while the words are not those of a task that has not ended.
pub(super) const OVER: u64 = 1 << 63;
/// Stands for `turns` in a copy whose words may be of different moments.
pub(super) const CHANGING: u64 = u64::MAX;

/// How often a record that changes is read again. A poll takes longer than this; a park does not.
const TRIES: u32 = 16;

/// What the table shows of a task.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Record {
    /// Twice the number of polls that have ended, and one while one goes on.
    turns: AtomicU64,
    /// Where it parked last: see [`leaf_word`](super::anchor::leaf_word), and [`LABELLED`]. Zero: at a leaf that does not
    /// show itself.
    leaf: AtomicU64,
    /// The label: see [`text_word`].
    label: AtomicU64,
    /// The task's name.
    name: AtomicU64,
    /// The address of its scope's head.
    scope: AtomicU64,
    /// The scope's name.
    scope_name: AtomicU64,
    /// The name of its executor, whose address is in the header.
    executor_name: AtomicU64,
    /// The location of the spawn.
    site: AtomicU32,
    /// The longest poll, in nanoseconds, of those that were timed.
    longest: AtomicU32,
    /// The last poll that was timed, in nanoseconds.
    last: AtomicU32,
    _reserved: AtomicU32,
}

/// Where a task comes from.
pub(crate) struct Origin {
    pub(crate) name: &'static str,
    pub(crate) site: &'static Location<'static>,
    pub(crate) executor: NonNull<Core>,
    pub(crate) executor_name: &'static str,
    pub(crate) scope: Option<&'static ScopeHead>,
}

impl Record {
    pub(crate) const fn new() -> Self {
        Self {
            turns: AtomicU64::new(OVER),
            leaf: AtomicU64::new(0),
            label: AtomicU64::new(0),
            name: AtomicU64::new(0),
            scope: AtomicU64::new(0),
            scope_name: AtomicU64::new(0),
            executor_name: AtomicU64::new(0),
            site: AtomicU32::new(0),
            longest: AtomicU32::new(0),
            last: AtomicU32::new(0),
            _reserved: AtomicU32::new(0),
        }
    }

    /// A new tenant moves in. Its slot was claimed before.
    #[inline]
    pub(crate) fn start(header: &Header, origin: &Origin) {
        let record = &header.record;
        let scope = origin.scope.map_or([0, 0], ScopeHead::reference);
        header.home.store(origin.executor.as_ptr(), Release);
        record.leaf.store(0, Release);
        record.name.store(text_word(origin.name), Release);
        record.scope.store(scope[0], Release);
        record.scope_name.store(scope[1], Release);
        record.executor_name.store(text_word(origin.executor_name), Release);
        record.site.store(distance(origin.site), Release);
        record.longest.store(0, Release);
        record.last.store(0, Release);
        record.turns.store(0, Release);
    }

    /// A poll begins.
    #[inline]
    pub(crate) fn begin(&self) {
        self.turns.store(self.turns.load(Relaxed).wrapping_add(1), Relaxed);
        self.leaf.store(0, Release);
    }

    /// A poll has ended, and the task has not.
    #[inline]
    pub(crate) fn pause(&self) {
        self.turns.store(self.turns.load(Relaxed).wrapping_add(1), Release);
    }

    /// The task has ended.
    #[inline]
    pub(crate) fn end(&self) {
        self.turns.store(self.turns.load(Relaxed) | OVER, Relaxed);
    }

    /// The task parks at a leaf.
    #[inline]
    pub(crate) fn park(&self, leaf: u64) {
        self.leaf.store(leaf, Release);
    }

    /// The task parks in a future with a label. An outer one comes after an inner one, and replaces it.
    #[inline]
    pub(crate) fn label(&self, label: u64) {
        self.label.store(label, Release);
        // One instruction on memory.
        self.leaf.store(self.leaf.load(Relaxed) | LABELLED, Release);
    }

    /// A poll was timed.
    pub(crate) fn timed(&self, nanos: u32) {
        self.last.store(nanos, Release);
        self.longest.store(nanos.max(self.longest.load(Relaxed)), Release);
    }

    /// Whether the task has been polled.
    pub(crate) fn has_begun(&self) -> bool {
        self.turns.load(Relaxed) & !OVER != 0
    }

    pub(crate) fn leaf(&self) -> u64 {
        self.leaf.load(Relaxed)
    }

    pub(crate) fn label_word(&self) -> u64 {
        self.label.load(Relaxed)
    }

    pub(crate) fn name(&self) -> u64 {
        self.name.load(Relaxed)
    }

    pub(crate) fn site(&self) -> u32 {
        self.site.load(Relaxed)
    }
}

/// A record, and what else of its slot's header belongs to it, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    pub(super) state: u64,
    pub(super) executor: u64,
    pub(super) turns: u64,
    pub(super) leaf: u64,
    pub(super) label: u64,
    pub(super) name: u64,
    pub(super) scope: u64,
    pub(super) scope_name: u64,
    pub(super) executor_name: u64,
    pub(super) site: u32,
    pub(super) longest: u32,
    pub(super) last: u32,
}

impl Words {
    /// Reads a header's record, whole: if that does not succeed because it changes all the while, it says so.
    pub(crate) fn of(header: &Header) -> Self {
        let record = &header.record;
        let mut seen = Self::default();
        for _ in 0..TRIES {
            // Acquire: who sees a tenant's claim sees that the last tenant is over.
            let state = header.state.outcome();
            let turns = record.turns.load(Acquire);
            seen = Self {
                state: state.word(),
                executor: header.home.load(Relaxed).addr() as u64,
                turns,
                leaf: record.leaf.load(Relaxed),
                label: record.label.load(Relaxed),
                name: record.name.load(Relaxed),
                scope: record.scope.load(Relaxed),
                scope_name: record.scope_name.load(Relaxed),
                executor_name: record.executor_name.load(Relaxed),
                site: record.site.load(Relaxed),
                longest: record.longest.load(Relaxed),
                last: record.last.load(Relaxed),
            };
            // With the stores of whatever was read, so that the two below are no older.
            fence(Acquire);
            let same = record.turns.load(Relaxed) == turns && header.state.load().word() == seen.state;
            if same && (turns & 1 == 0 || turns & OVER != 0) {
                return seen;
            }
            // What does not change during a poll may be shown all the same.
            seen.turns = if same { turns } else { CHANGING };
            spin_loop();
        }
        seen
    }
}

/// In a compact copy, a slot is the state, the executor, and then the record as it is in memory.
impl Words {
    /// As a slot of a compact copy.
    pub(super) fn bytes(self) -> impl Iterator<Item = u8> {
        let Self { state, executor, turns, leaf, label, name, scope, scope_name, executor_name, .. } = self;
        let longs = [state, executor, turns, leaf, label, name, scope, scope_name, executor_name];
        let halves = [self.site, self.longest, self.last, 0];
        longs.into_iter().flat_map(u64::to_le_bytes).chain(halves.into_iter().flat_map(u32::to_le_bytes))
    }

    /// Out of a slot, where things are at these places.
    pub(super) fn in_slot(slot: &[u8], state: usize, executor: usize, record: usize) -> Self {
        let record = slot.get(record..).unwrap_or_default();
        Self {
            state: long(slot, state),
            executor: long(slot, executor),
            turns: long(record, offset_of!(Record, turns)),
            leaf: long(record, offset_of!(Record, leaf)),
            label: long(record, offset_of!(Record, label)),
            name: long(record, offset_of!(Record, name)),
            scope: long(record, offset_of!(Record, scope)),
            scope_name: long(record, offset_of!(Record, scope_name)),
            executor_name: long(record, offset_of!(Record, executor_name)),
            site: half(record, offset_of!(Record, site)),
            longest: half(record, offset_of!(Record, longest)),
            last: half(record, offset_of!(Record, last)),
        }
    }
}

const _: () = {
    assert!(offset_of!(Record, turns) == 0 && offset_of!(Record, executor_name) == 48);
    assert!(offset_of!(Record, site) == 56 && offset_of!(Record, last) == 64);
};
