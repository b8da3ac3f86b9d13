//! Mistakes that the processor or the machine notices.
#![forbid(unsafe_code)]

use super::{faulted, finished, trapped};
use crate::machine::{
    FaultKind, Preempt, Resume, Trap,
    fixture::{Fixture, rva},
};

/// Runs a function to its fault: its kind, the offset of the instruction in the function, the address.
fn fault(fixture: &Fixture, name: &str, arguments: &[u64]) -> (FaultKind, u64, u64) {
    let fault = faulted(fixture.call(name, arguments).resume(Resume::Start, 0));
    (fault.kind, fault.rip.wrapping_sub(fixture.address(name)), fault.address)
}

#[test]
fn page_faults_are_reported_with_their_address() {
    let fixture = Fixture::load(Preempt::Calls);
    assert_eq!(fault(&fixture, "read", &[0x18]), (FaultKind::Read, 0, 0x18));
    assert_eq!(fault(&fixture, "write", &[0x1_0000, 1]), (FaultKind::Write, 0, 0x1_0000));
}

#[test]
fn sections_are_protected() {
    let fixture = Fixture::load(Preempt::Calls);
    for place in ["add", "slots", "info.deepest"] {
        let address = fixture.address(place);
        assert_eq!(fault(&fixture, "write", &[address, 0]), (FaultKind::Write, 0, address), "{place}");
    }
    let headers = fixture.image.range().start;
    assert_eq!(fault(&fixture, "write", &[headers, 0]), (FaultKind::Write, 0, headers));
    let counter = fixture.address("counter");
    finished(fixture.call("write", &[counter, 5]).resume(Resume::Start, 0));
    assert_eq!(finished(fixture.call("read", &[counter]).resume(Resume::Start, 0)), 5);
}

#[test]
fn a_wild_jump_is_blamed_on_the_call() {
    let fixture = Fixture::load(Preempt::Calls);
    let after_call = 6;
    let counter = fixture.address("counter");
    assert_eq!(fault(&fixture, "calls", &[0]), (FaultKind::Execute, after_call, 0));
    assert_eq!(fault(&fixture, "calls", &[counter]), (FaultKind::Execute, after_call, counter));
}

#[test]
fn the_stack_holds_24_kib() {
    let fixture = Fixture::load(Preempt::Calls);
    let mut call = fixture.call("recurses", &[]);
    let fault = faulted(call.resume(Resume::Start, 0));
    assert_eq!(fault.kind, FaultKind::StackOverflow);
    assert_eq!(fault.rip, fixture.address("recurses") + 7);
    // Home space and a return address; then a frame and a return address, six times.
    assert_eq!(fault.address, call.stack().end - 40 - 6 * 4096);
}

#[test]
fn large_frames_are_probed() {
    let fixture = Fixture::load(Preempt::Calls);
    let probe = |size| fixture.call("probes", &[size]).resume(Resume::Start, 0);
    assert_eq!(finished(probe(9_000)), 0);
    assert_eq!(finished(probe(24 * 1024 - 40)), 0, "the last byte");
    for size in [24 * 1024 - 32, 30_000, 70_000] {
        let fault = faulted(probe(size));
        assert_eq!(fault.kind, FaultKind::StackOverflow, "{size}");
        assert_eq!(fault.rip, fixture.address("probes") + 9, "the call of __chkstk");
    }
}

#[test]
fn an_import_must_be_called_with_an_aligned_stack() {
    let fixture = Fixture::load(Preempt::Calls);
    let (kind, after_call, _) = fault(&fixture, "asks_misaligned", &[]);
    assert_eq!((kind, after_call), (FaultKind::Misaligned, 10));
}

#[test]
fn an_import_must_be_called_on_the_stack() {
    let fixture = Fixture::load(Preempt::Calls);
    let other = fixture.machine.stack();
    for end in [fixture.address("scratch") + 256, other.range().end] {
        let (kind, _, rsp) = fault(&fixture, "asks_elsewhere", &[end - 48]);
        assert_eq!((kind, rsp), (FaultKind::StrayStack, end - 56));
    }
}

#[test]
fn nonvolatile_registers_must_be_preserved() {
    let fixture = Fixture::load(Preempt::Calls);
    for (function, register) in [("clobbers_rbx", "rbx"), ("clobbers_xmm9", "xmm9"), ("unbalanced", "rsp")] {
        assert_eq!(fault(&fixture, function, &[]).0, FaultKind::Clobbered(register));
    }
}

