#![doc = include_str!("../README.md")]
//!
//! # In reading order
//!
//! - [`scenario`]: what a guest does, and what its toolstack does with it; [`kind`]: how a guest begins;
//! - `order`: what was asked for;
//! - `packages`: Debian's Xen, kernel and tools, unpacked into a folder: nothing is installed;
//! - `image`: what of that the control domain is made of; `elf` and `cpio`, what it takes to say that;
//! - `disk`: from what a BIOS begins a guest;
//! - `machine`: QEMU, from its start to its end, which comes in bounded time;
//! - `timeline`: what the guests and the control domain say, and what that amounts to.
//!
//! `dom0/init` is the control domain's only script; `parts/` is what guests do, `guest/` the guest, and `peer/` the
//! other side of its grants. `tests/simulated` plays the same scenarios on `xen-sim`.
#![forbid(unsafe_code)]

mod cpio;
mod disk;
mod elf;
mod image;
pub mod kind;
mod machine;
mod order;
mod packages;
pub mod scenario;
mod timeline;

use std::{path::Path, process::ExitCode, thread};

use anyhow::Result;

use crate::{
    image::Image,
    kind::Kind,
    machine::{Machine, Outcome},
    order::{Boot, Order},
};

/// The exit code for a command line that makes no sense, as with most command-line tools.
const USAGE: u8 = 2;

/// Where the scenarios are.
const SCENARIOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let order = match scenario::all(Path::new(SCENARIOS)) {
        Ok(scenarios) => Order::parse(std::env::args().skip(1), &scenarios),
        Err(error) => Err(format!("{error:#}")),
    };
    let order = match order {
        Ok(order) => order,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::from(USAGE);
        }
    };
    match carry_out(&order) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all that was asked for has passed.
fn carry_out(order: &Order) -> Result<bool> {
    let kind = order.boots.iter().map(Boot::kind).max().unwrap_or(Kind::Pvh);
    let at_once = order.machines_at_once();
    machine::has_room(&order.folder, kind, at_once)?;
    let image = image::of_packages(&order.folder, kind)?;
    let (mut rows, mut is_passed) = (Vec::new(), true);
    for boots in order.boots.chunks(at_once) {
        let outcomes: Vec<Outcome> = thread::scope(|scope| {
            let machines: Vec<_> =
                boots.iter().map(|boot| scope.spawn(|| run(order, &image, boot))).collect();
            machines.into_iter().map(|machine| machine.join().expect("it does not panic")).collect()
        });
        for (boot, outcome) in boots.iter().zip(outcomes) {
            is_passed &= tell(boot, outcome, &mut rows);
        }
    }
    println!("\n{}", rows.join("\n"));
    Ok(is_passed)
}

/// Boots a machine, and has all that is to be played there played.
fn run(order: &Order, image: &Image, boot: &Boot) -> Outcome {
    println!("{}: a machine, for {} plays", boot.daemon, boot.plays.len());
    match Machine::new(image, order, boot) {
        Ok(machine) => machine.run(),
        Err(error) => Outcome { plays: Vec::new(), end: Err(error) },
    }
}

/// Adds what has come of a machine to a table. Whether all has passed.
fn tell(boot: &Boot, outcome: Outcome, rows: &mut Vec<String>) -> bool {
    let mut is_passed = outcome.end.is_ok();
    for play in &boot.plays {
        let played = outcome.plays.iter().find(|played| played.is_of(play));
        let (took, verdict) = match played {
            Some(played) => (format!("{:.1} s", played.took.as_secs_f64()), played.verdict(play)),
            None => (String::new(), Err("not played".to_owned())),
        };
        is_passed &= verdict.is_ok();
        let verdict = verdict.unwrap_or_else(|why| format!("FAILED: {why}"));
        let name = &play.scenario.name;
        rows.push(format!("{name:<16} {:<4} {:<11} {took:>7}  {verdict}", play.kind, boot.daemon));
    }
    if let Err(error) = outcome.end {
        rows.push(format!("the machine with {}: {error:#}", boot.daemon));
    }
    is_passed
}
