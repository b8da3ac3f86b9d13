//! `event_channel.h`, section "FIFO ABI": queues of events, one for each priority and vCPU.
//!
//! Each port has an event word in an array of up to 128 pages. Each vCPU has a control block with the heads of its
//! queues; a queue is linked through the words, zero being its end.
#![forbid(unsafe_code)]

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::EvtchnPort;
use crate::seam::{PAGE_SIZE, Place, Places};

/// The highest priority.
pub const EVTCHN_FIFO_PRIORITY_MAX: u32 = 0;
/// That of a new port.
pub const EVTCHN_FIFO_PRIORITY_DEFAULT: u32 = 7;
/// The lowest.
pub const EVTCHN_FIFO_PRIORITY_MIN: u32 = 15;

/// Queues of a vCPU: one for each priority.
pub const EVTCHN_FIFO_MAX_QUEUES: usize = EVTCHN_FIFO_PRIORITY_MIN as usize + 1;

/// The bit of an event word: there is an event. Set by Xen, cleared by the guest.
pub const EVTCHN_FIFO_PENDING: u32 = 31;
/// The bit of an event word: the port is not to be queued. Set and cleared by the guest.
pub const EVTCHN_FIFO_MASKED: u32 = 30;
/// The bit of an event word: the port is in a queue. Set by Xen, cleared by the guest.
pub const EVTCHN_FIFO_LINKED: u32 = 29;
/// The bit of an event word: Xen is changing the link. The guest does not unmask the port before it is clear again.
pub const EVTCHN_FIFO_BUSY: u32 = 28;

/// The lowest bits of an event word are the next port of its queue: so many.
pub const EVTCHN_FIFO_LINK_BITS: u32 = 17;
/// Those bits.
pub const EVTCHN_FIFO_LINK_MASK: u32 = (1 << EVTCHN_FIFO_LINK_BITS) - 1;

/// Ports are below this.
pub const EVTCHN_FIFO_NR_CHANNELS: u32 = 1 << EVTCHN_FIFO_LINK_BITS;

/// `event_word_t`: of a port: bits, and the port behind it in its queue.
pub type EventWord = u32;

/// The event words in a page of the array: that of port _p_ is number _p_ modulo 1024 in page _p_ / 1024.
pub const EVENT_WORDS: Places<EventWord> =
    Places::new(0, size_of::<EventWord>(), PAGE_SIZE / size_of::<EventWord>());

/// `struct evtchn_fifo_control_block`: a vCPU's queues.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ControlBlock {
    /// A bit for each queue that has something in it. Set by Xen, cleared by the guest.
    pub ready: u32,
    /// `_rsvd`: zero.
    pub rsvd: u32,
    /// The first port of each queue. Written by Xen; the guest writes none.
    pub head: [u32; EVTCHN_FIFO_MAX_QUEUES],
}

const _: () = assert!(size_of::<ControlBlock>() == 72);

/// The places in a [`ControlBlock`] that is at the beginning of its page.
pub const READY: Place<u32> = Place::new(offset_of!(ControlBlock, ready));
/// See [`READY`].
pub const HEAD: Places<u32> =
    Places::new(offset_of!(ControlBlock, head), size_of::<u32>(), EVTCHN_FIFO_MAX_QUEUES);

/// `struct evtchn_init_control`, for [`EVTCHNOP_INIT_CONTROL`](super::EVTCHNOP_INIT_CONTROL). Events that are pending
/// are lost.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct InitControl {
    /// The page with the control block,
    pub control_gfn: u64,
    /// and where in it that begins; a multiple of eight.
    pub offset: u32,
    /// The vCPU whose queues they are.
    pub vcpu: u32,
    /// How many bits a link has. Out.
    pub link_bits: u8,
    /// `_pad`: zero.
    pub pad: [u8; 7],
}

/// `struct evtchn_expand_array`, for [`EVTCHNOP_EXPAND_ARRAY`](super::EVTCHNOP_EXPAND_ARRAY).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ExpandArray {
    /// The page, which takes the words of the 1024 ports that come next; the guest has masked them all.
    pub array_gfn: u64,
}

/// `struct evtchn_set_priority`, for [`EVTCHNOP_SET_PRIORITY`](super::EVTCHNOP_SET_PRIORITY).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SetPriority {
    /// The port.
    pub port: EvtchnPort,
    /// From [`EVTCHN_FIFO_PRIORITY_MAX`] to [`EVTCHN_FIFO_PRIORITY_MIN`].
    pub priority: u32,
}
