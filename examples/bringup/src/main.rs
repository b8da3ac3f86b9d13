//! A guest comes up on a simulated Xen: it finds Xen, asks for its version and reads its xenstore, and switches
//! itself off.
//!
//! All of it is the project's own code, from the hypercall to the executor; below it is `xen-sim`, which was written
//! from Xen's headers and documents alone. The lines are what happens, while it happens, in virtual time. Then comes
//! what was counted, and at last the auditor's verdict: whether the guest has given everything back and has broken no
//! rule. The exit code is 1 if the verdict is not `clean`, or the guest did not do what it was to do.
//!
//! `--faults` does it again and again, with every fault at every poll boundary: the guest may stop early, but it may
//! leave nothing behind.

mod arguments;
mod faults;
mod guest;
mod plot;
mod run;
mod timeline;
mod worker;

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
