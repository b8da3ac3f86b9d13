//! The image that runs: what the records of its own tasks refer to, found by its address.
#![cfg(feature = "table")]
#![expect(unsafe_code, reason = "distances become references again")]

use core::{panic::Location, ptr, slice, str};

use crate::{
    Lane,
    task::Header,
    task_table::{
        Kind, Place, Row, Scope, ScopeHead, anchor,
        read::Image,
        record::{LABELLED, Record, Words},
    },
    trace::Parked,
};

/// What a slot's header says at this moment: see [`Words::of`].
pub(crate) fn row(header: &Header, slot: u32, lane: Lane) -> Row<'static> {
    // SAFETY: the words are a header's.
    Row::of(&Words::of(header), slot, lane, unsafe { Running::assume() })
}

/// What a scope's head says; none if it was never open.
pub(crate) fn scope(head: &ScopeHead) -> Option<Scope<'static>> {
    // SAFETY: the words are a head's.
    head.words().map(|words| Scope::of(words, unsafe { Running::assume() }))
}

/// The image that runs.
struct Running(());

impl Running {
    /// # Safety
    ///
    /// It is asked for nothing but what is in the words of a header or a scope's head: never for what was read from a copy.
    unsafe fn assume() -> &'static Self {
        &Self(())
    }
}

/// The static at this distance.
///
/// # Safety
///
/// The distance was told of a static `T` by this image.
unsafe fn target<T>(distance: i32) -> &'static T {
    let address = anchor::address().wrapping_add_signed(distance as isize);
    // SAFETY: there is a `T`, for ever; its provenance was exposed when the distance was told.
    unsafe { &*ptr::with_exposed_provenance(address) }
}

/// The string at this distance.
///
/// # Safety
///
/// Distance and length were told of a string by this image.
unsafe fn string(distance: i32, length: u32) -> &'static str {
    let start = anchor::address().wrapping_add_signed(distance as isize);
    // SAFETY: so many bytes are there, for ever, and nobody writes them.
    let bytes = unsafe { slice::from_raw_parts(ptr::with_exposed_provenance(start), length as usize) };
    // SAFETY: they are a string's.
    unsafe { str::from_utf8_unchecked(bytes) }
}

impl Image for Running {
    fn text(&self, distance: i32, length: u32) -> Option<&str> {
        // SAFETY: `text_word` has made the word, whose halves were stored as one, of a static string.
        Some(unsafe { string(distance, length) })
    }

    fn place(&self, distance: i32) -> Option<Place<'_>> {
        // SAFETY: `distance` was given a static location.
        let location = unsafe { target::<Location<'_>>(distance) };
        Some(Place { file: location.file(), line: location.line(), column: location.column() })
    }

    fn kind(&self, distance: i32) -> Option<&str> {
        // SAFETY: `leaf_word` was given a static kind.
        Some(unsafe { target::<Kind>(distance) }.name())
    }
}

/// What a trace tells of a task.
impl Record {
    /// The task's name, and where it was spawned.
    pub(crate) fn origin(&self) -> (Option<&'static str>, Option<&'static Location<'static>>) {
        let (name, site) = (self.name(), self.site().cast_signed());
        // SAFETY: the word is a string's, unless it is zero.
        let name = (name != 0).then(|| unsafe { string(low(name), high(name)) });
        // SAFETY: the distance is a location's, unless it is zero.
        let site = (site != 0).then(|| unsafe { target(site) });
        (name, site)
    }

    /// Where the task has parked.
    pub(crate) fn parked(&self) -> Parked {
        let (leaf, label) = (self.leaf(), self.label_word());
        let (place, kind) = (low(leaf & !LABELLED), high(leaf).cast_signed());
        // SAFETY: the high half is a kind's, and the low one a location's, unless they are zero.
        let kind_of = || unsafe { target::<Kind>(kind) };
        // SAFETY: as above.
        let place_of = || unsafe { target::<Location<'_>>(place) };
        // SAFETY: the word is a string's, unless it is zero.
        let label_of = || unsafe { string(low(label), high(label)) };
        Parked {
            leaf: (kind != 0).then(|| (kind_of(), place_of())),
            label: (leaf & LABELLED != 0 && label != 0).then(label_of),
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
fn low(word: u64) -> i32 {
    (word as u32).cast_signed()
}

fn high(word: u64) -> u32 {
    (word >> 32) as u32
}
