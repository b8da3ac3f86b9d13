//! `AddDevice`, and the device's life by Plug and Play: "Starting a Device in a Function Driver", "Removing a Device in
//! a Function Driver".
#![expect(unsafe_code, reason = "NT calls with pointers, and is called with them")]

use core::{
    mem::MaybeUninit,
    ptr,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use nt_sys::{
    _EVENT_TYPE, _KDPC_IMPORTANCE, _KWAIT_REASON, _MODE, _TIMER_TYPE, CONNECT_FULLY_SPECIFIED,
    CONNECT_LINE_BASED, DO_DEVICE_INITIALIZING, FALSE, FILE_DEVICE_UNKNOWN, IO_CONNECT_INTERRUPT_FORMS,
    IO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS, IO_CONNECT_INTERRUPT_LINE_BASED_PARAMETERS,
    IO_CONNECT_INTERRUPT_PARAMETERS, IO_DISCONNECT_INTERRUPT_CONTEXT, IO_DISCONNECT_INTERRUPT_PARAMETERS,
    IO_NO_INCREMENT, IO_REMOVE_LOCK, IRP_MN_QUERY_REMOVE_DEVICE, IRP_MN_REMOVE_DEVICE, IRP_MN_START_DEVICE,
    IRP_MN_SURPRISE_REMOVAL, KDPC, KEVENT, KSPIN_LOCK, KTIMER, LARGE_INTEGER, LIST_ENTRY, NTSTATUS,
    PASSIVE_LEVEL, PDEVICE_OBJECT, PDRIVER_OBJECT, PIRP, PKINTERRUPT, PVOID, SL_PENDING_RETURNED,
    STATUS_DELETE_PENDING, STATUS_MORE_PROCESSING_REQUIRED, STATUS_PENDING, STATUS_SUCCESS,
    STATUS_UNSUCCESSFUL, TRUE,
    ntddk::{
        IoAcquireRemoveLockEx, IoAttachDeviceToDeviceStack, IoAttachDeviceToDeviceStackSafe,
        IoConnectInterruptEx, IoCreateDevice, IoDeleteDevice, IoDetachDevice, IoDisconnectInterruptEx,
        IoInitializeRemoveLockEx, IoReleaseRemoveLockAndWaitEx, IoReleaseRemoveLockEx, IofCallDriver,
        IofCompleteRequest, KeCancelTimer, KeFlushQueuedDpcs, KeInitializeDpc, KeInitializeEvent,
        KeInitializeTimerEx, KeQueryActiveProcessorCountEx, KeSetCoalescableTimer, KeSetEvent,
        KeSetImportanceDpc, KeWaitForSingleObject,
    },
};

use crate::{
    crime::{self, Crime},
    request,
};

/// What the driver keeps of a device.
#[repr(C)]
pub(crate) struct Extension {
    pub(crate) device: PDEVICE_OBJECT,
    pub(crate) lower: PDEVICE_OBJECT,
    pub(crate) physical: PDEVICE_OBJECT,
    pub(crate) remove_lock: IO_REMOVE_LOCK,
    /// For the next three.
    pub(crate) lock: KSPIN_LOCK,
    /// Requests that wait for the next upcall.
    pub(crate) waiting: LIST_ENTRY,
    pub(crate) is_going: bool,
    /// Another lock, for crimes.
    pub(crate) other_lock: KSPIN_LOCK,
    pub(crate) interrupt: PKINTERRUPT,
    pub(crate) interrupt_lock: KSPIN_LOCK,
    /// How it was connected.
    pub(crate) version: u32,
    pub(crate) dpc: KDPC,
    pub(crate) timer: KTIMER,
    pub(crate) timer_dpc: KDPC,
    pub(crate) event: KEVENT,
    pub(crate) ticks: AtomicU32,
    pub(crate) started: bool,
}

/// The size that remove locks have in a free build.
pub(crate) const REMOVE_LOCK_SIZE: u32 = 0x20;
const _: () = assert!(size_of::<IO_REMOVE_LOCK>() == REMOVE_LOCK_SIZE as usize);
/// The size of what follows the device object.
const EXTENSION_SIZE: u32 = 0x200;
const _: () = assert!(size_of::<Extension>() <= EXTENSION_SIZE as usize);

pub(crate) unsafe fn extension(device: PDEVICE_OBJECT) -> *mut Extension {
    unsafe { (*device).DeviceExtension.cast() }
}

/// `DRIVER_ADD_DEVICE`.
pub(crate) unsafe extern "C" fn add(driver: PDRIVER_OBJECT, physical: PDEVICE_OBJECT) -> NTSTATUS {
    unsafe {
        let mut device = ptr::null_mut();
        let status = IoCreateDevice(
            driver,
            EXTENSION_SIZE,
            ptr::null_mut(),
            FILE_DEVICE_UNKNOWN,
            0,
            FALSE,
            &raw mut device,
        );
        if status < 0 {
            return status;
        }
        let extension = extension(device);
        (*extension).device = device;
        (*extension).physical = physical;
        IoInitializeRemoveLockEx(&raw mut (*extension).remove_lock, crime::TAG, 0, 0, REMOVE_LOCK_SIZE);
        let waiting = &raw mut (*extension).waiting;
        (*extension).waiting = LIST_ENTRY { Flink: waiting, Blink: waiting };
        KeInitializeDpc(&raw mut (*extension).dpc, Some(request::upcall_dpc), extension.cast());
        KeInitializeDpc(&raw mut (*extension).timer_dpc, Some(request::tick), extension.cast());
        KeSetImportanceDpc(&raw mut (*extension).timer_dpc, _KDPC_IMPORTANCE::LowImportance);
        KeInitializeTimerEx(&raw mut (*extension).timer, _TIMER_TYPE::NotificationTimer);
        KeInitializeEvent(&raw mut (*extension).event, _EVENT_TYPE::SynchronizationEvent, FALSE);
        // Both ways to attach a device are taken; the second is the one that an IRP cannot overtake.
        (*extension).lower = IoAttachDeviceToDeviceStack(device, physical);
        IoDetachDevice((*extension).lower);
        let status = IoAttachDeviceToDeviceStackSafe(device, physical, &raw mut (*extension).lower);
        if status < 0 {
            IoDeleteDevice(device);
            return status;
        }
        if !crime::is(Crime::StillInitializing) {
            (*device).Flags &= !DO_DEVICE_INITIALIZING;
        }
    }
    STATUS_SUCCESS
}

/// `IRP_MJ_PNP`.
pub(crate) unsafe extern "C" fn plug_and_play(device: PDEVICE_OBJECT, irp: PIRP) -> NTSTATUS {
    unsafe {
        let extension = extension(device);
        let lock = &raw mut (*extension).remove_lock;
        let status = IoAcquireRemoveLockEx(lock, irp.cast(), ptr::null(), 0, REMOVE_LOCK_SIZE);
        if status < 0 {
            return request::complete(irp, status, 0);
        }
        let minor = (*request::current(irp)).MinorFunction;
        let status = match minor {
            IRP_MN_START_DEVICE => start(extension, irp),
            IRP_MN_REMOVE_DEVICE => return remove(extension, irp),
            IRP_MN_SURPRISE_REMOVAL => {
                stop(extension);
                request::set_status(irp, STATUS_SUCCESS);
                forward(extension, irp)
            }
            IRP_MN_QUERY_REMOVE_DEVICE => {
                request::set_status(irp, STATUS_SUCCESS);
                forward(extension, irp)
            }
            _ if crime::is(Crime::LosesPending) => {
                request::copy(irp, forgets, ptr::null_mut());
                IofCallDriver((*extension).lower, irp)
            }
            _ => {
                if crime::is(Crime::AnswersUnknown) {
                    request::set_status(irp, STATUS_SUCCESS);
                }
                forward(extension, irp)
            }
        };
        let tag: PVOID = if crime::is(Crime::RemoveLockTag) { device.cast() } else { irp.cast() };
        IoReleaseRemoveLockEx(lock, tag, REMOVE_LOCK_SIZE);
        status
    }
}

/// Power and WMI IRPs are for the drivers below.
pub(crate) unsafe extern "C" fn pass_on(device: PDEVICE_OBJECT, irp: PIRP) -> NTSTATUS {
    unsafe {
        if crime::is(Crime::KeepsPower) {
            return request::complete(irp, STATUS_SUCCESS, 0);
        }
        let extension = extension(device);
        let lock = &raw mut (*extension).remove_lock;
        let status = IoAcquireRemoveLockEx(lock, irp.cast(), ptr::null(), 0, REMOVE_LOCK_SIZE);
        if status < 0 {
            return request::complete(irp, status, 0);
        }
        let status = forward(extension, irp);
        IoReleaseRemoveLockEx(lock, irp.cast(), REMOVE_LOCK_SIZE);
        status
    }
}

/// "Forward and forget".
unsafe fn forward(extension: *mut Extension, irp: PIRP) -> NTSTATUS {
    unsafe {
        if !crime::is(Crime::ForwardsUnprepared) {
            request::skip(irp);
        }
        IofCallDriver((*extension).lower, irp)
    }
}

/// A completion routine that does not pass on that the IRP was pending, for [`Crime::LosesPending`].
unsafe extern "C" fn forgets(_device: PDEVICE_OBJECT, _irp: PIRP, _context: PVOID) -> NTSTATUS {
    STATUS_SUCCESS
}

/// "Forward and wait".
unsafe fn forward_and_wait(extension: *mut Extension, irp: PIRP) -> NTSTATUS {
    unsafe {
        let mut event = MaybeUninit::<KEVENT>::uninit();
        KeInitializeEvent(event.as_mut_ptr(), _EVENT_TYPE::NotificationEvent, FALSE);
        request::copy(irp, lower_is_done, event.as_mut_ptr().cast());
        if crime::is(Crime::CopiesPending) {
            (*request::current(irp).sub(1)).Control |= SL_PENDING_RETURNED;
        }
        let status = IofCallDriver((*extension).lower, irp);
        if status != STATUS_PENDING {
            return status;
        }
        if crime::is(Crime::CompletesBelow) {
            return request::complete(irp, STATUS_SUCCESS, 0);
        }
        let (reason, mode) = (_KWAIT_REASON::Executive, _MODE::KernelMode);
        KeWaitForSingleObject(event.as_mut_ptr().cast(), reason, mode, FALSE, ptr::null_mut());
        request::status(irp)
    }
}

unsafe extern "C" fn lower_is_done(_device: PDEVICE_OBJECT, irp: PIRP, event: PVOID) -> NTSTATUS {
    unsafe {
        if (*irp).PendingReturned != 0 {
            KeSetEvent(event.cast(), 0, FALSE);
        }
    }
    STATUS_MORE_PROCESSING_REQUIRED
}

unsafe fn start(extension: *mut Extension, irp: PIRP) -> NTSTATUS {
    unsafe {
        if crime::is(Crime::KeepsStart) {
            return request::complete(irp, STATUS_SUCCESS, 0);
        }
        if crime::is(Crime::ConnectsTooEarly) {
            connect(extension, irp);
        }
        let mut status = forward_and_wait(extension, irp);
        if status >= 0 {
            status = connect(extension, irp);
        }
        if status >= 0 {
            (*extension).started = true;
            // In 10 ms, and then every 5 ms.
            let (due, timer) = (LARGE_INTEGER { QuadPart: -100_000 }, &raw mut (*extension).timer);
            KeSetCoalescableTimer(timer, due, 5, 1, &raw mut (*extension).timer_dpc);
        }
        request::complete(irp, status, 0)
    }
}

/// Connects the interrupt: on one CPU by the line, on several with what the resources say.
unsafe fn connect(extension: *mut Extension, irp: PIRP) -> NTSTATUS {
    unsafe {
        let object = &raw mut (*extension).interrupt;
        let physical = (*extension).physical;
        let mut parameters = if KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS) == 1 {
            let line = IO_CONNECT_INTERRUPT_LINE_BASED_PARAMETERS {
                PhysicalDeviceObject: physical,
                InterruptObject: object,
                ServiceRoutine: Some(request::isr),
                ServiceContext: extension.cast(),
                SpinLock: ptr::null_mut(),
                SynchronizeIrql: PASSIVE_LEVEL,
                FloatingSave: FALSE,
            };
            IO_CONNECT_INTERRUPT_PARAMETERS {
                Version: CONNECT_LINE_BASED,
                __bindgen_anon_1: IO_CONNECT_INTERRUPT_FORMS { LineBased: line },
            }
        } else {
            let assigned = interrupt_resource(irp);
            let irql = u8::try_from(assigned.level).unwrap_or(PASSIVE_LEVEL);
            let full = IO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS {
                PhysicalDeviceObject: physical,
                InterruptObject: object,
                ServiceRoutine: Some(request::isr),
                ServiceContext: extension.cast(),
                SpinLock: &raw mut (*extension).interrupt_lock,
                SynchronizeIrql: irql,
                FloatingSave: FALSE,
                ShareVector: TRUE,
                Vector: assigned.vector,
                Irql: irql,
                InterruptMode: LEVEL_SENSITIVE,
                ProcessorEnableMask: u64::from(assigned.affinity[0]) | u64::from(assigned.affinity[1]) << 32,
                Group: 0,
            };
            IO_CONNECT_INTERRUPT_PARAMETERS {
                Version: CONNECT_FULLY_SPECIFIED,
                __bindgen_anon_1: IO_CONNECT_INTERRUPT_FORMS { FullySpecified: full },
            }
        };
        let status = IoConnectInterruptEx(&raw mut parameters);
        (*extension).version = parameters.Version;
        status
    }
}

