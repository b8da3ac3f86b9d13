//! `xen.h` and `arch-x86/xen*.h`: the page that Xen shares with a guest (`XENMAPSPACE_shared_info`).
//!
//! Xen and other vCPUs write to it at any time, so its structures are what to count places with; the places are what to
//! read and write with.
#![forbid(unsafe_code)]

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::seam::{PAGE_SIZE, Place, Places};

/// `XEN_LEGACY_MAX_VCPUS`: so many vCPUs have a [`VcpuInfo`] in the page. One with a higher number has none before it
/// registers another place ([`VCPUOP_REGISTER_VCPU_INFO`](crate::vcpu::VCPUOP_REGISTER_VCPU_INFO)).
pub const LEGACY_MAX_VCPUS: usize = 32;

/// `struct arch_vcpu_info`: nothing that an HVM guest has a use for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ArchVcpuInfo {
    /// The address of a page fault, in a PV guest.
    pub cr2: u64,
    /// Nothing.
    pub pad: u64,
}

/// `struct vcpu_time_info`: how a vCPU makes system time of its time stamp counter.
///
/// `version` is odd while Xen writes: what was read counts only if it was even and the same before and after.
///
/// System time, in nanoseconds, is `system_time` and what has gone by since: the difference of the counter to
/// `tsc_timestamp`, shifted left by `tsc_shift` (right if that is below zero), times `tsc_to_system_mul`, divided by
/// 2³².
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct VcpuTimeInfo {
    /// Goes up by one before and after each change.
    pub version: u32,
    /// Nothing.
    pub pad0: u32,
    /// The counter, when this was written.
    pub tsc_timestamp: u64,
    /// System time, in nanoseconds since Xen was started, when this was written.
    pub system_time: u64,
    /// Nanoseconds for each 2³² (shifted) steps of the counter.
    pub tsc_to_system_mul: u32,
    /// By how much to shift the steps.
    pub tsc_shift: i8,
    /// `PVCLOCK_*`.
    pub flags: u8,
    /// Nothing.
    pub pad1: [u8; 2],
}

/// `XEN_PVCLOCK_TSC_STABLE_BIT`, in [`VcpuTimeInfo::flags`]: the time of different vCPUs can be compared.
pub const PVCLOCK_TSC_STABLE: u8 = 1 << 0;
/// `XEN_PVCLOCK_GUEST_STOPPED`, in [`VcpuTimeInfo::flags`]: the guest was stopped for a while.
pub const PVCLOCK_GUEST_STOPPED: u8 = 1 << 1;

/// `struct vcpu_info`: what is pending for a vCPU, and its time.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct VcpuInfo {
    /// Not zero: an upcall is due. The guest clears it before it looks for what is pending.
    pub evtchn_upcall_pending: u8,
    /// Not zero: no upcalls, in a PV guest. One of an HVM guest masks interrupts instead.
    pub evtchn_upcall_mask: u8,
    /// Nothing.
    pub padding: [u8; 6],
    /// A bit for each word of [`SharedInfo::evtchn_pending`] in which something has become pending for this vCPU.
    pub evtchn_pending_sel: u64,
    /// What only x86 has.
    pub arch: ArchVcpuInfo,
    /// The vCPU's clock.
    pub time: VcpuTimeInfo,
}

/// `struct arch_shared_info`: of a PV guest's page tables, and NMIs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ArchSharedInfo {
    /// The last entry of the guest's own table of machine frames.
    pub max_pfn: u64,
    /// The frame with the frames with the frames of that table.
    pub pfn_to_mfn_frame_list_list: u64,
    /// Why there was an NMI.
    pub nmi_reason: u64,
    /// The page tables through which `p2m_vaddr` is found.
    pub p2m_cr3: u64,
    /// The same table at one address.
    pub p2m_vaddr: u64,
    /// Odd while the table is changed.
    pub p2m_generation: u64,
}

