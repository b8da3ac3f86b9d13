//! Pages for unit tests.
#![expect(unsafe_code, reason = "a page is made of the test's memory")]

use core::ptr::NonNull;
use std::{boxed::Box, sync::Mutex, vec::Vec};

use xen_abi::seam::{Gfn, Mapped, PAGE_SIZE};

#[repr(C, align(4096))]
struct Bytes([u8; PAGE_SIZE]);

/// Those of all tests, so that none counts as lost.
static PAGES: Mutex<Vec<&'static Mapped>> = Mutex::new(Vec::new());

/// A page of the test's, full of what nobody has put there, that is never freed.
pub(crate) fn page() -> &'static Mapped {
    let page = NonNull::from(Box::leak(Box::new(Bytes([0xA5; PAGE_SIZE])))).cast();
    // SAFETY: a page that nobody else has, and that is there for ever.
    let page: &'static Mapped = Box::leak(Box::new(unsafe { Mapped::new(page, Gfn(1)) }));
    PAGES.lock().expect("nobody panics with it").push(page);
    page
}
