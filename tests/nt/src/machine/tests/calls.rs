//! Calls into driver code, out of it, and back in.
#![forbid(unsafe_code)]

use std::{
    env,
    os::unix::process::ExitStatusExt,
    process::{self, Command},
    sync::atomic::Ordering::Relaxed,
    thread,
};

use super::{asked, faulted, finished, start_asking};
use crate::machine::{
    Activation, FaultKind, Machine, Preempt, Resume, Yield,
    fixture::{self, Fixture},
    gs::GsBase,
    trampoline::GATE,
};

#[test]
fn a_function_is_called_and_returns() {
    let fixture = Fixture::load(Preempt::Calls);
    assert_eq!(finished(fixture.call("add", &[40, 2]).resume(Resume::Start, 0)), 42);
}

#[test]
fn all_arguments_of_an_import_are_one_array() {
    let fixture = Fixture::load(Preempt::Calls);
    let mut call = fixture.call("asks", &[]);
    let arguments = start_asking(&mut call);
    let passed: Vec<u64> = (0..12).map(|number| arguments.get(number)).collect();
    assert_eq!(passed, (1..=12).collect::<Vec<_>>());
    assert!(call.stack().contains(&call.registers().rsp));
    assert_eq!(
        fixture.machine.place(arguments.caller()),
        format!("fixture.sys+{:#x}", arguments.caller() - fixture.image.range().start)
    );
    assert_eq!(finished(call.resume(Resume::Return(99), 0)), 99);
}

#[test]
#[should_panic(expected = "off the stack")]
fn an_argument_that_cannot_have_been_passed_is_refused() {
    let fixture = Fixture::load(Preempt::Calls);
    let argument = start_asking(&mut fixture.call("asks", &[])).get(100);
    unreachable!("{argument}");
}

#[test]
fn each_import_has_its_index() {
    let fixture = Fixture::load(Preempt::Calls);
    let mut call = fixture.call("asks_by_ordinal", &[]);
    assert!(matches!(call.resume(Resume::Start, 0), Yield::Export { index: 3, .. }));
}

#[test]
fn an_import_calls_back_on_the_same_stack() {
    let fixture = Fixture::load(Preempt::Calls);
    let mut call = fixture.call("asks", &[]);
    start_asking(&mut call);
    let outer = call.registers().rsp;
    let back = |function, arguments| Resume::Call { function, arguments };
    // Twice, the second one asking itself.
    match call.resume(back(fixture.address("add"), [1, 2, 0, 0]), 0) {
        Yield::Returned(3) => {}
        other => panic!("{other:?}"),
    }
    asked(call.resume(back(fixture.address("asks"), [0; 4]), 0));
    assert!(call.registers().rsp < outer);
    assert!(matches!(call.resume(Resume::Return(5), 0), Yield::Returned(5)));
    assert_eq!(call.registers().rsp, outer);
    assert_eq!(finished(call.resume(Resume::Return(6), 0)), 6);
}

#[test]
fn a_call_back_without_room_is_an_overflow() {
    let fixture = Fixture::load(Preempt::Calls);
    let mut call = fixture.call("asks", &[]);
    start_asking(&mut call);
    let asks = Resume::Call { function: fixture.address("asks"), arguments: [0; 4] };
    let mut depth = 0;
    let last = loop {
        match call.resume(asks, 0) {
            Yield::Export { .. } => depth += 1,
            other => break faulted(other),
        }
    };
    assert_eq!(last.kind, FaultKind::StackOverflow);
    // A frame of 104 bytes and a return address, twice, and home space each time: 24 KiB hold so many.
    assert_eq!(depth, 24 * 1024 / 160 - 1);
}

#[test]
fn nonvolatile_xmm_registers_survive_calls_and_traps() {
    let fixture = Fixture::load(Preempt::Calls);
    let mut call = fixture.call("keeps_xmm", &[]);
    start_asking(&mut call);
    assert!(matches!(call.resume(Resume::Return(0), 0), Yield::Trap(_)));
    assert_eq!(finished(call.resume(Resume::Continue, 0)), 0xffff);
}

#[test]
fn volatile_registers_tell_nothing_after_a_call() {
    let fixture = Fixture::load(Preempt::Calls);
    let mut call = fixture.call("asks_then_adds", &[]);
    start_asking(&mut call);
    let [general, xmm] = [0x6b6b_6b6b_6b6b_6b0a_u64, 0x6b6b_6b6b_6b6b_6b00];
    assert_eq!(finished(call.resume(Resume::Return(0), 0)), general.wrapping_add(xmm));
}

