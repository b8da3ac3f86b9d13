//! The bytes of a page that is at an address.
#![expect(
    unsafe_code,
    reason = "memory that another domain writes has no references: it is reached by address"
)]

use core::ptr::NonNull;

use super::{Access, Beyond, Gfn, PAGE_SIZE, Place, Word};

/// A page that the kernel has mapped: what its [`Memory`](super::Memory) hands out, or a part of that.
#[derive(Debug)]
pub struct Mapped {
    address: NonNull<u8>,
    gfn: Gfn,
}

// SAFETY: the page is the same from every processor, and is only touched atomically or byte by byte.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// The page at this address.
    ///
    /// # Safety
    ///
    /// `address` is aligned to [`PAGE_SIZE`], and so many bytes from there are the page `gfn` as long as this value is used, readable
    /// and writable at any level. Whoever else accesses them does it in ways that a volatile or atomic access may meet.
    #[must_use]
    pub const unsafe fn new(address: NonNull<u8>, gfn: Gfn) -> Self {
        Self { address, gfn }
    }

    /// Where the page is.
    #[must_use]
    pub const fn address(&self) -> NonNull<u8> {
        self.address
    }

    /// The atomic at a place.
    #[inline]
    fn cell<W: Word>(&self, place: Place<W>) -> &W::Cell {
        // SAFETY: a place lies in the page.
        let cell = unsafe { self.address.add(place.offset()) };
        // SAFETY: an atomic is as large as its word and aligned like it, as is the place; the page is there as long as `self` is,
        // and who else writes to it does so as atomics may meet.
        unsafe { cell.cast::<W::Cell>().as_ref() }
    }
}

// SAFETY: each access is one of the page's bytes at a place that was checked; bytes are read and written once, by volatile.
unsafe impl Access for Mapped {
    #[inline]
    fn gfn(&self) -> Gfn {
        self.gfn
    }

    #[inline]
    fn load<W: Word>(&self, place: Place<W>) -> W {
        W::load(self.cell(place))
    }

    #[inline]
    fn store<W: Word>(&self, place: Place<W>, value: W) {
        W::store(self.cell(place), value);
    }

    #[inline]
    fn swap<W: Word>(&self, place: Place<W>, value: W) -> W {
        W::swap(self.cell(place), value)
    }

    #[inline]
    fn fetch_or<W: Word>(&self, place: Place<W>, bits: W) -> W {
        W::fetch_or(self.cell(place), bits)
    }

    #[inline]
    fn fetch_and<W: Word>(&self, place: Place<W>, bits: W) -> W {
        W::fetch_and(self.cell(place), bits)
    }

    #[inline]
    fn compare_exchange<W: Word>(&self, place: Place<W>, current: W, new: W) -> Result<W, W> {
        W::compare_exchange(self.cell(place), current, new)
    }

    fn read_bytes(&self, offset: usize, into: &mut [u8]) -> Result<(), Beyond> {
        Beyond::check(offset, into.len())?;
        for (index, byte) in (offset..PAGE_SIZE).zip(into) {
            // SAFETY: `index` is less than a page.
            let from = unsafe { self.address.add(index) };
            // SAFETY: it is a byte of the page.
            *byte = unsafe { from.read_volatile() };
        }
        Ok(())
    }

    fn write_bytes(&self, offset: usize, from: &[u8]) -> Result<(), Beyond> {
        Beyond::check(offset, from.len())?;
        for (index, byte) in (offset..PAGE_SIZE).zip(from) {
            // SAFETY: `index` is less than a page.
            let to = unsafe { self.address.add(index) };
            // SAFETY: it is a byte of the page.
            unsafe { to.write_volatile(*byte) };
        }
        Ok(())
    }
}
