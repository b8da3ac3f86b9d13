//! Instructions that driver code cannot execute itself.
#![forbid(unsafe_code)]

use super::{finished, trapped};
use crate::machine::{Activation, Hypercall, Preempt, Resume, Trap, Yield, fixture::Fixture};

/// Runs a function to its trap.
fn trap(fixture: &Fixture, name: &str, arguments: &[u64]) -> (Activation, Trap) {
    let mut call = fixture.call(name, arguments);
    let trap = trapped(call.resume(Resume::Start, 0));
    (call, trap)
}

/// Runs a function that traps once, answers, and returns what it returns.
fn answer(fixture: &Fixture, name: &str, arguments: &[u64], expected: &Trap, value: u64) -> u64 {
    let (mut call, trap) = trap(fixture, name, arguments);
    assert_eq!(&trap, expected);
    call.answer(value);
    finished(call.resume(Resume::Continue, 0))
}

/// The same for a trap that wants no answer.
fn acknowledge(fixture: &Fixture, name: &str, arguments: &[u64], expected: &Trap) {
    let (mut call, trap) = trap(fixture, name, arguments);
    assert_eq!(&trap, expected);
    finished(call.resume(Resume::Continue, 0));
}

#[test]
fn cpuid_is_answered() {
    let fixture = Fixture::load(Preempt::Calls);
    let (mut call, trap) = trap(&fixture, "cpuid", &[0x4000_0000, 1]);
    assert_eq!(trap, Trap::Cpuid { leaf: 0x4000_0000, subleaf: 1 });
    call.answer_cpuid([0x4000_0005, u32::from_le_bytes(*b"XenV"), u32::from_le_bytes(*b"MMXe"), 9]);
    finished(call.resume(Resume::Continue, 0));
    let mut stored = [0; 16];
    fixture.image.read(fixture.address("scratch"), &mut stored).expect("a variable");
    assert_eq!(&stored, b"\x05\0\0\x40XenVMMXe\x09\0\0\0");
}

#[test]
fn hypercalls_are_answered() {
    let fixture = Fixture::load(Preempt::Calls);
    let hypercall = |instruction| Trap::Hypercall { instruction };
    let enosys = (-38_i64).cast_unsigned();
    assert_eq!(answer(&fixture, "vmcall", &[17], &hypercall(Hypercall::Vmcall), 0x4_0013), 0x4_0013);
    assert_eq!(answer(&fixture, "vmmcall", &[17], &hypercall(Hypercall::Vmmcall), enosys), enosys);
    let (call, _) = trap(&fixture, "vmcall", &[17]);
    assert_eq!(call.registers().rax, 17);
}

#[test]
fn model_specific_registers_are_answered() {
    let fixture = Fixture::load(Preempt::Calls);
    let read = Trap::Rdmsr { register: 0x1b };
    assert_eq!(answer(&fixture, "rdmsr", &[0x1b], &read, 0x1234_5678_fee0_0900), 0x1234_5678_fee0_0900);
    acknowledge(&fixture, "wrmsr", &[7, 0x1_0000_0002], &Trap::Wrmsr { register: 7, value: 0x1_0000_0002 });
}

#[test]
fn ports_are_answered_and_the_rest_of_the_register_is_kept() {
    let fixture = Fixture::load(Preempt::Calls);
    let read = |name, port, width| {
        answer(&fixture, name, &[port], &Trap::In { port: port as u16, width }, 0x1_2345_6789)
    };
    assert_eq!(read("in_byte", 0x60, 1), 0xffff_ffff_ffff_ff89);
    assert_eq!(read("in_word", 0xcf8, 2), 0xffff_ffff_ffff_6789);
    assert_eq!(read("in_long", 0xcfc, 4), 0x2345_6789);
    acknowledge(&fixture, "out_byte", &[0x1ff], &Trap::Out { port: 0x80, width: 1, value: 0xff });
    let value = 0x1234_5678;
    acknowledge(&fixture, "out_long", &[0xcf8, value.into()], &Trap::Out { port: 0xcf8, width: 4, value });
}

#[test]
fn the_irql_is_a_register() {
    let fixture = Fixture::load(Preempt::Calls);
    assert_eq!(answer(&fixture, "read_cr8", &[], &Trap::ReadCr8, 2), 2);
    acknowledge(&fixture, "write_cr8", &[0, 0, 0, 15], &Trap::WriteCr8(15));
}

