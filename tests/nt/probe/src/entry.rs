//! `DriverEntry`, as a driver and for a crash dump.
#![expect(unsafe_code, reason = "NT calls it by name, with pointers")]

use core::{arch::asm, ffi::c_void, ptr, slice};

use nt_sys::{
    _POOL_TYPE, _TIMER_TYPE, DRIVER_OBJECT, IRP_MJ_DEVICE_CONTROL, IRP_MJ_PNP, IRP_MJ_POWER,
    IRP_MJ_SYSTEM_CONTROL, KDPC, KTIMER, LARGE_INTEGER, NTSTATUS, PDRIVER_OBJECT, PUNICODE_STRING, PVOID,
    STATUS_DEVICE_NOT_READY, STATUS_NOT_SUPPORTED, STATUS_SUCCESS,
    ntddk::{
        DbgPrintEx, ExAllocatePoolWithTag, KeInitializeDpc, KeInitializeTimerEx, KeSetTimerEx,
        KeStallExecutionProcessor,
    },
};

use crate::{
    crime::{self, Crime},
    device, request,
};

/// A timer and its DPC in the image itself, for [`Crime::TimerAtUnload`].
static mut LEFT: Left = unsafe { core::mem::zeroed() };

struct Left {
    timer: KTIMER,
    dpc: KDPC,
}

/// NT's entry. A crash dump enters its own copy of the image here, with null arguments.
#[unsafe(no_mangle)]
unsafe extern "C" fn DriverEntry(driver: PDRIVER_OBJECT, registry_path: PUNICODE_STRING) -> NTSTATUS {
    if driver.is_null() {
        return dump();
    }
    unsafe {
        let path = &*registry_path;
        crime::choose(slice::from_raw_parts(path.Buffer, usize::from(path.Length / 2)));
        if crime::is(Crime::EntryFails) {
            return STATUS_DEVICE_NOT_READY;
        }
        let driver: *mut DRIVER_OBJECT = driver;
        (*driver).DriverUnload = Some(unload);
        (*(*driver).DriverExtension).AddDevice = Some(device::add);
        let routines = &raw mut (*driver).MajorFunction;
        (*routines)[usize::from(IRP_MJ_PNP)] = Some(device::plug_and_play);
        (*routines)[usize::from(IRP_MJ_POWER)] = Some(device::pass_on);
        (*routines)[usize::from(IRP_MJ_SYSTEM_CONTROL)] = Some(device::pass_on);
        (*routines)[usize::from(IRP_MJ_DEVICE_CONTROL)] = Some(request::control);
    }
    STATUS_SUCCESS
}

unsafe extern "C" fn unload(_driver: PDRIVER_OBJECT) {
    if crime::is(Crime::TimerAtUnload) {
        unsafe {
            KeInitializeDpc(&raw mut LEFT.dpc, Some(nothing), ptr::null_mut());
            KeInitializeTimerEx(&raw mut LEFT.timer, _TIMER_TYPE::NotificationTimer);
            let due = LARGE_INTEGER { QuadPart: -1_000_000 };
            KeSetTimerEx(&raw mut LEFT.timer, due, 100, &raw mut LEFT.dpc);
        }
    }
}

unsafe extern "C" fn nothing(_dpc: *mut KDPC, _context: *mut c_void, _first: PVOID, _second: PVOID) {}

/// Asks Xen for its version and says it. A dump has no registry path; the version itself says which crime is meant.
fn dump() -> NTSTATUS {
    let version: u64;
    unsafe {
        // `XENVER_version`: the argument registers are clobbered.
        asm!("vmcall", inout("rax") 17_u64 => version, inout("rdi") 0_u64 => _, inout("rsi") 0_u64 => _);
        if version.cast_signed() < 0 {
            return STATUS_NOT_SUPPORTED;
        }
        DbgPrintEx(
            nt_sys::_DPFLTR_TYPE::DPFLTR_IHVDRIVER_ID.cast_unsigned(),
            0,
            c"dump on Xen %llx\n".as_ptr(),
            version,
        );
        match version {
            crime::ALLOCATES_IN_DUMP => {
                ExAllocatePoolWithTag(_POOL_TYPE::NonPagedPoolNx, 16, crime::TAG);
            }
            crime::NEVER_LEAVES_DUMP => loop {
                KeStallExecutionProcessor(50);
            },
            _ => {}
        }
    }
    STATUS_SUCCESS
}
