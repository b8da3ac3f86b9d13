//! Xen is found on every processor that the simulation has, by the code that finds a real one.
#![expect(unsafe_code, reason = "the page that was lent goes back to the guest's kernel")]

use std::cell::Cell;

use xen_abi::seam::{Access as _, Memory as _};
use xen_sim::{self as sim, Cpu, GuestConfig, Machine};
use xenbus::{
    Version,
    x86::{Found, Instruction, NotXen, PageError},
};

const STRANGER: [u8; 12] = *b"Nobody Knows";

/// What a guest with this processor finds, and whether it had to lend a page; it has broken no rule with it.
fn find(cpu: Cpu, has_page: bool) -> (Result<Found, NotXen>, bool) {
    let machine = Machine::new(1);
    let guest = machine.create(GuestConfig { cpu, ..GuestConfig::default() });
    let page = guest.allocate().expect("a new guest has memory");
    let is_asked = Cell::new(false);
    let found = Found::on(&guest, || {
        is_asked.set(true);
        has_page.then(|| guest.physical(page.gfn()))
    });
    // SAFETY: it is this guest's, and Xen keeps nothing of a page that was lent to it.
    unsafe { guest.free(page) };
    let audit = machine.audit(&guest);
    assert!(audit.is_clean(), "{cpu:?}: {audit}");
    (found, is_asked.get())
}

/// Each maker with each instruction, with and without Viridian in front: a maker that is known decides alone, and for
/// anybody else's processor Xen's own page does, whichever register it goes by.
#[test]
fn on_any_processor() {
    let by_page = |instruction| Cpu { maker: STRANGER, instruction, ..Cpu::INTEL };
    for (cpu, instruction, needs_page) in [
        (Cpu::INTEL, Instruction::Vmcall, false),
        (Cpu::AMD, Instruction::Vmmcall, false),
        (by_page(sim::Instruction::Vmcall), Instruction::Vmcall, true),
        (by_page(sim::Instruction::Vmmcall), Instruction::Vmmcall, true),
    ] {
        for (viridian, leaf) in [(false, 0x4000_0000), (true, 0x4000_0100)] {
            let cpu = Cpu { viridian, ..cpu };
            let expected = Found { leaf, version: Version { major: 4, minor: 17 }, instruction };
            assert_eq!(find(cpu, true), (Ok(expected), needs_page), "{cpu:?}");
        }
    }
}

/// Without a page to lend there is no guess, and without a Xen nothing is asked for: Viridian alone is none.
#[test]
fn not_where_it_cannot_be_known() {
    let stranger = Cpu { maker: STRANGER, ..Cpu::INTEL };
    let unknown = NotXen::UnknownProcessor { maker: STRANGER, page: PageError::NotLent };
    assert_eq!(find(stranger, false), (Err(unknown), true));
    for viridian in [false, true] {
        for cpu in [Cpu::INTEL, Cpu::AMD, stranger] {
            let alone = Cpu { has_xen: false, viridian, ..cpu };
            assert_eq!(find(alone, true), (Err(NotXen::NoSignature), false), "{alone:?}");
        }
    }
}

/// What a log says of it names all that decides how Xen is called.
#[test]
fn says_what_was_found() {
    let cpu = Cpu { viridian: true, ..Cpu::AMD };
    let found = find(cpu, false).0.expect("AMD is known");
    assert_eq!(found.to_string(), "Xen 4.17 at leaf 0x40000100, called by VMMCALL");
}
