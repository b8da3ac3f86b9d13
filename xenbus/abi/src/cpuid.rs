//! `arch-x86/cpuid.h`: the leaves by which a guest finds Xen, and what they say.
//!
//! Leaves are counted from the first of Xen's, which is at a multiple of [`LEAF_STEP`] from [`FIRST_LEAF`]. The header
//! counts them from one in its text, and from zero in its numbers; so does this file.
#![forbid(unsafe_code)]

/// `XEN_CPUID_FIRST_LEAF`: where the search for Xen's leaves begins.
pub const FIRST_LEAF: u32 = 0x4000_0000;

/// They are at a multiple of this: another hypervisor's interface (Viridian) may come first.
pub const LEAF_STEP: u32 = 0x100;

/// The search ends before this leaf.
pub const END_OF_LEAVES: u32 = 0x4001_0000;

/// `XEN_CPUID_MAX_NUM_LEAVES`: the last leaf that this version of the header knows.
pub const LAST_LEAF: u32 = 5;

/// `XEN_CPUID_SIGNATURE_EBX`: `XenV`.
pub const SIGNATURE_EBX: u32 = 0x566E_6558;
/// `XEN_CPUID_SIGNATURE_ECX`: `MMXe`.
pub const SIGNATURE_ECX: u32 = 0x6558_4D4D;
/// `XEN_CPUID_SIGNATURE_EDX`: `nVMM`.
pub const SIGNATURE_EDX: u32 = 0x4D4D_566E;

/// EBX, ECX and EDX of the first leaf, which say `XenVMMXenVMM`; its EAX is the last leaf that Xen has.
pub const SIGNATURE: [u32; 3] = [SIGNATURE_EBX, SIGNATURE_ECX, SIGNATURE_EDX];

/// The second leaf: EAX is the version, the major one in the upper half.
pub const VERSION: u32 = 1;

/// The third: EAX is the number of hypercall pages, EBX the MSR that takes a page's address, the page's index in its
/// lowest bits; ECX and EDX are features.
pub const HYPERCALL_PAGE: u32 = 2;

/// Xen has at least these leaves.
pub const FEWEST_LEAVES: u32 = HYPERCALL_PAGE;

/// `XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD`, in ECX of [`HYPERCALL_PAGE`]: a PV guest has that MMU update.
pub const FEAT1_MMU_PT_UPDATE_PRESERVE_AD: u32 = 1 << 0;

/// The fourth: the time stamp counter.
///
/// | sub-leaf | EAX | EBX | ECX | EDX |
/// |---|---|---|---|---|
/// | 0 | bit 0 emulated, bit 1 reliable on the host, bit 2 `RDTSCP` | mode | kHz in the guest | how often migrated |
/// | 1 | offset, low half | offset, high half | multiplier to nanoseconds | shift |
/// | 2 | kHz on the host | | | |
pub const TIME: u32 = 3;

/// The fifth: EAX is features of HVM guests, EBX the number of this vCPU, ECX that of this domain, where EAX says so.
pub const HVM: u32 = 4;

/// `XEN_HVM_CPUID_APIC_ACCESS_VIRT`, in EAX of [`HVM`]: the APIC's registers are virtualised by the processor.
pub const HVM_APIC_ACCESS_VIRT: u32 = 1 << 0;
/// `XEN_HVM_CPUID_X2APIC_VIRT`: so are those of the x2APIC.
pub const HVM_X2APIC_VIRT: u32 = 1 << 1;
/// `XEN_HVM_CPUID_IOMMU_MAPPINGS`: devices can reach what is mapped from other domains.
pub const HVM_IOMMU_MAPPINGS: u32 = 1 << 2;
/// `XEN_HVM_CPUID_VCPU_ID_PRESENT`: EBX is the number of this vCPU.
pub const HVM_VCPU_ID_PRESENT: u32 = 1 << 3;
/// `XEN_HVM_CPUID_DOMID_PRESENT`: ECX is the number of this domain.
pub const HVM_DOMID_PRESENT: u32 = 1 << 4;
/// `XEN_HVM_CPUID_EXT_DEST_ID`: interrupts can be sent to APIC IDs of 15 bits.
pub const HVM_EXT_DEST_ID: u32 = 1 << 5;
/// `XEN_HVM_CPUID_UPCALL_VECTOR`: upcall vectors of single vCPUs work together with physical interrupts as event
/// channels.
pub const HVM_UPCALL_VECTOR: u32 = 1 << 6;

/// The sixth, for PV guests: EBX is, in [`MACHINE_ADDRESS_WIDTH_MASK`], the width of an address in the machine.
pub const PV: u32 = 5;

/// `XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK`: bits of an address in the machine, memory that can still be added included.
pub const MACHINE_ADDRESS_WIDTH_MASK: u32 = 0xFF;
