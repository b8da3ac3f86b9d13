//! What goes wrong.
#![forbid(unsafe_code)]

use core::fmt;

use xen_abi::{
    DomId, GrantRef,
    seam::{Gfn, NoMemory},
};

use crate::page::{MapError, Ram, Seam};

/// Why a page is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareError {
    /// All references are somebody's, and the table may not have more.
    Full,
    /// The table cannot grow.
    Table(MapError),
    /// The place of the page does not fit into an entry.
    TooHigh(Gfn),
    /// The lender has no page of this index.
    NoPage(usize),
    /// The cache or the loan has room for so many, and has them.
    NoRoom(usize),
    /// There is no page of memory just now.
    NoMemory,
}

impl fmt::Display for ShareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the grant table is full; ask again when something was revoked"),
            Self::Table(error) => write!(f, "the grant table cannot grow: {error}"),
            Self::TooHigh(Gfn(page)) => {
                write!(f, "page {page:#x} cannot be granted; use one below 2^32, which is 16 TiB")
            }
            Self::NoPage(index) => {
                write!(f, "there is no page {index} to be lent; ask for those that there are")
            }
            Self::NoMemory => NoMemory.fmt(f),
            Self::NoRoom(most) => write!(f, "there is room for {most}; split the request, or make more room"),
        }
    }
}

impl core::error::Error for ShareError {}

/// A grant that cannot be revoked: the other domain has the page mapped, or is copying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUse {
    /// Its number.
    pub grant: GrantRef,
    /// Whose it is.
    pub domain: DomId,
    /// The entry's flags: `GTF_*`.
    pub flags: u16,
}

impl fmt::Display for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { grant, domain, flags } = self;
        write!(
            f,
            "grant {grant} is in use by domain {domain} (flags {flags:#x}); try again when it has let go"
        )
    }
}

impl core::error::Error for InUse {}

/// What cannot be ended, because a page of it is in use. It is as it was, and can be tried again.
#[derive(Debug)]
#[must_use = "what is granted stays so"]
pub struct Held<S> {
    /// What was to be ended.
    pub what: S,
    /// One of the grants that are in use.
    pub by: InUse,
}

impl<S> fmt::Display for Held<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.by.fmt(f)
    }
}

impl<S: fmt::Debug> core::error::Error for Held<S> {}

/// A page that was not shared.
pub struct Unshared<P: Seam> {
    /// The page.
    pub page: Ram<P>,
    /// Why.
    pub error: ShareError,
}

impl<P: Seam> fmt::Display for Unshared<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<P: Seam> fmt::Debug for Unshared<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unshared").field("page", &self.page).field("error", &self.error).finish()
    }
}

impl<P: Seam> core::error::Error for Unshared<P> {}

/// References that are somebody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StillGranted {
    /// So many,
    pub references: u32,
    /// in this page of the table.
    pub frame: u32,
}

impl fmt::Display for StillGranted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { references, frame } = self;
        write!(
            f,
            "{references} references of frame {frame} are not given back; end what is granted, and drop the caches"
        )
    }
}

impl core::error::Error for StillGranted {}
