//! The bench of executors: kexec, embassy's raw core, `LocalPool`, tokio and `async-executor`.
//!
//! - [`futures`]: the futures that all of them run;
//! - [`cases`]: what is measured, and the trait of a peer;
//! - [`peers`]: one small file for each executor;
//! - [`measure`]: from runs of a child to figures for an operation;
//! - [`gates`]: what must hold of the figures.

pub mod cases;
pub mod futures;
pub mod gates;
pub mod measure;
pub mod peers;

use crate::callgrind::Callgrind;
use crate::child::CHILD;
use crate::report::{Figure, Figures, Gate, Row};
use crate::{Result, report_folder};

use cases::{Case, Peer};

const LEGEND: &str = "\
Cells: instructions / locked read-modify-writes / ns for one operation, and the ratios to kexec's below.
       task memory: bytes of a task with a trivial future / heap allocations of a spawn+run.";

const NOTES: &str = "\
Notes
- Instructions and locked are exact: callgrind's counts of a run of 2n operations less those of n. They include
  the loop around the operation and libc. ns is the least of several native runs; machines and moments differ.
- kexec and embassy are run as long as their doorbell rings. It is a load and a store: the harness adds no locked
  instruction. kexec's clock is the time-stamp counter, read once a run and once for each further poll.
- kexec's `yield` includes what a run costs that ends at its budget, every 64 polls, and the doorbell of that.
- tokio runs tasks only between polls of a root future. The root wakes them from inside, which is tokio's
  short path, and then yields; the yields are subtracted (one each in wake+poll and spawn+run, two in fan-in-64).
- async-executor is ticked from outside until nothing is left.
- kexec, tokio and async-executor make a join handle in spawn+run, which is detached; the other two have none.";

/// Runs the bench, or in a child one of its cases. `Ok(false)` means that a gate failed.
///
/// # Errors
///
/// If a tool is missing, a child fails or a report cannot be written.
pub fn main(arguments: &[String]) -> Result<bool> {
    match arguments {
        [] => bench(),
        [first, peer, case, n] if first == CHILD => {
            let peer = named(peer).ok_or_else(|| format!("no peer is named {peer}"))?;
            let case = Case::named(case).ok_or_else(|| format!("no case is named {case}"))?;
            measure::child(peer, case, n.parse()?)?;
            Ok(true)
        }
        _ => Err("the bench takes no arguments".into()),
    }
}

/// The rows of the table.
fn rows() -> impl Iterator<Item = Row> {
    const COST: &[&str] = &["instructions", "locked", "ns"];
    const MEMORY: &[&str] = &["bytes", "heap"];
    let row = |label, case: Case, metrics| Row { label, case: case.name(), metrics };
    let costs = Case::REPORTED.map(|case| row(case.name(), case, COST));
    costs.into_iter().chain([row("task memory", Case::SpawnRun, MEMORY)])
}

fn named(name: &str) -> Option<&'static dyn Peer> {
    peers::ALL.into_iter().find(|peer| peer.name() == name)
}

fn bench() -> Result<bool> {
    let folder = report_folder()?;
    let mut callgrind = Callgrind::new(folder.join("callgrind"))?;
    let mut figures = Figures::default();
    for peer in peers::ALL {
        for case in Case::REPORTED {
            let cost = measure::net_cost(&mut callgrind, peer, case)?;
            println!("{:18}{:16}{cost}", peer.name(), case.name());
            for (metric, value) in cost.reported(case) {
                figures.push(Figure { peer: peer.name(), case: case.name(), metric, value });
            }
        }
    }
    figures.write_json(&folder.join("exec.json"))?;
    let names = peers::ALL.map(Peer::name);
    let table = figures.table(&names, rows())?;
    println!("\n{table}\n{LEGEND}\n\n{NOTES}\n");
    let gates = gates::check(&figures, &names)?;
    println!("Gates");
    for gate in &gates {
        println!("  {gate}");
    }
    Ok(!gates.iter().any(Gate::fails))
}
