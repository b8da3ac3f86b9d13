//! A guest that is nothing but this project's code: it boots on a real Xen, and does there what a driver does.
//!
//! It has no operating system, no heap and no threads. What it knows of Xen it has from `xenbus`; what is here is a
//! machine for that to run on, and somebody who says what comes of it:
//!
//! - `boot`: from the first instruction to Rust, as Xen's PVH loader begins a guest; `sector`: from a BIOS to there;
//! - `interrupts`, `apic`: events and alarms come, and whatever else comes is the end;
//! - `smp`: the virtual CPUs, each with an executor; `hlt`: kexec's platform, a loop that halts the processor when there
//!   is nothing to do; `rendezvous`: all of them meet, for a suspend; `stall`: what can be seen of one that does not;
//! - `seam`: hypercalls and pages, as `xenbus` asks for them;
//! - `report`: lines for the host, and the last words;
//! - `twins`: emulated devices, which are sent away;
//! - `life`: from start to stop, and its part in a scenario in between; `body`: what that plays on; `cpus`: what crosses
//!   from one virtual CPU to another.
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
mod body;
#[cfg(target_os = "none")]
mod boot;
mod cpus;
mod hlt;
mod interrupts;
mod life;
mod rendezvous;
mod report;
mod seam;
#[cfg(target_os = "none")]
mod sector;
mod smp;
mod stall;
mod twins;

#[cfg(not(target_os = "none"))]
fn main() -> std::process::ExitCode {
    if std::env::args_os().len() == 0 {
        // Never; but what the guest does is known to be reached from here.
        life::begin();
    }
    eprintln!("this is a guest for Xen: `cargo xtask lab` builds it for one, and boots it there");
    std::process::ExitCode::from(2)
}
