//! Simulated CPUs, and the contexts in which driver code runs on them.
//!
//! A *context* is a thread of the system, a DPC or an ISR, with a stack of its own. On a CPU, contexts lie on one
//! another: an ISR on the DPC that it interrupted, that on a thread. Only the one on top runs, and the CPU's
//! IRQL is that one's. A thread below `DISPATCH_LEVEL` may be taken off its CPU and put on another.
#![forbid(unsafe_code)]

use std::{collections::VecDeque, fmt};

use crate::{
    call::Frame,
    dpc::Queued,
    machine::{Activation, Resume},
};

/// PASSIVE, APC, DISPATCH and HIGH level, as numbers that exports' arguments can be compared with.
pub(crate) use nt_sys::{APC_LEVEL, DISPATCH_LEVEL, HIGH_LEVEL, PASSIVE_LEVEL};

/// One simulated CPU.
#[derive(Debug)]
pub(crate) struct Cpu {
    /// What runs, and what it interrupted: the last one runs.
    pub(crate) contexts: Vec<Id>,
    /// The DPC queue: "Organization of DPC Queues".
    pub(crate) dpcs: VecDeque<Queued>,
    /// The processor control region, for the gs register.
    pub(crate) region: u64,
}

/// A context's number. None is used twice in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id(pub(crate) u64);

/// What a context is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Thread,
    /// Its number in the order in which DPCs were queued.
    Dpc {
        serial: u64,
        dpc: u64,
    },
    Isr {
        interrupt: u64,
    },
}

/// A context's name in reports and in the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    pub(crate) kind: &'static str,
    pub(crate) id: Id,
}

/// Driver code that runs, or will.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) kind: Kind,
    /// What it is for, in words.
    pub(crate) purpose: String,
    pub(crate) activation: Activation,
    /// What the activation goes on with.
    pub(crate) next: Resume,
    pub(crate) state: State,
    pub(crate) irql: u8,
    /// Levels that it has raised from, and not been lowered to again.
    pub(crate) raised_from: Vec<u8>,
    /// The routines that the kernel has called in it, innermost last.
    pub(crate) frames: Vec<Frame>,
    /// Where it is, if it is on a CPU.
    pub(crate) cpu: Option<usize>,
    /// Where it must not go.
    pub(crate) avoids: Option<usize>,
    /// What called an export last: an address in the driver.
    pub(crate) caller: u64,
    /// Exports and traps so far.
    pub(crate) calls: u64,
}

/// Whether a context can go on.
#[derive(Debug)]
pub(crate) enum State {
    Ready,
    Blocked(Wait),
}

/// What a context waits for. It keeps its CPU, or a thread leaves it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wait {
    /// On its CPU, until the spin lock is free.
    Spin { lock: u64, old_irql: Option<u8> },
    /// On its CPU, until this time.
    Stall { until: u64 },
    /// On its CPU, in the hypervisor, until this time.
    Hypercall { until: u64 },
    /// On its CPU, until another has got as far as it can with what this one has given it.
    Handover { to: Id, until_step: u64, answer: u64 },
    /// Until this time.
    Delay { until: u64 },
    /// Until the registry has answered.
    Registry { until: u64 },
    /// Until the object is signaled.
    Object { object: u64, timeout: Option<u64> },
    /// Until no DPC that was queued before this one is queued or running.
    Flush { before: u64 },
    /// Until the interrupt's ISR does not run.
    Isr { interrupt: u64 },
    /// Until the IRP has come back from the driver below.
    Irp { irp: u64 },
    /// Until nobody holds the remove lock.
    RemoveLock { lock: u64 },
}

impl Wait {
    /// Whether it needs nobody and no timer to end.
    pub(crate) fn ends_by_itself(self) -> bool {
        matches!(
            self,
            Self::Stall { .. } | Self::Hypercall { .. } | Self::Handover { .. } | Self::Registry { .. }
        )
    }

    /// Whether the context spins: it keeps its CPU busy.
    pub(crate) fn keeps_cpu(self) -> bool {
        matches!(
            self,
            Self::Spin { .. } | Self::Stall { .. } | Self::Hypercall { .. } | Self::Handover { .. }
        )
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spin { lock, .. } => write!(f, "spins on the lock at {lock:#x}"),
            Self::Stall { until } => write!(f, "stalls until {}.{} us", until / 10, until % 10),
            Self::Hypercall { until } => {
                write!(f, "is in the hypervisor until {}.{} us", until / 10, until % 10)
            }
            Self::Delay { until } => write!(f, "sleeps until {}.{} us", until / 10, until % 10),
            Self::Registry { until } => {
                write!(f, "waits for the registry until {}.{} us", until / 10, until % 10)
            }
            Self::Handover { to, .. } => write!(f, "has handed over to thread {}", to.0),
            Self::Object { object, timeout: None } => write!(f, "waits for the object at {object:#x}"),
            Self::Object { object, timeout: Some(_) } => {
                write!(f, "waits for the object at {object:#x}, not for ever")
            }
            Self::Flush { .. } => f.write_str("waits for the queued DPCs"),
            Self::Isr { .. } => f.write_str("waits for the ISR"),
            Self::Irp { irp } => write!(f, "waits for the IRP at {irp:#x} to come back"),
            Self::RemoveLock { lock } => write!(f, "waits until nobody holds the remove lock at {lock:#x}"),
        }
    }
}

impl Context {
    pub(crate) fn name(&self, id: Id) -> Name {
        let kind = match self.kind {
            Kind::Thread => "thread",
            Kind::Dpc { .. } => "dpc",
            Kind::Isr { .. } => "isr",
        };
        Name { kind, id }
    }

    pub(crate) fn is_thread(&self) -> bool {
        self.kind == Kind::Thread
    }

    /// Whether it may be taken off its CPU between two of its instructions.
    pub(crate) fn can_be_preempted(&self) -> bool {
        self.is_thread() && self.irql < DISPATCH_LEVEL && matches!(self.state, State::Ready)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} {}", self.kind, self.id.0))
    }
}
