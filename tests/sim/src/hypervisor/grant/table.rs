//! A domain's grant table: what it lets others use, and what it uses of theirs.
//!
//! The entries are in pages that the guest writes ([`XenPage::GrantTable`]), and are read there when they are used. What Xen knows
//! besides is who uses an entry now: from then on that counts, and no longer what the entry says.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use xen_abi::{
    GrantRef,
    grant_table::{
        ENTRIES_PER_PAGE, GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY, GTF_SUB_PAGE, GTF_TYPE_MASK,
        GTF_WRITING, GrantEntryV1, status::GrantError,
    },
    seam::Gfn,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::{
    audit::Mark,
    hypervisor::domain::Domain,
    ram::{Backing, Event, Moment, Page, XenPage},
};

/// A domain's grant table.
#[derive(Debug)]
pub(crate) struct Table {
    /// Pages that it has,
    pub(crate) frames: u32,
    /// and may have.
    pub(crate) most_frames: u32,
    /// The entries that are in use.
    active: BTreeMap<GrantRef, Active>,
    pub(crate) tracks: Tracks,
    /// For the audit: when the guest made an entry valid.
    granted: BTreeMap<GrantRef, Moment>,
    pub(crate) grants: Mark,
}

/// An entry that is in use.
#[derive(Debug)]
struct Active {
    by: u16,
    page: Page,
    gfn: Gfn,
    readers: u8,
    writers: u8,
}

impl Active {
    /// An entry can be in use so often, for reading and for writing: the counters have eight bits, and one more must fit.
    const MOST: u8 = 0x80;

    const fn counter(&mut self, purpose: Purpose) -> &mut u8 {
        if purpose.writable { &mut self.writers } else { &mut self.readers }
    }
}

/// What an entry is to be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Purpose {
    pub(crate) by: u16,
    pub(crate) writable: bool,
    /// To map the page, rather than to copy from or to it.
    pub(crate) mapped: bool,
}

/// The entries in some bytes of a table.
pub(crate) fn entries(bytes: &[u8]) -> impl Iterator<Item = GrantEntryV1> {
    let read = |bytes| GrantEntryV1::read_from_bytes(bytes).expect("a chunk has the size of an entry");
    bytes.chunks_exact(size_of::<GrantEntryV1>()).map(read)
}

impl Table {
    /// A table that may grow to so many pages, of a domain that may map so many pages of others.
    pub(crate) fn new(most_frames: u32, most_mappings: u32) -> Self {
        Self {
            frames: 0,
            most_frames,
            active: BTreeMap::new(),
            tracks: Tracks::new(most_mappings),
            granted: BTreeMap::new(),
            grants: Mark::default(),
        }
    }

    /// Who uses a page, by whichever entry.
    pub(crate) fn users(&self, page: &Page) -> impl Iterator<Item = String> {
        let used = self.active.iter().filter(move |(_, active)| active.page.is(page));
        used.map(|(reference, active)| format!("ref {reference} by domain {}", active.by))
    }

    /// How often entries are in use, for reading and for writing, and by whom.
    pub(crate) fn uses(&self) -> impl Iterator<Item = (GrantRef, u16, [u8; 2])> {
        let times = |active: &Active| [active.readers, active.writers];
        self.active.iter().map(move |(reference, active)| (*reference, active.by, times(active)))
    }

    /// The guest has made an entry valid.
    pub(crate) fn granted(&mut self, reference: GrantRef, moment: Moment) {
        if self.granted.insert(reference, moment).is_none() {
            self.grants.raise();
        }
    }

    /// The guest has made an entry invalid.
    pub(crate) fn revoked(&mut self, reference: GrantRef) {
        if self.granted.remove(&reference).is_some() {
            self.grants.lower();
        }
    }

    /// Who uses an entry.
    pub(crate) fn user(&self, reference: GrantRef) -> Option<u16> {
        self.active.get(&reference).map(|active| active.by)
    }

    /// When the guest made an entry valid, if it was seen.
    pub(crate) fn granted_at(&self, reference: GrantRef) -> Option<Moment> {
        self.granted.get(&reference).copied()
    }
}

impl Domain {
    /// Lets the table have at least so many pages.
    pub(crate) fn grow_grants(&mut self, frames: u32) {
        for frame in self.grants.frames..frames {
            self.ram.give(XenPage::GrantTable(frame));
        }
        self.grants.frames = self.grants.frames.max(frames);
    }

    /// An entry, as the guest has written it; none if there are not so many.
    pub(crate) fn entry(&self, reference: GrantRef) -> Option<GrantEntryV1> {
        let (frame, offset) = place(reference);
        let mut entry = GrantEntryV1::default();
        self.ram.physmap.xen_page(frame)?.read(offset, entry.as_mut_bytes()).ok()?;
        Some(entry)
    }

