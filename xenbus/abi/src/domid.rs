//! `xen.h`: the numbers of domains.
#![forbid(unsafe_code)]

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `domid_t`: a domain's number.
#[repr(transparent)]
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
pub struct DomId(pub u16);

impl fmt::Display for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Real domains have numbers below this.
pub const DOMID_FIRST_RESERVED: DomId = DomId(0x7FF0);
/// The domain that asks.
pub const DOMID_SELF: DomId = DomId(0x7FF0);
/// The owner of memory that belongs to devices.
pub const DOMID_IO: DomId = DomId(0x7FF1);
/// The owner of Xen's own pages.
pub const DOMID_XEN: DomId = DomId(0x7FF2);
/// The owner of pages that several domains share until one writes.
pub const DOMID_COW: DomId = DomId(0x7FF3);
/// No domain.
pub const DOMID_INVALID: DomId = DomId(0x7FF4);
/// The idle domain.
pub const DOMID_IDLE: DomId = DomId(0x7FFF);
/// The bits that a number can have.
pub const DOMID_MASK: DomId = DomId(0x7FFF);
