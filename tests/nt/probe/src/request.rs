//! Requests, the interrupt, DPCs, the timer.
#![expect(unsafe_code, reason = "NT calls with pointers, and is called with them")]

use core::{
    mem::offset_of,
    ptr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use nt_sys::{
    BOOLEAN, CTL_CODE, FALSE, FILE_ANY_ACCESS, FILE_DEVICE_UNKNOWN, IRP, KDPC, LIST_ENTRY, METHOD_BUFFERED,
    NTSTATUS, PDEVICE_OBJECT, PIO_STACK_LOCATION, PIRP, PKINTERRUPT, PVOID, SL_INVOKE_ON_CANCEL,
    SL_INVOKE_ON_ERROR, SL_INVOKE_ON_SUCCESS, SL_PENDING_RETURNED, STATUS_BUFFER_TOO_SMALL,
    STATUS_DELETE_PENDING, STATUS_INVALID_DEVICE_REQUEST, STATUS_PENDING, STATUS_SUCCESS,
    STATUS_UNSUCCESSFUL, TRUE, ULONG,
    ntddk::{
        IoAcquireRemoveLockEx, IoReleaseRemoveLockEx, KeAcquireSpinLockAtDpcLevel,
        KeAcquireSpinLockRaiseToDpc, KeGetCurrentIrql, KeInsertQueueDpc, KeReleaseSpinLock,
        KeReleaseSpinLockFromDpcLevel, KeSetEvent,
    },
};

use crate::{
    crime::{self, Crime},
    device::{Extension, REMOVE_LOCK_SIZE, extension, finish, ticks},
    tour,
};

/// Completes at once, with the input as output.
pub const IOCTL_ECHO: ULONG = ioctl(0x800);
/// Completes with the next upcall, with the input as output.
pub const IOCTL_WAIT: ULONG = ioctl(0x801);
/// Commits the crime, if it is one that is committed on the spot. The output is how often the timer has ticked.
pub const IOCTL_CRIME: ULONG = ioctl(0x802);

/// Calls what drivers call, and looks at what that answers. The output is 0, or the number of the first wrong answer.
pub const IOCTL_TOUR: ULONG = ioctl(0x803);

const fn ioctl(function: ULONG) -> ULONG {
    CTL_CODE(FILE_DEVICE_UNKNOWN, function, METHOD_BUFFERED, FILE_ANY_ACCESS)
}

/// Where the list entry of an IRP is that its owner may use.
const LIST: usize = offset_of!(IRP, Tail.Overlay.__bindgen_anon_2.ListEntry);

type CompletionRoutine = unsafe extern "C" fn(PDEVICE_OBJECT, PIRP, PVOID) -> NTSTATUS;

// What `wdm.h` has macros for.

pub(crate) unsafe fn current(irp: PIRP) -> PIO_STACK_LOCATION {
    unsafe { (*irp).Tail.Overlay.__bindgen_anon_2.__bindgen_anon_1.CurrentStackLocation }
}

pub(crate) unsafe fn skip(irp: PIRP) {
    unsafe {
        (*irp).CurrentLocation += 1;
        (*irp).Tail.Overlay.__bindgen_anon_2.__bindgen_anon_1.CurrentStackLocation = current(irp).add(1);
    }
}

pub(crate) unsafe fn copy(irp: PIRP, routine: CompletionRoutine, context: PVOID) {
    unsafe {
        let next = current(irp).sub(1);
        *next = *current(irp);
        (*next).Control = SL_INVOKE_ON_SUCCESS | SL_INVOKE_ON_ERROR | SL_INVOKE_ON_CANCEL;
        (*next).CompletionRoutine = Some(routine);
        (*next).Context = context;
    }
}

pub(crate) unsafe fn status(irp: PIRP) -> NTSTATUS {
    unsafe { (*irp).IoStatus.__bindgen_anon_1.Status }
}

pub(crate) unsafe fn set_status(irp: PIRP, status: NTSTATUS) {
    unsafe { (*irp).IoStatus.__bindgen_anon_1.Status = status }
}

pub(crate) unsafe fn complete(irp: PIRP, status: NTSTATUS, information: u64) -> NTSTATUS {
    unsafe {
        set_status(irp, status);
        (*irp).IoStatus.Information = information;
        finish(irp);
    }
    status
}

/// `IRP_MJ_DEVICE_CONTROL`.
pub(crate) unsafe extern "C" fn control(device: PDEVICE_OBJECT, irp: PIRP) -> NTSTATUS {
    unsafe {
        let extension = extension(device);
        let lock = &raw mut (*extension).remove_lock;
        let status = IoAcquireRemoveLockEx(lock, irp.cast(), ptr::null(), 0, REMOVE_LOCK_SIZE);
        if status < 0 {
            return complete(irp, status, 0);
        }
        let parameters = (*current(irp)).Parameters.DeviceIoControl;
        let echoed = u64::from(parameters.InputBufferLength.min(parameters.OutputBufferLength));
        let status = match parameters.IoControlCode {
            IOCTL_ECHO => complete(irp, STATUS_SUCCESS, echoed),
            IOCTL_CRIME | IOCTL_TOUR if parameters.OutputBufferLength < 4 => {
                complete(irp, STATUS_BUFFER_TOO_SMALL, 0)
            }
            IOCTL_CRIME => {
                crime::commit(extension);
                let buffer: *mut u32 = (*irp).AssociatedIrp.SystemBuffer.cast();
                buffer.write(ticks(extension));
                conclude(extension, irp)
            }
            IOCTL_TOUR => {
                let buffer: *mut u32 = (*irp).AssociatedIrp.SystemBuffer.cast();
                buffer.write(tour::take(extension));
                complete(irp, STATUS_SUCCESS, 4)
            }
            // The DPC releases the remove lock.
            IOCTL_WAIT => return wait(extension, irp, echoed),
            _ => complete(irp, STATUS_INVALID_DEVICE_REQUEST, 0),
        };
        IoReleaseRemoveLockEx(lock, irp.cast(), REMOVE_LOCK_SIZE);
        status
    }
}

/// Completes a request, or does something that looks like it.
unsafe fn conclude(extension: *mut Extension, irp: PIRP) -> NTSTATUS {
    unsafe {
        match crime::chosen() {
            Crime::StatusUnset => {
                finish(irp);
                STATUS_SUCCESS
            }
            Crime::OtherStatus => {
                complete(irp, STATUS_UNSUCCESSFUL, 0);
                STATUS_SUCCESS
            }
            Crime::MuchInformation => complete(irp, STATUS_SUCCESS, 5),
            Crime::CompletesTwice => {
                complete(irp, STATUS_SUCCESS, 4);
                finish(irp);
                STATUS_SUCCESS
            }
            Crime::TouchesCompleted => {
                complete(irp, STATUS_SUCCESS, 4);
                status(irp)
            }
            Crime::TouchesBuffer => {
                let buffer: *mut u32 = (*irp).AssociatedIrp.SystemBuffer.cast();
                complete(irp, STATUS_SUCCESS, 4);
                buffer.write_volatile(7);
                STATUS_SUCCESS
            }
            Crime::CompletesUnderLock => {
                let lock = &raw mut (*extension).lock;
                let irql = KeAcquireSpinLockRaiseToDpc(lock);
                let status = complete(irp, STATUS_SUCCESS, 4);
                KeReleaseSpinLock(lock, irql);
                status
            }
            Crime::CompletesCancelable => {
                (*irp).CancelRoutine = Some(cancel);
                complete(irp, STATUS_SUCCESS, 4)
            }
            Crime::MarkedOnly => {
                (*current(irp)).Control |= SL_PENDING_RETURNED;
                complete(irp, STATUS_SUCCESS, 4)
            }
            Crime::NeitherNor => STATUS_SUCCESS,
            _ => complete(irp, STATUS_SUCCESS, 4),
        }
    }
}

unsafe extern "C" fn cancel(_device: PDEVICE_OBJECT, _irp: PIRP) {}

/// Keeps a request until the next upcall.
unsafe fn wait(extension: *mut Extension, irp: PIRP, echoed: u64) -> NTSTATUS {
    unsafe {
        (*irp).IoStatus.Information = echoed;
        let lock = &raw mut (*extension).lock;
        let irql = KeAcquireSpinLockRaiseToDpc(lock);
        let is_going = (*extension).is_going;
        if !is_going {
            if !crime::is(Crime::UnmarkedPending) {
                (*current(irp)).Control |= SL_PENDING_RETURNED;
            }
            let (head, entry) = (&raw mut (*extension).waiting, irp.byte_add(LIST).cast::<LIST_ENTRY>());
            let last = (*head).Blink;
            *entry = LIST_ENTRY { Flink: head, Blink: last };
            (*last).Flink = entry;
            (*head).Blink = entry;
        }
        KeReleaseSpinLock(lock, irql);
        if is_going {
            complete(irp, STATUS_DELETE_PENDING, 0);
            IoReleaseRemoveLockEx(&raw mut (*extension).remove_lock, irp.cast(), REMOVE_LOCK_SIZE);
            return STATUS_DELETE_PENDING;
        }
        STATUS_PENDING
    }
}

/// The first of the requests that wait. The caller holds the lock.
unsafe fn pop(extension: *mut Extension) -> PIRP {
    unsafe {
        let list = &raw mut (*extension).waiting;
        let first = (*list).Flink;
        if first == list {
            return ptr::null_mut();
        }
        if crime::is(Crime::Unlocked) {
            // Meanwhile another CPU takes the same one.
            KeGetCurrentIrql();
        }
        (*list).Flink = (*first).Flink;
        (*(*first).Flink).Blink = list;
        first.byte_sub(LIST).cast()
    }
}

/// Refuses the requests that wait, and those that come.
pub(crate) unsafe fn refuse_all(extension: *mut Extension, status: NTSTATUS) {
    unsafe {
        let lock = &raw mut (*extension).lock;
        loop {
            let irql = KeAcquireSpinLockRaiseToDpc(lock);
            (*extension).is_going = true;
            let irp = pop(extension);
            KeReleaseSpinLock(lock, irql);
            if irp.is_null() {
                break;
            }
            if !crime::is(Crime::LosesRequests) {
                complete(irp, status, 0);
            }
            IoReleaseRemoveLockEx(&raw mut (*extension).remove_lock, irp.cast(), REMOVE_LOCK_SIZE);
        }
    }
}

/// `KSERVICE_ROUTINE`.
pub(crate) unsafe extern "C" fn isr(_interrupt: PKINTERRUPT, context: PVOID) -> BOOLEAN {
    unsafe {
        let extension: *mut Extension = context.cast();
        KeInsertQueueDpc(&raw mut (*extension).dpc, ptr::null_mut(), ptr::null_mut());
        if crime::is(Crime::IsrSetsEvent) {
            KeSetEvent(&raw mut (*extension).event, 0, FALSE);
        }
        if crime::is(Crime::Unclaimed) { FALSE } else { TRUE }
    }
}

/// Only the first request is touched late, for [`Crime::TouchesLater`].
static TOUCHED: AtomicBool = AtomicBool::new(false);

/// Completes the requests that wait.
pub(crate) unsafe extern "C" fn upcall_dpc(_dpc: *mut KDPC, context: PVOID, _first: PVOID, _second: PVOID) {
    unsafe {
        let extension: *mut Extension = context.cast();
        let lock = &raw mut (*extension).lock;
        loop {
            KeAcquireSpinLockAtDpcLevel(lock);
            if crime::is(Crime::Unlocked) {
                KeReleaseSpinLockFromDpcLevel(lock);
            }
            let irp = pop(extension);
            if crime::is(Crime::DpcKeepsLock) {
                return;
            }
            if !crime::is(Crime::Unlocked) {
                KeReleaseSpinLockFromDpcLevel(lock);
            }
            if irp.is_null() {
                break;
            }
            complete(irp, STATUS_SUCCESS, (*irp).IoStatus.Information);
            if crime::is(Crime::TouchesLater) && !TOUCHED.swap(true, Relaxed) {
                (*irp).IoStatus.Information = 0;
            }
            IoReleaseRemoveLockEx(&raw mut (*extension).remove_lock, irp.cast(), REMOVE_LOCK_SIZE);
        }
    }
}

/// The timer's DPC, which may run on two CPUs at once.
pub(crate) unsafe extern "C" fn tick(_dpc: *mut KDPC, context: PVOID, _first: PVOID, _second: PVOID) {
    unsafe {
        let extension: *mut Extension = context.cast();
        (*extension).ticks.fetch_add(1, Relaxed);
        crime::clobber();
    }
}
