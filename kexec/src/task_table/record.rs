//! The record of a task, in its slot's header: words that the run, the leaves and the claim store, each whole.
//!
//! Nothing is ordered by them, so that they cost plain stores. `turns` is odd while the task is being polled: a reader
//! that finds it even, and the same after reading the rest, has read the words of one park.
//!
//! Strings, kinds and locations are static, and kept as their distance from [`ANCHOR`], which is the same in the
//! image's file and wherever the image is loaded.
#![cfg(feature = "table")]
#![forbid(unsafe_code)]

use core::{
    panic::Location,
    ptr,
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Relaxed, Release},
    },
};

use super::Kind;

/// What the distances are counted from. Found in an image by its first bytes.
#[derive(Debug)]
#[repr(C, align(16))]
pub(crate) struct Anchor {
    magic: [u8; 16],
    /// The build id of the image, once somebody has said it.
    build: [AtomicU64; 2],
}

/// The one of this image.
pub(crate) static ANCHOR: Anchor =
    Anchor { magic: *b"kexec task table", build: [AtomicU64::new(0), AtomicU64::new(0)] };

/// Set in a leaf's word when the label is this park's.
const LABELLED: u64 = 1;

/// What the table shows of a task.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Record {
    /// Twice the number of polls that have ended, and one while one goes on.
    turns: AtomicU64,
    /// Where it parked last: the location's distance in the low half, whose lowest bit is [`LABELLED`], the kind's in
    /// the high half. Zero: at a leaf that does not show itself.
    leaf: AtomicU64,
    /// The label: see [`text_word`].
    label: AtomicU64,
    /// The task's name.
    name: AtomicU64,
    /// The location of the spawn.
    site: AtomicU32,
    /// The longest poll, in nanoseconds, of those that were timed.
    longest: AtomicU32,
    /// The last poll that was timed, in nanoseconds.
    last: AtomicU32,
    _reserved: AtomicU32,
}

/// The distance of a static, modulo 2^32.
#[inline]
fn distance<T: ?Sized>(target: &'static T) -> u32 {
    let target = ptr::from_ref(target).cast::<u8>().expose_provenance();
    // An image is smaller than 2 GiB, so that half of the difference is enough.
    target.wrapping_sub(ptr::from_ref(&ANCHOR).addr()) as u32
}

/// A string's distance in the low half, its length in the high half.
#[inline]
pub(crate) fn text_word(text: &'static str) -> u64 {
    u64::from(distance(text)) | (text.len() as u64) << 32
}

#[inline]
pub(crate) fn leaf_word(kind: &'static Kind, place: &'static Location<'static>) -> u64 {
    u64::from(distance(place)) | u64::from(distance(kind)) << 32
}

impl Record {
    pub(crate) const fn new() -> Self {
        Self {
            turns: AtomicU64::new(0),
            leaf: AtomicU64::new(0),
            label: AtomicU64::new(0),
            name: AtomicU64::new(0),
            site: AtomicU32::new(0),
            longest: AtomicU32::new(0),
            last: AtomicU32::new(0),
            _reserved: AtomicU32::new(0),
        }
    }

    /// A new tenant moves in.
    #[inline]
    pub(crate) fn start(&self, name: &'static str, site: &'static Location<'static>) {
        self.turns.store(0, Relaxed);
        self.leaf.store(0, Relaxed);
        self.name.store(text_word(name), Relaxed);
        self.site.store(distance(site), Relaxed);
        self.longest.store(0, Relaxed);
        self.last.store(0, Relaxed);
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

    /// The task parks at a leaf.
    #[inline]
    pub(crate) fn park(&self, leaf: u64) {
        self.leaf.store(leaf, Relaxed);
    }

    /// The task parks in a future with a label, unless an inner one has given its own.
    #[inline]
    pub(crate) fn label(&self, label: &'static str) {
        let leaf = self.leaf.load(Relaxed);
        if leaf & LABELLED == 0 {
            self.label.store(text_word(label), Relaxed);
            self.leaf.store(leaf | LABELLED, Relaxed);
        }
    }
}
