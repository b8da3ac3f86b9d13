//! `DriverEntry`, for a driver and for a crash dump.
#![expect(unsafe_code, reason = "NT calls it by name, with pointers")]

use core::ptr::NonNull;

use kexec_nt::{crash::Crash, device};
use nt_sys::{NTSTATUS, PDRIVER_OBJECT, PUNICODE_STRING, STATUS_SUCCESS};

use crate::{device::Xenbus, dump};

/// NT's entry. A crash dump enters its own copy of the image here, with null arguments.
///
/// # Safety
///
/// NT calls it, once for each time that it loads the image.
#[unsafe(no_mangle)]
#[unsafe(link_section = "INIT")]
unsafe extern "C" fn DriverEntry(driver: PDRIVER_OBJECT, _registry_path: PUNICODE_STRING) -> NTSTATUS {
    if let Some(driver) = NonNull::new(driver) {
        // SAFETY: NT's driver object, in `DriverEntry`.
        unsafe { device::install::<Xenbus>(driver) };
        STATUS_SUCCESS
    } else {
        // SAFETY: without a driver object this is the dump's copy of the image, entered after everything else has
        // stopped.
        let mut crash = unsafe { Crash::assume() };
        dump::enter(&mut crash)
    }
}
