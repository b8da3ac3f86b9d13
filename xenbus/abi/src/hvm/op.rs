//! `hvm/hvm_op.h`: the commands of [`HVM_OP`](crate::hypercall::HVM_OP), each with the address of its argument.
#![forbid(unsafe_code)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::domid::DomId;

/// Sets a parameter. Takes a [`Param`].
pub const HVMOP_SET_PARAM: u64 = 0;
/// Reads a parameter. Takes a [`Param`].
pub const HVMOP_GET_PARAM: u64 = 1;
/// Flushes the TLBs of all vCPUs. No argument.
pub const HVMOP_FLUSH_TLBS: u64 = 5;
/// Says that a page table is about to be freed. Takes a [`PagetableDying`].
pub const HVMOP_PAGETABLE_DYING: u64 = 9;
/// Reads system time. Takes a [`GetTime`].
pub const HVMOP_GET_TIME: u64 = 10;
/// Says what is at a page. Takes a [`GetMemType`].
pub const HVMOP_GET_MEM_TYPE: u64 = 15;
/// Chooses the vector of a vCPU's upcalls. Takes an [`EvtchnUpcallVector`].
pub const HVMOP_SET_EVTCHN_UPCALL_VECTOR: u64 = 23;

/// `struct xen_hvm_param`, for [`HVMOP_SET_PARAM`] and [`HVMOP_GET_PARAM`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Param {
    /// The domain: `DOMID_SELF` for all but its toolstack.
    pub domid: DomId,
    /// Zero.
    pub pad: u16,
    /// One of [`params`](super::params).
    pub index: u32,
    /// In or out.
    pub value: u64,
}

/// `struct xen_hvm_pagetable_dying`, for [`HVMOP_PAGETABLE_DYING`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PagetableDying {
    /// The domain.
    pub domid: DomId,
    /// Zero.
    pub pad: [u16; 3],
    /// The guest-physical address of the table's root.
    pub gpa: u64,
}

/// `struct xen_hvm_get_time`, for [`HVMOP_GET_TIME`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct GetTime {
    /// Nanoseconds since Xen was started. Out.
    pub now: u64,
}

/// `struct xen_hvm_get_mem_type`, for [`HVMOP_GET_MEM_TYPE`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct GetMemType {
    /// The domain.
    pub domid: DomId,
    /// `HVMMEM_*`. Out.
    pub mem_type: u16,
    /// Zero.
    pub pad: [u16; 2],
    /// The page.
    pub pfn: u64,
}

/// RAM.
pub const HVMMEM_RAM_RW: u16 = 0;
/// RAM that ignores writes.
pub const HVMMEM_RAM_RO: u16 = 1;
/// A device model's: nothing, or a device.
pub const HVMMEM_MMIO_DM: u16 = 2;
/// No longer in use.
pub const HVMMEM_UNUSED: u16 = 3;
/// RAM whose writes a device model sees.
pub const HVMMEM_IOREQ_SERVER: u16 = 4;

/// `struct xen_hvm_evtchn_upcall_vector`, for [`HVMOP_SET_EVTCHN_UPCALL_VECTOR`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct EvtchnUpcallVector {
    /// The vCPU.
    pub vcpu: u32,
    /// 16 or more. It goes before the domain's [`CallbackVia`](super::params::CallbackVia), for good.
    pub vector: u8,
    /// Zero.
    pub padding: [u8; 3],
}
