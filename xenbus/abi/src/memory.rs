//! `memory.h`: the commands of [`MEMORY_OP`](crate::hypercall::MEMORY_OP) that an HVM guest has a use for, each with
//! the address of its argument.
#![forbid(unsafe_code)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::domid::DomId;

/// Adds pages that are nowhere in the guest's memory; answers of how many extents. Takes a [`Reservation`].
pub const XENMEM_INCREASE_RESERVATION: u64 = 0;
/// Gives pages back; answers of how many extents. Takes a [`Reservation`].
pub const XENMEM_DECREASE_RESERVATION: u64 = 1;
/// Answers how many pages the domain has. Takes a [`Domain`].
pub const XENMEM_CURRENT_RESERVATION: u64 = 3;
/// Answers how many pages the domain may have. Takes a [`Domain`].
pub const XENMEM_MAXIMUM_RESERVATION: u64 = 4;
/// Puts RAM where there is none; answers into how many extents. Takes a [`Reservation`].
pub const XENMEM_POPULATE_PHYSMAP: u64 = 6;
/// Puts a page of Xen's, or a page of the guest's from elsewhere, at a frame. Takes an [`AddToPhysmap`].
pub const XENMEM_ADD_TO_PHYSMAP: u64 = 7;
/// Says what was where when the domain was started. Takes a [`MemoryMap`].
pub const XENMEM_MEMORY_MAP: u64 = 9;
/// Answers the highest frame that the domain has in use. Takes a [`Domain`].
pub const XENMEM_MAXIMUM_GPFN: u64 = 14;
/// Takes a page out of the guest's memory. Takes a [`RemoveFromPhysmap`].
pub const XENMEM_REMOVE_FROM_PHYSMAP: u64 = 15;
/// [`XENMEM_ADD_TO_PHYSMAP`] for many. Takes an [`AddToPhysmapBatch`].
pub const XENMEM_ADD_TO_PHYSMAP_BATCH: u64 = 23;

/// `struct xen_memory_reservation`: some extents of 2^`extent_order` pages.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Reservation {
    /// The address of an array with the first frame of each, 64 bits wide.
    pub extent_start: u64,
    /// How many extents there are.
    pub nr_extents: u64,
    /// How large each is.
    pub extent_order: u32,
    /// `XENMEMF_*`.
    pub mem_flags: u32,
    /// The domain: `DOMID_SELF` for all but its toolstack.
    pub domid: DomId,
    /// Zero.
    pub padding: [u16; 3],
}

/// In [`Reservation::mem_flags`]: RAM is to come when the page is first touched.
pub const XENMEMF_POPULATE_ON_DEMAND: u32 = 1 << 16;
/// In [`Reservation::mem_flags`]: from this NUMA node or not at all.
pub const XENMEMF_EXACT_NODE_REQUEST: u32 = 1 << 17;
/// In [`Reservation::mem_flags`]: the node is a virtual one.
pub const XENMEMF_VNODE: u32 = 1 << 18;

/// `struct xen_memory_domain`: whose memory is asked about.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Domain {
    /// The domain: `DOMID_SELF` for all but its toolstack.
    pub domid: DomId,
}

/// `struct xen_add_to_physmap`, for [`XENMEM_ADD_TO_PHYSMAP`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct AddToPhysmap {
    /// The domain: `DOMID_SELF` for all but its toolstack.
    pub domid: DomId,
    /// How many pages, with [`XENMAPSPACE_GMFN_RANGE`].
    pub size: u16,
    /// `XENMAPSPACE_*`.
    pub space: u32,
    /// Which page of that space.
    pub idx: u64,
    /// The frame at which it is to be.
    pub gpfn: u64,
}

/// The page of [`shared_info`](crate::shared_info); it is in one place at a time.
pub const XENMAPSPACE_SHARED_INFO: u32 = 0;
/// The pages of the [grant table](crate::grant_table), which grows if need be; each is in one place at a time.
pub const XENMAPSPACE_GRANT_TABLE: u32 = 1;
/// A page of the guest's, which is moved.
pub const XENMAPSPACE_GMFN: u32 = 2;
/// Several pages of the guest's; with [`XENMEM_ADD_TO_PHYSMAP`] only.
pub const XENMAPSPACE_GMFN_RANGE: u32 = 3;
/// A page of another domain's; with [`XENMEM_ADD_TO_PHYSMAP_BATCH`] only.
pub const XENMAPSPACE_GMFN_FOREIGN: u32 = 4;
/// A page of a device's; ARM only.
pub const XENMAPSPACE_DEV_MMIO: u32 = 5;

/// In [`AddToPhysmap::idx`]: a page of the status words of a grant table of version 2.
pub const XENMAPIDX_GRANT_TABLE_STATUS: u64 = 0x8000_0000;

/// `struct xen_add_to_physmap_batch`, for [`XENMEM_ADD_TO_PHYSMAP_BATCH`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct AddToPhysmapBatch {
    /// The domain: `DOMID_SELF` for all but its toolstack.
    pub domid: DomId,
    /// `XENMAPSPACE_*`.
    pub space: u16,
    /// How many pages.
    pub size: u16,
    /// Whose they are, with [`XENMAPSPACE_GMFN_FOREIGN`]; else zero.
    pub u: DomId,
    /// The address of an array: which page of that space each is.
    pub idxs: u64,
    /// The address of an array: the frame at which each is to be.
    pub gpfns: u64,
    /// The address of an array of `i32`: how each went, as an error below zero. Out.
    pub errs: u64,
}

/// `struct xen_remove_from_physmap`, for [`XENMEM_REMOVE_FROM_PHYSMAP`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RemoveFromPhysmap {
    /// The domain: `DOMID_SELF` for all but its toolstack.
    pub domid: DomId,
    /// Zero.
    pub padding: [u16; 3],
    /// The frame.
    pub gpfn: u64,
}

/// `struct xen_memory_map`, for [`XENMEM_MEMORY_MAP`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct MemoryMap {
    /// How many entries there is room for; how many were written. In and out.
    pub nr_entries: u32,
    /// Zero.
    pub padding: u32,
    /// The address of an array of entries, 20 bytes each as those of the BIOS call E820.
    pub buffer: u64,
}
