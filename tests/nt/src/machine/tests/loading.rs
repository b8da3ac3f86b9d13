//! What becomes of a file.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::{faulted, finished};
use crate::machine::{
    Binding, FaultKind, IMAGE_BASE, IMAGE_STRIDE, Image, LoadError, LoadOptions, Machine, Patch, Preempt,
    Resume,
    fixture::{self, Fixture, rva},
};

#[test]
fn pointers_are_relocated() {
    let fixture = Fixture::load(Preempt::Calls);
    let pointer = finished(fixture.call("relocated", &[]).resume(Resume::Start, 0));
    assert_eq!(pointer, fixture.address("counter"));
}

/// The offsets at which the image differs from the file.
fn differences(fixture: &Fixture) -> BTreeMap<u32, (u8, u8)> {
    let file = fixture::file();
    let mut memory = vec![0; file.len()];
    fixture.image.read(fixture.image.range().start, &mut memory).expect("the image");
    let bytes = file.iter().zip(&memory).enumerate();
    bytes.filter(|(_, (old, new))| old != new).map(|(at, (old, new))| (at as u32, (*old, *new))).collect()
}

#[test]
fn the_list_of_patches_is_the_whole_difference() {
    for preempt in [Preempt::Calls, Preempt::Atomics] {
        let fixture = Fixture::load(preempt);
        let mut differences = differences(&fixture);
        let (slots, pointer) = (rva("slots")..rva("slots.end"), rva("pointer")..rva("pointer") + 8);
        let expected = differences.extract_if(.., |at, _| slots.contains(at) || pointer.contains(at));
        assert!(expected.count() > 0, "the image is bound and relocated");
        let patched: BTreeMap<u32, (u8, u8)> =
            fixture.image.patches().iter().map(|patch| (patch.rva, (patch.old, 0xf4))).collect();
        assert_eq!(patched, differences, "{preempt:?}");
    }
}

#[test]
fn exactly_what_would_not_trap_is_patched() {
    let instructions = |preempt| {
        let fixture = Fixture::load(preempt);
        let patches: Vec<Patch> = fixture.image.patches().to_vec();
        patches.into_iter().map(|patch| patch.instruction).collect::<Vec<_>>()
    };
    let hidden = ["cpuid", "vmcall", "vmmcall", "rdtsc", "rdtscp", "xgetbv"];
    let forbidden = ["rdrand rax", "rdseed rax", "rdpid rax", "wrfsbase rax", "wrgsbase rax", "syscall"];
    let hidden = [hidden, forbidden].concat();
    assert_eq!(instructions(Preempt::Calls), hidden);
    let mut all = instructions(Preempt::Atomics);
    let atomics: Vec<String> = all.extract_if(.., |text| !hidden.contains(&&**text)).collect();
    assert_eq!(all, hidden);
    let [add, exchange, or] = &atomics[..] else { panic!("{atomics:?}") };
    assert!(add.starts_with("lock xadd") && exchange.starts_with("xchg") && or.starts_with("lock or"));
}

#[test]
fn unknown_imports_are_all_named() {
    let machine = Machine::claim();
    let options = LoadOptions { base: IMAGE_BASE, preempt: Preempt::Calls, symbols: None };
    let file = fixture::file();
    let error = Image::load(&machine, "fixture.sys", &file, &options, &mut |_, _| None)
        .expect_err("nothing is known");
    let text = error.to_string();
    let LoadError::UnknownImports(unknown) = error else { panic!("{error}") };
    let unknown: Vec<(&str, &str)> = unknown.iter().map(|(module, symbol)| (&**module, &**symbol)).collect();
    let nt = "ntoskrnl.exe";
    let expected =
        [(nt, "Ask"), (nt, "__chkstk"), (nt, "memmove"), (nt, "memset"), (nt, "memcmp"), ("hal.dll", "#3")];
    assert_eq!(unknown, expected);
    assert!(text.contains("ntoskrnl.exe!Ask ntoskrnl.exe!__chkstk"), "{text}");
}

