//! `features.h`: the numbers of the bits that [`XENVER_GET_FEATURES`](crate::version::XENVER_GET_FEATURES) answers.
//!
//! Bit _n_ is bit _n_ modulo 32 of submap _n_ / 32.
#![forbid(unsafe_code)]

/// Page tables need not be write-protected.
pub const XENFEAT_WRITABLE_PAGE_TABLES: u32 = 0;
/// Descriptor tables need not be write-protected.
pub const XENFEAT_WRITABLE_DESCRIPTOR_TABLES: u32 = 1;
/// Xen translates the guest's frame numbers, as it does for HVM guests.
pub const XENFEAT_AUTO_TRANSLATED_PHYSMAP: u32 = 2;
/// The guest's kernel runs in ring 0.
pub const XENFEAT_SUPERVISOR_MODE_KERNEL: u32 = 3;
/// PAE page directories may lie above 4 GiB.
pub const XENFEAT_PAE_PGDIR_ABOVE_4GB: u32 = 4;
/// There is `MMU_PT_UPDATE_PRESERVE_AD`.
pub const XENFEAT_MMU_PT_UPDATE_PRESERVE_AD: u32 = 5;
/// Xen clears and copies pages for the guest.
pub const XENFEAT_HIGHMEM_ASSIST: u32 = 6;
/// The bits of a page table entry that are free for the guest can be set while a grant is mapped.
pub const XENFEAT_GNTTAB_MAP_AVAIL_BITS: u32 = 7;
/// Upcalls can be a vector: [`HVM_PARAM_CALLBACK_TYPE_VECTOR`](crate::hvm::params::HVM_PARAM_CALLBACK_TYPE_VECTOR).
pub const XENFEAT_HVM_CALLBACK_VECTOR: u32 = 8;
/// The clock of [`VcpuTimeInfo`](crate::shared_info::VcpuTimeInfo) is good in HVM guests.
pub const XENFEAT_HVM_SAFE_PVCLOCK: u32 = 9;
/// HVM guests can bind physical interrupts to event channels.
pub const XENFEAT_HVM_PIRQS: u32 = 10;
/// The guest is, or could be, the control domain.
pub const XENFEAT_DOM0: u32 = 11;
/// A memory operation can name a virtual NUMA node.
pub const XENFEAT_MEMORY_OP_VNODE_SUPPORTED: u32 = 13;
/// ARM: calls to the firmware follow the SMC calling convention.
pub const XENFEAT_ARM_SMCCC_SUPPORTED: u32 = 14;
/// PVH: the ACPI root pointer may be anywhere.
pub const XENFEAT_LINUX_RSDP_UNRESTRICTED: u32 = 15;
/// A frame's number in the guest is not its number in the machine.
pub const XENFEAT_NOT_DIRECT_MAPPED: u32 = 16;
/// A frame's number in the guest is its number in the machine.
pub const XENFEAT_DIRECT_MAPPED: u32 = 17;

/// How many submaps there are.
pub const XENFEAT_NR_SUBMAPS: u32 = 1;
