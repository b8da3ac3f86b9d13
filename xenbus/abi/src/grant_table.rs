//! `grant_table.h`: how a domain lets others use its pages, and the commands of
//! [`GRANT_TABLE_OP`](crate::hypercall::GRANT_TABLE_OP).
//!
//! - this file: the table, version 1;
//! - [`op`]: the commands;
//! - [`status`]: how an operation ended.
//!
//! A table is pages of entries that the guest and Xen write together. Version 2, which separates the two, is left out:
//! no driver needs what it adds.
//!
//! | | order of the guest's writes |
//! |---|---|
//! | grant | `domid` and `frame`; then `flags` |
//! | revoke | `flags` from what they were to zero in one piece, if neither [`GTF_READING`] nor [`GTF_WRITING`] is set |
#![forbid(unsafe_code)]

pub mod op;
pub mod status;

use core::{fmt, mem::offset_of};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    domid::DomId,
    seam::{PAGE_SIZE, Places},
};

/// `grant_ref_t`: an entry of a domain's grant table, counted from its beginning.
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
pub struct GrantRef(pub u32);

impl fmt::Display for GrantRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// `struct grant_entry_v1`: one entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct GrantEntryV1 {
    /// `GTF_*`, written by the guest and by Xen.
    pub flags: u16,
    /// Who may use the page. Written by the guest.
    pub domid: DomId,
    /// The page, as the guest counts them. Written by the guest.
    pub frame: u32,
}

const _: () = assert!(size_of::<GrantEntryV1>() == 8);

/// Entries in a page of the table: entry _r_ is number _r_ modulo this in page _r_ divided by this.
pub const ENTRIES_PER_PAGE: usize = PAGE_SIZE / size_of::<GrantEntryV1>();

/// The entries in a page of the table, each as a word: `flags` lowest, then `domid`, then `frame`.
pub const ENTRIES: Places<u64> = Places::new(0, size_of::<GrantEntryV1>(), ENTRIES_PER_PAGE);
/// [`GrantEntryV1::flags`] of each.
pub const FLAGS: Places<u16> = entries(offset_of!(GrantEntryV1, flags));
/// [`GrantEntryV1::domid`] of each.
pub const DOMID: Places<u16> = entries(offset_of!(GrantEntryV1, domid));
/// [`GrantEntryV1::frame`] of each.
pub const FRAME: Places<u32> = entries(offset_of!(GrantEntryV1, frame));

/// The places of a field of each entry.
const fn entries<T>(field: usize) -> Places<T> {
    Places::new(field, size_of::<GrantEntryV1>(), ENTRIES_PER_PAGE)
}

/// The first entries are the toolstack's.
pub const GNTTAB_NR_RESERVED_ENTRIES: u32 = 8;
/// That of the console's ring.
pub const GNTTAB_RESERVED_CONSOLE: GrantRef = GrantRef(0);
/// That of the xenstore ring.
pub const GNTTAB_RESERVED_XENSTORE: GrantRef = GrantRef(1);

/// The entry grants nothing.
pub const GTF_INVALID: u16 = 0;
/// The other domain may map the page, and copy from and to it.
pub const GTF_PERMIT_ACCESS: u16 = 1;
/// The other domain may give a page, in the place of this one; PV guests only.
pub const GTF_ACCEPT_TRANSFER: u16 = 2;
/// The other domain may use what a third has granted to this one; version 2 only.
pub const GTF_TRANSITIVE: u16 = 3;
/// The bits that say which of these four it is.
pub const GTF_TYPE_MASK: u16 = 3;

/// Not to be written to. Set by the guest.
pub const GTF_READONLY: u16 = 1 << 2;
/// The other domain is using the page. Set and cleared by Xen.
pub const GTF_READING: u16 = 1 << 3;
/// The other domain is using the page, and may be writing. Set and cleared by Xen.
pub const GTF_WRITING: u16 = 1 << 4;
/// How mappings are cached. Set by the guest.
pub const GTF_PWT: u16 = 1 << 5;
/// See [`GTF_PWT`].
pub const GTF_PCD: u16 = 1 << 6;
/// See [`GTF_PWT`].
pub const GTF_PAT: u16 = 1 << 7;
/// Only a part of the page, and only to be copied; version 2 only.
pub const GTF_SUB_PAGE: u16 = 1 << 8;

/// With [`GTF_ACCEPT_TRANSFER`]: Xen has begun, and the guest must wait for [`GTF_TRANSFER_COMPLETED`].
pub const GTF_TRANSFER_COMMITTED: u16 = 1 << 2;
/// With [`GTF_ACCEPT_TRANSFER`]: the page is there.
pub const GTF_TRANSFER_COMPLETED: u16 = 1 << 3;
