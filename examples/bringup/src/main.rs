//! A guest lives on a simulated Xen: all that `xenbus` has, at work. See the README for what happens, and for the
//! options.
//!
//! - `guest`: the guest's tasks;
//! - `plot`: what its toolstack does;
//! - `run`, `timeline`, `picture`: one run, to be looked at;
//! - `faults`: every run, to be sure of.

mod arguments;
mod faults;
mod guest;
mod picture;
mod plot;
mod run;
mod timeline;

use std::{env, process::ExitCode};

use crate::arguments::{Arguments, Misused};

fn main() -> ExitCode {
    match Arguments::parse(env::args().skip(1)) {
        Ok(wanted) if wanted.faults => faults::enumerate(wanted.seed),
        Ok(wanted) => run::once(&wanted),
        Err(Misused::Help) => {
            println!("{}", Misused::Help);
            ExitCode::SUCCESS
        }
        Err(misused) => {
            eprintln!("{misused}");
            ExitCode::from(2)
        }
    }
}
