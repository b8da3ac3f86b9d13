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
    /// `address` is aligned to [`PAGE_SIZE`], and so many bytes from there are the page `gfn` as long as this value
    /// is used, readable and writable at any level. Whoever else accesses them does it in ways that a volatile or
    /// atomic access may meet.
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
        // SAFETY: an atomic is as large as its word and aligned like it, as is the place; the page is there as long
        // as `self` is, and who else writes to it does so as atomics may meet.
        unsafe { cell.cast::<W::Cell>().as_ref() }
    }
}

// SAFETY: each access is one of the page's bytes at a place that was checked; bytes are read and written once, by
// volatile.
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

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{boxed::Box, vec};

    use super::*;

    #[repr(C, align(4096))]
    struct Bytes([u8; PAGE_SIZE]);

    /// A page that is there as long as the test.
    fn with_page(test: impl FnOnce(&Mapped)) {
        let page = Box::into_raw(Box::new(Bytes([0; PAGE_SIZE])));
        let address = NonNull::new(page).expect("a box has an address").cast();
        // SAFETY: a page of this test's alone, which is given back after the last use.
        test(&unsafe { Mapped::new(address, Gfn(5)) });
        // SAFETY: it came from a box, and nobody uses it any more.
        drop(unsafe { Box::from_raw(page) });
    }

    /// The pointer arithmetic, at both ends of the page and for each size: what Miri looks at.
    #[test]
    fn each_word_at_both_ends() {
        fn ends<W: Word + From<u8>>(page: &Mapped) {
            for offset in [0, PAGE_SIZE - size_of::<W>()] {
                let place = Place::new(offset);
                page.store(place, W::from(0x0F));
                assert_eq!(page.fetch_or(place, W::from(0x30)), W::from(0x0F));
                assert_eq!(page.fetch_and(place, W::from(0x3C)), W::from(0x3F));
                assert_eq!(page.swap(place, W::from(1)), W::from(0x3C));
                assert_eq!(page.compare_exchange(place, W::from(2), W::from(3)), Err(W::from(1)));
                assert_eq!(page.compare_exchange(place, W::from(1), W::from(7)), Ok(W::from(1)));
                assert_eq!(page.load(place), W::from(7));
            }
        }
        with_page(|page| {
            ends::<u8>(page);
            ends::<u16>(page);
            ends::<u32>(page);
            ends::<u64>(page);
            assert_eq!(page.gfn(), Gfn(5));
        });
    }

    /// All of a page, and nothing beyond it; what does not fit is not touched.
    #[test]
    fn bytes_up_to_the_end() {
        with_page(|page| {
            let all: vec::Vec<u8> =
                (0..PAGE_SIZE).map(|index| u8::try_from(index % 251).expect("below 251")).collect();
            assert_eq!(page.write_bytes(0, &all), Ok(()));
            assert_eq!(page.write_bytes(1, &all), Err(Beyond { offset: 1, length: PAGE_SIZE }));
            let mut read = vec![0; PAGE_SIZE];
            assert_eq!(page.read_bytes(0, &mut read), Ok(()));
            assert_eq!(read, all);
            assert_eq!(page.read_bytes(PAGE_SIZE, &mut []), Ok(()));
            assert_eq!(
                page.read_bytes(usize::MAX, &mut read),
                Err(Beyond { offset: usize::MAX, length: PAGE_SIZE })
            );
            assert_eq!(page.read(Place::<[u8; 3]>::new(PAGE_SIZE - 3)), all[PAGE_SIZE - 3..]);
            page.write(Place::new(8), &0x0102_0304_u32.to_be_bytes());
            assert_eq!(page.load(Place::<u32>::new(8)), 0x0403_0201);
        });
    }
}
