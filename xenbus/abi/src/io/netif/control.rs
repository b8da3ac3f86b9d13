//! `io/netif.h`, sections "Control ring", "Hash types" and "Control messages": how a guest chooses which of its queues
//! a packet comes to.
//!
//! One request, one response, in any order. The ring's page and port are in the keys `ctrl-ring-ref` and
//! `event-channel-ctrl`, where the backend has `feature-ctrl-ring`.
//!
//! | request | `data[0]` | `data[1]` | `data[2]` | the response's `data` |
//! |---|---|---|---|---|
//! | get hash flags | | | | types that can be computed |
//! | set hash flags | types to compute | | | |
//! | set hash key | page with the key | its bytes | | |
//! | get hash mapping size | | | | entries of the table, at most; zero if there can be none |
//! | set hash mapping size | entries; zero for none | | | |
//! | set hash mapping | page with entries, a `u32` for each | how many | which is the first | |
//! | set hash algorithm | algorithm | | | |
//! | get gref mapping size | queue | | | grants that can be kept mapped, at most |
//! | add gref mapping | queue | page with [`Gref`]s | how many | |
//! | del gref mapping | queue | page with [`Gref`]s | how many | how many were unmapped |
#![forbid(unsafe_code)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    grant_table::GrantRef,
    io::ring,
    seam::{PAGE_SIZE, Places},
};

/// `struct xen_netif_ctrl_request`: see the table of this module.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Request {
    /// Comes back in the response.
    pub id: u16,
    /// `XEN_NETIF_CTRL_TYPE_*`.
    pub r#type: u16,
    /// What the type says.
    pub data: [u32; 3],
}

/// No request.
pub const XEN_NETIF_CTRL_TYPE_INVALID: u16 = 0;
/// See the table of this module, as for the others.
pub const XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS: u16 = 1;
/// An algorithm must have been set before.
pub const XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS: u16 = 2;
/// Bytes that are not given are zero. The page may be read-only.
pub const XEN_NETIF_CTRL_TYPE_SET_HASH_KEY: u16 = 3;
/// See the table of this module.
pub const XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE: u16 = 4;
/// The new table is all zero.
pub const XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE: u16 = 5;
/// Each entry is a queue; the hash modulo the size of the table is the entry. The page may be read-only.
pub const XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING: u16 = 6;
/// See the table of this module.
pub const XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM: u16 = 7;
/// See the table of this module.
pub const XEN_NETIF_CTRL_TYPE_GET_GREF_MAPPING_SIZE: u16 = 8;
/// All of them, or none.
pub const XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING: u16 = 9;
/// Each [`Gref::status`] says how it went.
pub const XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING: u16 = 10;

/// `struct xen_netif_ctrl_response`: how a request ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Response {
    /// As in the request.
    pub id: u16,
    /// As in the request.
    pub r#type: u16,
    /// `XEN_NETIF_CTRL_STATUS_*`.
    pub status: u32,
    /// What the type says.
    pub data: u32,
}

/// It was done.
pub const XEN_NETIF_CTRL_STATUS_SUCCESS: u32 = 0;
/// This backend does not have that.
pub const XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED: u32 = 1;
/// The request was wrong.
pub const XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER: u32 = 2;
/// That is more than this backend takes.
pub const XEN_NETIF_CTRL_STATUS_BUFFER_OVERFLOW: u32 = 3;

/// Source and destination address of IPv4.
pub const XEN_NETIF_CTRL_HASH_TYPE_IPV4: u32 = 1 << 0;
/// The same, and the ports of TCP.
pub const XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP: u32 = 1 << 1;
/// Source and destination address of IPv6.
pub const XEN_NETIF_CTRL_HASH_TYPE_IPV6: u32 = 1 << 2;
/// The same, and the ports of TCP.
pub const XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP: u32 = 1 << 3;

/// No hash: the backend chooses.
pub const XEN_NETIF_CTRL_HASH_ALGORITHM_NONE: u32 = 0;
/// Toeplitz: for each bit of the packet that is set, the 32 bits of the key that begin there, all added without carry.
pub const XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ: u32 = 1;

/// `struct xen_netif_gref`: a grant that the backend is to keep mapped.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Gref {
    /// The grant.
    pub r#ref: GrantRef,
    /// [`XEN_NETIF_CTRLF_GREF_READONLY`], or zero.
    pub flags: u16,
    /// `XEN_NETIF_CTRL_STATUS_*`. Out.
    pub status: u16,
}

/// Not to be written to.
pub const XEN_NETIF_CTRLF_GREF_READONLY: u16 = 1 << 0;

/// `union xen_netif_ctrl_sring_entry`: bytes of a slot.
pub const SLOT_SIZE: usize = size_of::<Request>();

const _: () = assert!(SLOT_SIZE == 16);

/// Slots of the ring.
pub const SLOTS: usize = ring::slots(PAGE_SIZE, SLOT_SIZE);
/// The slots, as requests.
pub const REQUESTS: Places<Request> = ring::in_one_page(SLOT_SIZE);
/// The slots, as responses.
pub const RESPONSES: Places<Response> = ring::in_one_page(SLOT_SIZE);
