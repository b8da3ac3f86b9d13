//! What must hold of the figures of executors.
//!
//! The limits are the project's own: what a wake of a driver's task may cost. That kexec stays below each
//! peer that allocates is the least that static task memory must bring; embassy, which has static memory
//! too but no budgets, lanes, counters or cancellation, is a wish.

use super::cases::Case;
use super::primitives::Case as Primitive;
use crate::Result;
use crate::report::{Figures, Gate};

const KEXEC: &str = "kexec";
/// The same sources without the task table, and without events and traced tasks: what is off there costs nothing.
const BARE: &str = "kexec, no table";
const WAKE_POLL: &str = Case::WakePoll.name();

/// What the task table may cost a park: its counters, the leaf, and the label.
const TABLE: f64 = 10.0;

/// Where all wait in the order of their coming, and a wait that is given up is taken out behind a lock at
/// `DISPATCH_LEVEL`. That is a promise that peers do not make, and costs instructions; but not locked ones, of which each
/// takes as long as many others.
const QUEUED: [Primitive; 5] = [
    Primitive::Acquire,
    Primitive::SemaphoreHop,
    Primitive::MutexHop,
    Primitive::Select,
    Primitive::SelectHop,
];

/// All gates, in the order in which they are printed.
///
/// # Errors
///
/// If a figure is missing.
pub fn check(figures: &Figures, peers: &[&str]) -> Result<Vec<Gate>> {
    let costs = |what, than, more| Gate::costs(figures, [what, than], "instructions", more);
    let [park, labelled, off, traced_once] =
        [Primitive::Park, Primitive::LabelledPark, Primitive::EventOff, Primitive::TracedOnce]
            .map(Primitive::name);
    let mut gates = vec![
        Gate::at_most(figures, KEXEC, WAKE_POLL, "instructions", 175.0)?,
        Gate::at_most(figures, BARE, WAKE_POLL, "instructions", 165.0)?,
        Gate::at_most(figures, KEXEC, WAKE_POLL, "locked", 5.0)?,
        Gate::exactly(figures, KEXEC, Case::RedundantWake.name(), "locked", 1.0)?,
        costs((KEXEC, labelled), (BARE, labelled), TABLE)?,
        costs((BARE, labelled), (BARE, park), 0.0)?,
        costs((KEXEC, off), (BARE, off), 4.0)?,
        costs((KEXEC, traced_once), (KEXEC, WAKE_POLL), 0.0)?,
        Gate::exactly(figures, KEXEC, Case::Yield.name(), "doorbells", 0.0)?,
    ];
    let (executors, primitives) = (Case::REPORTED.map(Case::name), Primitive::ALL.map(Primitive::name));
    for case in executors.into_iter().chain(primitives) {
        for peer in [KEXEC, BARE].into_iter().filter(|peer| figures.has(peer, case)) {
            gates.push(Gate::exactly(figures, peer, case, "heap", 0.0)?);
        }
    }
    for case in [Case::WakePoll.name(), Case::FanIn.name()].into_iter().chain(primitives) {
        let queued = QUEUED.map(Primitive::name).contains(&case);
        for peer in peers.iter().filter(|peer| ![KEXEC, BARE].contains(peer) && figures.has(peer, case)) {
            let below = |metric| Gate::below(figures, [KEXEC, peer], case, metric);
            let allocates = figures.get(peer, Case::SpawnRun.name(), "heap")? > 0.0;
            match (allocates, queued) {
                (true, false) => gates.push(below("instructions")?),
                (true, true) => gates.extend([below("locked")?, below("instructions")?.as_wish()]),
                (false, _) => gates.push(below("instructions")?.as_wish()),
            }
        }
    }
    Ok(gates)
}
