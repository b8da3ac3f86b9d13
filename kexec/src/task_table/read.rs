//! Reading tables out of bytes: compact copies, and whatever memory a store was in.
//!
//! Bytes can say anything. Whatever they say is a row, or is refused as [`Damage`]; nothing panics, and nothing is looked
//! for outside of them. Texts are looked up in an [`Image`] that the caller brings.
//!
//! ```
//! use kexec::task_table::read::{Found, NoImage, find};
//!
//! # let dump: &[u8] = &[0; 64];
//! for (offset, found) in find(dump) {
//!     match found {
//!         Ok(Found::Table(table)) => table.rows(&NoImage).for_each(|row| println!("{offset:#x}: {row}")),
//!         Ok(Found::Scope(scope)) => println!("{offset:#x}: {:?}", scope.read(&NoImage)),
//!         Err(damage) => println!("{offset:#x}: {damage}"),
//!     }
//! }
//! ```
#![forbid(unsafe_code)]
#![expect(clippy::cast_possible_truncation, reason = "sizes of a few bytes")]

use core::fmt;

use super::{
    BuildId, Place, Row, Scope,
    head::{self, VERSION, at},
    record::{Record, Words},
    scope::{self, ScopeWords},
};
use crate::Lane;

/// What the anchor of an image begins with: the point from which distances are counted. It is aligned to 16 bytes, in
/// a section that can be written to, and followed by
/// - the build id, 16 bytes, which are zero in the file;
/// - a pointer to a `core::panic::Location`, of the file `task_table/anchor.rs`;
/// - a pointer to a [`Kind`](super::Kind), which is a string's pointer and length.
pub const ANCHOR_MAGIC: &[u8; 16] = b"kexec task table";

/// The image that a table's texts are in. Distances are counted from its anchor: see [`ANCHOR_MAGIC`].
pub trait Image {
    /// The string of so many bytes.
    fn text(&self, distance: i32, length: u32) -> Option<&str>;
    /// What the `core::panic::Location` there says.
    fn place(&self, distance: i32) -> Option<Place<'_>>;
    /// The name of the [`Kind`](super::Kind) there.
    fn kind(&self, distance: i32) -> Option<&str>;
}

/// For whoever has no image: every text is [`LOST`](super::LOST).
#[derive(Clone, Copy, Debug)]
pub struct NoImage;

impl Image for NoImage {
    fn text(&self, _distance: i32, _length: u32) -> Option<&str> {
        None
    }

    fn place(&self, _distance: i32) -> Option<Place<'_>> {
        None
    }

    fn kind(&self, _distance: i32) -> Option<&str> {
        None
    }
}

/// Looks for tables and scopes at every multiple of eight bytes. What is found comes with where it was found.
#[must_use]
pub fn find(bytes: &[u8]) -> Find<'_> {
    Find { bytes, next: 0 }
}

/// The iterator of [`find`].
#[derive(Clone, Debug)]
pub struct Find<'b> {
    bytes: &'b [u8],
    next: usize,
}

/// What was found.
#[derive(Clone, Copy, Debug)]
pub enum Found<'b> {
    /// A store, or a compact copy of one.
    Table(TableCopy<'b>),
    /// The head of a scope.
    Scope(ScopeCopy),
}

/// Why something that begins like a table or a scope is none that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Its layout is not the one that this reader knows.
    Version(u32),
    /// There are fewer bytes than it says.
    CutShort {
        /// Bytes that it would have.
        needed: usize,
        /// Bytes that there are.
        given: usize,
    },
    /// It says something that cannot be.
    Field {
        /// What.
        name: &'static str,
        /// What is there.
        found: u32,
        /// What could be there.
        least: u32,
        /// As above.
        most: u32,
    },
}

/// A table in some bytes, whose head makes sense.
#[derive(Clone, Copy)]
pub struct TableCopy<'b> {
    bytes: &'b [u8],
    slots: u32,
    used: u32,
    lane: Lane,
    layout: Layout,
}

/// Where things are in the slots.
#[derive(Clone, Copy)]
struct Layout {
    first: usize,
    stride: usize,
    state: usize,
    executor: usize,
    record: usize,
}

/// A scope's head in some bytes.
#[derive(Clone, Copy, Debug)]
pub struct ScopeCopy {
    anchor: u64,
    words: ScopeWords,
}

impl<'b> Iterator for Find<'b> {
    type Item = (usize, Result<Found<'b>, Damage>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let offset = self.next;
            let bytes = self.bytes.get(offset..)?;
            let magic: &[u8; 8] = bytes.first_chunk()?;
            self.next = offset.checked_add(8)?;
            let found = match *magic {
                head::MAGIC => TableCopy::parse(bytes).map(Found::Table),
                scope::MAGIC => ScopeCopy::parse(bytes).map(Found::Scope),
                _ => continue,
            };
            return Some((offset, found));
        }
    }
}

