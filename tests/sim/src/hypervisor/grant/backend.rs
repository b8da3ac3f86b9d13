//! What the control domain's backends do with the pages that guests have granted.
//!
//! What a backend has mapped is its own until it unmaps it, whatever the guest does: if the guest gives the page to somebody else, the
//! backend goes on writing to it. So it is here; that the guest has made a mistake is in its books.
#![forbid(unsafe_code)]

use std::fmt;

use xen_abi::{GrantRef, grant_table::status::GrantError, seam::Beyond};

use super::{
    Caller,
    table::{Purpose, Track},
};
use crate::{
    audit::{Finding, Mistake},
    dom0::Dom0,
    guest::Guest,
    hypervisor::{DOM0, Hypervisor},
    ram::{Moment, Page},
};

/// A page of a guest's that the control domain has mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mapping {
    granter: u16,
    handle: u32,
}

/// What a backend wants with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read it.
    Read,
    /// To read and to write it.
    Write,
}

/// Why a backend could not touch a mapped page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untouchable {
    /// It is not mapped, or no longer.
    NotMapped(Mapping),
    /// It is mapped for reading only.
    ReadOnly(Mapping),
    /// The bytes are not all in the page.
    Beyond(Beyond),
}

impl fmt::Display for Untouchable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMapped(Mapping { granter, handle }) => {
                write!(f, "mapping {handle}, of domain {granter}, is none")
            }
            Self::ReadOnly(Mapping { granter, handle }) => {
                write!(f, "mapping {handle}, of domain {granter}, is for reading only")
            }
            Self::Beyond(beyond) => beyond.fmt(f),
        }
    }
}

impl std::error::Error for Untouchable {}

impl Hypervisor {
    fn backend(&self) -> Caller {
        Caller { domain: DOM0, moment: Moment { at: self.now, site: None } }
    }

    /// Maps a page that a guest has granted to the control domain.
    pub(crate) fn map(
        &mut self,
        granter: u16,
        reference: GrantRef,
        access: Access,
    ) -> Result<Mapping, GrantError> {
        let caller = self.backend();
        if self.mappings.is_full() {
            return Err(GrantError::NO_SPACE);
        }
        let writable = access == Access::Write;
        let page = self.pin(granter, reference, Purpose { by: DOM0, writable, mapped: true }, caller)?;
        let track = Track { granter, reference, writable, page, since: caller.moment };
        Ok(Mapping { granter, handle: self.mappings.add(track) })
    }

    /// Unmaps it.
    pub(crate) fn unmap(&mut self, mapping: Mapping) -> Result<(), GrantError> {
        let Some(track) = self.mappings.remove(mapping.handle) else {
            self.blame(mapping, "unmapped");
            return Err(GrantError::BAD_HANDLE);
        };
        let Track { granter, reference, writable, .. } = track;
        self.unpin(granter, reference, Purpose { by: DOM0, writable, mapped: true }, self.backend());
        Ok(())
    }

    /// Reads bytes of a page that is mapped.
    pub(crate) fn read_mapped(
        &mut self,
        mapping: Mapping,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), Untouchable> {
        self.mapped(mapping, "read")?.0.read(offset, into).map_err(Untouchable::Beyond)
    }

    /// Writes bytes of a page that is mapped for that.
    pub(crate) fn write_mapped(
        &mut self,
        mapping: Mapping,
        offset: usize,
        from: &[u8],
    ) -> Result<(), Untouchable> {
        let (page, writable) = self.mapped(mapping, "written to")?;
        if !writable {
            return Err(Untouchable::ReadOnly(mapping));
        }
        page.write(offset, from).map_err(Untouchable::Beyond)
    }

    /// Copies from a page that a guest has granted (`GNTTABOP_copy`).
    pub(crate) fn copy_from_grant(
        &mut self,
        granter: u16,
        reference: GrantRef,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), GrantError> {
        self.copying(granter, reference, Access::Read, |page| page.read(offset, into))
    }

