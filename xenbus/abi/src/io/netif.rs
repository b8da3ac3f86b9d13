//! `io/netif.h`: NICs.
//!
//! - this file: packets from the guest, and to it;
//! - [`extra`]: what a packet may carry beside its bytes;
//! - [`control`]: the ring by which a guest chooses how packets are spread over its queues.
//!
//! A packet from the guest is one or more [`TxRequest`]s: the first has the size of the whole, and the others that of
//! their own part. One to the guest is one or more [`RxResponse`]s, each with the size of its own part. Behind the
//! first, if its flags say so, come [`ExtraInfo`](extra::ExtraInfo)s, in slots of their own.
//!
//! A response to the guest is in the slot of its request: an extra takes the place of one and has no `id`, so that its
//! slot is all that tells which page it cost.
#![forbid(unsafe_code)]

pub mod control;
pub mod extra;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::ring;
use crate::{
    grant_table::GrantRef,
    seam::{PAGE_SIZE, Places},
};

/// A backend takes packets of so many slots, at least.
pub const XEN_NETIF_NR_SLOTS_MIN: usize = 18;

/// Bytes in a packet, at most.
pub const XEN_NETIF_MAX_TX_SIZE: usize = 0xFFFF;

/// `struct netif_tx_request`: a part of a packet from the guest.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct TxRequest {
    /// The page,
    pub gref: GrantRef,
    /// and where in it the bytes begin.
    pub offset: u16,
    /// `NETTXF_*`; in all parts but the first only [`NETTXF_MORE_DATA`].
    pub flags: u16,
    /// Comes back in the response.
    pub id: u16,
    /// How many bytes: in the first, of the whole packet.
    pub size: u16,
}

/// The checksum is not there: whoever needs it has to compute it.
pub const NETTXF_CSUM_BLANK: u16 = 1 << 0;
/// The bytes are known to be right, whatever the checksum says.
pub const NETTXF_DATA_VALIDATED: u16 = 1 << 1;
/// Another part follows.
pub const NETTXF_MORE_DATA: u16 = 1 << 2;
/// An [`ExtraInfo`](extra::ExtraInfo) follows.
pub const NETTXF_EXTRA_INFO: u16 = 1 << 3;

/// `struct netif_tx_response`: the page is the guest's again.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct TxResponse {
    /// As in the request.
    pub id: u16,
    /// `NETIF_RSP_*`.
    pub status: i16,
}

/// `struct netif_rx_request`: a page for a packet to the guest.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RxRequest {
    /// Comes back in the response.
    pub id: u16,
    /// Zero.
    pub pad: u16,
    /// The page.
    pub gref: GrantRef,
}

/// `struct netif_rx_response`: a part of a packet to the guest.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RxResponse {
    /// As in the request.
    pub id: u16,
    /// Where in the page the bytes begin.
    pub offset: u16,
    /// `NETRXF_*`; in all parts but the first only [`NETRXF_MORE_DATA`].
    pub flags: u16,
    /// How many bytes; below zero, `NETIF_RSP_*`.
    pub status: i16,
}

/// The bytes are known to be right, whatever the checksum says.
pub const NETRXF_DATA_VALIDATED: u16 = 1 << 0;
/// The checksum is not there: whoever needs it has to compute it.
pub const NETRXF_CSUM_BLANK: u16 = 1 << 1;
/// Another part follows.
pub const NETRXF_MORE_DATA: u16 = 1 << 2;
/// An [`ExtraInfo`](extra::ExtraInfo) follows.
pub const NETRXF_EXTRA_INFO: u16 = 1 << 3;
/// In the place of an extra: this is a segment's size, and the packet follows. No longer in use.
pub const NETRXF_GSO_PREFIX: u16 = 1 << 4;

/// The packet is lost.
pub const NETIF_RSP_DROPPED: i16 = -2;
/// The request was wrong.
pub const NETIF_RSP_ERROR: i16 = -1;
/// It was done.
pub const NETIF_RSP_OKAY: i16 = 0;
/// The slot was an extra's, and has no response.
pub const NETIF_RSP_NULL: i16 = 1;

/// `union netif_tx_sring_entry`: bytes of a slot of the ring of packets from the guest.
pub const TX_SLOT_SIZE: usize = size_of::<TxRequest>();
/// `union netif_rx_sring_entry`: bytes of a slot of the ring of packets to the guest.
pub const RX_SLOT_SIZE: usize = size_of::<RxResponse>();

const _: () = assert!(TX_SLOT_SIZE == 12);
const _: () = assert!(RX_SLOT_SIZE == 8);

/// Slots of the ring of packets from the guest.
pub const TX_SLOTS: usize = ring::slots(PAGE_SIZE, TX_SLOT_SIZE);
/// Slots of the ring of packets to the guest.
pub const RX_SLOTS: usize = ring::slots(PAGE_SIZE, RX_SLOT_SIZE);

/// The slots of the ring of packets from the guest, as requests.
pub const TX_REQUESTS: Places<TxRequest> = ring::in_one_page(TX_SLOT_SIZE);
/// The same, as extras. One does not fill its slot.
pub const TX_EXTRAS: Places<extra::ExtraInfo> = ring::in_one_page(TX_SLOT_SIZE);
/// The same, as responses.
pub const TX_RESPONSES: Places<TxResponse> = ring::in_one_page(TX_SLOT_SIZE);

/// The slots of the ring of packets to the guest, as requests.
pub const RX_REQUESTS: Places<RxRequest> = ring::in_one_page(RX_SLOT_SIZE);
/// The same, as extras.
pub const RX_EXTRAS: Places<extra::ExtraInfo> = ring::in_one_page(RX_SLOT_SIZE);
/// The same, as responses.
pub const RX_RESPONSES: Places<RxResponse> = ring::in_one_page(RX_SLOT_SIZE);
