//! What a guest writes to its grant table, looked at.
//!
//! The header (`xen/include/public/grant_table.h`, "GRANT TABLE REPRESENTATION") says in which order an entry is made
//! valid and invalid. That a guest keeps to it cannot be seen from the entry, but from the writes.
#![forbid(unsafe_code)]

use xen_abi::{
    GrantRef,
    grant_table::{
        GNTTAB_NR_RESERVED_ENTRIES, GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY, GTF_TYPE_MASK, GTF_WRITING,
        GrantEntryV1,
    },
    seam::Gfn,
};

use super::{Mistake, pages::How};
use crate::{
    hypervisor::{domain::Domain, grant::entries},
    ram::{Backing, Event, Moment, Use},
};

/// The bits of an entry that are Xen's.
const XENS: u16 = GTF_READING | GTF_WRITING;

/// Whether an entry is valid, and lets somebody use a page.
pub(crate) const fn permits(entry: GrantEntryV1) -> bool {
    entry.flags & GTF_TYPE_MASK == GTF_PERMIT_ACCESS
}

/// How an entry is shown.
pub(crate) fn describe(reference: GrantRef, entry: GrantEntryV1) -> String {
    let how = if entry.flags & GTF_READONLY == 0 { "read-write" } else { "read-only" };
    let used = if entry.flags & XENS == 0 { "" } else { ", in use" };
    format!("ref {reference}: page {:#x}, {how} to domain {}{used}", entry.frame, entry.domid)
}

impl Domain {
    /// Looks at entries that the guest has written to, the first of which is `first`.
    pub(super) fn judge_entries(
        &mut self,
        first: u32,
        before: &[u8],
        after: &[u8],
        how: How,
        moment: Moment,
    ) {
        for (reference, (old, new)) in (first..).map(GrantRef).zip(entries(before).zip(entries(after))) {
            if old != new {
                self.judge_entry(reference, old, new, how, moment);
            }
        }
    }

    fn judge_entry(
        &mut self,
        reference: GrantRef,
        old: GrantEntryV1,
        new: GrantEntryV1,
        how: How,
        at: Moment,
    ) {
        if reference.0 < GNTTAB_NR_RESERVED_ENTRIES {
            let facts = format!("{}, was {}", describe(reference, new), describe(reference, old));
            return self.ram.books.find_at(frame_of(old), Mistake::ReservedEntry, facts, at);
        }
        match (permits(old), permits(new)) {
            (false, true) => self.judge_grant(reference, old, new, how, at),
            (true, true) => self.judge_change(reference, old, new, how, at),
            (true, false) => self.judge_revocation(reference, old, how, at),
            (false, false) => {}
        }
    }

    fn judge_grant(
        &mut self,
        reference: GrantRef,
        old: GrantEntryV1,
        new: GrantEntryV1,
        how: How,
        at: Moment,
    ) {
        let gfn = frame_of(new);
        let event = Event::Granted { reference, to: new.domid.0, readonly: new.flags & GTF_READONLY != 0 };
        self.grants.granted(reference, at);
        let facts = describe(reference, new);
        if how == How::Bytes {
            self.ram.books.find_at(gfn, Mistake::GrantedInPieces, &facts, at);
        }
        if (old.flags ^ new.flags) & XENS != 0 {
            self.ram.books.find_at(gfn, Mistake::XenBits, &facts, at);
        }
        match (self.ram.leases.get(&gfn), self.ram.physmap.get(gfn)) {
            (Some(lease), _) if lease.times == 0 => {
                self.ram.books.find_at(gfn, Mistake::GrantedFreed, facts, at);
            }
            // The toolstack grants what it has put there.
            (Some(lease), Some(Backing::Ram(_))) if lease.how != Use::Existing => {}
            (None, Some(Backing::Ram(_))) => {}
            _ => self.ram.books.find_at(gfn, Mistake::GrantedForeign, facts, at),
        }
        self.ram.books.note(gfn, event, at);
    }

    fn judge_change(
        &mut self,
        reference: GrantRef,
        old: GrantEntryV1,
        new: GrantEntryV1,
        how: How,
        at: Moment,
    ) {
        let gfn = frame_of(old);
        let facts = format!("{}, was {}", describe(reference, new), describe(reference, old));
        if (old.flags ^ new.flags) & XENS != 0 {
            self.ram.books.find_at(gfn, Mistake::XenBits, &facts, at);
        }
        // From writable to read-only: by compare-exchange, and while nobody has it for writing.
        let restricted = new.flags & !old.flags & GTF_READONLY != 0;
        let blindly = restricted && (how != How::Exchange || old.flags & GTF_WRITING != 0);
        if old.frame != new.frame || old.domid != new.domid || blindly {
            self.ram.books.find_at(gfn, Mistake::EntryChanged, facts, at);
        }
        self.ram.books.note(gfn, Event::Changed { reference }, at);
    }

    fn judge_revocation(&mut self, reference: GrantRef, old: GrantEntryV1, how: How, at: Moment) {
        let gfn = frame_of(old);
        self.grants.revoked(reference);
        if self.grants.user(reference).is_some() {
            self.ram.books.find_at(gfn, Mistake::RevokedInUse, describe(reference, old), at);
        } else if how != How::Exchange {
            self.ram.books.find_at(gfn, Mistake::RevokedBlindly, describe(reference, old), at);
        }
        self.ram.books.note(gfn, Event::Revoked { reference }, at);
    }
}

/// The page that an entry is about.
fn frame_of(entry: GrantEntryV1) -> Gfn {
    Gfn(entry.frame.into())
}
