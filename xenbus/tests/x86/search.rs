//! Xen is found on processors that are made up: every branch, and then whatever CPUID may say.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use xen_abi::{cpuid, hypercall::ENTRY_SIZE, seam::Mapped};
use xenbus::{
    Version,
    x86::{Found, Instruction, NotXen, PageError},
};

use crate::made_up::{FRAME, MadeUp};

const FIRST: u32 = cpuid::FIRST_LEAF;
const NOBODY: &[u8; 12] = b"Nobody Knows";
/// The register of a Xen that plays nobody else, and of one that plays Viridian.
const OWN: u32 = 0x4000_0000;
const BEHIND_VIRIDIAN: u32 = 0x4000_0200;

/// What Xen writes for the call of a number.
type Entry = fn(u32) -> Vec<u8>;

/// With Xen's leaves, as many as Xen 4.17 has, at `leaf`.
fn processor(maker: &[u8; 12], leaf: u32) -> MadeUp {
    MadeUp::new(maker, [leaf, leaf + 5], OWN)
}

/// On a processor whose maker is known, which needs no page.
fn find(processor: &MadeUp) -> Result<Found, NotXen> {
    Found::on(processor, || -> Option<Mapped> { panic!("the maker is known") })
}

/// On one whose maker nobody knows.
fn find_by_page(processor: &MadeUp) -> Result<Found, NotXen> {
    Found::on(processor, || Some(processor.page.mapped()))
}

fn unknown(page: PageError) -> NotXen {
    NotXen::UnknownProcessor { maker: *NOBODY, page }
}

/// `mov eax, number; <instruction>; ret`
fn entry(number: u32, instruction: [u8; 3]) -> Vec<u8> {
    [&[0xB8][..], &number.to_le_bytes(), &instruction, &[0xC3]].concat()
}

fn vmcall(number: u32) -> Vec<u8> {
    entry(number, [0x0F, 0x01, 0xC1])
}

fn vmmcall(number: u32) -> Vec<u8> {
    entry(number, [0x0F, 0x01, 0xD9])
}

/// What is left of an entry is as it was: zero.
fn whole(code: &[u8]) -> [u8; ENTRY_SIZE] {
    let mut entry = [0; ENTRY_SIZE];
    entry[..code.len()].copy_from_slice(code);
    entry
}

/// Words are compared, so the letters must be in the right order in them.
#[test]
fn the_signature_is_xen() {
    let bytes: Vec<u8> = cpuid::SIGNATURE.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(bytes, b"XenVMMXenVMM");
}

/// With Viridian in front, Xen is at 0x40000100; nobody promises that it cannot be further on.
#[test]
fn finds_xen_wherever_it_is() {
    for step in 0..0x100 {
        let leaf = FIRST + step * cpuid::LEAF_STEP;
        let xen = find(&processor(b"GenuineIntel", leaf)).expect("it is there");
        assert_eq!((xen.leaf, xen.version), (leaf, Version { major: 4, minor: 17 }));
    }
    let beyond = processor(b"GenuineIntel", cpuid::END_OF_LEAVES);
    assert_eq!(find(&beyond), Err(NotXen::NoSignature));
}

/// One bit beside the signature is another hypervisor, and its leaves mean something else.
#[test]
fn takes_nothing_else_for_xen() {
    for bit in 0..96 {
        let mut near = processor(b"GenuineIntel", FIRST);
        near.leaves.get_mut(&FIRST).expect("it is there")[1 + bit / 32] ^= 1 << (bit % 32);
        assert_eq!(find(&near), Err(NotXen::NoSignature), "bit {bit}");
    }
}

/// A Xen that says that it lacks leaves which every Xen has, or has those of its neighbour, says nothing to be relied
/// on.
#[test]
fn leaves_that_cannot_be_are_refused() {
    for first in [FIRST, FIRST + 0x100, FIRST + 0xFF00] {
        let found = |last| find(&MadeUp::new(b"GenuineIntel", [first, last], OWN)).map(|xen| xen.leaf);
        for last in [0, first - 1, first, first + 1] {
            assert_eq!(found(last), Err(NotXen::TooFewLeaves { first, last }));
        }
        for last in [first + 2, first + 5, first + 0xFF] {
            assert_eq!(found(last), Ok(first));
        }
        for last in [first + 0x100, u32::MAX] {
            assert_eq!(found(last), Err(NotXen::TooManyLeaves { first, last }));
        }
    }
}

