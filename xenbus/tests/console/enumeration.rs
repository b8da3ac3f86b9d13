//! Whatever goes wrong, and whenever.
#![forbid(unsafe_code)]

use std::sync::atomic::Ordering::Relaxed;

use kexec::{
    platform::mock::keep,
    testing::{Counter, Joined, Scenario, Sim},
};
use xen_abi::io::console::OUT_SIZE;
use xen_harness::{Rig, WithFaults};
use xen_sim::{Fault, GuestConfig, Peer};
use xenbus::console::ConsoleError;

use crate::driver::{Driver, QUESTION, Stopped, answers, live};

struct World {
    rig: Rig,
    driver: &'static Driver,
    repeats: Counter,
    violations: Counter,
    outcome: Joined<Result<Vec<u8>, Stopped>>,
}

impl AsRef<Rig> for World {
    fn as_ref(&self) -> &Rig {
        &self.rig
    }
}

fn world(sim: &mut Sim) -> World {
    let rig = Rig::new(sim, GuestConfig::default());
    let executor = rig.driver(sim, "guest");
    let slots = rig.pool::<8192, 1>(sim);
    let driver: &Driver = keep(Driver::new(rig.guest().clone()));
    rig.guest().on_upcall(|vcpu, _| driver.upcall(vcpu));
    rig.on_suspend(|at| driver.suspend(at));
    rig.machine().toolstack().type_in(rig.guest(), QUESTION);
    let task = executor.spawn(slots, live, driver).expect("a slot is free");
    World {
        rig,
        driver,
        repeats: sim.counter("begun again"),
        violations: sim.counter("violations"),
        outcome: sim.must_end("the guest's life", task),
    }
}

fn inject(fault: Fault) -> impl Fn(&World) {
    move |world| world.rig.machine().inject(world.rig.guest(), fault)
}

/// Both ways at the same time, in rings that are too small, with each fault at each poll boundary: everybody comes to
/// an end, nothing is left behind, no rule of Xen's is broken; and what is said to be written was shown, as it was
/// written.
#[test]
fn every_fault_at_every_poll_boundary() {
    let [one, other] = answers().map(|answer| answer.replace('\n', "\r\n"));
    let shown = [one.clone() + &other, other + &one];
    Scenario::new("console", world)
        .machine_faults()
        .fault("wedge the console", inject(Fault::Wedge(Peer::Console)))
        .fault("kill the console", inject(Fault::Kill(Peer::Console)))
        .fault("garbage from the console", inject(Fault::Garbage(Peer::Console)))
        .check(move |world, case| {
            world.repeats.add(world.driver.repeats.load(Relaxed));
            let machine = world.rig.machine();
            let audit = machine.audit(world.rig.guest());
            assert!(audit.is_clean(), "{audit}");
            let console = machine.toolstack().console(world.rig.guest());
            let outcome = world.outcome.outcome();
            let is_violation = matches!(outcome, Some(Ok(Err(Stopped::Console(ConsoleError::Violation(_))))));
            let fault = case.fault();
            match fault.as_deref() {
                None | Some("cancelled suspend" | "suspend" | "wake") => {
                    assert_eq!(outcome, Some(Ok(Ok(QUESTION.to_vec()))), "nothing is lost");
                    assert!(console.len() + OUT_SIZE >= shown[0].len(), "but what may still be in the ring");
                }
                // It has begun again, and come to the end.
                Some("migrate") => assert!(matches!(outcome, Some(Ok(Ok(_)))), "{outcome:?}"),
                Some("garbage from the console") => {
                    let is_timed_out = matches!(outcome, Some(Ok(Err(Stopped::TimedOut(_)))));
                    assert!(!is_timed_out, "all who wait learn what one of them has found");
                    world.violations.add(is_violation.into());
                }
                Some(_) => assert!(!is_violation, "nobody lies: {outcome:?}"),
            }
            let is_migrated = fault.as_deref() == Some("migrate");
            // Who begins again does so after who has waited.
            let is_right = (0..=console.len()).rev().any(|cut| {
                let (before, after) = console.split_at(cut);
                shown[0].as_bytes().starts_with(before)
                    && shown.iter().any(|shown| shown.as_bytes().starts_with(after))
                    && (is_migrated || after.is_empty())
            });
            assert!(is_right, "{:?}", String::from_utf8_lossy(&console));
        })
        .seeds(0..1)
        .boundaries(20)
        .floor("begun again", 40)
        .floor("violations", 20)
        .run();
}
