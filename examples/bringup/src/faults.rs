//! Every run, to be sure of.

use std::{
    cell::Cell,
    io::{IsTerminal, Write, stderr, stdout},
    process::ExitCode,
};

use kexec::{
    platform::mock::keep,
    testing::{Counter, Joined, Scenario, Sim},
};
use xen_harness::{BusDriver, Rig, WithFaults};
use xen_sim::GuestConfig;

use crate::{
    guest::{Guest, Lived, Stopped, live},
    plot::Plot,
    timeline::Timeline,
};

/// The world of a run: the machine and its guest, and what has become of the guest's life.
struct World {
    rig: Rig,
    complemented: Counter,
    outcome: Joined<Result<Lived, Stopped>>,
}

impl AsRef<Rig> for World {
    fn as_ref(&self) -> &Rig {
        &self.rig
    }
}

/// Numbers that the device complements.
const NUMBERS: u64 = 20;

fn world(sim: &mut Sim) -> World {
    let rig = Rig::new(sim, GuestConfig { name: "bringup".into(), ..GuestConfig::default() });
    let scope = sim.scope("guest");
    let bus = BusDriver::new(&rig, sim, scope, true);
    let timeline = Timeline::new(bus.executor(), false);
    let guest: &Guest = keep(Guest::new(&rig, bus, timeline, NUMBERS));
    Plot::Short.begin(&rig, sim, guest);
    let task = bus.spawn(live, guest).expect("a slot is free");
    World {
        rig,
        complemented: sim.counter("numbers complemented"),
        outcome: sim.must_end("the guest's life", task),
    }
}

fn scenario() -> Scenario<World> {
    let runs = Runs::default();
    Scenario::new("bringup", world).machine_faults().backend_faults().check(move |world, case| {
        runs.one_more();
        let outcome = world.outcome.outcome();
        if let Some(Ok(Ok(lived))) = outcome {
            world.complemented.add(lived.complemented);
        }
        world.rig.assert_clean(case);
        if matches!(case.fault().as_deref(), None | Some("cancelled suspend" | "suspend" | "wake")) {
            assert!(matches!(outcome, Some(Ok(Ok(_)))), "it lives all the same: {outcome:?}");
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
    use std::num::NonZeroUsize;

    use super::*;

    /// Whatever goes wrong, and whenever: the guest comes to an end, and leaves nothing behind. What it is made of is enumerated where it is
    /// tested; this is a sample of all of it together, which `--faults` enumerates.
    #[test]
    fn a_sample_of_every_fault_at_every_poll_boundary() {
        let sample = scenario().seeds(0..0).one_in(SAMPLE);
        sample.boundaries(500).floor("numbers complemented", 20_000).run();
    }

    /// Prime, so that no kind of fault meets the same boundaries as another.
    const SAMPLE: NonZeroUsize = NonZeroUsize::new(13).expect("it is not zero");
}
