//! What can go wrong.
#![forbid(unsafe_code)]

use core::{error::Error, fmt};

use xen_abi::{Errno, event_channel::EvtchnPort, seam::NoMemory};

use crate::page::MapError;

/// The channel is of before a suspend: Xen does not know it any more. Open another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnected;

/// Why [`Events`](super::Events) do not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// They have started.
    Started,
    /// There are no virtual CPUs.
    NoVcpus,
    /// The first virtual CPU is this one, and not 0.
    FirstVcpu(u32),
    /// There are so many virtual CPUs, and places for fewer.
    TooManyVcpus {
        /// Virtual CPUs.
        vcpus: usize,
        /// Places.
        places: usize,
    },
    /// The page that Xen shares with the guest cannot be mapped.
    SharedInfo(MapError),
    /// What a driver before has left cannot be cleared away.
    Reset(ResetError),
    /// Virtual CPU 0 gets no queues.
    Vcpu(AttachError),
    /// Xen does not make the callback's interrupt (`HVM_PARAM_CALLBACK_IRQ`).
    Callback(Errno),
}

/// Why a virtual CPU has no channels of its own. Those that are bound to it go to virtual CPU 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachError {
    /// The events have not started.
    NotStarted,
    /// There are fewer virtual CPUs.
    NoSuchPlace(usize),
    /// There is no page for it just now.
    NoMemory {
        /// The virtual CPU.
        vcpu: u32,
    },
    /// Its `vcpu_info` is elsewhere, and stays there: somebody before has registered it.
    Registered {
        /// The virtual CPU.
        vcpu: u32,
    },
    /// Xen refuses.
    Xen {
        /// The virtual CPU.
        vcpu: u32,
        /// With this.
        errno: Errno,
    },
}

/// Why there is no channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The events have not started.
    NotStarted,
    /// Xen makes no port.
    Xen(Errno),
    /// The port is beyond the table, and was closed again.
    BeyondTable {
        /// The port.
        port: EvtchnPort,
        /// The table has so many slots, or the ABI so many ports.
        size: usize,
    },
    /// Channels of before a suspend have all slots: so many.
    NoSlot(usize),
    /// The port has a channel.
    InUse(EvtchnPort),
    /// There is no page for the port's word just now.
    NoMemory(EvtchnPort),
    /// Xen takes no page for the port's word.
    NoWord {
        /// The port.
        port: EvtchnPort,
        /// What it answers.
        errno: Errno,
    },
    /// There are fewer virtual CPUs.
    NoSuchPlace(usize),
    /// The virtual CPU at this place gets no upcalls, and the channel could not be another's.
    NoUpcalls(usize),
}

/// Why something was not done with a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelError {
    /// It is of before a suspend.
    Disconnected,
    /// There are fewer virtual CPUs.
    NoSuchPlace(usize),
    /// Xen refuses.
    Xen(Errno),
}

/// Why [`Events`](super::Events) do not stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopError {
    /// Somebody has a channel still, in the slot of this number.
    Open(usize),
    /// The virtual CPU at this place is busy with an upcall.
    Upcall(usize),
    /// A channel was opened meanwhile, or an upcall has come.
    InUse,
    /// Xen has the pages of the FIFO ABI still.
    Reset(ResetError),
}

/// Why the event channels were not reset, or not all that the toolstack has given is there again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetError {
    /// Xen did not tell what the port is whose parameter this is. Nothing was changed.
    Unknown {
        /// `HVM_PARAM_STORE_EVTCHN` or `HVM_PARAM_CONSOLE_EVTCHN`.
        parameter: u32,
        /// What it answered.
        errno: Errno,
    },
    /// Xen does not reset. Some channels may be closed.
    Refused(Errno),
    /// There is no connection any more to the daemon whose port this parameter names. It says zero now.
    Lost {
        /// `HVM_PARAM_STORE_EVTCHN` or `HVM_PARAM_CONSOLE_EVTCHN`.
        parameter: u32,
        /// What Xen answered.
        errno: Errno,
    },
}

