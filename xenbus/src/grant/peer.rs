//! The other domain, and whether it is trusted.
#![forbid(unsafe_code)]

use core::fmt;

use xen_abi::DomId;

/// A domain that pages are granted to.
///
/// One that is trusted may see what else is in a page of Windows's, beside what is to be sent; it has other ways to
/// harm the guest. To one that is not, only pages of the driver's own are granted, with nothing else in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    domain: DomId,
    is_trusted: bool,
}

/// A [`Peer`] that pages may be [lent](super::Loan) to.
///
/// It is made by [`Peer::trust`] only, so that lending to any other does not compile:
///
/// ```compile_fail
/// # use xenbus::{grant::{GrantCache, Lender, Loan, Peer}, page::Seam};
/// fn lend<P: Seam, T: Lender>(cache: &GrantCache<P, 8>, backend: Peer, request: T) -> Loan<P, T, 11> {
///     Loan::new(cache, backend, request)
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trusted(DomId);

impl Peer {
    /// A domain that is trusted.
    #[must_use]
    pub const fn trusted(domain: DomId) -> Self {
        Self { domain, is_trusted: true }
    }

    /// A domain that is not.
    #[must_use]
    pub const fn untrusted(domain: DomId) -> Self {
        Self { domain, is_trusted: false }
    }

    /// Its number.
    #[must_use]
    pub const fn domain(self) -> DomId {
        self.domain
    }

    /// Whether it is trusted.
    #[must_use]
    pub const fn is_trusted(self) -> bool {
        self.is_trusted
    }

    /// The right to lend pages to it.
    ///
    /// # Errors
    ///
    /// It is not trusted.
    pub const fn trust(self) -> Result<Trusted, Distrusted> {
        if self.is_trusted { Ok(Trusted(self.domain)) } else { Err(Distrusted(self.domain)) }
    }
}

impl Trusted {
    /// Its number.
    #[must_use]
    pub const fn domain(self) -> DomId {
        self.0
    }
}

/// A domain that is not trusted with pages of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distrusted(pub DomId);

impl fmt::Display for Distrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "domain {} is not trusted; copy what it needs into pages that are shared with it", self.0)
    }
}

impl core::error::Error for Distrusted {}
