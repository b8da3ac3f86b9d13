//! Every run, to be sure of.

use std::{
    cell::Cell,
    io::{IsTerminal, Write, stderr, stdout},
    process::ExitCode,
    sync::atomic::Ordering::Relaxed,
};

use kexec::{
    platform::mock::keep,
    testing::{Counter, Joined, Scenario, Sim},
};
use xen_harness::{Rig, WithFaults};
use xen_sim::GuestConfig;

use crate::{
    guest::{Driver, Found, Stopped, live},
    timeline::Timeline,
};

/// The world of a run: the machine and its guest, and what has become of the guest's life.
struct World {
    rig: Rig,
    driver: &'static Driver,
    repeats: Counter,
    outcome: Joined<Result<Found, Stopped>>,
}

impl AsRef<Rig> for World {
    fn as_ref(&self) -> &Rig {
        &self.rig
    }
}

fn world(sim: &mut Sim) -> World {
    let rig = Rig::new(sim, GuestConfig { name: "bringup".into(), ..GuestConfig::default() });
    let executor = rig.driver(sim, "guest");
    let slots = rig.pool::<8192, 4>(sim);
    let driver: &Driver = keep(Driver::new(
        rig.guest().clone(),
        executor,
        slots,
        sim.scope("guest"),
        Timeline::new(executor, false),
    ));
    rig.guest().on_upcall(|vcpu, _| driver.upcall(vcpu));
    rig.on_suspend(|at| driver.suspend(at));
    let task = executor.spawn(slots, live, driver).expect("a slot is free");
    World {
        rig,
        driver,
        repeats: sim.counter("questions asked again"),
        outcome: sim.must_end("the guest's life", task),
    }
}

fn scenario() -> Scenario<World> {
    let runs = Runs::default();
    Scenario::new("bringup", world).machine_faults().check(move |world, case| {
        runs.one_more();
        world.driver.stop();
        world.repeats.add(world.driver.repeats.load(Relaxed));
        let audit = world.rig.machine().audit(world.rig.guest());
        assert!(audit.is_clean(), "{audit}");
        if matches!(
            case.fault().as_deref(),
            None | Some("migrate" | "cancelled suspend" | "suspend" | "wake")
        ) {
            assert!(matches!(world.outcome.outcome(), Some(Ok(Ok(_)))), "it reads everything all the same");
        }
    })
}

/// Enumerates the faults, from this seed on, and says what was found.
pub(crate) fn enumerate(seed: u64) -> ExitCode {
    let _ = writeln!(
        stdout(),
        "every fault at every poll boundary: under a calm plan, and {SEEDS} wild ones from seed {seed} on"
    );
    let report = scenario().seeds(seed..seed.saturating_add(SEEDS)).enumerate();
    if stderr().is_terminal() {
        eprint!("\r");
    }
    let verdict = if report.is_ok() { "audit: clean in every run" } else { "audit: not clean" };
    // Whoever reads the screen may have gone.
    let _ = writeln!(stdout(), "{report}{verdict}");
    if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Wild plans that are tried.
const SEEDS: u64 = 3;

/// How many runs there were, for whoever waits.
#[derive(Default)]
struct Runs(Cell<u64>);

impl Runs {
    fn one_more(&self) {
        self.0.set(self.0.get() + 1);
        if self.0.get().is_multiple_of(100) && stderr().is_terminal() {
            eprint!("\r{} runs", self.0.get());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever goes wrong, and whenever: the guest comes to an end, and leaves nothing behind.
    #[test]
    fn every_fault_at_every_poll_boundary() {
        scenario().seeds(0..1).boundaries(50).floor("questions asked again", 50).run();
    }
}