impl<'b> TableCopy<'b> {
    /// Reads the head of the table that some bytes begin with.
    fn parse(bytes: &'b [u8]) -> Result<Self, Damage> {
        let field = Fields(bytes);
        field.version(at::SLOT)?;
        let first = field.within("the size of the head", at::SIZE, at::SLOT as u32, at::SLOT as u32)?;
        let stride = field.within("the size of a slot", at::STRIDE, head::COMPACT, 1 << 24)?;
        let record_size = size_of::<Record>() as u32;
        field.within("the size of a record", at::RECORD_SIZE, record_size, record_size)?;
        let fits = |size: u32| stride.saturating_sub(size);
        let state = field.within("the place of the state in a slot", at::STATE, 0, fits(8))?;
        let executor = field.within("the place of the executor in a slot", at::EXECUTOR, 0, fits(8))?;
        let record = field.within("the place of the record in a slot", at::RECORD, 0, fits(record_size))?;
        let slots = field.within("the number of slots", at::SLOTS, 0, 0xFFFF)?;
        let used = field.within("the number of used slots", at::USED, 0, slots)?;
        let lane = bytes.get(at::LANE).and_then(|code| Lane::of_code(*code));
        let lane = lane.ok_or(Damage::Field {
            name: "the lane",
            found: bytes.get(at::LANE).copied().unwrap_or_default().into(),
            least: 0,
            most: 1,
        })?;
        let [first, stride, state, executor, record] =
            [first, stride, state, executor, record].map(|number| number as usize);
        let needed = stride.saturating_mul(used as usize).saturating_add(first);
        let bytes = bytes.get(..needed).ok_or(Damage::CutShort { needed, given: bytes.len() })?;
        let layout = Layout { first, stride, state, executor, record };
        Ok(Self { bytes, slots, used, lane, layout })
    }

    /// How many slots the table has.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// How many of them have ever been used, which are those that have rows.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.used
    }

    /// The lane of its tasks.
    #[must_use]
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// Where the anchor of its image was while that ran: tables and scopes with the same one are of the same image. Zero if
    /// no slot was ever used.
    #[must_use]
    pub fn anchor(&self) -> u64 {
        long(self.bytes, at::ANCHOR)
    }

    /// The build id of its image. [`BuildId::UNKNOWN`] if nobody had said it.
    #[must_use]
    pub fn build(&self) -> BuildId {
        let id = self.bytes.get(at::BUILD..).and_then(|rest| rest.first_chunk());
        id.map_or(BuildId::UNKNOWN, |id| BuildId::new(*id))
    }

    /// The slots that have ever been used. The image must be the one that the table is of; else texts are wrong ones,
    /// or [`LOST`](super::LOST).
    pub fn rows<'i, I: Image + ?Sized>(
        &self,
        image: &'i I,
    ) -> impl Iterator<Item = Row<'i>> + Clone + use<'i, 'b, I> {
        let Self { bytes, lane, layout: Layout { first, stride, state, executor, record }, .. } = *self;
        let slots = bytes.get(first..).unwrap_or_default().chunks_exact(stride);
        slots.zip(0..self.used).map(move |(slot, index)| {
            let words = Words::in_slot(slot, state, executor, record);
            Row::of(&words, index, lane, image)
        })
    }
}

impl ScopeCopy {
    fn parse(bytes: &[u8]) -> Result<Self, Damage> {
        let field = Fields(bytes);
        field.version(scope::at::END)?;
        field.within(
            "the size of a scope's head",
            scope::at::SIZE,
            scope::at::END as u32,
            scope::at::END as u32,
        )?;
        Ok(Self { anchor: long(bytes, scope::at::ANCHOR), words: ScopeWords::in_head(bytes) })
    }

    /// As for [`TableCopy::anchor`].
    #[must_use]
    pub fn anchor(&self) -> u64 {
        self.anchor
    }

    /// What the head says, with the name from its image. None if it was never open.
    #[must_use]
    pub fn read<'i>(&self, image: &'i (impl Image + ?Sized)) -> Option<Scope<'i>> {
        (self.words.address != 0).then(|| Scope::of(self.words, image))
    }
}

/// The head of something, field by field.
struct Fields<'b>(&'b [u8]);

impl Fields<'_> {
    /// Whether the version is ours, and the head all there.
    fn version(&self, head: usize) -> Result<(), Damage> {
        let short = Damage::CutShort { needed: head, given: self.0.len() };
        // Both kinds of heads have it in the same place.
        const { assert!(at::VERSION == scope::at::VERSION) };
        let version = self.0.get(at::VERSION..).and_then(|rest| rest.first_chunk()).ok_or(short)?;
        match u32::from_le_bytes(*version) {
            VERSION if self.0.len() >= head => Ok(()),
            VERSION => Err(short),
            other => Err(Damage::Version(other)),
        }
    }

    fn within(&self, name: &'static str, at: usize, least: u32, most: u32) -> Result<u32, Damage> {
        let found = half(self.0, at);
        if least <= found && found <= most {
            Ok(found)
        } else {
            Err(Damage::Field { name, found, least, most })
        }
    }
}

/// The number of 64 bits there. Zero beyond the end, which those who call this have looked at.
pub(super) fn long(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The number of 32 bits there.
pub(super) fn half(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(found) => write!(
                f,
                "it is of version {found}, and this reader knows version {VERSION}; use the reader that was built with it"
            ),
            Self::CutShort { needed, given } => {
                write!(
                    f,
                    "it is cut short: it has {needed} bytes, and {given} are left; copy all of the memory"
                )
            }
            Self::Field { name, found, least, most } if least == most => {
                write!(f, "it is damaged: {name} is {found}, and must be {least}")
            }
            Self::Field { name, found, least, most } => {
                write!(f, "it is damaged: {name} is {found}, and must be from {least} to {most}")
            }
        }
    }
}

impl core::error::Error for Damage {}

impl fmt::Debug for TableCopy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableCopy")
            .field("slots", &self.slots)
            .field("used", &self.used)
            .field("lane", &self.lane)
            .field("build", &self.build())
            .finish_non_exhaustive()
    }
}