#[test]
fn gs_is_the_simulated_processors() {
    let fixture = Fixture::load(Preempt::Calls);
    let counter = fixture.address("counter");
    let gs = counter - 0x188;
    let host = GsBase::detect().get();
    assert_ne!(host, gs);
    assert_eq!(finished(fixture.call("reads_gs", &[]).resume(Resume::Start, gs)), 40);
    fixture.image.write(counter, &41_u64.to_le_bytes()).expect("a variable");
    assert_eq!(finished(fixture.call("reads_gs", &[]).resume(Resume::Start, gs)), 41);
    assert_eq!(GsBase::detect().get(), host, "and the host has its own again");
}

#[test]
fn activations_take_turns() {
    let fixture = Fixture::load(Preempt::Calls);
    let mut calls: Vec<Activation> = (0..50).map(|_| fixture.call("asks", &[])).collect();
    for call in &mut calls {
        start_asking(call);
    }
    for (number, call) in calls.iter_mut().enumerate().rev() {
        assert_eq!(finished(call.resume(Resume::Return(number as u64), 0)), number as u64);
    }
}

#[test]
fn the_stack_of_an_abandoned_activation_is_used_again() {
    let fixture = Fixture::load(Preempt::Calls);
    let mut abandoned = fixture.call("asks", &[]);
    start_asking(&mut abandoned);
    let range = abandoned.stack();
    let mut again = Activation::new(abandoned.into_stack(), fixture.address("asks"), [0; 4]);
    start_asking(&mut again);
    assert_eq!(again.stack(), range);
    let other = fixture.machine.stack();
    assert_ne!(other.range(), range);
    drop((again, other));
    assert_eq!(fixture.machine.stack().range(), range, "the lowest free one");
}

#[test]
fn a_stack_is_24_kib_and_new_in_each_claim() {
    let range = {
        let fixture = Fixture::load(Preempt::Calls);
        let mut call = fixture.call("asks", &[]);
        start_asking(&mut call);
        call.stack()
    };
    assert_eq!(range.end - range.start, 24 * 1024);
    let fixture = Fixture::load(Preempt::Calls);
    let mut call = fixture.call("add", &[]);
    assert_eq!(call.stack(), range, "the same address");
    call.resume(Resume::Start, 0);
    let mut reads = fixture.call("read", &[range.end - 120]);
    assert_eq!(finished(reads.resume(Resume::Start, 0)), 0, "nothing of the last claim's is left");
}

#[test]
#[should_panic(expected = "is no answer to")]
fn an_answer_that_does_not_fit_is_refused() {
    let fixture = Fixture::load(Preempt::Calls);
    fixture.call("add", &[]).resume(Resume::Continue, 0);
}

#[test]
#[should_panic(expected = "is no answer to")]
fn what_has_finished_stays_so() {
    let fixture = Fixture::load(Preempt::Calls);
    let mut call = fixture.call("add", &[]);
    finished(call.resume(Resume::Start, 0));
    call.resume(Resume::Start, 0);
}

#[test]
#[should_panic(expected = "has claimed the machine already")]
fn a_thread_does_not_wait_for_itself() {
    let _first = Machine::claim();
    let _second = Machine::claim();
}

#[test]
fn threads_wait_for_each_other() {
    let run = || {
        for _ in 0..20 {
            let fixture = Fixture::load(Preempt::Calls);
            assert_eq!(finished(fixture.call("add", &[1, 2]).resume(Resume::Start, 0)), 3);
        }
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(run);
        }
    });
}

#[test]
fn a_fault_of_the_hosts_own_is_none_of_ours() {
    const CHILD: &str = "NT_SIM_HOST_FAULT";
    match env::var(CHILD).as_deref() {
        Ok("after a call") => {
            let fixture = Fixture::load(Preempt::Calls);
            assert_eq!(finished(fixture.call("add", &[1, 2]).resume(Resume::Start, 0)), 3);
            fixture::fault();
        }
        Ok("beside a call") => {
            thread::spawn(|| {
                Fixture::load(Preempt::Calls).call("spins", &[]).resume(Resume::Start, 0);
                process::exit(1);
            });
            while GATE.context.load(Relaxed).is_null() {
                thread::yield_now();
            }
            fixture::fault();
        }
        _ => {}
    }
    for when in ["after a call", "beside a call"] {
        let name = "machine::tests::calls::a_fault_of_the_hosts_own_is_none_of_ours";
        let mut child = Command::new(env::current_exe().expect("the test knows itself"));
        let output = child.args(["--exact", name]).env(CHILD, when).output().expect("it can be run again");
        assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{when}: {output:?}");
    }
}
