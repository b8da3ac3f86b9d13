//! The commands of [`GRANT_TABLE_OP`](crate::hypercall::GRANT_TABLE_OP), each with the address of an array of arguments
//! and how many there are. Each argument has a `status` of its own, which
//! [`GrantError::check`](super::status::GrantError::check) reads: that the call succeeded does not say that one of them
//! did.
#![forbid(unsafe_code)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::GrantRef;
use crate::domid::DomId;

/// Maps another domain's page. Takes [`MapGrantRef`]s.
pub const GNTTABOP_MAP_GRANT_REF: u64 = 0;
/// Undoes that. Takes [`UnmapGrantRef`]s.
pub const GNTTABOP_UNMAP_GRANT_REF: u64 = 1;
/// Makes the table as large as is asked for, and says where it is. Takes one [`SetupTable`].
pub const GNTTABOP_SETUP_TABLE: u64 = 2;
/// Writes a table to Xen's console; for debugging.
pub const GNTTABOP_DUMP_TABLE: u64 = 3;
/// Gives pages away; PV guests only.
pub const GNTTABOP_TRANSFER: u64 = 4;
/// Copies from page to page. Takes [`GrantCopy`]s.
pub const GNTTABOP_COPY: u64 = 5;
/// Says how large the table is, and may become. Takes one [`QuerySize`].
pub const GNTTABOP_QUERY_SIZE: u64 = 6;
/// Undoes a mapping and puts another page there; PV guests only.
pub const GNTTABOP_UNMAP_AND_REPLACE: u64 = 7;
/// Chooses the version of the entries. Takes one [`SetVersion`].
pub const GNTTABOP_SET_VERSION: u64 = 8;
/// Says where the status words of version 2 are.
pub const GNTTABOP_GET_STATUS_FRAMES: u64 = 9;
/// Says which version it is. Takes one [`GetVersion`].
pub const GNTTABOP_GET_VERSION: u64 = 10;
/// Exchanges two entries.
pub const GNTTABOP_SWAP_GRANT_REF: u64 = 11;
/// Cleans the processor's caches; ARM only.
pub const GNTTABOP_CACHE_FLUSH: u64 = 12;

/// `grant_handle_t`: a mapping.
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
pub struct GrantHandle(pub u32);

/// `struct gnttab_map_grant_ref`, for [`GNTTABOP_MAP_GRANT_REF`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct MapGrantRef {
    /// Where to map it: in an HVM guest the guest-physical address of a page.
    pub host_addr: u64,
    /// `GNTMAP_*`.
    pub flags: u32,
    /// The other domain's entry.
    pub r#ref: GrantRef,
    /// The other domain.
    pub dom: DomId,
    /// `GNTST_*`. Out.
    pub status: i16,
    /// The mapping. Out.
    pub handle: GrantHandle,
    /// The address by which devices reach the page. Out.
    pub dev_bus_addr: u64,
}

/// `struct gnttab_unmap_grant_ref`, for [`GNTTABOP_UNMAP_GRANT_REF`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct UnmapGrantRef {
    /// Where it is mapped.
    pub host_addr: u64,
    /// The address for devices; zero if it was not mapped for them.
    pub dev_bus_addr: u64,
    /// The mapping.
    pub handle: GrantHandle,
    /// `GNTST_*`. Out.
    pub status: i16,
    /// Zero.
    pub padding: u16,
}

/// For devices.
pub const GNTMAP_DEVICE_MAP: u32 = 1 << 0;
/// For processors.
pub const GNTMAP_HOST_MAP: u32 = 1 << 1;
/// Not to be written to.
pub const GNTMAP_READONLY: u32 = 1 << 2;
/// For the guest's processes, too; PV guests only.
pub const GNTMAP_APPLICATION_MAP: u32 = 1 << 3;
/// At the page table entry of that address; PV guests only.
pub const GNTMAP_CONTAINS_PTE: u32 = 1 << 4;
/// For the bits of a page table entry that are the guest's own; PV guests only.
pub const GNTMAP_GUEST_AVAIL_MASK: u32 = !0 << 16;

/// `struct gnttab_setup_table`, for [`GNTTABOP_SETUP_TABLE`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SetupTable {
    /// The domain: `DOMID_SELF` for all but the control domain.
    pub dom: DomId,
    /// Zero.
    pub padding: u16,
    /// Pages that it is to have at least.
    pub nr_frames: u32,
    /// `GNTST_*`. Out.
    pub status: i16,
    /// Zero.
    pub padding2: [u8; 6],
    /// The address of an array that takes the frame number of each of these pages.
    pub frame_list: u64,
}

/// `struct gnttab_copy`: from `source` to `dest`, of which one at least is a grant.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct GrantCopy {
    /// From here,
    pub source: CopyPtr,
    /// to there,
    pub dest: CopyPtr,
    /// so many bytes, which lie in one page on either side.
    pub len: u16,
    /// `GNTCOPY_*`.
    pub flags: u16,
    /// `GNTST_*`. Out.
    pub status: i16,
    /// Zero.
    pub padding: u16,
}

/// `struct gnttab_copy_ptr`: one side of a [`GrantCopy`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct CopyPtr {
    /// A grant, in the lower half, or a frame of the domain's: the flags of [`GrantCopy`] say which.
    pub u: u64,
    /// Whose it is.
    pub domid: DomId,
    /// Where in the page to begin.
    pub offset: u16,
    /// Zero.
    pub padding: u32,
}

impl CopyPtr {
    /// A place in a page that another domain has granted.
    #[must_use]
    pub const fn granted(grant: GrantRef, domid: DomId, offset: u16) -> Self {
        Self { u: grant.0 as u64, domid, offset, padding: 0 }
    }

    /// A place in a page of the caller's, which says `DOMID_SELF`.
    #[must_use]
    pub const fn frame(gfn: u64, domid: DomId, offset: u16) -> Self {
        Self { u: gfn, domid, offset, padding: 0 }
    }

    /// `u`, if it is a grant.
    #[must_use]
    pub const fn grant(&self) -> GrantRef {
        #[expect(clippy::cast_possible_truncation, reason = "the member of the union is its lower half")]
        GrantRef(self.u as u32)
    }
}

/// A grant is the source.
pub const GNTCOPY_SOURCE_GREF: u16 = 1 << 0;
/// A grant is the destination.
pub const GNTCOPY_DEST_GREF: u16 = 1 << 1;

/// `struct gnttab_query_size`, for [`GNTTABOP_QUERY_SIZE`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct QuerySize {
    /// The domain: `DOMID_SELF` for all but the control domain.
    pub dom: DomId,
    /// Zero.
    pub padding: u16,
    /// Pages that its table has. Out.
    pub nr_frames: u32,
    /// Pages that it may have. Out.
    pub max_nr_frames: u32,
    /// `GNTST_*`. Out.
    pub status: i16,
    /// Zero.
    pub padding2: u16,
}

/// `struct gnttab_set_version`, for [`GNTTABOP_SET_VERSION`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SetVersion {
    /// One or two; what it is now. In and out.
    pub version: u32,
}

/// `struct gnttab_get_version`, for [`GNTTABOP_GET_VERSION`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct GetVersion {
    /// The domain: `DOMID_SELF` for all but the control domain.
    pub dom: DomId,
    /// Zero.
    pub pad: u16,
    /// One or two. Out.
    pub version: u32,
}