#[test]
fn other_exceptions_are_told_apart() {
    let fixture = Fixture::load(Preempt::Calls);
    assert_eq!(fault(&fixture, "gives_up", &[]).0, FaultKind::IllegalInstruction);
    assert_eq!(fault(&fixture, "read", &[0x6b6b_6b6b_0000_0000]).0, FaultKind::GeneralProtection);
    assert_eq!(fault(&fixture, "divides", &[1, 0]).0, FaultKind::Exception(0));
    assert_eq!(fault(&fixture, "steps", &[]).0, FaultKind::Exception(1));
    assert_eq!(finished(fixture.call("divides", &[12, 4]).resume(Resume::Start, 0)), 3);
}

#[test]
fn a_fault_in_a_native_routine_is_its_callers() {
    let fixture = Fixture::load(Preempt::Calls);
    let (after_call, counter) = (10, fixture.address("counter"));
    let read_only = fixture.address("slots");
    assert_eq!(fault(&fixture, "moves", &[read_only, counter, 8]), (FaultKind::Write, after_call, read_only));
    assert_eq!(fault(&fixture, "moves", &[counter, 8, 8]), (FaultKind::Read, after_call, 8));
    assert_eq!(fault(&fixture, "sets", &[16, 1, 8]), (FaultKind::Write, after_call, 16));
    assert_eq!(fault(&fixture, "compares", &[counter, 24, 8]), (FaultKind::Read, after_call, 24));
}

#[test]
fn a_fault_out_of_line_is_the_instructions_at_home() {
    let fixture = Fixture::load(Preempt::Atomics);
    let mut call = fixture.call("locked_read", &[0x30]);
    assert_eq!(trapped(call.resume(Resume::Start, 0)), Trap::Atomic);
    let fault = faulted(call.resume(Resume::Continue, 0));
    assert_eq!(
        (fault.kind, fault.rip, fault.address),
        (FaultKind::Write, fixture.address("locked_read"), 0x30)
    );
    // Not taken for a stop where none was asked for.
    drop(call);
    drop(fixture);
    let fixture = Fixture::load(Preempt::Calls);
    let wild = 0x6b6b_6b6b_0000_0000;
    assert_eq!(self::fault(&fixture, "locked_read", &[wild]).0, FaultKind::GeneralProtection);
}

#[test]
fn native_routines_do_what_their_names_say() {
    let fixture = Fixture::load(Preempt::Calls);
    let scratch = fixture.address("scratch");
    let call =
        |name: &str, arguments: &[u64]| finished(fixture.call(name, arguments).resume(Resume::Start, 0));
    let bytes = || {
        let mut bytes = [0; 12];
        fixture.image.read(scratch, &mut bytes).expect("a variable");
        bytes
    };
    fixture.image.write(scratch, b"abcdefghijkl").expect("a variable");
    assert_eq!(call("moves", &[scratch + 2, scratch, 8]), scratch + 2);
    assert_eq!(&bytes(), b"ababcdefghkl", "overlapping, upwards");
    assert_eq!(call("moves", &[scratch, scratch + 2, 10]), scratch);
    assert_eq!(&bytes(), b"abcdefghklkl", "overlapping, downwards");
    assert_eq!(call("sets", &[scratch + 1, u64::from(b'x') + 0x100, 3]), scratch + 1);
    assert_eq!(&bytes(), b"axxxefghklkl");
    let compared =
        |first, second, length| call("compares", &[scratch + first, scratch + second, length]) as i32;
    assert_eq!(compared(8, 10, 2), 0, "kl and kl");
    assert!(compared(4, 5, 2) < 0, "ef and fg");
    assert!(compared(1, 0, 2) > 0, "xx and ax");
    assert_eq!(compared(1, 0, 0), 0, "nothing and nothing");
}

#[test]
fn a_fault_says_what_happened_in_words() {
    let fixture = Fixture::load(Preempt::Calls);
    let fault = faulted(fixture.call("read", &[0x18]).resume(Resume::Start, 0));
    assert_eq!(fault.to_string(), format!("{:#x} reads 0x18, where nothing is", fixture.address("read")));
    assert_eq!(fixture.machine.place(fault.rip), format!("fixture.sys+{:#x}", rva("read")));
}
