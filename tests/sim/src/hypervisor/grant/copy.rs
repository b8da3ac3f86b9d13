//! Copying from page to page.
#![forbid(unsafe_code)]

use xen_abi::{
    GrantRef,
    domid::DOMID_SELF,
    grant_table::{
        op::{self, CopyPtr, GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF},
        status::GrantError,
    },
    seam::{Beyond, Gfn},
};

use super::{Caller, table::Purpose};
use crate::{hypervisor::Hypervisor, ram::Page};

/// One side of a copy.
#[derive(Debug)]
struct Side {
    page: Page,
    offset: usize,
    /// The entry that is in use meanwhile.
    granted: Option<(u16, GrantRef, Purpose)>,
}

impl Hypervisor {
    /// `GNTTABOP_copy`
    pub(super) fn copy(&mut self, caller: Caller, op: &op::GrantCopy) -> Result<(), GrantError> {
        if op.len == 0 {
            return Ok(());
        }
        let (from_grant, to_grant) = (op.flags & GNTCOPY_SOURCE_GREF != 0, op.flags & GNTCOPY_DEST_GREF != 0);
        self.check_side(&op.source, from_grant)?;
        self.check_side(&op.dest, to_grant)?;
        let source = self.claim(caller, &op.source, from_grant, false)?;
        let outcome = self.claim(caller, &op.dest, to_grant, true).and_then(|dest| {
            let copied = copy_bytes(&source, &dest, op.len.into());
            self.let_go_of(caller, &dest);
            copied
        });
        self.let_go_of(caller, &source);
        outcome
    }

    /// Only the caller itself can be named with a frame.
    fn check_side(&self, side: &CopyPtr, granted: bool) -> Result<(), GrantError> {
        match side.domid {
            DOMID_SELF => Ok(()),
            _ if !granted => Err(GrantError::PERMISSION_DENIED),
            domid if self.is_domain(domid.0) => Ok(()),
            _ => Err(GrantError::BAD_DOMAIN),
        }
    }

    fn claim(
        &mut self,
        caller: Caller,
        side: &CopyPtr,
        granted: bool,
        writable: bool,
    ) -> Result<Side, GrantError> {
        let offset = side.offset.into();
        let domain = if side.domid == DOMID_SELF { caller.domain } else { side.domid.0 };
        if granted {
            let purpose = Purpose { by: caller.domain, writable, mapped: false };
            let page = self.pin(domain, side.grant(), purpose, caller)?;
            return Ok(Side { page, offset, granted: Some((domain, side.grant(), purpose)) });
        }
        let page = self.domains.get(&domain).and_then(|domain| domain.ram.physmap.page(Gfn(side.u)));
        Ok(Side { page: page.ok_or(GrantError::BAD_PAGE)?.clone(), offset, granted: None })
    }

    fn let_go_of(&mut self, caller: Caller, side: &Side) {
        if let Some((domain, reference, purpose)) = side.granted {
            self.unpin(domain, reference, purpose, caller);
        }
    }
}

fn copy_bytes(source: &Side, dest: &Side, length: usize) -> Result<(), GrantError> {
    let beyond = |_: Beyond| GrantError::BAD_COPY_ARG;
    Beyond::check(dest.offset, length).map_err(beyond)?;
    Beyond::check(source.offset, length).map_err(beyond)?;
    let mut bytes = vec![0; length];
    source.page.read(source.offset, &mut bytes).map_err(beyond)?;
    dest.page.write(dest.offset, &bytes).map_err(beyond)
}
