//! A guest that is nothing but this project's code: it boots on a real Xen, and does there what a driver does.
//!
//! It has no operating system, no heap and no threads. What it knows of Xen it has from `xenbus`; what is here is a
//! machine for that to run on, and somebody who says what comes of it:
//!
//! - `boot`: from the first instruction to Rust, as Xen's PVH loader begins a guest;
//! - `interrupts`, `apic`: events and alarms come, and whatever else comes is the end;
//! - `hlt`: kexec's platform, a loop that halts the processor when there is nothing to do;
//! - `seam`: hypercalls and pages, as `xenbus` asks for them;
//! - `report`: lines for the host, and the last words;
//! - `life`: from start to stop, and what is tried in between; `suite`: the conformance suite of xenstore.
//!
//! It is built for a target without an operating system. For any other it is a program that says so, so that lints and
//! tests see what is in it.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![deny(unsafe_code)]
#![expect(
    clippy::large_futures,
    reason = "a task has all that it ever needs in its slot: nothing is allocated"
)]

mod apic;
#[cfg(target_os = "none")]
mod boot;
mod hlt;
mod interrupts;
mod life;
mod report;
mod seam;
mod suite;

#[cfg(not(target_os = "none"))]
fn main() -> std::process::ExitCode {
    if std::env::args_os().len() == 0 {
        // Never; but what the guest does is known to be reached from here.
        life::begin();
    }
    eprintln!("this is a guest for Xen: `cargo xtask lab` builds it for one, and boots it there");
    std::process::ExitCode::from(2)
}
