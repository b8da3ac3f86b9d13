//! What is at each place of a guest's physical memory.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use xen_abi::{GrantRef, seam::Gfn};

use super::{Page, XenPage};

/// What is at a guest-physical page.
#[derive(Clone, Debug)]
pub(crate) enum Backing {
    /// RAM of the guest's.
    Ram(Page),
    /// A page of Xen's own.
    Xen(XenPage),
    /// A page of another domain's.
    Foreign(Foreign),
}

/// A page of another domain's, in the guest's memory by a grant.
#[derive(Clone, Debug)]
pub(crate) struct Foreign {
    pub(crate) page: Page,
    pub(crate) writable: bool,
    pub(crate) granter: u16,
    pub(crate) reference: GrantRef,
}

/// A page of Xen's own that a guest may put into its memory, in one place at a time.
#[derive(Debug)]
struct XensOwn {
    page: Page,
    place: Option<Gfn>,
}

/// Guest-physical memory.
#[derive(Debug, Default)]
pub(crate) struct Physmap {
    places: BTreeMap<Gfn, Backing>,
    xen: BTreeMap<XenPage, XensOwn>,
}

impl Physmap {
    /// Whether there can be something: four levels of page tables reach so far.
    pub(crate) const fn reaches(gfn: Gfn) -> bool {
        gfn.0 < 1 << 36
    }

    pub(crate) fn get(&self, gfn: Gfn) -> Option<&Backing> {
        self.places.get(&gfn)
    }

    /// The page that the guest reads there.
    pub(crate) fn page(&self, gfn: Gfn) -> Option<&Page> {
        match self.places.get(&gfn)? {
            Backing::Ram(page) | Backing::Foreign(Foreign { page, .. }) => Some(page),
            Backing::Xen(page) => self.xen_page(*page),
        }
    }

    /// A page of Xen's own, wherever the guest has put it.
    pub(crate) fn xen_page(&self, page: XenPage) -> Option<&Page> {
        self.xen.get(&page).map(|own| &own.page)
    }

    /// Where the guest has put a page of Xen's.
    pub(crate) fn place_of(&self, page: XenPage) -> Option<Gfn> {
        self.xen.get(&page)?.place
    }

    /// Lets Xen have a page of its own for the guest, which is new: it is nowhere yet.
    pub(crate) fn add(&mut self, page: XenPage) {
        let new = XensOwn { page: Page::zeroed(), place: None };
        if let Some(XensOwn { place: Some(old), .. }) = self.xen.insert(page, new) {
            self.places.remove(&old);
        }
    }

    /// Puts something at a place, and answers what was there. It has been taken from where it was.
    pub(crate) fn put(&mut self, gfn: Gfn, backing: Backing) -> Option<Backing> {
        let before = self.take(gfn);
        if let Backing::Xen(page) = backing
            && let Some(own) = self.xen.get_mut(&page)
        {
            own.place = Some(gfn);
        }
        self.places.insert(gfn, backing);
        before
    }

    /// Empties a place, and answers what was there.
    pub(crate) fn take(&mut self, gfn: Gfn) -> Option<Backing> {
        let before = self.places.remove(&gfn)?;
        if let Backing::Xen(page) = before
            && let Some(own) = self.xen.get_mut(&page)
        {
            own.place = None;
        }
        Some(before)
    }

    /// Takes out everything that is not the guest's own RAM, and says where it was.
    pub(crate) fn forget_xen(&mut self) -> Vec<Gfn> {
        self.xen.clear();
        let gone = self.places.extract_if(.., |_, backing| !matches!(backing, Backing::Ram(_)));
        gone.map(|(gfn, _)| gfn).collect()
    }

    /// The highest place at which there is something.
    pub(crate) fn highest(&self) -> Option<Gfn> {
        self.places.keys().next_back().copied()
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = (Gfn, &Backing)> {
        self.places.iter().map(|(gfn, backing)| (*gfn, backing))
    }

    /// What must hold whatever the guest does: a page of Xen's is where Xen believes it is, and nowhere else.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (gfn, backing) in self.places() {
            if let Backing::Xen(page) = backing
                && self.place_of(*page) != Some(gfn)
            {
                return Err(format!("{page} is at {gfn:?}, and Xen has it at {:?}", self.place_of(*page)));
            }
        }
        let placed = self.xen.iter().filter_map(|(page, own)| Some((*page, own.place?)));
        for (page, place) in placed {
            if !matches!(self.get(place), Some(Backing::Xen(there)) if *there == page) {
                return Err(format!("Xen has {page} at {place:?}, where {:?} is", self.get(place)));
            }
        }
        Ok(())
    }
}
