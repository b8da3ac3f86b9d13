//! `sched.h`: the commands of [`SCHED_OP`](crate::hypercall::SCHED_OP), each with the address of its argument.
#![forbid(unsafe_code)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::domid::DomId;

/// Lets others run. No argument.
pub const SCHEDOP_YIELD: u64 = 0;
/// Halts this vCPU until it has an event, and lets upcalls in. No argument.
pub const SCHEDOP_BLOCK: u64 = 1;
/// Stops the domain. Takes a [`Shutdown`].
///
/// With [`SHUTDOWN_SUSPEND`] it comes back: zero in a new domain, one where it was cancelled or only a checkpoint was
/// made.
pub const SCHEDOP_SHUTDOWN: u64 = 2;
/// Halts this vCPU until one of several ports is pending. Takes a [`Poll`].
pub const SCHEDOP_POLL: u64 = 3;
/// Says that another domain has shut down. Takes a [`RemoteShutdown`]; a device model's.
pub const SCHEDOP_REMOTE_SHUTDOWN: u64 = 4;
/// Sets the reason that is reported when the domain shuts down later. Takes a [`Shutdown`].
pub const SCHEDOP_SHUTDOWN_CODE: u64 = 5;
/// Starts, feeds and stops a watchdog. Takes a [`Watchdog`].
pub const SCHEDOP_WATCHDOG: u64 = 6;
/// Pins this vCPU. Takes a [`PinOverride`]; the hardware domain's.
pub const SCHEDOP_PIN_OVERRIDE: u64 = 7;

/// `struct sched_shutdown`, for [`SCHEDOP_SHUTDOWN`] and [`SCHEDOP_SHUTDOWN_CODE`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Shutdown {
    /// One of `SHUTDOWN_*`.
    pub reason: u32,
}

/// `struct sched_poll`, for [`SCHEDOP_POLL`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Poll {
    /// The address of an array of [`EvtchnPort`](crate::event_channel::EvtchnPort).
    pub ports: u64,
    /// How many there are: 128 at most.
    pub nr_ports: u32,
    /// Zero.
    pub padding: u32,
    /// The system time, in nanoseconds, at which to go on in any case; zero for never.
    pub timeout: u64,
}

/// `struct sched_remote_shutdown`, for [`SCHEDOP_REMOTE_SHUTDOWN`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RemoteShutdown {
    /// The domain that has shut down.
    pub domain_id: DomId,
    /// Zero.
    pub padding: u16,
    /// One of `SHUTDOWN_*`.
    pub reason: u32,
}

/// `struct sched_watchdog`, for [`SCHEDOP_WATCHDOG`].
///
/// | `id` | `timeout` | |
/// |---|---|---|
/// | zero | in seconds | starts one, and answers its `id` |
/// | of one | not zero | feeds it: so many seconds from now |
/// | of one | zero | stops it |
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Watchdog {
    /// Which; they are counted from one.
    pub id: u32,
    /// In seconds, after which the domain is shut down with [`SHUTDOWN_WATCHDOG`].
    pub timeout: u32,
}

/// `struct sched_pin_override`, for [`SCHEDOP_PIN_OVERRIDE`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PinOverride {
    /// The processor; below zero for the affinity of before.
    pub pcpu: i32,
}

/// The guest has ended: destroy it.
pub const SHUTDOWN_POWEROFF: u32 = 0;
/// Start it anew.
pub const SHUTDOWN_REBOOT: u32 = 1;
/// It can be saved now.
pub const SHUTDOWN_SUSPEND: u32 = 2;
/// It has crashed.
pub const SHUTDOWN_CRASH: u32 = 3;
/// Its watchdog was not fed.
pub const SHUTDOWN_WATCHDOG: u32 = 4;
/// Forget what it had of Xen, and let it go on with its memory and its vCPUs as they are.
pub const SHUTDOWN_SOFT_RESET: u32 = 5;
/// The last reason.
pub const SHUTDOWN_MAX: u32 = 5;
