//! What must hold of the figures of executors.
//!
//! The limits are the project's own: what a wake of a driver's task may cost. That kexec stays below each
//! peer that allocates is the least that static task memory must bring; embassy, which has static memory
//! too but no budgets, lanes, counters or cancellation, is a wish.

use super::cases::Case;
use crate::Result;
use crate::report::{Figures, Gate};

const KEXEC: &str = "kexec";
const WAKE_POLL: &str = Case::WakePoll.name();

/// All gates, in the order in which they are printed.
///
/// # Errors
///
/// If a figure is missing.
pub fn check(figures: &Figures, peers: &[&str]) -> Result<Vec<Gate>> {
    let mut gates = vec![
        Gate::at_most(figures, KEXEC, WAKE_POLL, "instructions", 165.0)?,
        Gate::at_most(figures, KEXEC, WAKE_POLL, "locked", 5.0)?,
        Gate::exactly(figures, KEXEC, Case::RedundantWake.name(), "locked", 1.0)?,
    ];
    for case in Case::REPORTED {
        gates.push(Gate::exactly(figures, KEXEC, case.name(), "heap", 0.0)?);
    }
    gates.push(Gate::exactly(figures, KEXEC, Case::Yield.name(), "doorbells", 0.0)?);
    for case in [Case::WakePoll, Case::FanIn] {
        for peer in peers.iter().filter(|peer| **peer != KEXEC) {
            let gate = Gate::below(figures, [KEXEC, peer], case.name(), "instructions")?;
            let allocates = figures.get(peer, Case::SpawnRun.name(), "heap")? > 0.0;
            gates.push(if allocates { gate } else { gate.as_wish() });
        }
    }
    Ok(gates)
}