/// Each maker, wherever Xen's leaves are and whatever Xen writes into its page: the page decides for nobody's
/// processor, and for no other.
#[test]
fn chooses_the_instruction_by_maker_or_by_page() {
    use Instruction::{Vmcall, Vmmcall};
    let nonsense = |_| vec![0xCC; ENTRY_SIZE];
    for leaf in [FIRST, FIRST + 0x100, FIRST + 0xFF00] {
        let entries: [Entry; 3] = [vmcall, vmmcall, nonsense];
        for written in entries {
            let on = |maker| processor(maker, leaf).writing(written);
            for (maker, instruction) in [
                (b"GenuineIntel", Vmcall),
                (b"CentaurHauls", Vmcall),
                (b"  Shanghai  ", Vmcall),
                (b"AuthenticAMD", Vmmcall),
                (b"HygonGenuine", Vmmcall),
            ] {
                let processor = on(maker);
                assert_eq!(find(&processor).map(|xen| xen.instruction), Ok(instruction));
                assert_eq!(processor.writes(), [], "nobody asks for a page");
            }
        }
        let strange = unknown(PageError::StrangeEntry([0xCC; ENTRY_SIZE]));
        for (written, expected) in entries.into_iter().zip([Ok(Vmcall), Ok(Vmmcall), Err(strange)]) {
            let processor = processor(NOBODY, leaf).writing(written);
            assert_eq!(find_by_page(&processor).map(|xen| xen.instruction), expected);
            assert_eq!(processor.writes(), [(OWN, FRAME << 12)], "the page's address, and its number, zero");
        }
    }
}

/// What Xen writes is taken for an instruction if it is what Xen is known to write, to the byte; what comes after it
/// is not looked at.
#[test]
fn an_entry_is_believed_to_the_byte() {
    use Instruction::{Vmcall, Vmmcall};
    const XEN_VERSION: u32 = 17;
    let found = |code: &[u8]| {
        let code = code.to_vec();
        let entry = move |number| if number == XEN_VERSION { code.clone() } else { vec![0xCC] };
        find_by_page(&processor(NOBODY, FIRST).writing(entry)).map(|xen| xen.instruction)
    };
    let marked = |code: Vec<u8>| [vec![0xF3, 0x0F, 0x1E, 0xFA], code].concat();
    for (code, instruction) in [
        (vmcall(XEN_VERSION), Vmcall),
        (vmmcall(XEN_VERSION), Vmmcall),
        (marked(vmcall(XEN_VERSION)), Vmcall),
        (marked(vmmcall(XEN_VERSION)), Vmmcall),
    ] {
        assert_eq!(found(&code), Ok(instruction));
        let mut followed = [0xCC; ENTRY_SIZE];
        followed[..code.len()].copy_from_slice(&code);
        assert_eq!(found(&followed), Ok(instruction), "by what is left of the entry");
        for byte in 0..code.len() {
            let mut other = code.clone();
            other[byte] ^= 0x20;
            let strange = unknown(PageError::StrangeEntry(whole(&other)));
            assert_eq!(found(&other), Err(strange), "byte {byte} of {code:02x?}");
        }
    }
    for code in
        [vec![], vmcall(XEN_VERSION + 1), marked(vec![]), vec![0x0F, 0x01, 0xC1, 0xC3], vec![0; ENTRY_SIZE]]
    {
        assert_eq!(found(&code), Err(unknown(PageError::StrangeEntry(whole(&code)))), "{code:02x?}");
    }
}

/// A register that is no hypervisor's is not written to: it would do something else.
#[test]
fn only_a_hypervisors_register_is_written() {
    for (register, is_written) in [
        (OWN, true),
        (BEHIND_VIRIDIAN, true),
        (0x4000_02FF, true),
        (0x4000_0300, false),
        (0x3FFF_FFFF, false),
        // EFER
        (0xC000_0080, false),
        (0, false),
        (u32::MAX, false),
    ] {
        let processor = MadeUp::new(NOBODY, [FIRST, FIRST + 5], register).writing(vmcall);
        let found = find_by_page(&processor).map(|xen| xen.instruction);
        if is_written {
            assert_eq!(found, Ok(Instruction::Vmcall));
            assert_eq!(processor.writes(), [(register, FRAME << 12)]);
        } else {
            assert_eq!(found, Err(unknown(PageError::StrangeRegister(register))));
            assert_eq!(processor.writes(), []);
        }
    }
}

/// A Xen without a hypercall page, and a caller without one: nothing is written anywhere.
#[test]
fn without_a_page_there_is_no_guess() {
    let mut processor = processor(NOBODY, FIRST);
    assert_eq!(Found::on(&processor, || None::<Mapped>), Err(unknown(PageError::NotLent)));
    processor.leaves.insert(FIRST + cpuid::HYPERCALL_PAGE, [0, OWN, 0, 0]);
    assert_eq!(find_by_page(&processor), Err(unknown(PageError::NotOffered)));
    assert_eq!(processor.writes(), []);
}

