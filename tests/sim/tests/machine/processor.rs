//! The processor that a guest sees: where Xen is found, and how it fills a hypercall page.
#![expect(unsafe_code, reason = "the registers of a processor are")]

use xen_abi::{
    cpuid,
    hypercall::ENTRY_SIZE,
    memory::XENMAPSPACE_SHARED_INFO,
    seam::{Access as _, PAGE_SIZE, Processor as _},
};
use xen_sim::{Cpu, GuestConfig, Instruction, Machine, Mistake, Release};

use crate::kernel::Kernel;

/// Made by somebody of whom nobody has heard.
const UNKNOWN: Cpu = Cpu { maker: *b"Unheard  Of!", instruction: Instruction::Vmmcall, ..Cpu::INTEL };

fn with(cpu: Cpu) -> Kernel {
    let release = Release { version: (4, 18), ..Release::default() };
    let config = GuestConfig { cpu, vcpus: [0, 5].into(), ..GuestConfig::default() };
    Kernel::boot_with(&Machine::with_xen(1, release), config)
}

/// Leaf 0 has the maker's name, in the order of the manuals.
#[test]
fn makers() {
    for cpu in [Cpu::INTEL, Cpu::AMD, UNKNOWN] {
        let [_, b, c, d] = with(cpu).guest.cpuid(0);
        assert_eq!([b, d, c].map(u32::to_le_bytes).concat(), cpu.maker);
    }
}

/// Xen's leaves, as `arch-x86/cpuid.h` numbers them; behind those of a Viridian hypervisor if the guest sees one.
#[test]
fn leaves_of_xen() {
    for (viridian, first, msr) in [(false, 0x4000_0000, 0x4000_0000), (true, 0x4000_0100, 0x4000_0200)] {
        let kernel = with(Cpu { viridian, ..Cpu::INTEL });
        let leaf = |number| kernel.guest.cpuid(first + number);
        let [last, signature @ ..] = leaf(0);
        assert_eq!(signature, cpuid::SIGNATURE);
        assert_eq!(last, first + cpuid::LAST_LEAF);
        assert_eq!(leaf(cpuid::VERSION), [0x0004_0012, 0, 0, 0]);
        assert_eq!(leaf(cpuid::HYPERCALL_PAGE), [1, msr, 0, 0]);
        let [features, vcpu, domain, _] = leaf(cpuid::HVM);
        let present = cpuid::HVM_VCPU_ID_PRESENT | cpuid::HVM_DOMID_PRESENT;
        assert_eq!((features & present, vcpu, domain), (present, 0, 1));
        let [_, vcpu, ..] = kernel.guest.on(5, || leaf(cpuid::HVM));
        assert_eq!(vcpu, 5, "each virtual CPU has its own");
        assert_eq!(leaf(cpuid::LAST_LEAF + 1), [0; 4]);
        assert_eq!(viridian, kernel.guest.cpuid(0x4000_0000)[1..] != cpuid::SIGNATURE);
    }
}

/// Where there is no Xen, there is nothing in any leaf, and nothing to write to.
#[test]
fn no_xen() {
    let kernel = with(Cpu { has_xen: false, ..Cpu::AMD });
    for first in (cpuid::FIRST_LEAF..cpuid::END_OF_LEAVES).step_by(cpuid::LEAF_STEP as usize) {
        assert_eq!(kernel.guest.cpuid(first), [0; 4]);
    }
    let page = kernel.page();
    write_msr(&kernel, 0x4000_0000, page.gfn().0 * PAGE_SIZE as u64);
    assert_eq!(page.load(xen_abi::seam::Place::<u64>::new(0)), 0);
    assert!(kernel.mistakes().contains(&Mistake::Exception), "it is no register");
}

fn write_msr(kernel: &Kernel, register: u32, value: u64) {
    // SAFETY: the simulation writes to a page of the guest's, or says that there is none.
    unsafe { kernel.guest.write_msr(register, value) };
}

/// Each entry of the page loads its number and calls Xen, with the instruction of the processor's maker; that of `iret` is invalid.
#[test]
fn a_hypercall_page() {
    for (cpu, register, call) in [
        (Cpu::INTEL, 0x4000_0000, [0x0F, 0x01, 0xC1]),
        (Cpu::AMD, 0x4000_0000, [0x0F, 0x01, 0xD9]),
        (UNKNOWN, 0x4000_0000, [0x0F, 0x01, 0xD9]),
        (Cpu { viridian: true, ..Cpu::INTEL }, 0x4000_0200, [0x0F, 0x01, 0xC1]),
    ] {
        let kernel = with(cpu);
        let page = kernel.page();
        write_msr(&kernel, register, page.gfn().0 * PAGE_SIZE as u64);
        for number in 0..PAGE_SIZE / ENTRY_SIZE {
            let mut entry = [0; ENTRY_SIZE];
            page.read_bytes(number * ENTRY_SIZE, &mut entry).expect("in the page");
            if number == 23 {
                assert_eq!(entry[..2], [0x0F, 0x0B], "ud2");
                continue;
            }
            let number = u32::try_from(number).expect("small");
            let expected = [&[0xB8][..], &number.to_le_bytes(), &call, &[0xC3]].concat();
            assert_eq!(entry[..9], expected, "call {number}");
        }
        kernel.free(page);
        kernel.end();
    }
}

/// What the register does not take is a general protection fault: the machine goes on, and the auditor names it.
#[test]
fn exceptions() {
    // A right guest makes none of them.
    guest_that_raises_exceptions(&with(Cpu::INTEL), false);
    let kernel = with(Cpu::INTEL);
    guest_that_raises_exceptions(&kernel, true);
    let findings = kernel.machine.audit(&kernel.guest);
    let facts: Vec<_> =
        findings.findings().iter().filter(|finding| finding.mistake == Mistake::Exception).collect();
    let rules = ["the number of the page", "must be RAM", "must be RAM", "only this one", "only this one"];
    assert_eq!(facts.len(), rules.len(), "{findings}");
    for (finding, rule) in facts.iter().zip(rules) {
        assert!(finding.facts.contains(rule), "{finding}");
    }
}

/// A guest that writes to the register of the hypercall page, rightly, or as no page, as none of its own, or to another register.
fn guest_that_raises_exceptions(kernel: &Kernel, wrong: bool) {
    let page = kernel.page();
    let address = page.gfn().0 * PAGE_SIZE as u64;
    write_msr(kernel, 0x4000_0000, address);
    if wrong {
        write_msr(kernel, 0x4000_0000, address | 1);
        // There is nothing, and what is there is Xen's.
        write_msr(kernel, 0x4000_0000, 0);
        kernel.put(XENMAPSPACE_SHARED_INFO, kernel.shared_info().gfn()).expect("it is there");
        write_msr(kernel, 0x4000_0000, kernel.shared_info().gfn().0 * PAGE_SIZE as u64);
        write_msr(kernel, 0x4000_0001, address);
        write_msr(kernel, 0x4000_0200, address);
    }
    kernel.free(page);
    assert_eq!(kernel.mistakes().contains(&Mistake::Exception), wrong);
}