#[test]
fn clocks_and_features_are_answered() {
    let fixture = Fixture::load(Preempt::Calls);
    assert_eq!(answer(&fixture, "rdtsc", &[], &Trap::Rdtsc, 0x1_0000_0002), 0x1_0000_0002);
    assert_eq!(answer(&fixture, "xgetbv", &[0], &Trap::Xgetbv { register: 0 }, 7), 7);
    let (mut call, trap) = trap(&fixture, "rdtscp", &[]);
    assert_eq!(trap, Trap::Rdtscp);
    call.answer(0x3_0000_0004);
    call.registers_mut().rcx = 5;
    assert_eq!(finished(call.resume(Resume::Continue, 0)), 0x3_0000_0009);
}

#[test]
fn interrupts_are_switched_by_traps() {
    let fixture = Fixture::load(Preempt::Calls);
    let (mut call, first) = trap(&fixture, "interrupts", &[]);
    let mut next = || trapped(call.resume(Resume::Continue, 0));
    assert_eq!([first, next(), next()], [Trap::Cli, Trap::Sti, Trap::Hlt]);
    finished(call.resume(Resume::Continue, 0));
}

#[test]
fn a_breakpoint_is_passed() {
    let fixture = Fixture::load(Preempt::Calls);
    let (mut call, trap) = trap(&fixture, "breaks", &[]);
    assert_eq!(trap, Trap::Breakpoint);
    assert_eq!(finished(call.resume(Resume::Continue, 0)), 5);
}

#[test]
#[should_panic(expected = "no going on after FastFail(3)")]
fn there_is_no_going_on_after_a_fast_failure() {
    let fixture = Fixture::load(Preempt::Calls);
    let (mut call, trap) = trap(&fixture, "fails_fast", &[3]);
    assert_eq!(trap, Trap::FastFail(3));
    call.resume(Resume::Continue, 0);
}

#[test]
#[should_panic(expected = r#"no going on after Other("wbinvd")"#)]
fn other_privileged_instructions_are_named() {
    let fixture = Fixture::load(Preempt::Calls);
    let (mut call, trap) = trap(&fixture, "flushes_caches", &[]);
    assert_eq!(trap, Trap::Other("wbinvd".to_owned()));
    call.resume(Resume::Continue, 0);
}

#[test]
fn what_would_reach_the_host_is_named() {
    let fixture = Fixture::load(Preempt::Calls);
    for name in ["rdrand", "rdseed", "rdpid", "wrfsbase", "wrgsbase", "syscall"] {
        let (_, trap) = trap(&fixture, name, &[]);
        assert!(matches!(&trap, Trap::Other(text) if text.starts_with(name)), "{trap:?}");
    }
}

#[test]
#[should_panic(expected = "waits for an answer")]
fn a_trap_that_reads_must_be_answered() {
    let fixture = Fixture::load(Preempt::Calls);
    let (mut call, _) = trap(&fixture, "rdtsc", &[]);
    call.resume(Resume::Continue, 0);
}

#[test]
fn a_trap_changes_no_register_and_no_flag() {
    let fixture = Fixture::load(Preempt::Calls);
    let (mut call, trap) = trap(&fixture, "keeps_flags", &[11, 12, 13, 14]);
    assert_eq!(trap, Trap::Cli);
    let before = *call.registers();
    let [rcx, rdx, r8, r9] = [11, 12, 13, 14];
    assert_eq!([before.rcx, before.rdx, before.r8, before.r9], [rcx, rdx, r8, r9]);
    let carry = 1;
    assert_eq!(finished(call.resume(Resume::Continue, 0)) & carry, carry);
    let after = *call.registers();
    let same = |registers: crate::machine::Registers| crate::machine::Registers {
        rax: 0,
        r10: 0,
        r11: 0,
        rflags: 0,
        rsp: 0,
        rip: 0,
        ..registers
    };
    assert_eq!(same(after), same(before));
}

#[test]
fn atomic_operations_stop_where_that_is_wanted() {
    let fixture = Fixture::load(Preempt::Atomics);
    let mut call = fixture.call("atomics", &[2, 7]);
    assert_eq!(trapped(call.resume(Resume::Start, 0)), Trap::Atomic);
    // Someone else comes first.
    fixture.image.write(fixture.address("counter"), &50_u64.to_le_bytes()).expect("a variable");
    assert_eq!(trapped(call.resume(Resume::Continue, 0)), Trap::Atomic);
    assert_eq!(finished(call.resume(Resume::Continue, 0)), 50 + 3 * 100);
    let mut both = [0; 16];
    fixture.image.read(fixture.address("counter"), &mut both).expect("two variables");
    assert_eq!(both.as_chunks().0.iter().map(|&word| u64::from_le_bytes(word)).collect::<Vec<_>>(), [52, 7]);
}

#[test]
fn atomic_operations_do_not_stop_otherwise() {
    let fixture = Fixture::load(Preempt::Calls);
    let mut call = fixture.call("atomics", &[2, 7]);
    assert!(matches!(call.resume(Resume::Start, 0), Yield::Finished(340)));
}
