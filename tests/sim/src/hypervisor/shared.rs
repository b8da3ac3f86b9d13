//! Memory that Xen writes to for a guest: its shared info page, or a page of its own that it has registered.
//!
//! Xen has no better access to it than the guest: what it reads there may be anything, and what it writes the guest
//! may overwrite. Like Xen, who holds a reference to each registered page, the simulation knows them by frame number;
//! a page that is not there any more reads as nothing, and takes nothing.
#![forbid(unsafe_code)]

use std::fmt;

use xen_abi::seam::{Gfn, Place, Word};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::ram::{Page, Ram, XenPage};

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Area {
    /// `struct shared_info`, wherever the guest has put it, and even if it has not.
    SharedInfo,
    /// One of the guest's.
    Guest(Gfn),
}

/// A place there.
pub(crate) struct Shared<T> {
    pub(crate) area: Area,
    pub(crate) place: Place<T>,
}

impl Area {
    /// A place there.
    pub(crate) const fn at<T>(self, place: Place<T>) -> Shared<T> {
        Shared { area: self, place }
    }
}

impl Ram {
    fn shared(&self, area: Area) -> Option<&Page> {
        match area {
            Area::SharedInfo => self.physmap.xen_page(XenPage::SharedInfo),
            Area::Guest(gfn) => self.physmap.page(gfn),
        }
    }

    /// Whether there is RAM, or a page of Xen's, that Xen can write to for the guest.
    pub(crate) fn can_share(&self, gfn: Gfn) -> bool {
        self.physmap.page(gfn).is_some()
    }

    /// What is there.
    pub(crate) fn load<T: FromBytes>(&self, from: Shared<T>) -> Option<T> {
        let bytes = self.shared(from.area)?.bytes();
        let (value, _) = T::read_from_prefix(&bytes[from.place.offset()..]).ok()?;
        Some(value)
    }

    /// Writes there.
    pub(crate) fn store<T: IntoBytes + Immutable>(&mut self, to: Shared<T>, value: &T) {
        if let Some(page) = self.shared(to.area) {
            page.write(to.place.offset(), value.as_bytes()).expect("a place lies in the page");
        }
    }

    /// Changes a word in one piece, and says what it was.
    pub(crate) fn update<W: Word>(&mut self, at: Shared<W>, new: impl FnOnce(W) -> W) -> Option<W> {
        let old = self.load(at)?;
        self.store(at, &new(old));
        Some(old)
    }
}

// By hand: a place is as good as a number, whatever is there.
impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Shared<T> {}
impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("area", &self.area).field("place", &self.place).finish()
    }
}
