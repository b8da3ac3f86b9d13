//! What the table's references are counted from.
//!
//! Strings, kinds and locations are static. Each is kept as its distance from [`ANCHOR`], which is the same in the image's
//! file and wherever the image is loaded.
#![forbid(unsafe_code)]

use core::{
    panic::Location,
    ptr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{BuildId, Kind};
use crate::task::handle::JOIN;

/// A fixed point of the image. A reader finds it in the file by its first bytes.
#[derive(Debug)]
#[repr(C, align(16))]
pub(crate) struct Anchor {
    magic: [u8; 16],
    /// The build id of the image, once somebody has said it.
    build: [AtomicU64; 2],
    /// One of each of the compiler's own structures that records refer to: who reads the file sees by them whether
    /// this compiler lays them out as he thinks.
    place: &'static Location<'static>,
    kind: &'static Kind,
}

/// The one of this image.
pub(crate) static ANCHOR: Anchor = Anchor {
    magic: *super::read::ANCHOR_MAGIC,
    build: [AtomicU64::new(0), AtomicU64::new(0)],
    place: Location::caller(),
    kind: &JOIN,
};

/// Says which build of the image this is, for the tables of all executors: to be called once, before the first task is
/// spawned, by whoever knows. Without it, tables cannot be told from those of another build.
///
/// On Windows `kexec-nt` does it; a program on a host says `BuildId::of_this_program`, with the feature
/// `std`. Callable at any level.
pub fn set_build_id(build: BuildId) {
    for (word, half) in ANCHOR.build.iter().zip(build.words()) {
        word.store(half, Relaxed);
    }
}

/// What was said with [`set_build_id`].
pub(crate) fn build_words() -> [u64; 2] {
    ANCHOR.build.each_ref().map(|word| word.load(Relaxed))
}

/// Where the anchor is while the image runs.
pub(crate) fn address() -> usize {
    ptr::from_ref(&ANCHOR).addr()
}

/// The distance of a static. Zero for what lies more than 2 GiB away, which is not in the image.
#[inline]
pub(crate) fn distance<T: ?Sized>(target: &'static T) -> u32 {
    let target = ptr::from_ref(target).cast::<u8>().expose_provenance();
    let distance = target.wrapping_sub(address()).cast_signed();
    i32::try_from(distance).unwrap_or(0).cast_unsigned()
}

/// A string: its distance in the low half, its length in the high half. Zero for one that cannot be told so.
#[inline]
pub(crate) fn text_word(text: &'static str) -> u64 {
    match (distance(text), u32::try_from(text.len())) {
        (0, _) | (_, Err(_)) => 0,
        (distance, Ok(length)) => u64::from(distance) | u64::from(length) << 32,
    }
}

/// A leaf: the distance of its place in the low half, which is even, and that of its kind in the high half.
#[inline]
pub(crate) fn leaf_word(kind: &'static Kind, place: &'static Location<'static>) -> u64 {
    u64::from(distance(place)) | u64::from(distance(kind)) << 32
}

const _: () = assert!(align_of::<Location<'_>>() > 1, "the lowest bit of a place's distance is a mark");
