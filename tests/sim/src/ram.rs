//! A guest's memory: what is at each place, who in the guest uses it, and what has happened to it.
//!
//! - [`Page`]: a page of the machine's memory, and its bytes;
//! - [`Physmap`]: what is where in the guest: RAM, pages of Xen's, pages of other domains', nothing;
//! - [`Ram`]: that, and the guest's own use of it: pages that it took from its kernel and has to give back;
//! - [`History`]: what has happened to a page.
//!
//! What the guest does wrong with its pages is found in [`audit`](crate::audit).
#![forbid(unsafe_code)]

mod history;
mod page;
mod physmap;

use std::{collections::BTreeMap, fmt};

use xen_abi::seam::{Gfn, NoMemory};

pub(crate) use self::{
    history::{Event, History, Moment, Site},
    page::{Bytes, Page},
    physmap::{Backing, Foreign, Physmap},
};
use crate::audit::{Books, Mark};

/// A page of Xen's own, which a guest sees where it has put it (`XENMEM_add_to_physmap`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum XenPage {
    /// `XENMAPSPACE_shared_info`
    SharedInfo,
    /// `XENMAPSPACE_grant_table`: the frame of this number.
    GrantTable(u32),
}

impl fmt::Display for XenPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SharedInfo => f.write_str("the shared info page"),
            Self::GrantTable(frame) => write!(f, "frame {frame} of the grant table"),
        }
    }
}

/// How a page came to be in use by the guest's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// The guest allocated RAM.
    Allocated,
    /// The guest asked for space without RAM.
    Hole,
    /// The toolstack put it there: the guest mapped it.
    Existing,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allocated => "RAM",
            Self::Hole => "a hole",
            Self::Existing => "a page of the toolstack's",
        })
    }
}

/// A page that the guest's code has, or had, from its kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    pub(crate) how: Use,
    /// Who asked for it last.
    pub(crate) taken: Moment,
    /// How often it was taken and not given back.
    pub(crate) times: u32,
}

/// Where pages that are handed out begin: above what firmware and devices have.
const FIRST: u64 = 0x10_0000;

/// The memory of a domain.
#[derive(Debug)]
pub(crate) struct Ram {
    pub(crate) physmap: Physmap,
    pub(crate) leases: BTreeMap<Gfn, Lease>,
    pub(crate) books: Books,
    /// Pages of RAM that the domain has,
    pub(crate) reserved: u64,
    /// and may have.
    pub(crate) most_reserved: u64,
    /// Pages of it that the kernel can hand out.
    free: u64,
    pub(crate) allocated: Mark,
    /// How many requests are met before one is not.
    until_refused: Option<u64>,
    /// Where the next page will be. Frame numbers are not used again, so that a page that was given back cannot be mistaken for another.
    next: u64,
}

impl Ram {
    /// Memory of so many pages.
    pub(crate) fn new(pages: u64) -> Self {
        let mut physmap = Physmap::default();
        physmap.add(XenPage::SharedInfo);
        Self {
            physmap,
            leases: BTreeMap::new(),
            books: Books::default(),
            reserved: pages,
            most_reserved: pages,
            free: pages,
            allocated: Mark::default(),
            until_refused: None,
            next: FIRST,
        }
    }

    // What the toolstack does.

    /// What Xen has put into the guest is gone, and what it had of others; a page for a new domain's shared info is there, and nowhere.
    pub(crate) fn forget_xen(&mut self, moment: Moment) {
        for gfn in self.physmap.forget_xen() {
            self.books.note(gfn, Event::Lost, moment);
        }
        self.physmap.add(XenPage::SharedInfo);
    }

    /// A page that the guest is built with. That of a guest that was saved is there, and empty again.
    pub(crate) fn build(&mut self, gfn: Gfn, moment: Moment) {
        if self.physmap.put(gfn, Backing::Ram(Page::zeroed())).is_none() {
            self.reserved += 1;
            self.most_reserved += 1;
        }
        self.books.note(gfn, Event::Built, moment);
    }

    // What the guest asks its kernel for.

    /// A new page of RAM, all zero.
    pub(crate) fn allocate(&mut self, moment: Moment) -> Result<Gfn, NoMemory> {
        self.request()?;
        self.free = self.free.checked_sub(1).ok_or(NoMemory)?;
        let gfn = self.fresh();
        self.physmap.put(gfn, Backing::Ram(Page::zeroed()));
        self.allocated.raise();
        self.lease(gfn, Use::Allocated, moment);
        Ok(gfn)
    }

    /// A page without anything behind it.
    pub(crate) fn hole(&mut self, moment: Moment) -> Result<Gfn, NoMemory> {
        self.request()?;
        let gfn = self.fresh();
        self.lease(gfn, Use::Hole, moment);
        Ok(gfn)
    }

    /// The guest maps what the toolstack has put there.
    pub(crate) fn existing(&mut self, gfn: Gfn, moment: Moment) -> Result<(), NoMemory> {
        self.request()?;
        self.lease(gfn, Use::Existing, moment);
        Ok(())
    }

    /// Lets the n-th request from now fail.
    pub(crate) fn refuse(&mut self, nth: u64) {
        self.until_refused = nth.checked_sub(1);
    }

    fn request(&mut self) -> Result<(), NoMemory> {
        match self.until_refused {
            Some(0) => {
                self.until_refused = None;
                Err(NoMemory)
            }
            Some(left) => {
                self.until_refused = Some(left - 1);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn fresh(&mut self) -> Gfn {
        let gfn = Gfn(self.next);
        self.next += 1;
        gfn
    }

    /// The kernel has got a page of RAM back.
    pub(crate) fn returned(&mut self) {
        self.free += 1;
    }

    fn lease(&mut self, gfn: Gfn, how: Use, moment: Moment) {
        let event = match how {
            Use::Allocated => Event::Allocated,
            Use::Hole => Event::SetAside,
            Use::Existing => Event::Mapped,
        };
        self.books.note(gfn, event, moment);
        let lease = self.leases.entry(gfn).or_insert(Lease { how, taken: moment, times: 0 });
        lease.taken = moment;
        lease.times += 1;
    }

    // What Xen does with it.

    /// Xen makes a page of its own for the guest, all zero. The guest does not see it before it puts it somewhere.
    pub(crate) fn give(&mut self, page: XenPage) {
        self.physmap.add(page);
    }

    /// Lets the domain have so many pages more, if it may.
    pub(crate) fn reserve(&mut self, pages: u64) -> bool {
        let enough = self.reserved.saturating_add(pages) <= self.most_reserved;
        if enough {
            self.reserved += pages;
        }
        enough
    }

    /// The domain has a page less.
    pub(crate) fn surrender(&mut self) {
        // A guest may give away more than it has: what its kernel has got back, and handed out elsewhere.
        self.reserved = self.reserved.saturating_sub(1);
    }

    /// A page of Xen's own, wherever the guest has put it.
    pub(crate) fn xen_page(&self, page: XenPage) -> Option<Bytes<'_>> {
        self.physmap.xen_page(page).map(Page::bytes)
    }

    /// What must hold whatever the guest does.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.reserved > self.most_reserved {
            return Err(format!("{} pages of {}", self.reserved, self.most_reserved));
        }
        self.physmap.check()
    }
}
