//! `event_channel.h`: the commands of [`EVENT_CHANNEL_OP`](crate::hypercall::EVENT_CHANNEL_OP), each with the address
//! of its argument.
//!
//! - this file: ports, commands, and the state of a channel;
//! - [`virq`]: the interrupts that Xen itself raises;
//! - [`fifo`]: the queues that a guest can have instead of the bitmaps of [`shared_info`](crate::shared_info).
#![forbid(unsafe_code)]

pub mod fifo;
pub mod virq;

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, transmute};

use crate::domid::DomId;

/// `evtchn_port_t`: one end of a channel, as its domain counts them. Port 0 is never in use.
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
pub struct EvtchnPort(pub u32);

impl fmt::Display for EvtchnPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Ports are below this, with the bitmaps; with [`fifo`], below [`fifo::EVTCHN_FIFO_NR_CHANNELS`].
pub const EVTCHN_2L_NR_CHANNELS: u32 = 64 * 64;

/// Connects a new port with another domain's. Takes a [`BindInterdomain`].
pub const EVTCHNOP_BIND_INTERDOMAIN: u64 = 0;
/// Gives a virtual interrupt a new port. Takes a [`BindVirq`].
pub const EVTCHNOP_BIND_VIRQ: u64 = 1;
/// Gives a physical interrupt a new port. Takes a [`BindPirq`].
pub const EVTCHNOP_BIND_PIRQ: u64 = 2;
/// Frees a port. Takes a [`Close`].
pub const EVTCHNOP_CLOSE: u64 = 3;
/// Makes the other end pending. Takes a [`Send`].
pub const EVTCHNOP_SEND: u64 = 4;
/// Says what a port is. Takes a [`Status`].
pub const EVTCHNOP_STATUS: u64 = 5;
/// Makes a new port, with which another domain can connect. Takes an [`AllocUnbound`].
pub const EVTCHNOP_ALLOC_UNBOUND: u64 = 6;
/// Makes a new port, which is sent to by its own domain. Takes a [`BindIpi`].
pub const EVTCHNOP_BIND_IPI: u64 = 7;
/// Chooses the vCPU that has a port's upcalls. Takes a [`BindVcpu`].
pub const EVTCHNOP_BIND_VCPU: u64 = 8;
/// Unmasks a port, and makes the upcall if it is pending. Takes an [`Unmask`].
pub const EVTCHNOP_UNMASK: u64 = 9;
/// Frees all ports of a domain, and goes back to the bitmaps. Takes a [`Reset`].
pub const EVTCHNOP_RESET: u64 = 10;
/// Goes over to [`fifo`], for a vCPU. Takes an [`InitControl`](fifo::InitControl).
pub const EVTCHNOP_INIT_CONTROL: u64 = 11;
/// Adds a page to the array of [`fifo`]. Takes an [`ExpandArray`](fifo::ExpandArray).
pub const EVTCHNOP_EXPAND_ARRAY: u64 = 12;
/// Chooses the queue of a port. Takes a [`SetPriority`](fifo::SetPriority).
pub const EVTCHNOP_SET_PRIORITY: u64 = 13;

/// `struct evtchn_alloc_unbound`, for [`EVTCHNOP_ALLOC_UNBOUND`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct AllocUnbound {
    /// The domain whose port it is to be: `DOMID_SELF` for all but the control domain.
    pub dom: DomId,
    /// The domain that may connect with it.
    pub remote_dom: DomId,
    /// The new port. Out.
    pub port: EvtchnPort,
}

/// `struct evtchn_bind_interdomain`, for [`EVTCHNOP_BIND_INTERDOMAIN`]. The new port is pending at once: an event may
/// have been sent before.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BindInterdomain {
    /// The other domain,
    pub remote_dom: DomId,
    /// Zero.
    pub padding: u16,
    /// and its port, which is to be unbound and to accept the caller.
    pub remote_port: EvtchnPort,
    /// The new port. Out.
    pub local_port: EvtchnPort,
}

/// `struct evtchn_bind_virq`, for [`EVTCHNOP_BIND_VIRQ`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BindVirq {
    /// One of [`virq`].
    pub virq: u32,
    /// The vCPU whose interrupt it is; zero, if it is global.
    pub vcpu: u32,
    /// The new port. Out.
    pub port: EvtchnPort,
}

/// `struct evtchn_bind_pirq`, for [`EVTCHNOP_BIND_PIRQ`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BindPirq {
    /// The physical interrupt.
    pub pirq: u32,
    /// [`BIND_PIRQ__WILL_SHARE`], or zero.
    pub flags: u32,
    /// The new port. Out.
    pub port: EvtchnPort,
}

/// Other domains may bind the same interrupt.
pub const BIND_PIRQ__WILL_SHARE: u32 = 1;

/// `struct evtchn_bind_ipi`, for [`EVTCHNOP_BIND_IPI`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BindIpi {
    /// The vCPU that has the upcalls, for good.
    pub vcpu: u32,
    /// The new port. Out.
    pub port: EvtchnPort,
}

/// `struct evtchn_close`, for [`EVTCHNOP_CLOSE`]. The other end is unbound then, and accepts the caller's domain.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Close {
    /// The port to free.
    pub port: EvtchnPort,
}

