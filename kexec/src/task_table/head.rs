//! The beginning of a table: of a store, and of a compact copy of one.
//!
//! ```text
//!  0 magic            16 slots: how many     32 record: where in a slot    64 (the free list's)
//!  8 version          20 stride: bytes each  36 bytes of a record          72 used: slots that ever were
//! 12 bytes to slot 0  24 state, 28 executor  40 anchor, 48 build id        76 lane; the slots from 144 on
//! ```
//!
//! All numbers are little-endian. In a slot there are, wherever the head says: the state word, the executor's
//! address, and the [`Record`]. A later change of any of this, or of what the words mean, is another [`VERSION`].
#![forbid(unsafe_code)]
#![expect(clippy::cast_possible_truncation, reason = "no slot, and no store of slots, is that large")]

use core::{
    mem::offset_of,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use super::{anchor, record::Record};
use crate::task::Header;

/// What a table begins with.
pub(super) const MAGIC: [u8; 8] = *b"kexecTBL";
/// Of the layout of tables and of scopes.
pub(super) const VERSION: u32 = 1;

/// Where things are in a head.
pub(crate) mod at {
    pub(crate) const VERSION: usize = 8;
    pub(crate) const SIZE: usize = 12;
    pub(crate) const SLOTS: usize = 16;
    pub(crate) const STRIDE: usize = 20;
    pub(crate) const STATE: usize = 24;
    pub(crate) const EXECUTOR: usize = 28;
    pub(crate) const RECORD: usize = 32;
    pub(crate) const RECORD_SIZE: usize = 36;
    pub(crate) const ANCHOR: usize = 40;
    pub(crate) const BUILD: usize = 48;
    pub(crate) const FREE_LIST: usize = 64;
    pub(crate) const USED: usize = 72;
    pub(crate) const LANE: usize = 76;
    pub(crate) const SLOT: usize = 144;
}

/// The part of a head that is a store's own.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Head {
    magic: [u8; 8],
    version: u32,
    size: u32,
    slots: u32,
    layout: Layout,
    /// Zero until a slot is used for the first time; with it, the build id is there.
    anchor: AtomicU64,
    build: [AtomicU64; 2],
}

/// Where in each slot the table's words are.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Layout {
    stride: u32,
    state: u32,
    executor: u32,
    record: u32,
    record_size: u32,
}

/// Bytes of a slot in a compact copy: state, executor, record.
pub(super) const COMPACT: u32 = RECORD_AT + size_of::<Record>() as u32;
const EXECUTOR_AT: u32 = 8;
const RECORD_AT: u32 = 16;

impl Head {
    /// Of a store of so many slots, each of so many bytes.
    pub(crate) const fn new(slots: usize, stride: usize) -> Self {
        let layout = Layout {
            stride: stride as u32,
            state: offset_of!(Header, state) as u32,
            executor: offset_of!(Header, home) as u32,
            record: offset_of!(Header, record) as u32,
            record_size: size_of::<Record>() as u32,
        };
        Self {
            magic: MAGIC,
            version: VERSION,
            size: at::SLOT as u32,
            slots: slots as u32,
            layout,
            anchor: AtomicU64::new(0),
            build: [AtomicU64::new(0), AtomicU64::new(0)],
        }
    }

    /// Says which image the store belongs to, once. Done before a slot is first used.
    pub(crate) fn sign(&self) {
        if self.anchor.load(Relaxed) != 0 {
            return;
        }
        for (word, half) in self.build.iter().zip(anchor::build_words()) {
            word.store(half, Relaxed);
        }
        self.anchor.store(anchor::address() as u64, Release);
    }

    /// The head of a compact copy, with so many slots in it.
    pub(super) fn compact(&self, used: u32, lane: u8) -> [u8; at::SLOT] {
        // Acquire: with the anchor, the build id is there.
        let anchor = self.anchor.load(Acquire);
        let Layout { record_size, .. } = self.layout;
        let words = [self.version, self.size, self.slots, COMPACT, 0, EXECUTOR_AT, RECORD_AT, record_size];
        let build = self.build.each_ref().map(|word| word.load(Relaxed));
        let bytes = self.magic.into_iter().chain(words.into_iter().flat_map(u32::to_le_bytes));
        let bytes = bytes.chain([anchor, build[0], build[1], 0].into_iter().flat_map(u64::to_le_bytes));
        let bytes = bytes.chain([used, lane.into()].into_iter().flat_map(u32::to_le_bytes));
        let mut head = [0; at::SLOT];
        head.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
        head
    }
}

const _: () = {
    assert!(cfg!(target_endian = "little") && size_of::<usize>() == 8, "the table's words are such a CPU's");
    assert!(offset_of!(Head, version) == at::VERSION && offset_of!(Head, size) == at::SIZE);
    assert!(offset_of!(Head, slots) == at::SLOTS && offset_of!(Head, layout.stride) == at::STRIDE);
    assert!(offset_of!(Head, layout.state) == at::STATE && offset_of!(Head, layout.executor) == at::EXECUTOR);
    assert!(offset_of!(Head, layout.record) == at::RECORD);
    assert!(offset_of!(Head, layout.record_size) == at::RECORD_SIZE);
    assert!(offset_of!(Head, anchor) == at::ANCHOR && offset_of!(Head, build) == at::BUILD);
    assert!(size_of::<Head>() == at::FREE_LIST);
    assert!(size_of::<Record>() == 72 && COMPACT == 88);
};
