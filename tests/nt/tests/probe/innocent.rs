//! Nothing is found where nothing is wrong, and a seed is a run.

use std::{collections::BTreeSet, env, process::Command};

use nt_sim::{Options, Preempt, Reuse, Schedule};

use crate::life;

/// Each combination of what a run depends on, for so many seeds.
fn all(seeds: u64) -> impl Iterator<Item = Options> {
    (0..seeds).flat_map(|seed| {
        [1, 2, 4, 8].into_iter().flat_map(move |cpus| {
            [Schedule::Uniform, Schedule::Priority].into_iter().flat_map(move |schedule| {
                [Reuse::Never, Reuse::AtOnce].map(|reuse| Options {
                    cpus,
                    schedule,
                    reuse,
                    ..Options::new(seed)
                })
            })
        })
    })
}

#[test]
fn an_innocent_life_passes() {
    for options in all(25) {
        life::innocent(&options);
    }
}

#[test]
fn an_innocent_life_passes_with_atomic_instructions_as_points_of_preemption() {
    for options in all(3) {
        life::innocent(&Options { preempt: Preempt::Atomics, ..options });
    }
}

#[test]
fn a_seed_is_a_run() {
    let mut digests = BTreeSet::new();
    for options in all(5) {
        let [first, second] = [(); 2].map(|()| life::innocent(&options));
        assert_eq!(first.digest, second.digest, "{options}");
        assert_eq!(first.trace, second.trace, "{options}");
        digests.insert(first.digest);
    }
    assert_eq!(digests.len(), all(5).count(), "two different runs have the same digest");
}

/// Set for a process that is to say what its digests are.
const CHILD: &str = "NT_SIM_TELL_DIGESTS";

#[test]
fn a_seed_is_a_run_in_another_process_too() {
    let digests = || -> Vec<u64> { all(2).map(|options| life::innocent(&options).digest).collect() };
    let line = format!("digests {:?}", digests());
    if env::var_os(CHILD).is_some() {
        println!("{line}");
        return;
    }
    for _ in 0..2 {
        let test = "innocent::a_seed_is_a_run_in_another_process_too";
        let program = env::current_exe().expect("this test is a program");
        let child = Command::new(program).args(["--exact", test, "--nocapture"]).env(CHILD, "1").output();
        let child = child.expect("it can be run again");
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && said.contains(&line), "{said}");
    }
}

/// A completion hands its memory over to the next request, and before it returns that request's dispatch routine runs,
/// on another CPU, with an IRP at the same address.
#[test]
fn memory_is_used_again_before_the_completion_returns() {
    let trace = |reuse| -> Vec<String> {
        let options = Options { reuse, ..Options::new(3) };
        let trace = life::innocent(&options).trace;
        trace.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    let handovers = |trace: &[String]| -> Vec<usize> {
        (0..trace.len()).filter(|&index| trace[index].contains(" has handed over to ")).collect()
    };
    let reused = trace(Reuse::AtOnce);
    assert!(!handovers(&reused).is_empty());
    for index in handovers(&reused) {
        assert_used_again(&reused, index);
    }
    assert!(handovers(&trace(Reuse::Never)).is_empty());
}

fn assert_used_again(trace: &[String], handover: usize) {
    // `12.3 us cpu1 irql 2 dpc 7 has handed over to thread 8`
    let line = &trace[handover];
    let (completer, next) = line.split_once(" has handed over to ").expect("it is a handover");
    let (_, completer) = completer.split_once(" us ").expect("at some time");
    let (cpu, _) = completer.split_once(' ').expect("on some CPU");
    let completion = format!("{completer} IofCompleteRequest(");
    let (_, call) =
        trace[..handover].iter().rev().find_map(|line| line.split_once(&completion)).expect("of one");
    let (irp, _) = call.split_once(',').expect("with two arguments");
    let until_it_returns = trace[handover + 1..].iter().take_while(|line| !line.contains(completer));
    let runs_with_it = |line: &String| {
        let is_next = line.contains(&format!(" {next} IoAcquireRemoveLockEx(")) && !line.contains(cpu);
        is_next && line.contains(irp)
    };
    assert!(until_it_returns.into_iter().any(runs_with_it), "{line}: not with {irp} before it goes on");
}

#[test]
fn the_driver_is_heard() {
    let said = life::innocent(&Options::new(1)).said;
    assert_eq!(said, ["tour -1 7 10000000000 000000ab ab 100%"]);
}

/// What can happen in a run does happen in some: chance reaches every place that it is meant to reach.
#[test]
fn whatever_can_happen_happens_in_some_run() {
    let runs: Vec<_> = (0..30)
        .map(|seed| Options { schedule: Schedule::Priority, ..Options::new(seed) })
        .map(|options| life::innocent(&options).trace)
        .collect();
    let in_some = |happens: &dyn Fn(&str) -> bool| runs.iter().flatten().any(|line| happens(line));
    let in_all = |happens: &dyn Fn(&str) -> bool| runs.iter().all(|run| run.iter().any(|line| happens(line)));
    for cpu in 0..4 {
        assert!(in_some(&|line| line.contains(&format!("cpu{cpu} irql 9"))), "no interrupt on CPU {cpu}");
        assert!(in_some(&|line| line.contains(&format!("cpu{cpu} irql 2  dpc"))), "no DPC on CPU {cpu}");
    }
    for what in ["is preempted", "spins on the lock", "sleeps until", "waits for the queued DPCs"] {
        assert!(in_some(&|line| line.contains(what)), "nobody {what}");
    }
    let completes = |who: &'static str| {
        move |line: &str| line.contains(who) && line.contains("begins: the bus driver completes")
    };
    assert!(in_some(&completes("thread ")) && in_some(&completes("dpc ")));
    assert!(
        !in_all(&|line| line.contains("begins: the bus driver completes")),
        "the bus driver always pends"
    );
}
