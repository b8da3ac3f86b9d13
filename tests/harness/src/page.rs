//! Pages of a test's own, without a machine.
#![expect(unsafe_code, reason = "a page is made of the test's memory")]

use std::{fmt, ptr::NonNull, sync::Mutex};

use xen_abi::seam::{Access, Beyond, Gfn, Mapped, PAGE_SIZE, Place, Word};

#[repr(C, align(4096))]
struct Bytes([u8; PAGE_SIZE]);

/// Those of all tests, so that none counts as lost.
static PAGES: Mutex<Vec<&'static Mapped>> = Mutex::new(Vec::new());

/// A page of the test's, full of what nobody has put there, that is never freed.
///
/// # Panics
///
/// Another thread has, while it made one.
#[must_use]
pub fn page() -> &'static Mapped {
    let page = NonNull::from(Box::leak(Box::new(Bytes([0xA5; PAGE_SIZE])))).cast();
    // SAFETY: a page that nobody else has, and that is there for ever.
    let page: &'static Mapped = Box::leak(Box::new(unsafe { Mapped::new(page, Gfn(1)) }));
    PAGES.lock().expect("nobody panics with it").push(page);
    page
}

/// A page at which others do something before each access of the code under test.
pub struct Raced<'a> {
    /// The page.
    pub page: &'static Mapped,
    /// What the others do.
    pub others: &'a dyn Fn(),
}

impl Raced<'_> {
    fn page(&self) -> &Mapped {
        (self.others)();
        self.page
    }
}

// SAFETY: it is the page that does it.
unsafe impl Access for Raced<'_> {
    fn gfn(&self) -> Gfn {
        self.page.gfn()
    }

    fn load<W: Word>(&self, place: Place<W>) -> W {
        self.page().load(place)
    }

    fn store<W: Word>(&self, place: Place<W>, value: W) {
        self.page().store(place, value);
    }

    fn swap<W: Word>(&self, place: Place<W>, value: W) -> W {
        self.page().swap(place, value)
    }

    fn fetch_or<W: Word>(&self, place: Place<W>, bits: W) -> W {
        self.page().fetch_or(place, bits)
    }

    fn fetch_and<W: Word>(&self, place: Place<W>, bits: W) -> W {
        self.page().fetch_and(place, bits)
    }

    fn compare_exchange<W: Word>(&self, place: Place<W>, current: W, new: W) -> Result<W, W> {
        self.page().compare_exchange(place, current, new)
    }

    fn read_bytes(&self, offset: usize, into: &mut [u8]) -> Result<(), Beyond> {
        self.page().read_bytes(offset, into)
    }

    fn write_bytes(&self, offset: usize, from: &[u8]) -> Result<(), Beyond> {
        self.page().write_bytes(offset, from)
    }
}

impl fmt::Debug for Raced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Raced").field(self.page).finish()
    }
}