/// `struct evtchn_send`, for [`EVTCHNOP_SEND`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Send {
    /// The caller's end.
    pub port: EvtchnPort,
}

/// `struct evtchn_bind_vcpu`, for [`EVTCHNOP_BIND_VCPU`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BindVcpu {
    /// The port: not of an IPI, nor of a vCPU's own virtual interrupt.
    pub port: EvtchnPort,
    /// The vCPU that is to have its upcalls; a new port has vCPU 0.
    pub vcpu: u32,
}

/// `struct evtchn_unmask`, for [`EVTCHNOP_UNMASK`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Unmask {
    /// The port.
    pub port: EvtchnPort,
}

/// `struct evtchn_reset`, for [`EVTCHNOP_RESET`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Reset {
    /// The domain: `DOMID_SELF` for all but the control domain.
    pub dom: DomId,
}

/// `struct evtchn_status`, for [`EVTCHNOP_STATUS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Status {
    /// The domain: `DOMID_SELF` for all but the control domain,
    pub dom: DomId,
    /// Zero.
    pub padding: u16,
    /// and its port.
    pub port: EvtchnPort,
    /// One of `EVTCHNSTAT_*`. Out.
    pub status: u32,
    /// The vCPU that has its upcalls. Out.
    pub vcpu: u32,
    /// What is at the other end, which [`channel`](Self::channel) can tell. Out.
    pub u: [u32; 2],
}

/// `u.interdomain` of `struct evtchn_status`; `u.unbound` is its first field.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Peer {
    /// The other domain,
    pub dom: DomId,
    /// Zero.
    pub padding: u16,
    /// and its port.
    pub port: EvtchnPort,
}

/// The port is free.
pub const EVTCHNSTAT_CLOSED: u32 = 0;
/// It waits for another domain.
pub const EVTCHNSTAT_UNBOUND: u32 = 1;
/// It is connected with another's.
pub const EVTCHNSTAT_INTERDOMAIN: u32 = 2;
/// It has a physical interrupt.
pub const EVTCHNSTAT_PIRQ: u32 = 3;
/// It has a virtual interrupt.
pub const EVTCHNSTAT_VIRQ: u32 = 4;
/// Its own domain sends to it.
pub const EVTCHNSTAT_IPI: u32 = 5;

/// What a port is, as [`Status`] says it in two of its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Free.
    Closed,
    /// Waiting for this domain.
    Unbound(DomId),
    /// Connected with this domain's port.
    Interdomain(DomId, EvtchnPort),
    /// For this physical interrupt.
    Pirq(u32),
    /// For this virtual interrupt.
    Virq(u32),
    /// For its own domain.
    Ipi,
}

impl Status {
    /// What the port is; none if the header does not know this `status`.
    #[must_use]
    pub const fn channel(&self) -> Option<Channel> {
        let Peer { dom, port, .. } = transmute!(self.u);
        let [interrupt, _] = self.u;
        Some(match self.status {
            EVTCHNSTAT_CLOSED => Channel::Closed,
            EVTCHNSTAT_UNBOUND => Channel::Unbound(dom),
            EVTCHNSTAT_INTERDOMAIN => Channel::Interdomain(dom, port),
            EVTCHNSTAT_PIRQ => Channel::Pirq(interrupt),
            EVTCHNSTAT_VIRQ => Channel::Virq(interrupt),
            EVTCHNSTAT_IPI => Channel::Ipi,
            _ => return None,
        })
    }

    /// The same answer with another channel in it.
    #[must_use]
    pub const fn with_channel(self, channel: Channel) -> Self {
        let (status, u) = match channel {
            Channel::Closed => (EVTCHNSTAT_CLOSED, [0; 2]),
            Channel::Unbound(dom) => {
                (EVTCHNSTAT_UNBOUND, transmute!(Peer { dom, padding: 0, port: EvtchnPort(0) }))
            }
            Channel::Interdomain(dom, port) => {
                (EVTCHNSTAT_INTERDOMAIN, transmute!(Peer { dom, padding: 0, port }))
            }
            Channel::Pirq(pirq) => (EVTCHNSTAT_PIRQ, [pirq, 0]),
            Channel::Virq(virq) => (EVTCHNSTAT_VIRQ, [virq, 0]),
            Channel::Ipi => (EVTCHNSTAT_IPI, [0; 2]),
        };
        Self { status, u, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A simulated Xen writes with the one what a driver reads with the other.
    #[test]
    fn a_channel_goes_there_and_back() {
        for channel in [
            Channel::Closed,
            Channel::Unbound(DomId(0x7FF0)),
            Channel::Interdomain(DomId(3), EvtchnPort(0x1_0002)),
            Channel::Pirq(9),
            Channel::Virq(u32::MAX),
            Channel::Ipi,
        ] {
            let status = Status { port: EvtchnPort(7), vcpu: 1, ..Status::default() }.with_channel(channel);
            assert_eq!(status.channel(), Some(channel));
            assert_eq!((status.port, status.vcpu), (EvtchnPort(7), 1), "{channel:?}");
        }
        assert_eq!(Status { status: 6, ..Status::default() }.channel(), None);
    }
}
