//! Pages of others that are lent.
#![forbid(unsafe_code)]

use core::{fmt, sync::atomic::Ordering::Relaxed};

use kexec::irql::Dispatch;
use xen_abi::GrantRef;

use super::{
    GrantCache, Grants, Held, Lender, Rights, ShareError, Trusted,
    share::{Ending, Last, Lent},
};
use crate::page::Seam;

/// Pages that belong to Windows, up to `N` of which another domain may use.
///
/// The lender is inside, and with it the right to complete the request that the pages are from. It comes out by
/// [`end`](Self::end), when the other domain has let go of all of them. While it has not, the loan is [held](Held),
/// and the caller decides: to try again later, for as long as it takes; or, if Windows cannot do without that
/// request (paging, the boot disk), to stop the guest with a bugcheck that names the device and the
/// [grant](super::InUse).
///
/// Pages are granted one by one; what is granted in vain is taken back with the rest:
///
/// ```
/// # use kexec::irql::Dispatch;
/// # use xenbus::{grant::{GrantCache, Lender, Loan, Rights, ShareError, Trusted}, page::Seam};
/// const SEGMENTS: usize = 11;
///
/// /// What a write to a disk lends: the backend reads it.
/// fn lend<P: Seam, T: Lender>(
///     at: &Dispatch,
///     cache: &mut GrantCache<P, 64>,
///     disk: Trusted,
///     request: T,
///     pages: usize,
/// ) -> (Loan<P, T, SEGMENTS>, Result<(), ShareError>) {
///     let mut loan = Loan::new(cache, disk, request);
///     let granted = (0..pages).try_for_each(|page| {
///         let number = loan.lend(cache, at, page, Rights::Read)?;
///         // .. into the request's segment ..
///         # let _ = number;
///         Ok(())
///     });
///     (loan, granted)
/// }
/// ```
///
/// The lender cannot be used meanwhile, nor the loan once it has ended:
///
/// ```compile_fail
/// # use kexec::irql::Dispatch;
/// # use xenbus::{grant::{GrantCache, Lender, Loan, Rights}, page::Seam};
/// fn wrong<P: Seam, T: Lender>(at: &Dispatch, cache: &mut GrantCache<P, 8>, mut loan: Loan<P, T, 4>) {
///     let request = loan.end(cache, at);
///     let again = loan.lend(cache, at, 0, Rights::Read);
/// }
/// ```
///
/// **Dropping** it takes all back and drops the lender. If a page is in use then, the lender is kept for ever, and
/// never dropped: the request is not completed. That is [counted](super::Counters::kept).
///
/// One of an older [epoch](crate::epoch) is granted to nobody, and ends at once.
pub struct Loan<P: Seam, T: Lender, const N: usize>(Ending<Debt<P, T, N>>);

struct Debt<P: Seam, T: Lender, const N: usize> {
    grants: &'static Grants<P>,
    to: Trusted,
    lent: Lent<P, T, N>,
    /// It was to end, and is counted.
    is_held: bool,
}

impl<P: Seam, T: Lender, const N: usize> Loan<P, T, N> {
    /// A loan of nothing yet, to a domain that is trusted with it. Callable at any level.
    #[must_use]
    pub const fn new<const C: usize>(cache: &GrantCache<P, C>, to: Trusted, lender: T) -> Self {
        Self(Ending::new(Debt { grants: cache.grants(), to, lent: Lent::new(lender), is_held: false }))
    }

    /// Lends one of the lender's pages. At `DISPATCH_LEVEL`.
    ///
    /// # Errors
    ///
    /// There is no reference to be had, the page is too high, the lender has none of this index, or `N` are lent.
    /// The loan is as it was.
    pub fn lend<const C: usize>(
        &mut self,
        cache: &mut GrantCache<P, C>,
        at: &Dispatch,
        page: usize,
        rights: Rights,
    ) -> Result<GrantRef, ShareError> {
        let reference = cache.take(at)?;
        let now = self.0.grants.epochs().now();
        let domain = self.0.to.domain();
        match self.0.lent.lend(reference, domain, page, rights, now) {
            Ok(grant) => {
                cache.count(1, 0, 0);
                Ok(grant)
            }
            Err((reference, error)) => {
                cache.put(reference);
                Err(error)
            }
        }
    }

    /// Takes the pages back, and gives the lender out. At `DISPATCH_LEVEL`.
    ///
    /// # Errors
    ///
    /// The other domain has not let go of one of them. The others are taken back; it can be tried again, and nobody
    /// is waited for.
    pub fn end<const C: usize>(self, cache: &mut GrantCache<P, C>, _at: &Dispatch) -> Result<T, Held<Self>> {
        let Debt { grants, to, lent, is_held } = self.0.into_inner();
        let mut revoked = 0_u64;
        let ended = lent.end(grants.epochs().now(), |reference| {
            revoked = revoked.wrapping_add(1);
            cache.put(reference);
        });
        match ended {
            Ok(lender) => {
                cache.count(0, revoked, 0);
                grants.count_held(is_held, false);
                Ok(lender)
            }
            Err((lent, by)) => {
                cache.count(0, revoked, 1);
                grants.count_held(is_held, true);
                Err(Held { what: Self(Ending::new(Debt { grants, to, lent, is_held: true })), by })
            }
        }
    }

    /// Whom it is lent to. Callable at any level.
    #[must_use]
    pub fn to(&self) -> Trusted {
        self.0.to
    }
}

impl<P: Seam, T: Lender, const N: usize> Last for Debt<P, T, N> {
    fn last(self) {
        self.grants.count_held(self.is_held, false);
        match self.lent.end(self.grants.epochs().now(), drop) {
            Ok(lender) => drop(lender),
            // It is not dropped with that.
            Err(_) => _ = self.grants.kept.fetch_add(1, Relaxed),
        }
    }
}

impl<P: Seam, T: Lender, const N: usize> fmt::Debug for Loan<P, T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan")
            .field("to", &self.0.to)
            .field("is_held", &self.0.is_held)
            .finish_non_exhaustive()
    }
}
