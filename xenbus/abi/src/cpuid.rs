//! `xen/include/public/arch-x86/cpuid.h`: the leaves by which a guest finds Xen.
#![forbid(unsafe_code)]

/// Where the search for Xen's leaves begins.
pub const FIRST_LEAF: u32 = 0x4000_0000;

/// They are at a multiple of this: another hypervisor's interface (Viridian) may come first.
pub const LEAF_STEP: u32 = 0x100;

/// The search ends before this leaf.
pub const END_OF_LEAVES: u32 = 0x4001_0000;

/// EBX, ECX and EDX of Xen's first leaf, which say `XenVMMXenVMM`; its EAX is the last leaf that Xen has.
pub const SIGNATURE: [u32; 3] = [0x566E_6558, 0x6558_4D4D, 0x4D4D_566E];

/// The second leaf, counted from the first: EAX is the version, the major one in the upper half.
pub const VERSION: u32 = 1;

/// The third: EAX is the number of hypercall pages, EBX the MSR that takes a page's address.
pub const HYPERCALL_PAGE: u32 = 2;

/// Xen has at least these leaves.
pub const FEWEST_LEAVES: u32 = HYPERCALL_PAGE;
