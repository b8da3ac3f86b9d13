//! One seed is one run.
#![forbid(unsafe_code)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use xen_abi::{
    io::ring::{REQ_PROD, RSP_PROD},
    sched::{SHUTDOWN_POWEROFF, SHUTDOWN_SUSPEND},
    seam::Access as _,
};
use xen_sim::{Dice, Fault, Machine, Peer, Plan, Request, Suspend};

use crate::{
    frontend::{Frontend, back},
    kernel::Kernel,
};

/// All that an observer sees, and all that is counted, of a run with something of everything in it.
fn run(seed: u64) -> (Vec<String>, Vec<(&'static str, u64)>) {
    let machine = Machine::new(seed);
    let lines = Arc::<Mutex<Vec<String>>>::default();
    let log = lines.clone();
    machine.observe(move |line| log.lock().expect("no observer panics").push(line.to_string()));
    let mut dice = Dice::new(!seed);
    let (mut one, mut two) = (Kernel::boot(&machine), Kernel::boot(&machine));
    machine.interleave(3);
    let (mut first, mut second) = (Frontend::connected(&mut one), Frontend::connected(&mut two));
    let device = second.device;
    one.watch("data", "mine");
    // Both at once: who goes on first is chance.
    for round in 0..8 {
        first.put([round, round + 1]);
        second.put([round]);
        for (kernel, frontend) in [(&one, &first), (&two, &second)] {
            frontend.publish();
            kernel.send(frontend.port).expect("it is open");
        }
        machine.pass(Duration::from_micros(dice.below(1000)));
        machine.run(dice.below(8));
        let _ = one.write("data", &round.to_string());
    }
    one.settle();
    assert_eq!(first.take().len(), 16);
    machine.toolstack().request(&one.guest, Request::Suspend(Suspend::Migrated));
    let faults = [
        Fault::DropEvent(1),
        Fault::DelayEvent(1, Duration::from_millis(1)),
        Fault::Garbage(Peer::Device(device)),
    ];
    machine.plan(&two.guest, Plan::drawn(&mut dice, 4, &faults, 4));
    for boundary in 0..4 {
        machine.boundary(boundary);
        second.put([boundary]);
        second.publish();
        two.send(second.port).expect("it is open");
        machine.run(dice.below(20));
        machine.pass(Duration::from_millis(1));
    }
    one.shut_down(SHUTDOWN_SUSPEND);
    one.plug_in();
    one.settle();
    machine.toolstack().remove(device);
    two.shut_down(SHUTDOWN_POWEROFF);
    assert!(machine.run(100_000));
    drop((first, second));
    let lines = std::mem::take(&mut *lines.lock().expect("no observer panics"));
    (lines, machine.counts().into_iter().collect())
}

/// What fails under a seed must fail again under it, to the last line.
#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..8 {
        let (lines, counts) = run(seed);
        let (again, counted_again) = run(seed);
        let differs = lines.iter().zip(&again).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!((lines.len(), counts), (again.len(), counted_again), "seed {seed}");
        for what in [
            "toolstack: ",
            "xenstored: ",
            "fault: ",
            "backend/echo/2/0: is Connected",
            "goes on as domain 3",
            "poweroff",
        ] {
            assert!(lines.iter().any(|line| line.contains(what)), "`{what}` is in it: {lines:#?}");
        }
    }
}

/// And seeds are worth trying: others are other runs.
#[test]
fn other_seeds_are_other_runs() {
    let mut runs: Vec<_> = (0..8).map(run).map(|(lines, _)| lines).collect();
    runs.sort();
    runs.dedup();
    assert_eq!(runs.len(), 8);
}

/// Of two who have something to do, either may go on first.
#[test]
fn either_goes_first() {
    let first = |seed| {
        let machine = Machine::new(seed);
        let kernels = [(); 2].map(|()| Kernel::boot(&machine));
        kernels[0].settle();
        for kernel in &kernels {
            kernel.attach();
        }
        machine.run(1);
        kernels.map(|kernel| {
            machine.toolstack().read(&format!("{}/state", back(&kernel))).as_deref() == Some("2")
        })
    };
    let firsts: Vec<_> = (0..32).map(first).collect();
    assert!(firsts.contains(&[true, false]) && firsts.contains(&[false, true]), "{firsts:?}");
}

/// A frontend that believes what it has read once: it reads the producer's index twice, and takes both for the same.
fn reads_twice(seed: u64) -> bool {
    let mut kernel = Kernel::alone(seed);
    let mut frontend = Frontend::connected(&mut kernel);
    kernel.machine.interleave(2);
    frontend.put(0..20);
    frontend.ring.store(REQ_PROD, frontend.made);
    kernel.send(frontend.port).expect("it is open");
    let (checked, used) = (frontend.ring.load(RSP_PROD), frontend.ring.load(RSP_PROD));
    kernel.settle();
    checked != used
}

/// What a driver has checked may be something else when it reads it again: under some seeds it is, and without interleaving never.
#[test]
fn a_double_fetch_is_seen() {
    let seen = (0..64).filter(|seed| reads_twice(*seed)).count();
    assert!(seen > 0, "under no seed");
    assert!(seen < 64, "under each: chance has no part in it");
    for seed in 0..8 {
        let mut kernel = Kernel::alone(seed);
        let mut frontend = Frontend::connected(&mut kernel);
        frontend.put(0..20);
        frontend.publish();
        kernel.send(frontend.port).expect("it is open");
        assert_eq!(frontend.ring.load(RSP_PROD), 0, "nobody goes on between two accesses");
        assert_eq!(frontend.ring.load(RSP_PROD), 0);
    }
}
