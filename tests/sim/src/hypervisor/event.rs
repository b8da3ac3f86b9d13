//! Event channels.
//!
//! ```text
//!            allocate            another domain binds
//!   Free ─────────────▶ Unbound ─────────────────────▶ Interdomain
//!    ▲                     ▲                             │  │
//!    │      close          └──────── peer closes ────────┘  │
//!    └──────────────────────────────────────────────────────┘
//! ```
//!
//! - this file: the commands of `EVENT_CHANNEL_OP`, from the guest's arguments to its answers;
//! - [`port`]: the ports of a domain;
//! - [`channel`]: what becomes of them: bound, sent to, closed;
//! - [`deliver`]: an event on its way to a guest, which may be made to come late, twice or never;
//! - [`two_level`] and [`fifo`]: how the guest sees it, in its own memory;
//! - [`dom0`]: the control domain's end.
#![forbid(unsafe_code)]

pub(crate) mod channel;
pub(crate) mod deliver;
pub(crate) mod dom0;
pub(crate) mod fifo;
pub(crate) mod port;
pub(crate) mod two_level;

use xen_abi::{
    Errno,
    event_channel::{
        AllocUnbound, BindInterdomain, BindIpi, BindPirq, BindVcpu, BindVirq, Close, EVTCHN_2L_NR_CHANNELS,
        EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_BIND_INTERDOMAIN, EVTCHNOP_BIND_IPI, EVTCHNOP_BIND_PIRQ,
        EVTCHNOP_BIND_VCPU, EVTCHNOP_BIND_VIRQ, EVTCHNOP_CLOSE, EVTCHNOP_EXPAND_ARRAY, EVTCHNOP_INIT_CONTROL,
        EVTCHNOP_RESET, EVTCHNOP_SEND, EVTCHNOP_SET_PRIORITY, EVTCHNOP_STATUS, EVTCHNOP_UNMASK, EvtchnPort,
        Reset, Send, Status, Unmask,
        fifo::{EVTCHN_FIFO_NR_CHANNELS, ExpandArray, InitControl, SetPriority},
    },
    seam::Gfn,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use self::{fifo::Fifo, port::Ports};
use super::{
    Hypervisor,
    call::{Answer, Call, Refusal, int},
};
use crate::rule::rules;

rules! {
    /// A command that this Xen does not have is answered with `ENOSYS`.
    EVENT_COMMAND: "xen/common/event_channel.c", "do_event_channel_op";
    /// Xen makes ports by the page: a number beyond those that it has made is answered with `EINVAL`.
    PORT_NUMBER: "xen/common/event_channel.c", "_evtchn_from_port";
    /// A domain that is being destroyed gets no new port: `EINVAL`.
    DYING: "xen/common/event_channel.c", "get_free_port";
    /// A domain has so many ports as its ABI can count and its toolstack has allowed: `ENOSPC` for one more.
    NO_FREE_PORT: "xen/common/event_channel.c", "evtchn_allocate_port";
    /// A virtual CPU that the domain does not have is answered with `ENOENT`.
    NO_SUCH_VCPU: "xen/common/event_channel.c", "evtchn_bind_vcpu";
    /// A domain that there is not is answered with `ESRCH`.
    NO_SUCH_DOMAIN: "xen/common/event_channel.c", "evtchn_alloc_unbound";
    /// A domain without privilege can make, ask for and reset its own ports only: `EPERM`.
    OWN_PORTS: "xen/include/public/event_channel.h", "EVTCHNOP_alloc_unbound, NOTES";
    /// What is bound to is a port that waits for the caller: otherwise `EINVAL`.
    BIND_ACCEPTED: "xen/include/public/event_channel.h", "EVTCHNOP_bind_interdomain";
    /// Virtual interrupts have numbers below 24: `EINVAL` beyond.
    VIRQ_NUMBER: "xen/common/event_channel.c", "evtchn_bind_virq";
    /// A virtual interrupt that is not a virtual CPU's own is bound to vCPU 0: `EINVAL` for another.
    VIRQ_VCPU: "xen/include/public/event_channel.h", "EVTCHNOP_bind_virq, NOTES 2";
    /// A global virtual interrupt is its handler's, which is the control domain: `EBUSY` for others.
    VIRQ_HANDLER: "xen/common/event_channel.c", "evtchn_bind_virq";
    /// A virtual interrupt has one port, a virtual CPU's own one for each: `EEXIST` for one more.
    VIRQ_ONCE: "xen/include/public/event_channel.h", "EVTCHNOP_bind_virq, NOTES 3";
    /// A physical interrupt that the domain does not have is answered with `EINVAL`. These domains have none.
    PIRQ_NUMBER: "xen/common/event_channel.c", "evtchn_bind_pirq";
    /// Only a port that is open can be closed: otherwise `EINVAL`.
    CLOSE_OPEN: "xen/common/event_channel.c", "evtchn_close";
    /// A guest can neither close nor move nor send to a port at which Xen itself is: `EINVAL`.
    XEN_ATTACHED: "xen/common/event_channel.c", "evtchn_close";
    /// One sends to an interdomain port, an unbound one (which nobody hears) or an IPI's: `EINVAL` for others.
    SEND_TO: "xen/common/event_channel.c", "evtchn_send";
    /// An IPI's port, and that of a virtual CPU's own interrupt, stays where it was bound: `EINVAL`.
    FIXED_VCPU: "xen/include/public/event_channel.h", "EVTCHNOP_bind_vcpu, NOTES";
}

/// How a guest sees its events.
#[derive(Clone, Debug)]
pub(crate) enum Abi {
    TwoLevel,
    Fifo(Fifo),
}

impl Abi {
    /// Port numbers are below this.
    pub(super) const fn ports(&self) -> u32 {
        match self {
            Self::TwoLevel => EVTCHN_2L_NR_CHANNELS,
            Self::Fifo(_) => EVTCHN_FIFO_NR_CHANNELS,
        }
    }
}

/// A guest's event channels.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    pub(crate) ports: Ports,
    pub(crate) abi: Abi,
    /// Whether there is a FIFO ABI to go over to. Xen has it since 4.4.
    fifo_offered: bool,
}

