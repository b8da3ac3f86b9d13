//! The bench of executors: kexec, embassy's raw core, `LocalPool`, tokio and `async-executor`, each with what its tasks
//! wait for.
//!
//! - [`futures`]: the futures that all of them run;
//! - [`cases`]: what is measured, and the trait of a peer;
//! - [`peers`]: one small file for each executor;
//! - [`primitives`]: what tasks wait for, each executor with the library that goes with it;
//! - [`measure`]: from runs of a child to figures for an operation;
//! - [`gates`]: what must hold of the figures.

pub mod cases;
pub mod futures;
pub mod gates;
pub mod measure;
pub mod peers;
pub mod primitives;

use crate::callgrind::Callgrind;
use crate::child::{self, CHILD};
use crate::report::{Figure, Figures, Gate, Row};
use crate::{Result, report_folder};

use cases::{Case, Peer};
use measure::{Cost, Job};

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
- kexec, tokio and async-executor make a join handle in spawn+run, which is detached; the other two have none.
- `kexec, no table` is kexec without any of its features: no task table, no events, no traced tasks.
- In the second table each executor runs the primitives of its own project: tokio::sync and tokio::time, embassy-sync
  (without any lock, as for one processor), async-lock and async-channel, futures-channel and futures-util's mutex.
  All figures include the turns of the tasks, and nothing is subtracted.
- A mutex that is not fair lets one task have its turns first and the other one its own after that.
- The select is futures-util's, for all. tokio makes a task yield after 128 waits that were ready.
- Timers are kexec's and tokio's, under a clock that jumps to the next one. tokio's for tests, which has that, takes a
  lock to be read. embassy-time keeps one entry a task, and has no way to give it up.
- event-off is a turn of a loop with an event that is not on; without features, of the loop alone.";

/// Runs the bench, or in a child one of its cases. `Ok(false)` means that a gate failed.
///
/// # Errors
///
/// If a tool is missing, a child fails or a report cannot be written.
pub fn main(arguments: &[String]) -> Result<bool> {
    match arguments {
        [] => bench(),
        [first, peer, case, n] if first == CHILD => run_case(peer, case, n.parse()?).map(|()| true),
        _ => Err("the bench takes no arguments".into()),
    }
}

/// Performs a case, and prints what it can see itself.
fn run_case(peer: &str, case: &str, n: u64) -> Result<()> {
    if let Some(case) = primitives::Case::named(case) {
        let library = primitives::ALL.into_iter().find(|library| library.name == peer);
        let perform = library.and_then(|library| library.performs(case));
        let perform = perform.ok_or_else(|| format!("{peer} has nothing for {}", case.name()))?;
        return measure::child(|| perform(n));
    }
    let case = Case::named(case).ok_or_else(|| format!("no case is named {case}"))?;
    let named = peers::ALL.into_iter().find(|known| known.name() == peer);
    let peer = named.ok_or_else(|| format!("no peer is named {peer}"))?;
    let before = peer.doorbells();
    measure::child(|| case.perform(peer, n))?;
    match (case, before, peer.doorbells()) {
        (Case::Yield, Some(before), Some(after)) => child::print_figure("doorbells", after - before),
        (Case::SpawnRun, ..) => child::print_figure("bytes", peer.task_bytes()),
        _ => {}
    }
    Ok(())
}

/// The rows of the table of executors.
fn executor_rows() -> impl Iterator<Item = Row> {
    const MEMORY: &[&str] = &["bytes", "heap"];
    let costs = Case::REPORTED.map(|case| row(case.name(), COST));
    let memory = Row { label: "task memory", ..row(Case::SpawnRun.name(), MEMORY) };
    costs.into_iter().chain([memory])
}

const COST: &[&str] = &["instructions", "locked", "ns"];

fn row(case: &'static str, metrics: &'static [&'static str]) -> Row {
    Row { label: case, case, metrics }
}

fn bench() -> Result<bool> {
    let folder = report_folder()?;
    let mut callgrind = Callgrind::new(folder.join("callgrind"))?;
    let mut figures = Figures::default();
    let mut note = |peer: &'static str, case, cost: Cost| {
        println!("{peer:18}{case:16}{cost}");
        figures.extend(cost.reported().map(|(metric, value)| Figure { peer, case, metric, value }));
    };
    for peer in peers::ALL {
        for case in Case::REPORTED {
            note(peer.name(), case.name(), net_cost(&mut callgrind, peer, case)?);
        }
    }
    for library in primitives::ALL {
        for (case, _) in library.cases {
            let (peer, case) = (library.name, case.name());
            note(peer, case, measure::cost(&mut callgrind, Job { peer, case, timed: 100_000 })?);
        }
    }
    figures.write_json(&folder.join("exec.json"))?;
    let names = peers::ALL.map(Peer::name);
    let executors = figures.table(&names, executor_rows())?;
    let primitives = primitives::Case::ALL.map(|case| row(case.name(), COST));
    let primitives = figures.table(&names, primitives.into_iter())?;
    println!("\n{executors}\n{primitives}\n{LEGEND}\n\n{NOTES}\n");
    let gates = gates::check(&figures, &names)?;
    println!("Gates");
    for gate in &gates {
        println!("  {gate}");
    }
    Ok(!gates.iter().any(Gate::fails))
}

/// The cost of one operation of `case`, without that of the root's yields in it.
fn net_cost(callgrind: &mut Callgrind, peer: &dyn Peer, case: Case) -> Result<Cost> {
    let mut cost = |case: Case| {
        let timed = if case == Case::FanIn { 10_000 } else { 400_000 };
        measure::cost(callgrind, Job { peer: peer.name(), case: case.name(), timed })
    };
    let gross = cost(case)?;
    match peer.root_yields(case) {
        0 => Ok(gross),
        times => Ok(gross.less(cost(Case::RootYield)?, f64::from(times))),
    }
}
