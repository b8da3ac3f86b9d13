//! What a guest does to its pages, and asks of Xen, looked at.
#![forbid(unsafe_code)]

use std::ops::Range;

use xen_abi::{
    Errno,
    grant_table::{ENTRIES_PER_PAGE, GrantEntryV1},
    seam::{Gfn, PAGE_SIZE},
};

use super::{
    Finding, Mistake,
    entries::{describe, permits},
};
use crate::{
    hypervisor::{
        call::{BAD_POINTER, Refusal},
        domain::Domain,
    },
    ram::{Backing, Event, Foreign, Lease, Moment, Page, Use, XenPage},
};

/// How a guest touches bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// A word in one piece.
    Word,
    /// A word in one piece, if it is what it is believed to be.
    Exchange,
    /// Byte by byte.
    Bytes,
}

/// The bytes of a page that a guest touches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    pub(crate) offset: usize,
    pub(crate) length: usize,
    pub(crate) how: How,
}

impl Reach {
    fn range(self) -> Range<usize> {
        self.offset..self.offset + self.length
    }

    /// The entries of a grant table that lie there, even if in part.
    fn entries(self) -> Range<usize> {
        const SIZE: usize = size_of::<GrantEntryV1>();
        self.offset / SIZE * SIZE..(self.offset + self.length).next_multiple_of(SIZE)
    }
}

impl Domain {
    /// The guest touches a page: `work` gets the bytes that it sees, and may change them.
    pub(crate) fn touch<T>(
        &mut self,
        gfn: Gfn,
        reach: Reach,
        moment: Moment,
        work: impl FnOnce(&mut [u8]) -> T,
    ) -> T {
        if matches!(self.ram.leases.get(&gfn), Some(Lease { times: 0, .. })) {
            self.ram.books.find_at(gfn, Mistake::TouchedFreed, at(reach), moment);
        }
        match self.ram.physmap.get(gfn) {
            Some(Backing::Ram(page) | Backing::Foreign(Foreign { page, writable: true, .. })) => {
                work(&mut page.bytes()[reach.range()])
            }
            Some(Backing::Foreign(Foreign { page, writable: false, .. })) => {
                let before = page.bytes()[reach.range()].to_vec();
                let mut after = before.clone();
                let outcome = work(&mut after);
                if before != after {
                    self.ram.books.find_at(gfn, Mistake::WroteReadOnly, at(reach), moment);
                }
                outcome
            }
            Some(Backing::Xen(XenPage::GrantTable(frame))) => self.touch_entries(*frame, reach, moment, work),
            Some(Backing::Xen(page)) => match self.ram.xen_page(*page) {
                Some(mut bytes) => work(&mut bytes[reach.range()]),
                None => nothing(reach, work),
            },
            None => {
                self.ram.books.find_at(gfn, Mistake::TouchedHole, at(reach), moment);
                nothing(reach, work)
            }
        }
    }

    /// The guest touches its grant table.
    fn touch_entries<T>(
        &mut self,
        frame: u32,
        reach: Reach,
        moment: Moment,
        work: impl FnOnce(&mut [u8]) -> T,
    ) -> T {
        let Some(mut bytes) = self.ram.xen_page(XenPage::GrantTable(frame)) else {
            return nothing(reach, work);
        };
        let entries = reach.entries();
        let before = bytes[entries.clone()].to_vec();
        let outcome = work(&mut bytes[reach.range()]);
        let after = bytes[entries.clone()].to_vec();
        drop(bytes);
        if before != after {
            let first = frame as usize * ENTRIES_PER_PAGE + entries.start / size_of::<GrantEntryV1>();
            let first = u32::try_from(first).expect("a table has few frames");
            self.judge_entries(first, &before, &after, reach.how, moment);
        }
        outcome
    }

