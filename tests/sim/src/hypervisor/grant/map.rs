//! Mapping pages of other domains.
#![forbid(unsafe_code)]

use xen_abi::{
    GrantRef,
    grant_table::{
        op::{
            self, GNTMAP_APPLICATION_MAP, GNTMAP_CONTAINS_PTE, GNTMAP_DEVICE_MAP, GNTMAP_HOST_MAP,
            GNTMAP_READONLY, GrantHandle,
        },
        status::{GNTST_OKAY, GrantError},
    },
    seam::{Gfn, PAGE_SIZE},
};

use super::{
    Caller,
    table::{ENTRIES, Purpose, Track, Tracks},
};
use crate::{
    audit::Mistake,
    hypervisor::{DOM0, Hypervisor},
    ram::{Backing, Event, Foreign, Moment, Page, Physmap},
};

/// The page of a guest-physical address.
const fn page_of(address: u64) -> Gfn {
    Gfn(address / PAGE_SIZE as u64)
}

impl Hypervisor {
    /// `GNTTABOP_map_grant_ref`, of an HVM guest.
    pub(super) fn map_grant_ref(&mut self, caller: Caller, op: &mut op::MapGrantRef) {
        match self.map_at(caller, op) {
            Ok(handle) => {
                op.handle = GrantHandle(handle);
                // What it would be for devices, an HVM guest has no use for.
                op.dev_bus_addr = op.host_addr;
                op.status = GNTST_OKAY;
            }
            Err(error) => op.status = error.number(),
        }
    }

    fn map_at(&mut self, caller: Caller, op: &op::MapGrantRef) -> Result<u32, GrantError> {
        const PV: u32 = GNTMAP_DEVICE_MAP | GNTMAP_APPLICATION_MAP | GNTMAP_CONTAINS_PTE;
        if op.flags & (GNTMAP_DEVICE_MAP | GNTMAP_HOST_MAP) == 0 {
            return Err(GrantError::BAD_GNTREF);
        }
        if op.flags & PV != 0 {
            return Err(GrantError::GENERAL_ERROR);
        }
        if !self.is_domain(op.dom.0) {
            return Err(GrantError::BAD_DOMAIN);
        }
        let mapper = self.domains.get(&caller.domain).ok_or(GrantError::BAD_DOMAIN)?;
        if mapper.grants.tracks.is_full() {
            return Err(GrantError::NO_SPACE);
        }
        let writable = op.flags & GNTMAP_READONLY == 0;
        let (granter, reference) = (op.dom.0, op.r#ref);
        let purpose = Purpose { by: caller.domain, writable, mapped: true };
        let page = self.pin(granter, reference, purpose, caller)?;
        let foreign = Foreign { page: page.clone(), writable, granter, reference };
        if op.flags & !GNTMAP_READONLY != GNTMAP_HOST_MAP
            || !self.place_foreign(caller, page_of(op.host_addr), foreign)
        {
            self.unpin(granter, reference, purpose, caller);
            return Err(GrantError::GENERAL_ERROR);
        }
        let track = Track { granter, reference, writable, page, since: caller.moment };
        let mapper = self.domains.get_mut(&caller.domain).ok_or(GrantError::BAD_DOMAIN)?;
        Ok(mapper.grants.tracks.add(track))
    }

    /// Puts another domain's page into the guest's memory. Whether that could be done.
    fn place_foreign(&mut self, caller: Caller, gfn: Gfn, foreign: Foreign) -> bool {
        let Some(domain) = self.domains.get_mut(&caller.domain) else { return false };
        if !Physmap::reaches(gfn) {
            return false;
        }
        let ram = &mut domain.ram;
        let (granter, reference) = (foreign.granter, foreign.reference);
        match ram.physmap.get(gfn) {
            Some(Backing::Foreign(_)) => {
                let facts = format!("ref {reference} of domain {granter} mapped over another");
                ram.books.find_at(gfn, Mistake::Crash, facts, caller.moment);
                return false;
            }
            // It is still the guest's, and nowhere any more.
            Some(Backing::Ram(page)) => {
                let page = page.clone();
                domain.judge_loss(gfn, &page, caller.moment);
            }
            Some(Backing::Xen(_)) | None => {}
        }
        domain.ram.physmap.put(gfn, Backing::Foreign(foreign));
        let event = Event::PlacedForeign { domain: granter, reference };
        domain.ram.books.note(gfn, event, caller.moment);
        true
    }

    /// `GNTTABOP_unmap_grant_ref`, of an HVM guest.
    pub(super) fn unmap_grant_ref(
        &mut self,
        caller: Caller,
        op: &op::UnmapGrantRef,
    ) -> Result<(), GrantError> {
        let domain = self.domains.get_mut(&caller.domain).ok_or(GrantError::BAD_HANDLE)?;
        let track = domain.grants.tracks.get(op.handle.0).ok_or(GrantError::BAD_HANDLE)?;
        // Nothing is asked for: nothing is done.
        if op.host_addr == 0 {
            return Ok(());
        }
        let gfn = page_of(op.host_addr);
        match domain.ram.physmap.get(gfn) {
            Some(Backing::Foreign(there)) if there.page.is(&track.page) => {}
            _ => return Err(GrantError::GENERAL_ERROR),
        }
        domain.ram.physmap.take(gfn);
        domain.ram.books.note(gfn, Event::Emptied, caller.moment);
        if let Some(Track { granter, reference, writable, .. }) = domain.grants.tracks.remove(op.handle.0) {
            let purpose = Purpose { by: caller.domain, writable, mapped: true };
            self.unpin(granter, reference, purpose, caller);
        }
        Ok(())
    }

    /// Puts an entry of a domain's table to use.
    pub(super) fn pin(
        &mut self,
        granter: u16,
        reference: GrantRef,
        purpose: Purpose,
        caller: Caller,
    ) -> Result<Page, GrantError> {
        let Some(domain) = self.domains.get_mut(&granter) else {
            // The control domain's table has a page, and grants nothing.
            return Err(match granter {
                DOM0 if reference.0 < ENTRIES => GrantError::GENERAL_ERROR,
                DOM0 => GrantError::BAD_GNTREF,
                _ => GrantError::BAD_DOMAIN,
            });
        };
        let (page, gfn) = domain.pin_grant(reference, purpose)?;
        domain.ram.books.note(gfn, purpose.event(reference), caller.moment);
        Ok(page)
    }

    /// Ends a use of an entry.
    /// A domain that had mapped pages of others is no more (`gnttab_release_mappings` in `xen/common/grant_table.c`).
    pub(in crate::hypervisor) fn release_mappings(&mut self, by: u16, tracks: &Tracks) {
        let caller = Caller { domain: by, moment: Moment { at: self.now, site: None } };
        for &Track { granter, reference, writable, .. } in tracks.iter() {
            self.unpin(granter, reference, Purpose { by, writable, mapped: true }, caller);
        }
    }

    pub(super) fn unpin(&mut self, granter: u16, reference: GrantRef, purpose: Purpose, caller: Caller) {
        let Some(domain) = self.domains.get_mut(&granter) else { return };
        if purpose.mapped
            && let Some(gfn) = domain.pinned(reference)
        {
            let event = Event::UnmappedBy { domain: purpose.by, reference };
            domain.ram.books.note(gfn, event, caller.moment);
        }
        domain.unpin_grant(reference, purpose);
    }
}