impl Events {
    pub(crate) fn new(highest: u32, fifo_offered: bool) -> Self {
        Self { ports: Ports::new(highest), abi: Abi::TwoLevel, fifo_offered }
    }
}

impl Hypervisor {
    /// `EVENT_CHANNEL_OP`
    pub(super) fn event_channel_op(&mut self, call: &mut Call<'_>) -> Answer {
        let from = call.from.domain;
        match int(call.arguments[0]) {
            EVTCHNOP_ALLOC_UNBOUND => exchange(call, |at: &mut AllocUnbound| {
                at.port = EvtchnPort(self.alloc_unbound(from, at.dom.0, at.remote_dom.0)?);
                Ok(())
            }),
            EVTCHNOP_BIND_INTERDOMAIN => exchange(call, |at: &mut BindInterdomain| {
                let port = self.bind_interdomain(from, at.remote_dom.0, at.remote_port.0)?;
                at.local_port = EvtchnPort(port);
                Ok(())
            }),
            EVTCHNOP_BIND_VIRQ => exchange(call, |at: &mut BindVirq| {
                at.port = EvtchnPort(self.bind_virq(from, at.virq, at.vcpu)?);
                Ok(())
            }),
            EVTCHNOP_BIND_IPI => exchange(call, |at: &mut BindIpi| {
                at.port = EvtchnPort(self.bind_ipi(from, at.vcpu)?);
                Ok(())
            }),
            EVTCHNOP_BIND_PIRQ => take(call, |_: BindPirq| Err(PIRQ_NUMBER.refuses(Errno::EINVAL))),
            EVTCHNOP_CLOSE => take(call, |at: Close| self.close(from, at.port.0)),
            EVTCHNOP_SEND => take(call, |at: Send| self.send(from, at.port.0)),
            EVTCHNOP_STATUS => exchange(call, |at: &mut Status| {
                *at = self.status(from, *at)?;
                Ok(())
            }),
            EVTCHNOP_BIND_VCPU => take(call, |at: BindVcpu| self.bind_vcpu(from, at.port.0, at.vcpu)),
            EVTCHNOP_UNMASK => take(call, |at: Unmask| self.domain(from)?.unmask(at.port.0)),
            EVTCHNOP_RESET => take(call, |at: Reset| self.reset(from, at.dom.0)),
            EVTCHNOP_INIT_CONTROL if self.offers_fifo(from) => {
                exchange(call, |at: &mut InitControl| self.domain(from)?.init_control(at))
            }
            EVTCHNOP_EXPAND_ARRAY if self.offers_fifo(from) => {
                take(call, |at: ExpandArray| self.domain(from)?.expand_array(Gfn(at.array_gfn)))
            }
            EVTCHNOP_SET_PRIORITY if self.offers_fifo(from) => {
                take(call, |at: SetPriority| self.domain(from)?.set_priority(at.port.0, at.priority))
            }
            _ => Err(EVENT_COMMAND.refuses(Errno::ENOSYS)),
        }
    }

    fn offers_fifo(&self, domain: u16) -> bool {
        self.domains.get(&domain).is_some_and(|domain| domain.events.fifo_offered)
    }
}

/// A command whose argument is only read.
fn take<T>(call: &Call<'_>, work: impl FnOnce(T) -> Result<(), Refusal>) -> Answer
where
    T: FromBytes + IntoBytes,
{
    work(call.memory.get(call.arguments[1])?)?;
    Ok(0)
}

/// A command whose argument is written back when it has succeeded. What was done stays, even if that fails.
fn exchange<T>(call: &mut Call<'_>, work: impl FnOnce(&mut T) -> Result<(), Refusal>) -> Answer
where
    T: FromBytes + IntoBytes + Immutable,
{
    let mut argument = call.memory.get(call.arguments[1])?;
    work(&mut argument)?;
    call.memory.put(call.arguments[1], &argument)?;
    Ok(0)
}