/// An operator can tell from the words what was found.
#[test]
fn errors_say_what_was_found() {
    for (error, words) in [
        (NotXen::TooFewLeaves { first: FIRST, last: 1 }, &["0x40000000", "0x1 "][..]),
        (NotXen::TooManyLeaves { first: FIRST, last: u32::MAX }, &["0x40000000", "0xffffffff"]),
        (unknown(PageError::StrangeRegister(0xC000_0080)), &["`Nobody Knows`", "0xc0000080"]),
        (unknown(PageError::StrangeEntry(whole(&vmcall(18)))), &["b8 12 00 00 00 0f 01 c1 c3 00"]),
    ] {
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}

/// Whatever CPUID says and Xen writes, the search ends with an answer for which there is a reason, and has written to
/// no register but a hypervisor's, nothing but the page's address, once at most.
#[test]
fn no_processor_is_too_absurd() {
    const PROCESSORS: u64 = 100_000;
    let mut seen = BTreeMap::new();
    for seed in 0..PROCESSORS {
        let (processor, is_lent) = absurd(&mut Dice(seed));
        let found = Found::on(&processor, || is_lent.then(|| processor.page.mapped()));
        let writes = processor.writes();
        assert!(writes.len() <= 1, "seed {seed}: {writes:x?}");
        for (register, value) in &writes {
            assert!((0x4000_0000..0x4000_0300).contains(register), "seed {seed}: MSR {register:#x}");
            assert_eq!(*value, FRAME << 12, "seed {seed}");
        }
        let is_asked =
            matches!(found, Err(NotXen::UnknownProcessor { page: PageError::StrangeEntry(_), .. }));
        let outcome = match found {
            Ok(xen) => {
                let [last, signature @ ..] = xen_abi::seam::Processor::cpuid(&processor, xen.leaf);
                assert_eq!(signature, cpuid::SIGNATURE, "seed {seed}");
                assert!((xen.leaf + 2..xen.leaf + 0x100).contains(&last), "seed {seed}: up to {last:#x}");
                match (xen.instruction, writes.is_empty()) {
                    (Instruction::Vmcall, true) => "VMCALL by maker",
                    (Instruction::Vmmcall, true) => "VMMCALL by maker",
                    (Instruction::Vmcall, false) => "VMCALL by page",
                    (Instruction::Vmmcall, false) => "VMMCALL by page",
                }
            }
            Err(error) => {
                assert_eq!(is_asked, !writes.is_empty(), "seed {seed}: {error}");
                match error {
                    NotXen::NoSignature => "no signature",
                    NotXen::TooFewLeaves { .. } => "too few leaves",
                    NotXen::TooManyLeaves { .. } => "too many leaves",
                    NotXen::UnknownProcessor { page, .. } => match page {
                        PageError::NotLent => "no page lent",
                        PageError::NotOffered => "no page offered",
                        PageError::StrangeRegister(_) => "a strange register",
                        PageError::StrangeEntry(_) => "a strange entry",
                    },
                }
            }
        };
        *seen.entry(outcome).or_insert(0_u64) += 1;
    }
    assert_eq!(seen.len(), 11, "every end is reached: {seen:?}");
    assert!(seen.values().all(|&times| times > PROCESSORS / 1000), "each often enough: {seen:?}");
}

/// A processor of which anything may be wrong, and whether there is a page to lend.
fn absurd(dice: &mut Dice) -> (MadeUp, bool) {
    const LEAST: u32 = cpuid::FEWEST_LEAVES;
    let nonsense = dice.roll();
    let maker =
        dice.one_of([b"GenuineIntel", b"AuthenticAMD", b"GenuineIntl ", NOBODY, &[0; 12], &[0xFF; 12]]);
    let first = FIRST + dice.one_of([0, 1, 0xFF]) * cpuid::LEAF_STEP + dice.one_of([0, 0, 0, 1]);
    let last = dice.one_of([
        first + LEAST,
        first + 5,
        first + 0xFF,
        first + 1,
        first + 0x100,
        0,
        u32::MAX,
        nonsense,
    ]);
    let register = dice.one_of([OWN, BEHIND_VIRIDIAN, 0x4000_0300, 0xC000_0080, 0, nonsense]);
    let mut processor = MadeUp::new(maker, [first, last], register);
    let pages = dice.one_of([1, 1, 2, u32::MAX, 0, nonsense]);
    processor.leaves.entry(first.saturating_add(LEAST)).or_default()[0] = pages;
    let written = dice.one_of::<Entry, _>([
        vmcall,
        vmmcall,
        |number| vmcall(number + 1),
        |number| entry(number, [0x0F, 0x05, 0xC3]),
        |number| vec![number.to_le_bytes()[0]; ENTRY_SIZE],
        |_| Vec::new(),
    ]);
    // Beyond its leaves, a processor repeats others, perhaps Xen's.
    let [b, c, d] = cpuid::SIGNATURE;
    processor.beyond =
        dice.one_of([[7, 0x340, 0x340, 0], [0; 4], [u32::MAX; 4], [nonsense; 4], [nonsense, b, c, d]]);
    (processor.writing(written), dice.one_of([true, true, true, false]))
}

/// A seeded generator (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        u32::try_from(mixed >> 32).expect("32 bits")
    }

    fn one_of<T: Copy, const N: usize>(&mut self, choices: [T; N]) -> T {
        choices[self.roll() as usize % N]
    }
}
