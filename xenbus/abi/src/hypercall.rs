//! `xen.h`, section "HYPERCALLS", and how one is made: `arch-x86/xen-x86_64.h`.
//!
//! A call goes to its entry in the hypercall page, with up to five arguments in RDI, RSI, RDX, R10 and R8; the answer
//! comes in RAX, and the registers of the arguments are lost. Xen writes the entries into a page of the guest's when
//! its address is written to an MSR ([`cpuid::HYPERCALL_PAGE`](crate::cpuid::HYPERCALL_PAGE)).
#![forbid(unsafe_code)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of the hypercall page for each call: the entry of call _n_ is at _n_ times this.
pub const ENTRY_SIZE: usize = 32;

/// `__HYPERVISOR_set_trap_table`; PV guests only.
pub const SET_TRAP_TABLE: u32 = 0;
/// `__HYPERVISOR_mmu_update`; PV guests only.
pub const MMU_UPDATE: u32 = 1;
/// `__HYPERVISOR_set_gdt`; PV guests only.
pub const SET_GDT: u32 = 2;
/// `__HYPERVISOR_stack_switch`; PV guests only.
pub const STACK_SWITCH: u32 = 3;
/// `__HYPERVISOR_set_callbacks`; PV guests only.
pub const SET_CALLBACKS: u32 = 4;
/// `__HYPERVISOR_fpu_taskswitch`; PV guests only.
pub const FPU_TASKSWITCH: u32 = 5;
/// `__HYPERVISOR_sched_op_compat`: what [`SCHED_OP`] was before Xen 3.1.
pub const SCHED_OP_COMPAT: u32 = 6;
/// `__HYPERVISOR_platform_op`: the hardware domain's.
pub const PLATFORM_OP: u32 = 7;
/// `__HYPERVISOR_set_debugreg`; PV guests only.
pub const SET_DEBUGREG: u32 = 8;
/// `__HYPERVISOR_get_debugreg`; PV guests only.
pub const GET_DEBUGREG: u32 = 9;
/// `__HYPERVISOR_update_descriptor`; PV guests only.
pub const UPDATE_DESCRIPTOR: u32 = 10;
/// `__HYPERVISOR_memory_op`: a command and its argument, see [`memory`](crate::memory).
pub const MEMORY_OP: u32 = 12;
/// `__HYPERVISOR_multicall`: the address of an array of [`MulticallEntry`], and how many there are.
pub const MULTICALL: u32 = 13;
/// `__HYPERVISOR_update_va_mapping`; PV guests only.
pub const UPDATE_VA_MAPPING: u32 = 14;
/// `__HYPERVISOR_set_timer_op`: when [`VIRQ_TIMER`](crate::event_channel::virq::VIRQ_TIMER) is to be raised on this
/// vCPU: a system time in nanoseconds, or zero for never.
pub const SET_TIMER_OP: u32 = 15;
/// `__HYPERVISOR_event_channel_op_compat`: what [`EVENT_CHANNEL_OP`] was before Xen 3.2.
pub const EVENT_CHANNEL_OP_COMPAT: u32 = 16;
/// `__HYPERVISOR_xen_version`: a command and its argument, see [`version`](crate::version).
pub const XEN_VERSION: u32 = 17;
/// `__HYPERVISOR_console_io`: a command, a number of bytes and their address, see [`console_io`](crate::console_io).
pub const CONSOLE_IO: u32 = 18;
/// `__HYPERVISOR_physdev_op_compat`: what [`PHYSDEV_OP`] was before Xen 3.2.
pub const PHYSDEV_OP_COMPAT: u32 = 19;
/// `__HYPERVISOR_grant_table_op`: a command, the address of an array of arguments and how many there are, see
/// [`grant_table`](crate::grant_table).
pub const GRANT_TABLE_OP: u32 = 20;
/// `__HYPERVISOR_vm_assist`: a command and a kind of help, see [`vcpu`](crate::vcpu).
pub const VM_ASSIST: u32 = 21;
/// `__HYPERVISOR_update_va_mapping_otherdomain`; PV guests only.
pub const UPDATE_VA_MAPPING_OTHERDOMAIN: u32 = 22;
/// `__HYPERVISOR_iret`; PV guests only.
pub const IRET: u32 = 23;
/// `__HYPERVISOR_vcpu_op`: a command, a vCPU and the command's argument, see [`vcpu`](crate::vcpu).
pub const VCPU_OP: u32 = 24;
/// `__HYPERVISOR_set_segment_base`; PV guests only.
pub const SET_SEGMENT_BASE: u32 = 25;
/// `__HYPERVISOR_mmuext_op`; of its commands, HVM guests have none that a driver could use.
pub const MMUEXT_OP: u32 = 26;
/// `__HYPERVISOR_xsm_op`: of the security module.
pub const XSM_OP: u32 = 27;
/// `__HYPERVISOR_nmi_op`; PV guests only.
pub const NMI_OP: u32 = 28;
/// `__HYPERVISOR_sched_op`: a command and its argument, see [`sched`](crate::sched).
pub const SCHED_OP: u32 = 29;
/// `__HYPERVISOR_callback_op`; PV guests only.
pub const CALLBACK_OP: u32 = 30;
/// `__HYPERVISOR_xenoprof_op`: of a profiler.
pub const XENOPROF_OP: u32 = 31;
/// `__HYPERVISOR_event_channel_op`: a command and its argument, see [`event_channel`](crate::event_channel).
pub const EVENT_CHANNEL_OP: u32 = 32;
/// `__HYPERVISOR_physdev_op`: physical interrupts and devices.
pub const PHYSDEV_OP: u32 = 33;
/// `__HYPERVISOR_hvm_op`: a command and its argument, see [`hvm::op`](crate::hvm::op).
pub const HVM_OP: u32 = 34;
/// `__HYPERVISOR_sysctl`: the control domain's.
pub const SYSCTL: u32 = 35;
/// `__HYPERVISOR_domctl`: the control domain's.
pub const DOMCTL: u32 = 36;
/// `__HYPERVISOR_kexec_op`: the hardware domain's.
pub const KEXEC_OP: u32 = 37;
/// `__HYPERVISOR_tmem_op`: transcendent memory, which Xen no longer has.
pub const TMEM_OP: u32 = 38;
/// `__HYPERVISOR_argo_op`: messages between domains.
pub const ARGO_OP: u32 = 39;
/// `__HYPERVISOR_xenpmu_op`: performance counters.
pub const XENPMU_OP: u32 = 40;
/// `__HYPERVISOR_dm_op`: a device model's.
pub const DM_OP: u32 = 41;
/// `__HYPERVISOR_hypfs_op`: the control domain's.
pub const HYPFS_OP: u32 = 42;
/// `__HYPERVISOR_arch_0`: on x86 machine checks, the hardware domain's.
pub const ARCH_0: u32 = 48;
/// `__HYPERVISOR_arch_1`: on x86 of Xen's own use.
pub const ARCH_1: u32 = 49;
/// `__HYPERVISOR_arch_2`: not in use on x86.
pub const ARCH_2: u32 = 50;
/// `__HYPERVISOR_arch_3`: not in use on x86.
pub const ARCH_3: u32 = 51;
/// `__HYPERVISOR_arch_4`: not in use on x86.
pub const ARCH_4: u32 = 52;
/// `__HYPERVISOR_arch_5`: not in use on x86.
pub const ARCH_5: u32 = 53;
/// `__HYPERVISOR_arch_6`: not in use on x86.
pub const ARCH_6: u32 = 54;
/// `__HYPERVISOR_arch_7`: not in use on x86.
pub const ARCH_7: u32 = 55;

/// `struct multicall_entry`: one call of a [`MULTICALL`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct MulticallEntry {
    /// The call's number.
    pub op: u64,
    /// What it answered. Out.
    pub result: u64,
    /// Its arguments.
    pub args: [u64; 6],
}