/// `KINTERRUPT_MODE::LevelSensitive`.
const LEVEL_SENSITIVE: i32 = 0;
const ALL_PROCESSOR_GROUPS: u16 = 0xFFFF;

/// `CM_PARTIAL_RESOURCE_DESCRIPTOR`, with `u.Interrupt`.
#[repr(C, packed(4))]
#[derive(Clone, Copy)]
struct Resource {
    kind: u8,
    share: u8,
    flags: u16,
    level: u32,
    vector: u32,
    affinity: [u32; 2],
}

/// `CmResourceTypeInterrupt`.
const INTERRUPT: u8 = 2;
/// `CM_RESOURCE_LIST` with one list: the number of descriptors, and where they begin.
const COUNT: usize = 16;
const DESCRIPTORS: usize = 20;

/// The translated interrupt resource of an `IRP_MN_START_DEVICE`.
unsafe fn interrupt_resource(irp: PIRP) -> Resource {
    let none = Resource { kind: 0, share: 0, flags: 0, level: 0, vector: 0, affinity: [0; 2] };
    unsafe {
        let list = (*request::current(irp)).Parameters.StartDevice.AllocatedResourcesTranslated;
        let count: u32 = list.byte_add(COUNT).cast::<u32>().read();
        let resources: *const Resource = list.byte_add(DESCRIPTORS).cast();
        (0..count as usize)
            .map(|index| *resources.add(index))
            .find(|resource| resource.kind == INTERRUPT)
            .unwrap_or(none)
    }
}