/// What is said of the fixture when these bytes of its file are changed.
fn refused(at: u32, bytes: &[u8]) -> String {
    let machine = Machine::claim();
    let mut file = fixture::file();
    file[at as usize..][..bytes.len()].copy_from_slice(bytes);
    fixture::load(&machine, &file, Preempt::Calls).expect_err("a broken file").to_string()
}

#[test]
fn a_function_that_cannot_be_decoded_is_named() {
    let invalid = [0x06];
    let (function, gap) = (rva("asks"), rva("add"));
    let message = refused(function + 4, &invalid);
    assert!(message.contains(&format!("at {function:#x}..")), "{message}");
    assert!(message.contains(&format!("from {:#x} on", function + 4)), "{message}");
    let message = refused(gap, &invalid);
    assert!(message.contains(&format!("from {gap:#x} on")), "{message}");
}

#[test]
fn broken_files_are_refused() {
    let expect = |at, bytes: &[u8], what: &str| {
        let message = refused(at, bytes);
        assert!(message.contains(what), "`{message}` does not say `{what}`");
    };
    expect(0, b"NE", "no driver image");
    expect(rva("header.machine"), &0xaa64_u16.to_le_bytes(), "not for x86-64");
    expect(rva("header.text"), &[0xff; 12], "not within");
    expect(rva("header.text.flags") + 3, &[0xe0], "both writable and executable");
    expect(rva("relocation") + 1, &[0x30], "not DIR64");
    expect(rva("relocations") + 2, &[0xff], "outside of the image");
    expect(rva("pdata") + 4, &[0; 4], "it ends at 0x0");
    expect(rva("pdata") + 8, &[0xff; 4], "outside of the image");
    expect(rva("info.deepest"), &[2], "version 2");
    expect(rva("info.deepest") + 5, &[0x0f], "unwind code 0xf");
    expect(rva("info.chain") + 8, &rva("info.chain.start").to_le_bytes(), "a chain of more than");
}

#[test]
fn an_image_is_mapped_where_it_is_told_and_nowhere_twice() {
    let fixture = Fixture::load(Preempt::Calls);
    assert_eq!(fixture.image.range().start, IMAGE_BASE);
    assert_eq!(fixture.image.entry(), fixture.address("add"));
    let again =
        fixture::load(&fixture.machine, &fixture::file(), Preempt::Calls).expect_err("it is there already");
    assert!(again.to_string().contains("is another one there?"), "{again}");
    let options = LoadOptions { base: IMAGE_BASE + IMAGE_STRIDE, preempt: Preempt::Calls, symbols: None };
    let bind = &mut |_: &str, _: &str| Some(Binding::Export(1));
    let second =
        Image::load(&fixture.machine, "second.sys", &fixture::file(), &options, bind).expect("there is room");
    assert_eq!(fixture.machine.place(second.entry()), format!("second.sys+{:#x}", rva("add")));
}

#[test]
fn discardable_code_runs_until_it_is_taken_away() {
    let fixture = Fixture::load(Preempt::Calls);
    let start = || fixture.call("initialises", &[]).resume(Resume::Start, 0);
    assert_eq!(finished(start()), 1);
    fixture.image.discard();
    assert_eq!(faulted(start()).kind, FaultKind::Execute);
    assert_eq!(finished(fixture.call("add", &[1, 2]).resume(Resume::Start, 0)), 3);
}

#[test]
fn memory_is_reached_only_within_the_image() {
    let Fixture { image, machine: _machine } = &Fixture::load(Preempt::Calls);
    let range = image.range();
    image.read(range.end - 4, &mut [0; 4]).expect("the last bytes");
    assert_eq!(
        image.read(range.end - 3, &mut [0; 4]).expect_err("one byte too many").to_string(),
        format!("4 bytes at {:#x} are not within the image", range.end - 3)
    );
    image.write(range.start, &[0]).expect_err("the headers cannot be written to");
    let data = image.sections().iter().find(|section| section.writable).expect("there are variables");
    assert_eq!(data.name, ".data");
    image.write(data.range.end - 4, &[0; 4]).expect("variables");
    image.write(data.range.end - 3, &[0; 4]).expect_err("not all are variables");
}
