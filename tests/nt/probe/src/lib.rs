//! `probe.sys`: a small driver in the raw style of WDM that does everything right, unless it is asked to do one thing
//! wrong. It shows what `nt-sim` catches: loaded as the service `probe-double-free`, it frees something twice.
//!
//! - `device`: `AddDevice`, and the device's life by Plug and Play;
//! - [`request`]: requests, the interrupt, DPCs, the timer;
//! - `tour`: the kernel's answers, as a driver sees them;
//! - `thread`: system threads, handles, the registry;
//! - [`crime`]: the names of all crimes, and those that are committed on the spot.
//!
//! A driver for people is written on `kexec-nt` and looks nothing like this.
#![no_std]
#![deny(unsafe_code)]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    clippy::undocumented_unsafe_blocks,
    reason = "raw WDM: nearly every line is a call of the kernel, and some are wrong on purpose"
)]

pub mod crime;
mod device;
mod entry;
pub mod request;
mod thread;
mod tour;

/// A panic is a bugcheck.
#[cfg(all(windows, not(test)))]
#[expect(unsafe_code, reason = "the call that does not return")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: there is nothing to be said against it at any level.
    unsafe { nt_sys::ntddk::KeBugCheckEx(crime::BUGCHECK, 0, 0, 0, 0) }
}
