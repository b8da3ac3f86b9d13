//! `io/blkif.h`: disks. In the layout of 64-bit x86
//! ([`XEN_IO_PROTO_ABI_X86_64`](super::protocols::XEN_IO_PROTO_ABI_X86_64)).
//!
//! A slot is [`SLOT_SIZE`] bytes, which begin with the operation: by that one knows which of the three requests it is.
//! Sectors are of 512 bytes, unless the frontend has written `feature-large-sector-size`; then they are as large as the
//! backend's key `sector-size` says.
#![forbid(unsafe_code)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::ring;
use crate::{
    grant_table::GrantRef,
    seam::{PAGE_SIZE, Places},
};

/// Reads sectors.
pub const BLKIF_OP_READ: u8 = 0;
/// Writes sectors.
pub const BLKIF_OP_WRITE: u8 = 1;
/// Writes sectors after everything from before, and before everything that comes later (`feature-barrier`).
pub const BLKIF_OP_WRITE_BARRIER: u8 = 2;
/// Makes what was written survive a power failure (`feature-flush-cache`).
pub const BLKIF_OP_FLUSH_DISKCACHE: u8 = 3;
/// Not in use.
pub const BLKIF_OP_RESERVED_1: u8 = 4;
/// Says that sectors are needed no longer (`feature-discard`): a [`RequestDiscard`].
pub const BLKIF_OP_DISCARD: u8 = 5;
/// Reads or writes with more segments (`feature-max-indirect-segments`): a [`RequestIndirect`].
pub const BLKIF_OP_INDIRECT: u8 = 6;

/// Segments of a [`Request`], at most.
pub const BLKIF_MAX_SEGMENTS_PER_REQUEST: usize = 11;
/// Pages of segments of a [`RequestIndirect`], at most.
pub const BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST: usize = 8;

/// `struct blkif_request_segment`: a part of one page.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RequestSegment {
    /// The page.
    pub gref: GrantRef,
    /// The first sector in it,
    pub first_sect: u8,
    /// and the last.
    pub last_sect: u8,
    /// Zero.
    pub padding: u16,
}

/// `struct blkif_request`: reads, writes, or flushes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Request {
    /// `BLKIF_OP_*`.
    pub operation: u8,
    /// How many segments there are.
    pub nr_segments: u8,
    /// The disk: its key `virtual-device`.
    pub handle: u16,
    /// Zero.
    pub padding: u32,
    /// Comes back in the response.
    pub id: u64,
    /// The first sector on the disk.
    pub sector_number: u64,
    /// What goes there or comes from there, one behind the other.
    pub seg: [RequestSegment; BLKIF_MAX_SEGMENTS_PER_REQUEST],
}

/// `struct blkif_request_discard`: [`BLKIF_OP_DISCARD`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RequestDiscard {
    /// [`BLKIF_OP_DISCARD`].
    pub operation: u8,
    /// [`BLKIF_DISCARD_SECURE`], or zero.
    pub flag: u8,
    /// The disk: its key `virtual-device`.
    pub handle: u16,
    /// Zero.
    pub padding: u32,
    /// Comes back in the response.
    pub id: u64,
    /// The first sector on the disk.
    pub sector_number: u64,
    /// How many there are.
    pub nr_sectors: u64,
}

/// Nobody must be able to read what was there (`discard-secure`).
pub const BLKIF_DISCARD_SECURE: u8 = 1 << 0;

/// `struct blkif_request_indirect`: [`BLKIF_OP_INDIRECT`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RequestIndirect {
    /// [`BLKIF_OP_INDIRECT`].
    pub operation: u8,
    /// [`BLKIF_OP_READ`] or [`BLKIF_OP_WRITE`].
    pub indirect_op: u8,
    /// How many segments there are.
    pub nr_segments: u16,
    /// Zero.
    pub padding: u32,
    /// Comes back in the response.
    pub id: u64,
    /// The first sector on the disk.
    pub sector_number: u64,
    /// The disk: its key `virtual-device`.
    pub handle: u16,
    /// Zero.
    pub padding2: u16,
    /// Pages of [`SEGMENTS`]; as many as it takes.
    pub indirect_grefs: [GrantRef; BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST],
    /// Zero.
    pub padding3: u32,
}

/// `struct blkif_response`: how a request ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Response {
    /// As in the request.
    pub id: u64,
    /// As in the request.
    pub operation: u8,
    /// Zero.
    pub padding: u8,
    /// `BLKIF_RSP_*`.
    pub status: i16,
    /// Zero.
    pub padding2: u32,
}

/// The operation is not one that this backend has, or has just now.
pub const BLKIF_RSP_EOPNOTSUPP: i16 = -2;
/// It failed.
pub const BLKIF_RSP_ERROR: i16 = -1;
/// It was done.
pub const BLKIF_RSP_OKAY: i16 = 0;

/// In the backend's key `info`: a CD drive.
pub const VDISK_CDROM: u32 = 0x1;
/// In the backend's key `info`: it can be taken out.
pub const VDISK_REMOVABLE: u32 = 0x2;
/// In the backend's key `info`: it cannot be written to.
pub const VDISK_READONLY: u32 = 0x4;

/// `union blkif_sring_entry`: bytes of a slot.
pub const SLOT_SIZE: usize = size_of::<Request>();

const _: () = assert!(SLOT_SIZE == 112);

/// Slots of a ring of one page.
pub const SLOTS: usize = ring::slots(PAGE_SIZE, SLOT_SIZE);
/// The slots of a ring of one page, as requests.
pub const REQUESTS: Places<Request> = ring::in_one_page(SLOT_SIZE);
/// The same, as requests of [`BLKIF_OP_DISCARD`].
pub const DISCARD_REQUESTS: Places<RequestDiscard> = ring::in_one_page(SLOT_SIZE);
/// The same, as requests of [`BLKIF_OP_INDIRECT`].
pub const INDIRECT_REQUESTS: Places<RequestIndirect> = ring::in_one_page(SLOT_SIZE);
/// The same, as responses.
pub const RESPONSES: Places<Response> = ring::in_one_page(SLOT_SIZE);

/// The segments in a page that a [`RequestIndirect`] names.
pub const SEGMENTS: Places<RequestSegment> =
    Places::new(0, size_of::<RequestSegment>(), PAGE_SIZE / size_of::<RequestSegment>());
