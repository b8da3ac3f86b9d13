//! A simulated NT that loads shipped `.sys` files and runs them: one seed, one run.
//!
//! One host thread plays several CPUs in virtual time. Driver code runs as it was linked; each call of an export and
//! each instruction that a processor would not execute for it is a point at which any other CPU may go on instead. Every
//! double is written from Microsoft's documentation and cites the page, and each rule that a page states and a driver
//! can break is a check with a name: a [`Verdict`]. Nothing of this is a proof of behaviour on Windows; it is
//! our reading of its documentation.
//!
//! ```no_run
//! use nt_sim::{Failure, Nt, Options};
//!
//! fn a_life(seed: u64) -> Result<(), Failure> {
//!     let nt = Nt::boot(Options::new(seed));
//!     let driver = nt.load("xenbus")?;
//!     let device = driver.add_device()?;
//!     device.start()?;
//!     let request = device.control(0x22_2000, &[], 4)?;
//!     nt.xen().upcall();
//!     assert_eq!(request.wait()?.status, 0);
//!     device.remove()?;
//!     driver.unload()?;
//!     nt.finish()
//! }
//! ```
//!
//! In reading order:
//!
//! - [`machine`]: images, activations, traps: it knows x86-64, and nothing of NT;
//! - [`nt`], [`dump`]: what a scenario does; [`verdict`], `trace`, `report`: what it learns;
//! - `kernel`, `cpu`, `schedule`, `call`: the step by which a run goes on; `exports`: what drivers can call;
//! - `memory`, `physical`, `pool`, `lock`, `dpc`, `event`, `timer`, `thread`, `interrupt`, `debug`: the kernel's objects;
//! - `driver`, `device`, `irp`, `pnp`, `remove_lock`, `registry`: drivers and I/O;
//! - [`xen`]: the hypervisor; `images`: where the `.sys` files are; `watchdog`: driver code that never stops.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![deny(unsafe_code)]

mod call;
mod cpu;
mod debug;
mod device;
mod dpc;
mod driver;
pub mod dump;
mod event;
mod exports;
mod images;
mod interrupt;
mod irp;
mod kernel;
mod lock;
pub mod machine;
mod memory;
pub mod nt;
mod perfetto;
mod physical;
mod pnp;
mod pool;
mod registry;
mod remove_lock;
mod report;
mod schedule;
mod thread;
mod timer;
mod trace;
pub mod verdict;
mod watchdog;
pub mod xen;

pub use dump::Dump;
pub use machine::Preempt;
pub use nt::{Completion, Device, Driver, Nt, Options, Request, Reuse};
pub use schedule::Schedule;
pub use verdict::{Failure, Report, Verdict};
