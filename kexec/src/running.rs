//! The image that runs: what the records of its own tasks refer to, found by its address.
#![cfg(feature = "table")]
#![expect(unsafe_code, reason = "distances become references again")]

use core::{panic::Location, ptr, slice, str};

use crate::{
    Lane,
    task::Header,
    task_table::{Kind, Place, Row, Scope, ScopeHead, anchor, read::Image, record::Words},
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

    /// Where a static is.
    fn at<T>(distance: i32) -> *const T {
        ptr::with_exposed_provenance(anchor::address().wrapping_add_signed(distance as isize))
    }
}

impl Image for Running {
    fn text(&self, distance: i32, length: u32) -> Option<&str> {
        // SAFETY: `text_word` has made the word, whose halves were stored as one, of a static string, and exposed it.
        let bytes = unsafe { slice::from_raw_parts(Self::at::<u8>(distance), length as usize) };
        // SAFETY: as above.
        Some(unsafe { str::from_utf8_unchecked(bytes) })
    }

    fn place(&self, distance: i32) -> Option<Place<'_>> {
        // SAFETY: `distance` was given a static location, and has exposed it.
        let location: &'static Location<'static> = unsafe { &*Self::at(distance) };
        Some(Place { file: location.file(), line: location.line(), column: location.column() })
    }

    fn kind(&self, distance: i32) -> Option<&str> {
        // SAFETY: `leaf_word` was given a static kind, and has exposed it.
        let kind: &'static Kind = unsafe { &*Self::at(distance) };
        Some(kind.name())
    }
}