    /// All entries, as the guest has written them.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (GrantRef, GrantEntryV1)> {
        (0..self.grants.frames).flat_map(|frame| {
            let page = self.ram.xen_page(XenPage::GrantTable(frame));
            let entries: Vec<_> = page.map_or_else(Vec::new, |bytes| entries(&bytes).collect());
            (frame * ENTRIES..).map(GrantRef).zip(entries)
        })
    }

    /// Writes an entry, as the toolstack does.
    pub(crate) fn seed_grant(&mut self, reference: GrantRef, entry: GrantEntryV1) {
        let (frame, offset) = place(reference);
        if let Some(page) = self.ram.physmap.xen_page(frame) {
            page.write(offset, entry.as_bytes()).expect("an entry lies in its frame");
        }
    }

    /// Sets some flags of an entry, and clears others.
    fn flag(&self, reference: GrantRef, set: u16, clear: u16) {
        let (frame, offset) = place(reference);
        if let Some(page) = self.ram.physmap.xen_page(frame) {
            let mut bytes = page.bytes();
            let flags = &mut bytes[offset..][..2];
            let new = u16::from_le_bytes([flags[0], flags[1]]) & !clear | set;
            flags.copy_from_slice(&new.to_le_bytes());
        }
    }

    /// Puts an entry to use: what Xen does for `GNTTABOP_map_grant_ref` and for one side of `GNTTABOP_copy`.
    pub(crate) fn pin_grant(
        &mut self,
        reference: GrantRef,
        purpose: Purpose,
    ) -> Result<(Page, Gfn), GrantError> {
        let entry = self.entry(reference).ok_or(GrantError::BAD_GNTREF)?;
        if let Some(active) = self.grants.active.get_mut(&reference) {
            if active.by != purpose.by || *active.counter(purpose) >= Active::MOST {
                return Err(GrantError::GENERAL_ERROR);
            }
            // What was used for reading only so far, may it be written to? Nothing else is asked again.
            let writes_first = purpose.writable && active.writers == 0;
            if writes_first && entry.flags & GTF_READONLY != 0 {
                return Err(GrantError::GENERAL_ERROR);
            }
            *active.counter(purpose) += 1;
            let found = (active.page.clone(), active.gfn);
            if writes_first {
                self.flag(reference, purpose.flags(), 0);
            }
            return Ok(found);
        }
        let asked = if purpose.mapped { GTF_TYPE_MASK | GTF_SUB_PAGE } else { GTF_TYPE_MASK };
        if entry.flags & asked != GTF_PERMIT_ACCESS
            || entry.domid.0 != purpose.by
            || purpose.writable && entry.flags & GTF_READONLY != 0
        {
            return Err(GrantError::GENERAL_ERROR);
        }
        let gfn = Gfn(entry.frame.into());
        // A page of a third domain's can be copied, but not be mapped on.
        if purpose.mapped && matches!(self.ram.physmap.get(gfn), Some(Backing::Foreign(_))) {
            return Err(GrantError::GENERAL_ERROR);
        }
        let page = self.ram.physmap.page(gfn).ok_or(GrantError::BAD_PAGE)?.clone();
        let mut active = Active { by: purpose.by, page: page.clone(), gfn, readers: 0, writers: 0 };
        *active.counter(purpose) += 1;
        self.grants.active.insert(reference, active);
        self.flag(reference, purpose.flags(), 0);
        Ok((page, gfn))
    }

    /// Ends a use of an entry.
    pub(crate) fn unpin_grant(&mut self, reference: GrantRef, purpose: Purpose) {
        let Some(active) = self.grants.active.get_mut(&reference) else { return };
        let counter = active.counter(purpose);
        *counter = counter.saturating_sub(1);
        let (read, written) = (active.readers > 0, active.writers > 0);
        if !read && !written {
            self.grants.active.remove(&reference);
            self.flag(reference, 0, GTF_READING | GTF_WRITING);
        } else if purpose.writable && !written {
            self.flag(reference, 0, GTF_WRITING);
        }
    }

    /// The page that an entry in use is about, as the guest counts them.
    pub(crate) fn pinned(&self, reference: GrantRef) -> Option<Gfn> {
        self.grants.active.get(&reference).map(|active| active.gfn)
    }
}

impl Purpose {
    /// What Xen sets in the entry.
    const fn flags(self) -> u16 {
        if self.writable { GTF_READING | GTF_WRITING } else { GTF_READING }
    }

    /// What happens to the page.
    pub(super) const fn event(self, reference: GrantRef) -> Event {
        let Self { by: domain, writable, mapped } = self;
        if mapped {
            Event::MappedBy { domain, reference, writable }
        } else {
            Event::CopiedBy { domain, reference, written: writable }
        }
    }
}

/// Entries in a page.
#[expect(clippy::cast_possible_truncation, reason = "there are 512")]
pub(crate) const ENTRIES: u32 = ENTRIES_PER_PAGE as u32;

/// Where an entry is.
const fn place(reference: GrantRef) -> (XenPage, usize) {
    let index = (reference.0 % ENTRIES) as usize;
    (XenPage::GrantTable(reference.0 / ENTRIES), index * size_of::<GrantEntryV1>())
}

/// A page of another domain's that a domain has mapped.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    pub(crate) granter: u16,
    pub(crate) reference: GrantRef,
    pub(crate) writable: bool,
    pub(crate) page: Page,
    pub(crate) since: Moment,
}

/// What a domain has mapped of others.
#[derive(Debug)]
pub(crate) struct Tracks {
    by_handle: BTreeMap<u32, Track>,
    most: u32,
    /// Handles are not used again, so that a stale one cannot be mistaken for another.
    next: u32,
    pub(crate) mark: Mark,
}

/// As many as a Xen lets a domain have if nobody says anything (`gnttab_max_maptrack_frames`).
impl Default for Tracks {
    fn default() -> Self {
        Self::new(1024 * 256)
    }
}

impl Tracks {
    pub(crate) fn new(most: u32) -> Self {
        Self { by_handle: BTreeMap::new(), most, next: 0, mark: Mark::default() }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.by_handle.len() >= self.most as usize
    }

    pub(crate) fn add(&mut self, track: Track) -> u32 {
        let handle = self.next;
        self.next += 1;
        self.by_handle.insert(handle, track);
        self.mark.raise();
        handle
    }

    pub(crate) fn get(&self, handle: u32) -> Option<&Track> {
        self.by_handle.get(&handle)
    }

    pub(crate) fn remove(&mut self, handle: u32) -> Option<Track> {
        let track = self.by_handle.remove(&handle)?;
        self.mark.lower();
        Some(track)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Track> {
        self.by_handle.values()
    }
}
