//! Pages that other domains have granted to this one.
#![forbid(unsafe_code)]

use kexec::{irql::Dispatch, yield_now};
use xen_abi::{DomId, GrantRef, grant_table::status::GrantError};

use super::{Grants, Rights};
use crate::{
    hypercall::ATTEMPTS,
    page::{Foreign, MapError, Seam},
};

impl<P: Seam> Grants<P> {
    /// Maps a page of another domain's. While Xen says that it cannot be done just now, because the page is being
    /// paged in or shared, others go first, and it is tried again, [`ATTEMPTS`] times in all.
    ///
    /// **Cancel-safe:** nothing is mapped, or the page is unmapped.
    ///
    /// # Errors
    ///
    /// There is no place for it, or Xen refuses.
    pub async fn map_foreign(
        &'static self,
        _at: &Dispatch,
        domain: DomId,
        grant: GrantRef,
        rights: Rights,
    ) -> Result<Foreign<P>, MapError> {
        for _ in 1..ATTEMPTS {
            match Foreign::map(self, domain, grant, rights) {
                Err(MapError::Grant(GrantError::EAGAIN)) => yield_now().await,
                mapped => return mapped,
            }
        }
        Foreign::map(self, domain, grant, rights)
    }

    /// Maps several pages of another domain's, one after the other into `places`: all, or none.
    ///
    /// **Cancel-safe:** what was mapped is in `places`.
    ///
    /// # Errors
    ///
    /// The first that was not mapped, and why. `places` are empty then.
    pub async fn map_all_foreign<const N: usize>(
        &'static self,
        at: &Dispatch,
        domain: DomId,
        grants: &[GrantRef; N],
        rights: Rights,
        places: &mut [Option<Foreign<P>>; N],
    ) -> Result<(), (GrantRef, MapError)> {
        *places = [const { None }; N];
        for (place, grant) in places.iter_mut().zip(grants) {
            match self.map_foreign(at, domain, *grant, rights).await {
                Ok(page) => *place = Some(page),
                Err(error) => {
                    *places = [const { None }; N];
                    return Err((*grant, error));
                }
            }
        }
        Ok(())
    }
}
