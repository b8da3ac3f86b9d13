//! What lives as long as an input.
#![expect(
    unsafe_code,
    reason = "what is for ever in a driver ends here with each input; a lender promises that its pages stay"
)]

use std::ptr::NonNull;

use kexec::irql::Dispatch;
use xen_abi::seam::{Access as _, Gfn};
use xen_sim::Guest;
use xenbus::{
    grant::{Frame, Grants, Lender},
    page::Ram,
    suspend::{Registration, Suspend},
};

/// The table, and what it needs.
pub(super) struct Statics {
    // In this order: each refers to those below.
    registration: Option<Registration<'static>>,
    grants: Kept<Grants<Guest>>,
    suspend: Kept<Suspend<1>>,
    _frames: Kept<[Frame<Guest>; 2]>,
}

impl Statics {
    pub(super) fn new(guest: &Guest) -> Self {
        let (suspend, frames) = (Kept::new(Suspend::new()), Kept::new([const { Frame::new() }; 2]));
        // SAFETY: it is dropped after the table.
        let epochs = unsafe { suspend.get() }.epochs();
        // SAFETY: as above.
        let lent = unsafe { frames.get() };
        let grants = Grants::new(guest.clone(), epochs, lent).expect("Xen has a table");
        Self { registration: None, grants: Kept::new(grants), suspend, _frames: frames }
    }

    /// Has the table renewed after each suspend.
    pub(super) fn listen(&mut self, at: &Dispatch) {
        let registration = self.suspend().register(at, self.grants());
        self.registration = Some(registration.expect("it is the first"));
    }

    /// The table. Whoever uses it is gone before this is.
    pub(super) fn grants(&self) -> &'static Grants<Guest> {
        // SAFETY: as it says.
        unsafe { self.grants.get() }
    }

    pub(super) fn suspend(&self) -> &'static Suspend<1> {
        // SAFETY: as above.
        unsafe { self.suspend.get() }
    }
}

/// A value that has references for ever, until somebody answers for there being none.
struct Kept<T>(NonNull<T>);

impl<T> Kept<T> {
    fn new(value: T) -> Self {
        Self(NonNull::from(Box::leak(Box::new(value))))
    }

    /// # Safety
    ///
    /// The reference is not used once this is dropped.
    unsafe fn get(&self) -> &'static T {
        // SAFETY: it is there until this is dropped.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        // SAFETY: it came from a box, and nobody uses it any more.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// Pages of somebody's, and one that is too high to be lent.
#[derive(Debug)]
pub(super) struct Request(pub(super) Vec<Ram<Guest>>);

// SAFETY: the pages are given back when this is dropped; at the last one there is nothing.
unsafe impl Lender for Request {
    fn page(&self, index: usize) -> Option<Gfn> {
        match self.0.get(index) {
            Some(page) => Some(page.gfn()),
            None => (index == self.0.len()).then_some(Gfn(1 << 32)),
        }
    }
}
