//! Where in a page something is.
#![forbid(unsafe_code)]

use core::{fmt, marker::PhantomData};

/// Bytes in a page: what Xen maps, grants and shares.
pub const PAGE_SIZE: usize = 4096;

/// The place of a `T` in a page: inside it, and aligned.
///
/// It is made from a layout in a constant, so that one that cannot be does not compile:
///
/// ```
/// use xen_abi::seam::Place;
///
/// const LAST: Place<u32> = Place::new(4092);
/// assert_eq!(LAST.offset(), 4092);
/// ```
///
/// ```compile_fail
/// # use xen_abi::seam::Place;
/// const BEYOND: Place<u32> = Place::new(4094);
/// # assert_eq!(BEYOND.offset(), 4094);
/// ```
pub struct Place<T> {
    offset: u16,
    what: PhantomData<fn() -> T>,
}

impl<T> Place<T> {
    /// At this many bytes from the page's beginning.
    ///
    /// # Panics
    ///
    /// It does not lie in the page, or is not aligned. In a constant that is an error of the compiler's.
    #[must_use]
    pub const fn new(offset: usize) -> Self {
        match Self::at(offset) {
            Some(place) => place,
            None => panic!("not an aligned place in a page"),
        }
    }

    /// At this many bytes from the page's beginning; none if it does not lie in the page, or is not aligned.
    #[must_use]
    pub const fn at(offset: usize) -> Option<Self> {
        let last = PAGE_SIZE.checked_sub(size_of::<T>());
        let fits = matches!(last, Some(last) if offset <= last);
        if fits && offset.is_multiple_of(align_of::<T>()) {
            #[expect(clippy::cast_possible_truncation, reason = "it lies in the page")]
            Some(Self { offset: offset as u16, what: PhantomData })
        } else {
            None
        }
    }

    /// Bytes from the page's beginning.
    #[must_use]
    pub const fn offset(self) -> usize {
        self.offset as usize
    }
}

/// The places of `count` equal things in a page, one every `stride` bytes.
pub struct Places<T> {
    first: Place<T>,
    stride: u16,
    count: u16,
}

impl<T> Places<T> {
    /// The first at `first` bytes from the page's beginning.
    ///
    /// # Panics
    ///
    /// The last does not lie in the page, or they are not aligned, or none at all. In a constant that is an error of
    /// the compiler's.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "what lies in a page fits")]
    pub const fn new(first: usize, stride: usize, count: usize) -> Self {
        assert!(stride >= size_of::<T>() && stride.is_multiple_of(align_of::<T>()));
        assert!(count > 0 && count <= PAGE_SIZE && stride <= PAGE_SIZE);
        let last = first + (count - 1) * stride;
        assert!(Place::<T>::at(last).is_some(), "they do not all lie in the page");
        Self { first: Place::new(first), stride: stride as u16, count: count as u16 }
    }

    /// How many there are.
    #[must_use]
    pub const fn count(self) -> usize {
        self.count as usize
    }

    /// One of them; none if there are not so many.
    #[must_use]
    pub const fn get(self, index: usize) -> Option<Place<T>> {
        if index < self.count() {
            // It lies before the last, which lies in the page.
            Place::at(self.first.offset().wrapping_add(index.wrapping_mul(self.stride as usize)))
        } else {
            None
        }
    }
}

/// Bytes that are not in the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beyond {
    /// From here,
    pub offset: usize,
    /// so many.
    pub length: usize,
}

impl Beyond {
    /// Whether these bytes lie in a page.
    ///
    /// # Errors
    ///
    /// They do not.
    pub const fn check(offset: usize, length: usize) -> Result<(), Self> {
        match PAGE_SIZE.checked_sub(offset) {
            Some(left) if length <= left => Ok(()),
            _ => Err(Self { offset, length }),
        }
    }
}

impl fmt::Display for Beyond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {} do not lie in a page of {PAGE_SIZE}", self.length, self.offset)
    }
}

impl core::error::Error for Beyond {}

// By hand: a place is as good as a number, whatever is there.
impl<T> Clone for Place<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Place<T> {}
impl<T> fmt::Debug for Place<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({})", self.offset)
    }
}
impl<T> PartialEq for Place<T> {
    fn eq(&self, other: &Self) -> bool {
        self.offset == other.offset
    }
}
impl<T> Eq for Place<T> {}
impl<T> Clone for Places<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Places<T> {}
impl<T> fmt::Debug for Places<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Places({} of {} from {})", self.count, self.stride, self.first.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end of the page is where an index that a peer chose would come out.
    #[test]
    fn nothing_lies_beyond_the_page() {
        assert!(Place::<u64>::at(4088).is_some());
        for offset in [4089, 4092, 4096, usize::MAX, 4] {
            assert_eq!(Place::<u64>::at(offset), None, "{offset}");
        }
        let slots = Places::<u64>::new(64, 112, 36);
        assert_eq!(slots.get(35).map(Place::offset), Some(64 + 35 * 112));
        assert_eq!(slots.get(36), None);
        assert_eq!(slots.get(usize::MAX), None);
        assert_eq!(Beyond::check(4096, 0), Ok(()));
        assert_eq!(Beyond::check(4095, 2), Err(Beyond { offset: 4095, length: 2 }));
        assert_eq!(Beyond::check(4097, 0), Err(Beyond { offset: 4097, length: 0 }));
        assert_eq!(Beyond::check(1, usize::MAX), Err(Beyond { offset: 1, length: usize::MAX }));
    }
}
