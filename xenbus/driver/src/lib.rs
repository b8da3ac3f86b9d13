//! `xenbus.sys`, so far: a device that finds Xen, has one interrupt, and answers one question.
//!
//! - `entry`: `DriverEntry`, for a driver and for a crash dump;
//! - `find`: Xen, and how it is called;
//! - [`device`]: start, requests, removal;
//! - [`tasks`]: what the device's tasks do: the part without an operating system;
//! - [`record`]: what an operator finds in the registry;
//! - [`signal`]: what interrupts and timers tell tasks;
//! - [`dump`]: the same question, asked by a crash dump.
#![doc = include_str!("../README.md")]
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

pub mod device;
pub mod dump;
mod entry;
mod find;
pub mod record;
pub mod signal;
pub mod tasks;

/// Asks for Xen's version. No input; the output is a little-endian word with the major version in bits 16 to
/// 31. Pending until the next upcall or beat.
pub const IOCTL_XENBUS_VERSION: u32 =
    nt_sys::CTL_CODE(nt_sys::FILE_DEVICE_UNKNOWN, 0x800, nt_sys::METHOD_BUFFERED, nt_sys::FILE_ANY_ACCESS);

/// A panic is a bugcheck that names file and line.
#[cfg(all(windows, not(test)))]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    kexec_nt::report::bugcheck(info)
}
