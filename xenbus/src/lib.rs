//! Xen for async code.
//!
//! A driver finds Xen, and asks it something:
//!
//! ```
//! use xenbus::{NotXen, Version, Xen, seam::Mapped, version};
//!
//! async fn greet(page: Mapped) -> Result<Option<Version>, NotXen> {
//!     // On a processor that Xen has lent to a guest; elsewhere this says what is missing. The page is for processors of a
//!     // maker that nobody knows.
//!     let xen = Xen::detect(|| Some(page))?;
//!     Ok(version(&xen).await.ok())
//! }
//! ```
//!
//! From below, what Xen has, as values and as what a task waits for:
//!
//! - [`x86`]: the processor's side: CPUID, VMCALL and VMMCALL, the hypercall page. No operating system is in it;
//! - [`hypercall`]: the calls themselves, over any [`Hypervisor`];
//! - [`page`]: pages that are shared with Xen and the toolstack, and who gives them back; [`Seam`](page::Seam), all
//!   that a service needs;
//! - [`event`]: event channels, as what a task waits for;
//! - [`grant`]: what other domains may use, and until when;
//! - [`store`]: xenstore, as futures;
//! - [`suspend`], [`epoch`]: the guest comes back as another domain, and what it had is gone.
//!
//! What a guest is to its toolstack and its host:
//!
//! - [`control`]: what the toolstack asks for, and what it is told of the guest;
//! - [`clock`]: the time, as Xen tells it;
//! - [`console`]: what the guest says, and what is typed;
//! - [`unplug`]: emulated devices that are to go;
//! - [`crash`]: its last words.
//!
//! And what devices are made of:
//!
//! - [`bus`]: all of this, as their drivers see it; which devices there are;
//! - [`ring`]: the frontend's end of a shared ring;
//! - [`frontend`]: the life of a frontend, once for every class, with a whole one as an example.
//!
//! `cargo run -p bringup` shows them at work, on a simulated Xen: what each task waits for, from the first hypercall
//! to the last.
//!
#![doc = include_str!("../../examples/bringup/run.svg")]
//!
//! # Unsafe code
//!
//! It is in six files, each for one reason. All others are checked by the compiler, and a test knows the six by name.
//!
//! - `cell`: what several share is changed, without a lock that an interrupt could find taken;
//! - `hypercall/command`: Xen reads and writes what the arguments of a call name;
//! - `page`: a page is given back when its owner is dropped, and not while somebody else has it;
//! - `grant/share`: a page stays as long as another domain may use it, and the table as long as there are entries to
//!   take back;
//! - `x86/native`: the instructions themselves;
//! - `x86/privileged`: the registers and ports that may be touched, and what must be known before.
#![no_std]
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used,
        reason = "a panic in a kernel is a bugcheck"
    )
)]

#[cfg(test)]
extern crate std;

pub mod bus;
mod cell;
pub mod clock;
pub mod console;
pub mod control;
pub mod crash;
pub mod epoch;
pub mod event;
pub mod frontend;
pub mod grant;
pub mod hypercall;
pub mod page;
pub mod ring;
pub mod store;
pub mod suspend;
pub mod unplug;
pub mod x86;

pub use hypercall::{Version, version};
pub use x86::NotXen;
#[cfg(target_arch = "x86_64")]
pub use x86::Xen;
pub use xen_abi::{Errno, Hypervisor, seam};
