//! The processor, as Xen lets a guest see it: CPUID, and the MSR of the hypercall page.
#![forbid(unsafe_code)]

use xen_abi::{
    cpuid,
    seam::{Gfn, PAGE_SIZE},
};

use super::{Hypervisor, VcpuId};
use crate::{
    ram::Backing,
    rule::{Rule, rules},
};

rules! {
    /// Xen's leaves begin at 0x40000000, or at 0x40000100 if the guest sees a Viridian hypervisor first.
    WHERE_LEAVES_ARE: "xen/include/public/arch-x86/cpuid.h", "XEN_CPUID_FIRST_LEAF";
    /// The first leaf tells the last, and is signed `XenVMMXenVMM`.
    SIGNATURE: "xen/include/public/arch-x86/cpuid.h", "Leaf 1 (0x40000x00)";
    /// The second leaf has the version.
    VERSION: "xen/include/public/arch-x86/cpuid.h", "Leaf 2 (0x40000x01)";
    /// The third leaf has the number of hypercall pages, which is one, and the MSR that takes its address.
    HYPERCALL_PAGES: "xen/include/public/arch-x86/cpuid.h", "Leaf 3 (0x40000x02)";
    /// The fifth leaf says that it has the virtual CPU's id and the domain's.
    IDS: "xen/include/public/arch-x86/cpuid.h", "Leaf 5 (0x40000x04)";
    /// A write of a page's address to the MSR has Xen fill the page: 32 bytes for each hypercall, which load its number, enter
    /// Xen and return; that of `iret` is an invalid opcode.
    FILLS_HYPERCALL_PAGE: "xen/arch/x86/hvm/vmx/vmx.c", "vmx_init_hypercall_page";
    /// The low twelve bits are the number of the page, of which there is no other than zero.
    ONE_HYPERCALL_PAGE: "xen/arch/x86/msr.c", "guest_wrmsr_xen";
    /// The page must be RAM of the guest's.
    HYPERCALL_PAGE_IS_RAM: "xen/arch/x86/msr.c", "guest_wrmsr_xen";
    /// Of the synthetic registers there is only this one.
    UNKNOWN_MSR: "xen/arch/x86/msr.c", "guest_wrmsr_xen";
}

/// How a processor's maker calls a hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Intel's.
    Vmcall,
    /// AMD's.
    Vmmcall,
}

/// The processor and the Xen that a guest sees.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// The maker's name, as CPUID leaf 0 has it.
    pub maker: [u8; 12],
    /// The instruction that it has for hypercalls.
    pub instruction: Instruction,
    /// Whether there is a Xen to be found.
    pub has_xen: bool,
    /// Whether the guest sees a Viridian hypervisor in front of Xen.
    pub viridian: bool,
}

impl Cpu {
    /// Made by Intel, without Viridian.
    pub const INTEL: Self =
        Self { maker: *b"GenuineIntel", instruction: Instruction::Vmcall, has_xen: true, viridian: false };

    /// Made by AMD, without Viridian.
    pub const AMD: Self =
        Self { maker: *b"AuthenticAMD", instruction: Instruction::Vmmcall, has_xen: true, viridian: false };
}

/// The processor raises an exception (`#GP`) instead of doing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exception(pub(crate) Rule);

/// Leaves that this Xen has above the first.
const LEAVES: u32 = 5;
/// What the fifth leaf says of itself: `XEN_HVM_CPUID_IOMMU_MAPPINGS`, `VCPU_ID_PRESENT`, `DOMID_PRESENT`, `UPCALL_VECTOR`.
const HVM_FEATURES: u32 = 1 << 2 | 1 << 3 | 1 << 4 | 1 << 6;
/// The synthetic registers begin here, or behind Viridian's.
const MSR: u32 = 0x4000_0000;
const MSR_BEHIND_VIRIDIAN: u32 = 0x4000_0200;
/// Bytes for each hypercall in the page.
const ENTRY: usize = 32;
/// `__HYPERVISOR_iret`, which a guest with hardware virtualization does not have.
const IRET: usize = 23;

impl Cpu {
    /// The first of Xen's leaves.
    fn base(self) -> u32 {
        cpuid::FIRST_LEAF + if self.viridian { cpuid::LEAF_STEP } else { 0 }
    }

    fn msr(self) -> u32 {
        if self.viridian { MSR_BEHIND_VIRIDIAN } else { MSR }
    }

    /// EAX, EBX, ECX and EDX of a leaf.
    fn leaf(self, leaf: u32, version: u32, from: VcpuId) -> [u32; 4] {
        let name = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| self.maker[at + byte]));
        if leaf == 0 {
            return [1, name(0), name(8), name(4)];
        }
        if self.viridian && leaf == cpuid::FIRST_LEAF {
            // "Microsoft Hv"
            return [leaf + 6, 0x7263_694D, 0x666F_736F, 0x7648_2074];
        }
        let [b, c, d] = cpuid::SIGNATURE;
        match leaf.checked_sub(self.base()).filter(|_| self.has_xen) {
            Some(0) => [self.base() + LEAVES, b, c, d],
            Some(1) => [version, 0, 0, 0],
            Some(2) => [1, self.msr(), 0, 0],
            Some(4) => [HVM_FEATURES, from.vcpu, from.domain.into(), 0],
            _ => [0; 4],
        }
    }

    /// What Xen writes into a hypercall page.
    fn hypercall_page(self) -> [u8; PAGE_SIZE] {
        let mut page = [0; PAGE_SIZE];
        for (number, entry) in page.chunks_exact_mut(ENTRY).enumerate() {
            if number == IRET {
                // ud2
                entry[..2].copy_from_slice(&[0x0F, 0x0B]);
                continue;
            }
            let number = u32::try_from(number).expect("128 entries").to_le_bytes();
            let call = match self.instruction {
                Instruction::Vmcall => 0xC1,
                Instruction::Vmmcall => 0xD9,
            };
            // mov eax, number; the call; ret
            entry[0] = 0xB8;
            entry[1..5].copy_from_slice(&number);
            entry[5..9].copy_from_slice(&[0x0F, 0x01, call, 0xC3]);
        }
        page
    }
}

impl Hypervisor {
    /// What CPUID answers on a virtual CPU.
    pub(crate) fn cpuid(&self, from: VcpuId, leaf: u32) -> [u32; 4] {
        let (major, minor) = self.release.version;
        let version = u32::from(major) << 16 | u32::from(minor);
        self.domains[&from.domain].cpu.leaf(leaf, version, from)
    }

    /// A virtual CPU writes an MSR.
    pub(crate) fn write_msr(&mut self, from: VcpuId, register: u32, value: u64) -> Result<(), Exception> {
        let domain = self.domains.get_mut(&from.domain).expect("it runs");
        if !domain.cpu.has_xen || register != domain.cpu.msr() {
            return Err(Exception(UNKNOWN_MSR));
        }
        let page = PAGE_SIZE as u64;
        if !value.is_multiple_of(page) {
            return Err(Exception(ONE_HYPERCALL_PAGE));
        }
        let Some(Backing::Ram(ram)) = domain.ram.physmap.get(Gfn(value / page)) else {
            return Err(Exception(HYPERCALL_PAGE_IS_RAM));
        };
        ram.write(0, &domain.cpu.hypercall_page()).expect("a page fits");
        Ok(())
    }
}
