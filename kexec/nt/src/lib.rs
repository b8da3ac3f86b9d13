//! Windows as a platform of [`kexec`], and what a driver needs around it.
//!
//! A driver is a [`Function`](device::Function): what to do on start, with a request, on removal. This crate
//! turns that into a WDM driver, and everything that has an IRQL, a lifetime or an exactly-once rule into a type.
//! The smallest driver there is answers each request with its own code:
//!
//! ```
//! use core::ptr::NonNull;
//! use kexec::irql::{Dispatch, Passive};
//! use kexec_nt::{Dispatched, Status, device::{self, Device, Function}, request::Request};
//! use nt_sys::{NTSTATUS, PDRIVER_OBJECT, PUNICODE_STRING, STATUS_NOT_SUPPORTED, STATUS_SUCCESS};
//!
//! struct Echo;
//!
//! impl Function for Echo {
//!     type Running = ();
//!
//!     fn start(_device: &Device, _passive: &mut Passive) -> Result<(), Status> {
//!         Ok(())
//!     }
//!     fn control(_running: &(), _level: &mut Dispatch, request: Request) -> Dispatched {
//!         let code = request.code().to_le_bytes();
//!         request.reply(&code)
//!     }
//!     fn quiesce(_running: &(), _passive: &mut Passive) {}
//!     fn stop(_running: (), _passive: &mut Passive) {}
//! }
//!
//! #[unsafe(no_mangle)]
//! unsafe extern "C" fn DriverEntry(driver: PDRIVER_OBJECT, _: PUNICODE_STRING) -> NTSTATUS {
//!     let Some(driver) = NonNull::new(driver) else { return STATUS_NOT_SUPPORTED };
//!     // SAFETY: NT's driver object, in `DriverEntry`.
//!     unsafe { device::install::<Echo>(driver) };
//!     STATUS_SUCCESS
//! }
//! ```
//!
//! One with an executor, an interrupt, a beat and requests that wait is `xenbus/driver`.
//!
//! - [`irql`]: the calling CPU, raised and restored;
//! - [`dpc`]: the executor's doorbell is a KDPC, its alarm a KTIMER;
//! - [`worker`]: the doorbell of one that runs at `PASSIVE_LEVEL` is an event, for which a thread waits;
//! - [`clock`]: the time in which the guest has run; `alarm`, a KTIMER for one instant of it;
//! - [`wait`]: a thread at `PASSIVE_LEVEL` waits for a task, for an executor to close, or for what it looks for;
//! - [`memory`]: what a device allocates once, and keeps until its executor has been run down;
//! - [`page`]: a page of the image, and where it is in physical memory;
//! - [`device`]: the device's stack, its PnP life, its remove lock;
//! - [`request`]: a control request, answered once; under it `irp`, which is owned;
//! - [`interrupt`]: a line, and who serves it;
//! - [`registry`]: what a driver tells an operator;
//! - [`crash`]: the world in which only one CPU runs, and nothing interrupts it;
//! - [`report`]: debug output, and the end; `image`: which build this is, for the task table;
//! - [`status`], the `NTSTATUS` of an error.
//!
//! All of this has been run by the workspace's simulated NT only, not by Windows.
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

mod alarm;
pub mod clock;
pub mod crash;
pub mod device;
pub mod dpc;
mod event;
mod image;
pub mod interrupt;
mod irp;
pub mod irql;
pub mod memory;
pub mod page;
pub mod registry;
mod remove_lock;
pub mod report;
pub mod request;
pub mod status;
pub mod wait;
pub mod worker;

pub use dpc::Dpc;
pub use irp::Dispatched;
pub use status::Status;
pub use worker::Worker;
