//! Integers that are read and written in one piece.
#![forbid(unsafe_code)]

use core::{
    fmt,
    sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64},
};

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// An integer that the processor reads and writes in one piece: `u8`, `u16`, `u32` or `u64`.
pub trait Word:
    sealed::Atomic
    + FromBytes
    + IntoBytes
    + Immutable
    + Copy
    + Eq
    + fmt::Debug
    + fmt::LowerHex
    + Send
    + Sync
    + 'static
{
}

/// An integer that goes through a port: `u8`, `u16` or `u32`.
pub trait Port: Word + Into<u32> {}

impl Port for u8 {}
impl Port for u16 {}
impl Port for u32 {}

pub(crate) mod sealed {
    /// The atomic operations on an integer's memory.
    pub trait Atomic: Sized {
        type Cell: Sync;
        fn load(cell: &Self::Cell) -> Self;
        fn store(cell: &Self::Cell, value: Self);
        fn swap(cell: &Self::Cell, value: Self) -> Self;
        fn fetch_or(cell: &Self::Cell, bits: Self) -> Self;
        fn fetch_and(cell: &Self::Cell, bits: Self) -> Self;
        fn compare_exchange(cell: &Self::Cell, current: Self, new: Self) -> Result<Self, Self>;
    }
}

macro_rules! words {
    ($($word:ty: $cell:ty,)*) => { $(
        impl Word for $word {}

        impl sealed::Atomic for $word {
            type Cell = $cell;

            #[inline]
            fn load(cell: &$cell) -> Self {
                cell.load(core::sync::atomic::Ordering::Acquire)
            }

            #[inline]
            fn store(cell: &$cell, value: Self) {
                cell.store(value, core::sync::atomic::Ordering::Release);
            }

            #[inline]
            fn swap(cell: &$cell, value: Self) -> Self {
                cell.swap(value, core::sync::atomic::Ordering::SeqCst)
            }

            #[inline]
            fn fetch_or(cell: &$cell, bits: Self) -> Self {
                cell.fetch_or(bits, core::sync::atomic::Ordering::SeqCst)
            }

            #[inline]
            fn fetch_and(cell: &$cell, bits: Self) -> Self {
                cell.fetch_and(bits, core::sync::atomic::Ordering::SeqCst)
            }

            #[inline]
            fn compare_exchange(cell: &$cell, current: Self, new: Self) -> Result<Self, Self> {
                use core::sync::atomic::Ordering::SeqCst;
                cell.compare_exchange(current, new, SeqCst, SeqCst)
            }
        }
    )* };
}

words! {
    u8: AtomicU8,
    u16: AtomicU16,
    u32: AtomicU32,
    u64: AtomicU64,
}