/// The device does nothing any more, and no request waits for it.
unsafe fn stop(extension: *mut Extension) {
    unsafe {
        if !crime::is(Crime::KeepsRequests) {
            request::refuse_all(extension, STATUS_DELETE_PENDING);
        }
        if (*extension).started {
            (*extension).started = false;
            if !crime::is(Crime::TimerLeft) {
                KeCancelTimer(&raw mut (*extension).timer);
            }
            if !crime::is(Crime::InterruptLeft) {
                let object = IO_DISCONNECT_INTERRUPT_CONTEXT { InterruptObject: (*extension).interrupt };
                let version = (*extension).version;
                let mut parameters =
                    IO_DISCONNECT_INTERRUPT_PARAMETERS { Version: version, ConnectionContext: object };
                IoDisconnectInterruptEx(&raw mut parameters);
            }
        }
        if !crime::is(Crime::NoFlush) {
            KeFlushQueuedDpcs();
        }
    }
}

unsafe fn remove(extension: *mut Extension, irp: PIRP) -> NTSTATUS {
    unsafe {
        if crime::is(Crime::FailsRemove) {
            return request::complete(irp, STATUS_UNSUCCESSFUL, 0);
        }
        stop(extension);
        request::set_status(irp, STATUS_SUCCESS);
        request::skip(irp);
        let status = IofCallDriver((*extension).lower, irp);
        let lock = &raw mut (*extension).remove_lock;
        if crime::is(Crime::RemoveLockHeld) {
            IoAcquireRemoveLockEx(lock, ptr::null_mut(), ptr::null(), 0, REMOVE_LOCK_SIZE);
        } else if crime::is(Crime::RemoveLockUnwaited) {
            IoReleaseRemoveLockEx(lock, irp.cast(), REMOVE_LOCK_SIZE);
        } else {
            IoReleaseRemoveLockAndWaitEx(lock, irp.cast(), REMOVE_LOCK_SIZE);
        }
        if !crime::is(Crime::DeletedAttached) {
            IoDetachDevice((*extension).lower);
        }
        if !crime::is(Crime::DeviceLeft) {
            IoDeleteDevice((*extension).device);
        }
        status
    }
}

/// How often the timer's DPC has run.
pub(crate) unsafe fn ticks(extension: *mut Extension) -> u32 {
    unsafe { (*extension).ticks.load(Relaxed) }
}

/// Completes an IRP: `IoCompleteRequest`.
pub(crate) unsafe fn finish(irp: PIRP) {
    unsafe { IofCompleteRequest(irp, IO_NO_INCREMENT) }
}
