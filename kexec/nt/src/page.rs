//! A page of the image, and where it is in physical memory.
#![expect(unsafe_code, reason = "its bytes are shared, and NT is asked for its address")]

use core::{cell::UnsafeCell, fmt, ptr::NonNull};

use nt_sys::ntddk;

/// Bytes in a page (`PAGE_SIZE`, `PAGE_SHIFT`).
const SIZE: usize = 1 << SHIFT;
const SHIFT: u32 = 12;

/// A page that is there from the image's load to its unload, in a crash dump too, where there is no pool: for a `static`.
#[repr(C, align(4096))]
pub struct Page(UnsafeCell<[u8; SIZE]>);

// SAFETY: whoever gets at its bytes does so by address, and answers for how.
unsafe impl Sync for Page {}

impl Page {
    /// All zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(UnsafeCell::new([0; SIZE]))
    }

    /// Where it is for this driver: aligned to its size.
    #[must_use]
    pub const fn address(&self) -> NonNull<u8> {
        NonNull::from_ref(&self.0).cast()
    }

    /// Its number in physical memory: the address there, divided by its size. Callable at any level.
    #[must_use]
    pub fn number(&'static self) -> u64 {
        // SAFETY: the page is there, and what a driver has for ever is not paged.
        let address = unsafe { ntddk::MmGetPhysicalAddress(self.address().as_ptr().cast()) };
        // SAFETY: both views of the union are integers.
        let address = unsafe { address.QuadPart }.cast_unsigned();
        address >> SHIFT
    }
}

impl Default for Page {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Page").field(&self.address()).finish()
    }
}