impl fmt::Display for Disconnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the event channel is of before a suspend; open another")
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("event channels have started; stop them first"),
            Self::NoVcpus => f.write_str("no virtual CPU was named; name them all, 0 first"),
            Self::FirstVcpu(vcpu) => {
                write!(f, "the first virtual CPU is {vcpu}; name 0 first, which has what others cannot have")
            }
            Self::TooManyVcpus { vcpus, places } => {
                write!(f, "{vcpus} virtual CPUs, and places for {places}; lend a place for each")
            }
            Self::SharedInfo(error) => error.fmt(f),
            Self::Reset(error) => write!(f, "what a driver before has left is in the way: {error}"),
            Self::Vcpu(error) => error.fmt(f),
            Self::Callback(errno) => write!(f, "Xen did not set HVM_PARAM_CALLBACK_IRQ: {errno}"),
        }
    }
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted => f.write_str("event channels have not started"),
            Self::NoSuchPlace(place) => write!(f, "no virtual CPU was named at place {place}"),
            Self::NoMemory { vcpu } => write!(f, "virtual CPU {vcpu} has no channels of its own: {NoMemory}"),
            Self::Registered { vcpu } => write!(
                f,
                "virtual CPU {vcpu} has no channels of its own: its vcpu_info is where a driver before has put it"
            ),
            Self::Xen { vcpu, errno } => {
                write!(f, "virtual CPU {vcpu} has no channels of its own: Xen answered {errno}")
            }
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted => f.write_str("event channels have not started"),
            Self::Xen(errno) => write!(f, "Xen made no port: {errno}"),
            Self::BeyondTable { port, size } => {
                write!(f, "port {port} is beyond the table of {size}; lend more slots")
            }
            Self::NoSlot(size) => {
                write!(f, "channels of before a suspend have all {size} slots; drop them, or lend more slots")
            }
            Self::InUse(port) => write!(f, "port {port} has a channel; drop that first"),
            Self::NoMemory(port) => write!(f, "port {port} has no event word: {NoMemory}"),
            Self::NoWord { port, errno } => {
                write!(f, "port {port} has no event word: Xen took no page for it: {errno}")
            }
            Self::NoSuchPlace(place) => write!(f, "no virtual CPU was named at place {place}"),
            Self::NoUpcalls(place) => {
                write!(f, "the virtual CPU at place {place} gets no upcalls; attach it first")
            }
        }
    }
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => Disconnected.fmt(f),
            Self::NoSuchPlace(place) => write!(f, "no virtual CPU was named at place {place}"),
            Self::Xen(errno) => write!(f, "Xen refused: {errno}"),
        }
    }
}

impl fmt::Display for StopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(slot) => {
                write!(f, "somebody has the channel in slot {slot}; it is to be dropped first")
            }
            Self::Upcall(place) => {
                write!(f, "the virtual CPU at place {place} is busy with an upcall; disconnect its interrupt first")
            }
            Self::InUse => f.write_str(
                "a channel was opened meanwhile, or an upcall has come; drop it, disconnect interrupts, and stop again",
            ),
            Self::Reset(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for ResetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { parameter, errno } => {
                write!(
                    f,
                    "Xen did not say what the port of parameter {parameter} is: {errno}; nothing was reset"
                )
            }
            Self::Refused(errno) => write!(f, "Xen did not reset the event channels: {errno}"),
            Self::Lost { parameter, errno } => write!(
                f,
                "the daemon of parameter {parameter} could not be connected again: {errno}; that says zero now"
            ),
        }
    }
}

impl Error for Disconnected {}
impl Error for StartError {}
impl Error for AttachError {}
impl Error for OpenError {}
impl Error for ChannelError {}
impl Error for StopError {}
impl Error for ResetError {}

impl From<Disconnected> for ChannelError {
    fn from(_: Disconnected) -> Self {
        Self::Disconnected
    }
}
