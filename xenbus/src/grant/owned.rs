//! Pages of the driver's own that are shared.
#![forbid(unsafe_code)]

use core::{fmt, ops::Deref};

use kexec::irql::Dispatch;
use xen_abi::GrantRef;

use super::{
    GrantCache, Grants, Held, Peer, Rights, Unshared,
    share::{Ending, Last, Lent},
};
use crate::page::{Ram, Seam};

/// A page that another domain may use.
///
/// The page comes back by [`end`](Self::end), when the other domain has let go of it. Until then its bytes are
/// reached by [`page`](Self::page), and anything may happen to them at any time. Once it is ended there is nothing
/// to be reached by:
///
/// ```compile_fail
/// # use kexec::irql::Dispatch;
/// # use xenbus::{grant::{GrantCache, Shared}, page::Seam};
/// fn wrong<P: Seam>(at: &Dispatch, cache: &mut GrantCache<P, 8>, shared: Shared<P>) {
///     let page = shared.page();
///     let ended = shared.end(cache, at);
///     xenbus::seam::Access::gfn(page); // it may be somebody else's
/// }
/// ```
///
/// **Dropping** it revokes the grant and gives the page back, up to `DISPATCH_LEVEL`. If it is in use then, the
/// page and the grant stay as they are, in quarantine, until the other domain has let go: see [`Grants::serve`].
///
/// One of an older [epoch](crate::epoch) is granted to nobody, and ends at once.
pub struct Shared<P: Seam>(Ending<Share<P>>);

struct Share<P: Seam> {
    grants: &'static Grants<P>,
    lent: Lent<P, Ram<P>, 1>,
    reference: GrantRef,
}

impl<P: Seam> Shared<P> {
    /// Shares a page. If the other domain is not trusted, the page is zeroed before: what is to be seen there is
    /// written afterwards.
    ///
    /// At `DISPATCH_LEVEL`.
    ///
    /// # Errors
    ///
    /// There is no reference to be had, or the page is too high. It comes back, as it was or zeroed.
    pub fn new<const N: usize>(
        cache: &mut GrantCache<P, N>,
        at: &Dispatch,
        to: Peer,
        page: Ram<P>,
        rights: Rights,
    ) -> Result<Self, Unshared<P>> {
        let reference = match cache.take(at) {
            Ok(reference) => reference,
            Err(error) => return Err(Unshared { page, error }),
        };
        if !to.is_trusted() {
            page.clear();
        }
        let grants = cache.grants();
        match Lent::of(page, reference, to.domain(), rights, grants.epochs().now()) {
            Ok((lent, reference)) => {
                cache.count(1, 0, 0);
                Ok(Self(Ending::new(Share { grants, lent, reference })))
            }
            Err((page, reference, error)) => {
                cache.put(reference);
                Err(Unshared { page, error })
            }
        }
    }

    /// What the other domain is to be told. Callable at any level.
    #[must_use]
    pub fn reference(&self) -> GrantRef {
        self.0.reference
    }

    /// The bytes, which the other domain may read and, if it has got the right to, write at any time. Callable at
    /// any level.
    #[must_use]
    pub fn page(&self) -> &P::Frame {
        self.0.lent.lender()
    }

    /// Takes the page back. At `DISPATCH_LEVEL`.
    ///
    /// # Errors
    ///
    /// The other domain has not let go of it. It stays shared, and can be tried again; nobody is waited for.
    pub fn end<const N: usize>(
        self,
        cache: &mut GrantCache<P, N>,
        _at: &Dispatch,
    ) -> Result<Ram<P>, Held<Self>> {
        let Share { grants, lent, reference } = self.0.into_inner();
        match lent.end(grants.epochs().now(), |reference| cache.put(reference)) {
            Ok(page) => {
                cache.count(0, 1, 0);
                Ok(page)
            }
            Err((lent, by)) => {
                cache.count(0, 0, 1);
                Err(Held { what: Self(Ending::new(Share { grants, lent, reference })), by })
            }
        }
    }
}

/// The same as [`page`](Self::page).
impl<P: Seam> Deref for Shared<P> {
    type Target = P::Frame;

    fn deref(&self) -> &P::Frame {
        self.page()
    }
}

impl<P: Seam> Last for Share<P> {
    fn last(self) {
        match self.lent.end(self.grants.epochs().now(), drop) {
            Ok(page) => drop(page),
            Err((lent, _)) => self.grants.quarantine(lent),
        }
    }
}

impl<P: Seam> fmt::Debug for Shared<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("page", &self.0.lent.lender())
            .field("reference", &self.0.reference)
            .finish_non_exhaustive()
    }
}
