//! The head of a scope: what the table says of the groups that tasks are in.
#![forbid(unsafe_code)]
#![expect(clippy::cast_possible_truncation, reason = "the size of a head")]

use core::{
    fmt,
    mem::offset_of,
    ptr,
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use super::{
    anchor::{self, text_word},
    head::VERSION,
    read::{Image, half, long},
    row::text,
};

/// What a scope's head begins with.
pub(super) const MAGIC: [u8; 8] = *b"kexecSCP";

/// Where things are in a head.
pub(super) mod at {
    pub(crate) const VERSION: usize = 8;
    pub(crate) const SIZE: usize = 12;
    pub(crate) const ANCHOR: usize = 16;
    pub(crate) const ADDRESS: usize = 24;
    pub(crate) const PARENT: usize = 32;
    pub(crate) const NAME: usize = 40;
    pub(crate) const STATE: usize = 48;
    pub(crate) const END: usize = 56;
}

/// What every scope begins with, so that a copy of its memory tells its name and its place among the others.
///
/// Like a slot it is type-stable: it stays where it is, and is a scope's head, for as long as any task's record may refer
/// to it. All of its methods can be called at any level.
#[derive(Debug)]
#[repr(C)]
pub struct ScopeHead {
    magic: [u8; 8],
    version: u32,
    size: u32,
    anchor: AtomicU64,
    /// Its own address, by which records and other heads refer to it. Zero until it was opened.
    address: AtomicU64,
    parent: AtomicU64,
    /// See [`text_word`].
    name: AtomicU64,
    state: AtomicU32,
    _reserved: AtomicU32,
}

/// How far a scope has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeState {
    /// It takes tasks.
    Open,
    /// It was cancelled, and waits for its tasks to end.
    Closing,
    /// It has no task, and takes none.
    Ended,
    /// None of these: the copy is damaged.
    Unknown,
}

/// A scope, as a reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope<'i> {
    /// The address of its head.
    pub address: u64,
    /// The address of the head of the scope that it is in; none for one that is in no other.
    pub parent: Option<u64>,
    /// Its name; empty if it has none, [`LOST`](super::LOST) if the image does not have it.
    pub name: &'i str,
    /// How far it has come.
    pub state: ScopeState,
}

impl ScopeHead {
    /// Of a scope that was never open.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            magic: MAGIC,
            version: VERSION,
            size: at::END as u32,
            anchor: AtomicU64::new(0),
            address: AtomicU64::new(0),
            parent: AtomicU64::new(0),
            name: AtomicU64::new(0),
            state: AtomicU32::new(0),
            _reserved: AtomicU32::new(0),
        }
    }

    /// The scope opens, in another one or in none.
    pub fn open(&'static self, name: &'static str, parent: Option<&'static Self>) {
        self.name.store(text_word(name), Relaxed);
        self.parent.store(parent.map_or(0, |parent| ptr::from_ref(parent).addr() as u64), Relaxed);
        self.anchor.store(anchor::address() as u64, Relaxed);
        self.state.store(ScopeState::Open.word(), Relaxed);
        self.address.store(ptr::from_ref(self).addr() as u64, Release);
    }

    /// It has come so far.
    pub fn set_state(&self, state: ScopeState) {
        self.state.store(state.word(), Relaxed);
    }

    /// What a reader gets of it; none if it was never open.
    pub(crate) fn words(&self) -> Option<ScopeWords> {
        // Acquire: with the address, the rest is there.
        let address = self.address.load(Acquire);
        let words = ScopeWords {
            address,
            parent: self.parent.load(Relaxed),
            name: self.name.load(Relaxed),
            state: self.state.load(Relaxed),
        };
        (address != 0).then_some(words)
    }

    /// What a record says of its scope: the address of the head, and the name.
    pub(super) fn reference(&'static self) -> [u64; 2] {
        [ptr::from_ref(self).addr() as u64, self.name.load(Relaxed)]
    }
}

impl Default for ScopeHead {
    fn default() -> Self {
        Self::new()
    }
}

/// What a scope's head says, before its name is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScopeWords {
    pub(super) address: u64,
    pub(super) parent: u64,
    pub(super) name: u64,
    pub(super) state: u32,
}

impl ScopeWords {
    /// Out of a copy of a head.
    pub(super) fn in_head(head: &[u8]) -> Self {
        Self {
            address: long(head, at::ADDRESS),
            parent: long(head, at::PARENT),
            name: long(head, at::NAME),
            state: half(head, at::STATE),
        }
    }
}

impl<'i> Scope<'i> {
    pub(crate) fn of(words: ScopeWords, image: &'i (impl Image + ?Sized)) -> Self {
        let ScopeWords { address, parent, name, state } = words;
        let parent = (parent != 0).then_some(parent);
        Self { address, parent, name: text(name, image), state: ScopeState::of(state) }
    }
}

impl ScopeState {
    const fn word(self) -> u32 {
        match self {
            Self::Unknown => 0,
            Self::Open => 1,
            Self::Closing => 2,
            Self::Ended => 3,
        }
    }

    const fn of(word: u32) -> Self {
        match word {
            1 => Self::Open,
            2 => Self::Closing,
            3 => Self::Ended,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for ScopeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Closing => "closing",
            Self::Ended => "ended",
            Self::Unknown => "in an unknown state",
        })
    }
}

const _: () = {
    assert!(offset_of!(ScopeHead, version) == at::VERSION && offset_of!(ScopeHead, size) == at::SIZE);
    assert!(offset_of!(ScopeHead, anchor) == at::ANCHOR && offset_of!(ScopeHead, address) == at::ADDRESS);
    assert!(offset_of!(ScopeHead, parent) == at::PARENT && offset_of!(ScopeHead, name) == at::NAME);
    assert!(offset_of!(ScopeHead, state) == at::STATE && size_of::<ScopeHead>() == at::END);
};