    /// The guest gives a page back to its kernel.
    pub(crate) fn give_back(&mut self, gfn: Gfn, is_own: bool, moment: Moment) {
        let books = &mut self.ram.books;
        let lease = self.ram.leases.get_mut(&gfn).filter(|_| is_own);
        let Some(lease) = lease else {
            let facts = format!("page {:#x} was never handed out", gfn.0);
            return books.find(Finding::new(Mistake::FreedForeign, facts, moment));
        };
        let Some(left) = lease.times.checked_sub(1) else {
            return books.find_at(gfn, Mistake::FreedTwice, format!("taken {}", lease.taken), moment);
        };
        lease.times = left;
        let how = lease.how;
        match how {
            Use::Allocated => self.give_back_ram(gfn, moment),
            Use::Hole => self.judge_hole(gfn, moment),
            Use::Existing => {}
        }
        self.ram.books.note(gfn, Event::GivenBack, moment);
    }

    fn give_back_ram(&mut self, gfn: Gfn, moment: Moment) {
        self.ram.allocated.lower();
        match self.ram.physmap.get(gfn) {
            Some(Backing::Ram(page)) => {
                let page = page.clone();
                self.judge_loss(gfn, &page, moment);
                self.ram.returned();
                // The kernel uses it for something else: what was in it is gone, but for those who have it still.
                drop(page);
                if let Some(Backing::Ram(page)) = self.ram.physmap.get(gfn)
                    && !page.is_shared()
                {
                    self.ram.physmap.put(gfn, Backing::Ram(Page::used()));
                }
            }
            Some(_) => self.judge_hole(gfn, moment),
            None => self.ram.books.find_at(gfn, Mistake::FreedHollow, "Xen has its RAM", moment),
        }
    }

    fn judge_hole(&mut self, gfn: Gfn, moment: Moment) {
        if let Some(backing) = self.ram.physmap.get(gfn) {
            let facts = describe_backing(backing);
            self.ram.books.find_at(gfn, Mistake::FreedBacked, facts, moment);
        }
    }

    /// Xen has refused a call of the guest's.
    pub(crate) fn judge_refusal(
        &mut self,
        number: u32,
        arguments: [u64; 5],
        refusal: Refusal,
        moment: Moment,
    ) {
        let Refusal { rule, error } = refusal;
        let mistake = match error {
            _ if rule == BAD_POINTER => Mistake::BadPointer,
            // There is no such call, no room, or somebody else is faster.
            Errno::ENOSYS
            | Errno::EOPNOTSUPP
            | Errno::ENOMEM
            | Errno::ENOSPC
            | Errno::EBUSY
            | Errno::EAGAIN => return,
            _ => Mistake::CallRefused,
        };
        let facts =
            format!("call {number} with {arguments:x?}: {error}, by {}: {}", rule.name, rule.says.trim());
        self.ram.books.find(Finding::new(mistake, facts, moment));
    }

    /// The guest gives RAM away, to its kernel or to Xen: nobody else may be able to use it.
    pub(crate) fn judge_loss(&mut self, gfn: Gfn, page: &Page, moment: Moment) {
        let mapped: Vec<_> = self.grants.users(page).collect();
        let granted: Vec<_> = self
            .entries()
            .filter(|(_, entry)| permits(*entry) && u64::from(entry.frame) == gfn.0)
            .map(|(reference, entry)| describe(reference, entry))
            .collect();
        let pinned = self.registered().find(|(pinned, _)| *pinned == gfn).map(|(_, what)| what);
        let books = &mut self.ram.books;
        if let Some(what) = pinned {
            books.find_at(gfn, Mistake::FreedPinned, what, moment);
        } else if !mapped.is_empty() {
            books.find_at(gfn, Mistake::FreedMapped, mapped.join("; "), moment);
        } else if !granted.is_empty() {
            books.find_at(gfn, Mistake::FreedGranted, granted.join("; "), moment);
        }
    }
}

/// Where there is nothing, all bits are set, and what is written is gone.
fn nothing<T>(reach: Reach, work: impl FnOnce(&mut [u8]) -> T) -> T {
    work(&mut [0xFF; PAGE_SIZE][reach.range()])
}

fn at(reach: Reach) -> String {
    format!("{} bytes at {:#x}", reach.length, reach.offset)
}

/// What is in a page that should be empty.
pub(super) fn describe_backing(backing: &Backing) -> String {
    match backing {
        Backing::Ram(_) => "RAM".into(),
        Backing::Xen(page) => page.to_string(),
        Backing::Foreign(Foreign { granter, reference, .. }) => {
            format!("ref {reference} of domain {granter}")
        }
    }
}
