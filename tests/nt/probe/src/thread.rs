//! System threads, handles, the registry: the kernel's answers, and what may be done wrong with them.
#![expect(unsafe_code, reason = "NT calls with pointers, and is called with them")]

use core::{
    mem::MaybeUninit,
    ptr,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use nt_sys::{
    _EVENT_TYPE, _KWAIT_REASON, _MODE, FALSE, HANDLE, KEVENT, KEY_SET_VALUE, NTSTATUS, OBJ_KERNEL_HANDLE,
    OBJECT_ATTRIBUTES, PDEVICE_OBJECT, PKSTART_ROUTINE, PLUGPLAY_REGKEY_DEVICE, PVOID, REG_DWORD,
    STATUS_ACCESS_DENIED, STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_PARAMETER, STATUS_SUCCESS,
    SYNCHRONIZE, UNICODE_STRING,
    ntddk::{
        IoCreateSystemThread, IoOpenDeviceRegistryKey, KeInitializeEvent, KeSetEvent, KeWaitForSingleObject,
        PsGetCurrentThreadId, ZwClose, ZwSetValueKey,
    },
};

use crate::{
    crime::{self, Crime},
    device::Extension,
    tour::Facts,
};

/// The size of the attributes of an object.
const ATTRIBUTES: u32 = 0x30;
const _: () = assert!(size_of::<OBJECT_ATTRIBUTES>() == ATTRIBUTES as usize);

/// Makes a thread, which may call the routine after this has returned, and long after.
unsafe fn start(
    extension: *mut Extension,
    flags: u32,
    routine: PKSTART_ROUTINE,
    context: PVOID,
) -> (NTSTATUS, HANDLE) {
    let mut attributes = OBJECT_ATTRIBUTES {
        Length: ATTRIBUTES,
        RootDirectory: ptr::null_mut(),
        ObjectName: ptr::null_mut(),
        Attributes: flags,
        SecurityDescriptor: ptr::null_mut(),
        SecurityQualityOfService: ptr::null_mut(),
    };
    let (nobody, mut handle) = (ptr::null_mut(), ptr::null_mut());
    unsafe {
        let driver = (*(*extension).device).DriverObject;
        let status = IoCreateSystemThread(
            driver.cast(),
            &raw mut handle,
            SYNCHRONIZE,
            &raw mut attributes,
            nobody,
            ptr::null_mut(),
            routine,
            context,
        );
        (status, handle)
    }
}

static ID: AtomicUsize = AtomicUsize::new(0);

/// Says which thread it is. The event is the last that it touches.
unsafe extern "C" fn reports(event: PVOID) {
    unsafe {
        ID.store(PsGetCurrentThreadId().addr(), Relaxed);
        KeSetEvent(event.cast(), 0, FALSE);
    }
}

unsafe extern "C" fn exits(_nothing: PVOID) {}

unsafe extern "C" fn never_exits(_nothing: PVOID) {
    let mut never = MaybeUninit::<KEVENT>::uninit();
    unsafe {
        KeInitializeEvent(never.as_mut_ptr(), _EVENT_TYPE::NotificationEvent, FALSE);
        wait(never.as_mut_ptr());
    }
}

unsafe fn wait(event: *mut KEVENT) {
    let (reason, mode) = (_KWAIT_REASON::Executive, _MODE::KernelMode);
    unsafe {
        KeWaitForSingleObject(event.cast(), reason, mode, FALSE, ptr::null_mut());
    }
}

pub(crate) unsafe fn threads(facts: &mut Facts, extension: *mut Extension) {
    unsafe {
        let mut event = MaybeUninit::<KEVENT>::uninit();
        KeInitializeEvent(event.as_mut_ptr(), _EVENT_TYPE::SynchronizationEvent, FALSE);
        let context = event.as_mut_ptr().cast();
        let (status, thread) = start(extension, OBJ_KERNEL_HANDLE, Some(reports), context);
        facts.holds(status == STATUS_SUCCESS);
        wait(event.as_mut_ptr());
        let own = PsGetCurrentThreadId().addr();
        facts.holds(own != 0 && own == PsGetCurrentThreadId().addr());
        facts.holds(ID.load(Relaxed) != 0 && ID.load(Relaxed) != own);
        facts.holds(ZwClose(thread) == STATUS_SUCCESS);
    }
}

/// A value `Tour`, which is 7.
pub(crate) unsafe fn registry(facts: &mut Facts, extension: *mut Extension) {
    let mut key = ptr::null_mut();
    let mut open = |device: PDEVICE_OBJECT, kind, access| unsafe {
        let status = IoOpenDeviceRegistryKey(device, kind, access, &raw mut key);
        (status, key)
    };
    unsafe {
        let (device, physical) = ((*extension).device, (*extension).physical);
        facts.holds(open(physical, 0, KEY_SET_VALUE).0 == STATUS_INVALID_PARAMETER);
        facts.holds(open(device, PLUGPLAY_REGKEY_DEVICE, KEY_SET_VALUE).0 == STATUS_INVALID_DEVICE_REQUEST);
        let (status, key) = open(physical, PLUGPLAY_REGKEY_DEVICE, 0);
        facts.holds(status == STATUS_SUCCESS && set(key, 6) == STATUS_ACCESS_DENIED);
        facts.holds(ZwClose(key) == STATUS_SUCCESS);
        let (status, key) = open(physical, PLUGPLAY_REGKEY_DEVICE, KEY_SET_VALUE);
        facts.holds(status == STATUS_SUCCESS && set(key, 8) == STATUS_SUCCESS);
        facts.holds(set(key, 7) == STATUS_SUCCESS);
        facts.holds(ZwClose(key) == STATUS_SUCCESS);
    }
}

unsafe fn set(key: HANDLE, mut value: u32) -> NTSTATUS {
    let mut text = *b"T\0o\0u\0r\0";
    let mut name = UNICODE_STRING { Length: 8, MaximumLength: 8, Buffer: text.as_mut_ptr().cast() };
    unsafe { ZwSetValueKey(key, &raw mut name, 0, REG_DWORD, (&raw mut value).cast(), 4) }
}

/// Commits what is wrong with a thread or a handle.
pub(crate) unsafe fn commit(extension: *mut Extension) {
    unsafe {
        match crime::chosen() {
            Crime::ThreadLeft => {
                let (_, thread) = start(extension, OBJ_KERNEL_HANDLE, Some(never_exits), ptr::null_mut());
                ZwClose(thread);
            }
            Crime::UserHandle => {
                let (_, thread) = start(extension, 0, Some(exits), ptr::null_mut());
                ZwClose(thread);
            }
            Crime::ClosesTwice => {
                let (_, thread) = start(extension, OBJ_KERNEL_HANDLE, Some(exits), ptr::null_mut());
                ZwClose(thread);
                ZwClose(thread);
            }
            _ => {
                start(extension, OBJ_KERNEL_HANDLE, Some(exits), ptr::null_mut());
            }
        }
    }
}