/// `struct shared_info`: the page. What is behind it in the page belongs to Xen.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SharedInfo {
    /// Of each vCPU.
    pub vcpu_info: [VcpuInfo; LEGACY_MAX_VCPUS],
    /// A bit for each port: it has an event. Set by Xen, cleared by the guest.
    pub evtchn_pending: [u64; WORDS],
    /// A bit for each port: an event makes no upcall. Set and cleared by the guest.
    pub evtchn_mask: [u64; WORDS],
    /// Odd while Xen writes the wall clock.
    pub wc_version: u32,
    /// The wall clock when system time was zero: seconds since 1970-01-01 00:00 UTC, the low half,
    pub wc_sec: u32,
    /// and nanoseconds.
    pub wc_nsec: u32,
    /// The high half of the seconds.
    pub wc_sec_hi: u32,
    /// What only x86 has.
    pub arch: ArchSharedInfo,
}

/// Words of 64 ports each, one for each bit of a word.
const WORDS: usize = 64;

const _: () = assert!(size_of::<VcpuTimeInfo>() == 32);
const _: () = assert!(size_of::<VcpuInfo>() == 64);
const _: () = assert!(size_of::<SharedInfo>() <= PAGE_SIZE);

/// Ports 64 _n_ to 64 _n_ + 63 that have an event: port _p_ is bit _p_ modulo 64.
pub const EVTCHN_PENDING: Places<u64> =
    Places::new(offset_of!(SharedInfo, evtchn_pending), size_of::<u64>(), WORDS);

/// Ports 64 _n_ to 64 _n_ + 63 that are masked.
pub const EVTCHN_MASK: Places<u64> =
    Places::new(offset_of!(SharedInfo, evtchn_mask), size_of::<u64>(), WORDS);

/// The version of the wall clock: see [`SharedInfo::wc_version`].
pub const WC_VERSION: Place<u32> = Place::new(offset_of!(SharedInfo, wc_version));
/// The low half of its seconds.
pub const WC_SEC: Place<u32> = Place::new(offset_of!(SharedInfo, wc_sec));
/// Its nanoseconds.
pub const WC_NSEC: Place<u32> = Place::new(offset_of!(SharedInfo, wc_nsec));
/// The high half of its seconds.
pub const WC_SEC_HI: Place<u32> = Place::new(offset_of!(SharedInfo, wc_sec_hi));

/// The first [`LEGACY_MAX_VCPUS`] vCPUs' [`VcpuInfo`], until they register another place.
pub const VCPU_INFO: VcpuInfos = VcpuInfos::new(offset_of!(SharedInfo, vcpu_info), LEGACY_MAX_VCPUS);

/// The places in some [`VcpuInfo`]s, which lie one behind the other.
#[derive(Clone, Copy, Debug)]
pub struct VcpuInfos {
    /// Each as a whole.
    pub info: Places<VcpuInfo>,
    /// [`VcpuInfo::evtchn_upcall_pending`].
    pub evtchn_upcall_pending: Places<u8>,
    /// [`VcpuInfo::evtchn_upcall_mask`].
    pub evtchn_upcall_mask: Places<u8>,
    /// [`VcpuInfo::evtchn_pending_sel`].
    pub evtchn_pending_sel: Places<u64>,
    /// [`VcpuInfo::time`].
    pub time: Places<VcpuTimeInfo>,
    /// [`VcpuTimeInfo::version`].
    pub time_version: Places<u32>,
}

impl VcpuInfos {
    /// So many, the first at `first` bytes from the page's beginning.
    ///
    /// # Panics
    ///
    /// They do not all lie in the page. In a constant that is an error of the compiler's.
    #[must_use]
    pub const fn new(first: usize, count: usize) -> Self {
        const EACH: usize = size_of::<VcpuInfo>();
        Self {
            info: Places::new(first, EACH, count),
            evtchn_upcall_pending: Places::new(
                first + offset_of!(VcpuInfo, evtchn_upcall_pending),
                EACH,
                count,
            ),
            evtchn_upcall_mask: Places::new(first + offset_of!(VcpuInfo, evtchn_upcall_mask), EACH, count),
            evtchn_pending_sel: Places::new(first + offset_of!(VcpuInfo, evtchn_pending_sel), EACH, count),
            time: Places::new(first + offset_of!(VcpuInfo, time), EACH, count),
            time_version: Places::new(first + offset_of!(VcpuInfo, time.version), EACH, count),
        }
    }
}