    /// Copies to a page that a guest has granted.
    pub(crate) fn copy_to_grant(
        &mut self,
        granter: u16,
        reference: GrantRef,
        offset: usize,
        from: &[u8],
    ) -> Result<(), GrantError> {
        self.copying(granter, reference, Access::Write, |page| page.write(offset, from))
    }

    fn copying(
        &mut self,
        granter: u16,
        reference: GrantRef,
        access: Access,
        copy: impl FnOnce(&Page) -> Result<(), Beyond>,
    ) -> Result<(), GrantError> {
        let purpose = Purpose { by: DOM0, writable: access == Access::Write, mapped: false };
        let page = self.pin(granter, reference, purpose, self.backend())?;
        let copied = copy(&page).map_err(|_| GrantError::BAD_COPY_ARG);
        self.unpin(granter, reference, purpose, self.backend());
        copied
    }

    fn mapped(&mut self, mapping: Mapping, what: &str) -> Result<(Page, bool), Untouchable> {
        let Some(track) = self.mappings.get(mapping.handle) else {
            self.blame(mapping, what);
            return Err(Untouchable::NotMapped(mapping));
        };
        Ok((track.page.clone(), track.writable))
    }

    /// A backend has made a mistake: it is written down with the guest whose page it was.
    fn blame(&mut self, mapping: Mapping, what: &str) {
        let moment = self.backend().moment;
        let Mapping { granter, handle } = mapping;
        if let Some(domain) = self.domains.get_mut(&granter) {
            let facts = format!("mapping {handle}, {what}");
            domain.ram.books.find(Finding::new(Mistake::BackendStale, facts, moment));
        }
    }
}

impl Dom0 {
    /// Maps a page that a guest has granted to the control domain.
    ///
    /// # Errors
    ///
    /// As `GNTTABOP_map_grant_ref`.
    pub fn map(&self, guest: &Guest, reference: GrantRef, access: Access) -> Result<Mapping, GrantError> {
        let domain = guest.domain();
        self.xen(|xen| xen.map(domain, reference, access))
    }

    /// Unmaps it.
    ///
    /// # Errors
    ///
    /// As `GNTTABOP_unmap_grant_ref`.
    pub fn unmap(&self, mapping: Mapping) -> Result<(), GrantError> {
        self.xen(|xen| xen.unmap(mapping))
    }

    /// Reads bytes of a page that is mapped.
    ///
    /// # Errors
    ///
    /// None was read.
    pub fn read(&self, mapping: Mapping, offset: usize, into: &mut [u8]) -> Result<(), Untouchable> {
        self.xen(|xen| xen.read_mapped(mapping, offset, into))
    }

    /// Writes bytes of a page that is mapped for that.
    ///
    /// # Errors
    ///
    /// None was written.
    pub fn write(&self, mapping: Mapping, offset: usize, from: &[u8]) -> Result<(), Untouchable> {
        self.xen(|xen| xen.write_mapped(mapping, offset, from))
    }

    /// Copies from a page that a guest has granted, without mapping it.
    ///
    /// # Errors
    ///
    /// As `GNTTABOP_copy`.
    pub fn copy_from(
        &self,
        guest: &Guest,
        reference: GrantRef,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), GrantError> {
        let domain = guest.domain();
        self.xen(|xen| xen.copy_from_grant(domain, reference, offset, into))
    }

    /// Copies to a page that a guest has granted, without mapping it.
    ///
    /// # Errors
    ///
    /// As `GNTTABOP_copy`.
    pub fn copy_to(
        &self,
        guest: &Guest,
        reference: GrantRef,
        offset: usize,
        from: &[u8],
    ) -> Result<(), GrantError> {
        let domain = guest.domain();
        self.xen(|xen| xen.copy_to_grant(domain, reference, offset, from))
    }
}
