//! `vcpu.h`: the commands of [`VCPU_OP`](crate::hypercall::VCPU_OP), each with the number of a vCPU and the address of
//! its argument; and those of [`VM_ASSIST`](crate::hypercall::VM_ASSIST) (`xen.h`).
#![forbid(unsafe_code)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Says with which registers a vCPU begins, in an HVM guest. Takes a [`Context`](crate::hvm::hvm_vcpu::Context).
pub const VCPUOP_INITIALISE: u64 = 0;
/// Lets it run. No argument.
pub const VCPUOP_UP: u64 = 1;
/// Stops it. No argument.
pub const VCPUOP_DOWN: u64 = 2;
/// Answers one if it may run. No argument.
pub const VCPUOP_IS_UP: u64 = 3;
/// Says how it has spent its time. Takes a [`RunstateInfo`].
pub const VCPUOP_GET_RUNSTATE_INFO: u64 = 4;
/// Chooses where Xen keeps that up to date. Takes a [`RegisterArea`].
pub const VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA: u64 = 5;
/// Starts its periodic timer. Takes a [`SetPeriodicTimer`].
pub const VCPUOP_SET_PERIODIC_TIMER: u64 = 6;
/// Stops it. No argument.
pub const VCPUOP_STOP_PERIODIC_TIMER: u64 = 7;
/// Starts its other timer. Takes a [`SetSingleshotTimer`].
pub const VCPUOP_SET_SINGLESHOT_TIMER: u64 = 8;
/// Stops it. No argument.
pub const VCPUOP_STOP_SINGLESHOT_TIMER: u64 = 9;
/// Moves its [`VcpuInfo`](crate::shared_info::VcpuInfo), once for all. Takes a [`RegisterVcpuInfo`].
pub const VCPUOP_REGISTER_VCPU_INFO: u64 = 10;
/// Sends it an NMI. No argument.
pub const VCPUOP_SEND_NMI: u64 = 11;
/// Says on which processor it is pinned. Takes a [`GetPhysid`].
pub const VCPUOP_GET_PHYSID: u64 = 12;
/// Chooses where Xen keeps a copy of its [`VcpuTimeInfo`](crate::shared_info::VcpuTimeInfo). Takes a [`RegisterArea`].
pub const VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA: u64 = 13;

/// `struct vcpu_runstate_info`, for [`VCPUOP_GET_RUNSTATE_INFO`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RunstateInfo {
    /// One of `RUNSTATE_*`.
    pub state: i32,
    /// Zero.
    pub padding: u32,
    /// Since when, in nanoseconds of system time.
    pub state_entry_time: u64,
    /// How long it has been in each, in nanoseconds.
    pub time: [u64; 4],
}

/// It runs.
pub const RUNSTATE_RUNNING: i32 = 0;
/// It could run, and has no processor.
pub const RUNSTATE_RUNNABLE: i32 = 1;
/// It waits for an event.
pub const RUNSTATE_BLOCKED: i32 = 2;
/// It is not to run.
pub const RUNSTATE_OFFLINE: i32 = 3;

/// The bit of [`RunstateInfo::state_entry_time`] that says that Xen is writing, if the guest has enabled
/// [`VMASST_TYPE_RUNSTATE_UPDATE_FLAG`].
pub const XEN_RUNSTATE_UPDATE: u64 = 1 << 63;

/// `struct vcpu_register_runstate_memory_area`, and `struct vcpu_register_time_memory_area`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RegisterArea {
    /// The virtual address.
    pub addr: u64,
}

/// `struct vcpu_set_periodic_timer`, for [`VCPUOP_SET_PERIODIC_TIMER`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SetPeriodicTimer {
    /// In nanoseconds; one that is shorter than a millisecond may be refused.
    pub period_ns: u64,
}

/// `struct vcpu_set_singleshot_timer`, for [`VCPUOP_SET_SINGLESHOT_TIMER`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SetSingleshotTimer {
    /// When, in nanoseconds of system time.
    pub timeout_abs_ns: u64,
    /// [`VCPU_SSHOTTMR_FUTURE`], or zero.
    pub flags: u32,
    /// Zero.
    pub padding: u32,
}

/// Refuse a time that has gone by, with `ETIME`.
pub const VCPU_SSHOTTMR_FUTURE: u32 = 1 << 0;

/// `struct vcpu_register_vcpu_info`, for [`VCPUOP_REGISTER_VCPU_INFO`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RegisterVcpuInfo {
    /// The frame,
    pub mfn: u64,
    /// and where in it; it does not cross the page's end.
    pub offset: u32,
    /// Zero.
    pub rsvd: u32,
}

/// `struct vcpu_get_physid`, for [`VCPUOP_GET_PHYSID`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct GetPhysid {
    /// The APIC ID in the lower half, the ACPI ID in the upper. Out.
    pub phys_id: u64,
}

/// Begins.
pub const VMASST_CMD_ENABLE: u64 = 0;
/// Ends.
pub const VMASST_CMD_DISABLE: u64 = 1;

/// Xen sets [`XEN_RUNSTATE_UPDATE`] while it writes.
pub const VMASST_TYPE_RUNSTATE_UPDATE_FLAG: u64 = 5;
