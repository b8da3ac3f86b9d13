#![doc = include_str!("../README.md")]
//!
//! # In reading order
//!
//! - [`order`]: what was asked for;
//! - [`packages`]: Debian's Xen, kernel and tools, unpacked into a folder: nothing is installed;
//! - [`image`]: what of that the control domain is made of; [`elf`] and [`cpio`], what it takes to say that;
//! - [`machine`]: QEMU, from its start to its end, which comes in bounded time;
//! - [`timeline`]: what the guest and the control domain say, and what that amounts to.
//!
//! `dom0/init` is the control domain's only script; `guest/` is the guest.
#![forbid(unsafe_code)]

mod cpio;
mod elf;
mod image;
mod machine;
mod order;
mod packages;
mod timeline;

use std::process::ExitCode;

use anyhow::Result;

use crate::{machine::Machine, order::Order};

/// The exit code for a command line that makes no sense, as with most command-line tools.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let order = match Order::parse(std::env::args().skip(1)) {
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
    machine::has_room(&order.folder)?;
    let image = image::of_packages(&order.folder)?;
    let mut rows = Vec::new();
    for daemon in &order.daemons {
        println!("\n== {daemon}");
        let outcome = Machine::new(&image, order, *daemon)?.run();
        rows.push((daemon, outcome));
    }
    println!();
    for (daemon, outcome) in &rows {
        match outcome {
            Ok(tally) => println!("{daemon:<11} {tally}"),
            Err(error) => println!("{daemon:<11} FAILED: {error:#}"),
        }
    }
    Ok(rows.iter().all(|(_, outcome)| outcome.as_ref().is_ok_and(|tally| tally.is_passed())))
}
