//! Kernel objects: DPCs, events, timers, threads.
#![forbid(unsafe_code)]

use crate::basic::{
    BOOLEAN, HANDLE, KAFFINITY, LIST_ENTRY, LONG, PVOID, SINGLE_LIST_ENTRY, UCHAR, ULONG, ULONGLONG, USHORT,
};

pub type KPROCESSOR_MODE = i8;

/// `MODE`, as wide as [`KPROCESSOR_MODE`].
pub mod _MODE {
    pub type Type = super::KPROCESSOR_MODE;
    pub const KernelMode: Type = 0;
}

/// `KWAIT_REASON`.
pub mod _KWAIT_REASON {
    pub type Type = i32;
    pub const Executive: Type = 0;
}
pub use _KWAIT_REASON::Type as KWAIT_REASON;

/// `EVENT_TYPE`.
pub mod _EVENT_TYPE {
    pub type Type = i32;
    pub const NotificationEvent: Type = 0;
    pub const SynchronizationEvent: Type = 1;
}
pub use _EVENT_TYPE::Type as EVENT_TYPE;

/// `TIMER_TYPE`.
pub mod _TIMER_TYPE {
    pub type Type = i32;
    pub const NotificationTimer: Type = 0;
    pub const SynchronizationTimer: Type = 1;
}
pub use _TIMER_TYPE::Type as TIMER_TYPE;

/// `KDPC_IMPORTANCE`.
pub mod _KDPC_IMPORTANCE {
    pub type Type = i32;
    pub const LowImportance: Type = 0;
    pub const MediumImportance: Type = 1;
    pub const HighImportance: Type = 2;
    pub const MediumHighImportance: Type = 3;
}
pub use _KDPC_IMPORTANCE::Type as KDPC_IMPORTANCE;

pub type PKDEFERRED_ROUTINE = Option<
    unsafe extern "C" fn(Dpc: PKDPC, DeferredContext: PVOID, SystemArgument1: PVOID, SystemArgument2: PVOID),
>;

/// Opaque to drivers: [`KeInitializeDpc`](crate::ntddk::KeInitializeDpc) fills it.
#[repr(C)]
pub struct KDPC {
    pub __bindgen_anon_1: KDPC_TARGET,
    pub DpcListEntry: SINGLE_LIST_ENTRY,
    pub ProcessorHistory: KAFFINITY,
    pub DeferredRoutine: PKDEFERRED_ROUTINE,
    pub DeferredContext: PVOID,
    pub SystemArgument1: PVOID,
    pub SystemArgument2: PVOID,
    pub DpcData: PVOID,
}
pub type PKDPC = *mut KDPC;
pub type PRKDPC = *mut KDPC;

/// The first word of a [`KDPC`], which has no name of its own.
#[repr(C)]
#[derive(Clone, Copy)]
pub union KDPC_TARGET {
    pub TargetInfoAsUlong: ULONG,
    pub __bindgen_anon_1: KDPC_TARGET_PARTS,
}

/// Its parts.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KDPC_TARGET_PARTS {
    pub Type: UCHAR,
    pub Importance: UCHAR,
    pub Number: USHORT,
}

/// What every object that can be waited for begins with.
#[repr(C)]
pub struct DISPATCHER_HEADER {
    pub __bindgen_anon_1: DISPATCHER_HEADER_VIEWS,
    pub SignalState: LONG,
    pub WaitListHead: LIST_ENTRY,
}

/// The first word of a [`DISPATCHER_HEADER`], of whose many views these two are the ones that events have.
#[repr(C)]
#[derive(Clone, Copy)]
pub union DISPATCHER_HEADER_VIEWS {
    pub __bindgen_anon_1: DISPATCHER_HEADER_LOCK,
    pub __bindgen_anon_2: DISPATCHER_HEADER_PARTS,
}

/// The word as a whole.
#[repr(C)]
#[derive(Clone, Copy)]
pub union DISPATCHER_HEADER_LOCK {
    pub Lock: LONG,
}

/// Its parts.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DISPATCHER_HEADER_PARTS {
    pub Type: UCHAR,
    pub Signalling: UCHAR,
    pub Size: UCHAR,
    pub Reserved1: UCHAR,
}

#[repr(C)]
pub struct KEVENT {
    pub Header: DISPATCHER_HEADER,
}
pub type PKEVENT = *mut KEVENT;
pub type PRKEVENT = *mut KEVENT;

#[repr(C)]
pub struct KTIMER {
    pub Header: DISPATCHER_HEADER,
    pub DueTime: ULONGLONG,
    pub TimerListEntry: LIST_ENTRY,
    pub Dpc: PKDPC,
    /// Later versions have two fields in its place. Drivers use none of them.
    pub Processor: ULONG,
    pub Period: ULONG,
}
pub type PKTIMER = *mut KTIMER;

pub type PKSTART_ROUTINE = Option<unsafe extern "C" fn(StartContext: PVOID)>;

#[repr(C)]
pub struct CLIENT_ID {
    pub UniqueProcess: HANDLE,
    pub UniqueThread: HANDLE,
}
pub type PCLIENT_ID = *mut CLIENT_ID;

/// An interrupt object: what [`IoConnectInterruptEx`](crate::ntddk::IoConnectInterruptEx) gives.
#[repr(C)]
pub struct KINTERRUPT {
    _opaque: [u8; 0],
}
pub type PKINTERRUPT = *mut KINTERRUPT;

/// Whether the interrupt was the device's.
pub type PKSERVICE_ROUTINE =
    Option<unsafe extern "C" fn(Interrupt: PKINTERRUPT, ServiceContext: PVOID) -> BOOLEAN>;
