//! What `ntoskrnl.exe` and `hal.dll` export. The IRQL at which each may be called is on its documentation page.
#![expect(unsafe_code, reason = "foreign functions")]

use crate::{
    basic::{
        ACCESS_MASK, BOOLEAN, CCHAR, HANDLE, KIRQL, KPRIORITY, LARGE_INTEGER, LONG, NTSTATUS, PCSTR, PHANDLE,
        PHYSICAL_ADDRESS, PKSPIN_LOCK, PLARGE_INTEGER, POBJECT_ATTRIBUTES, PPROCESSOR_NUMBER,
        PUNICODE_STRING, PVOID, ULONG, ULONG_PTR, ULONGLONG, USHORT,
    },
    io::{
        PDEVICE_OBJECT, PDRIVER_OBJECT, PIO_CONNECT_INTERRUPT_PARAMETERS,
        PIO_DISCONNECT_INTERRUPT_PARAMETERS, PIO_REMOVE_LOCK, PIRP, POOL_TYPE,
    },
    ke::{
        EVENT_TYPE, KDPC_IMPORTANCE, KPROCESSOR_MODE, KWAIT_REASON, PCLIENT_ID, PKDEFERRED_ROUTINE, PKDPC,
        PKSTART_ROUTINE, PKTIMER, PRKDPC, PRKEVENT, TIMER_TYPE,
    },
};

unsafe extern "C" {
    // Debugging, and the end.
    pub fn DbgPrintEx(ComponentId: ULONG, Level: ULONG, Format: PCSTR, ...) -> ULONG;
    pub fn KeBugCheckEx(
        BugCheckCode: ULONG,
        BugCheckParameter1: ULONG_PTR,
        BugCheckParameter2: ULONG_PTR,
        BugCheckParameter3: ULONG_PTR,
        BugCheckParameter4: ULONG_PTR,
    ) -> !;

    // Memory.
    pub fn ExAllocatePoolWithTag(PoolType: POOL_TYPE, NumberOfBytes: ULONG_PTR, Tag: ULONG) -> PVOID;
    pub fn ExFreePoolWithTag(P: PVOID, Tag: ULONG);
    pub fn MmGetPhysicalAddress(BaseAddress: PVOID) -> PHYSICAL_ADDRESS;

    // IRQL and locks.
    pub fn KeGetCurrentIrql() -> KIRQL;
    pub fn KeRaiseIrqlToDpcLevel() -> KIRQL;
    pub fn KfRaiseIrql(NewIrql: KIRQL) -> KIRQL;
    pub fn KeLowerIrql(NewIrql: KIRQL);
    pub fn KeAcquireSpinLockRaiseToDpc(SpinLock: PKSPIN_LOCK) -> KIRQL;
    pub fn KeReleaseSpinLock(SpinLock: PKSPIN_LOCK, NewIrql: KIRQL);
    pub fn KeAcquireSpinLockAtDpcLevel(SpinLock: PKSPIN_LOCK);
    pub fn KeReleaseSpinLockFromDpcLevel(SpinLock: PKSPIN_LOCK);

    // Processors.
    pub fn KeQueryActiveProcessorCountEx(GroupNumber: USHORT) -> ULONG;
    pub fn KeGetCurrentProcessorNumberEx(ProcNumber: PPROCESSOR_NUMBER) -> ULONG;

    // DPCs.
    pub fn KeInitializeDpc(Dpc: PRKDPC, DeferredRoutine: PKDEFERRED_ROUTINE, DeferredContext: PVOID);
    pub fn KeSetImportanceDpc(Dpc: PRKDPC, Importance: KDPC_IMPORTANCE);
    pub fn KeSetTargetProcessorDpcEx(Dpc: PKDPC, ProcNumber: PPROCESSOR_NUMBER) -> NTSTATUS;
    pub fn KeInsertQueueDpc(Dpc: PRKDPC, SystemArgument1: PVOID, SystemArgument2: PVOID) -> BOOLEAN;
    pub fn KeRemoveQueueDpc(Dpc: PRKDPC) -> BOOLEAN;
    pub fn KeFlushQueuedDpcs();

    // Events and timers.
    pub fn KeInitializeEvent(Event: PRKEVENT, Type: EVENT_TYPE, State: BOOLEAN);
    pub fn KeSetEvent(Event: PRKEVENT, Increment: KPRIORITY, Wait: BOOLEAN) -> LONG;
    pub fn KeClearEvent(Event: PRKEVENT);
    pub fn KeResetEvent(Event: PRKEVENT) -> LONG;
    pub fn KeWaitForSingleObject(
        Object: PVOID,
        WaitReason: KWAIT_REASON,
        WaitMode: KPROCESSOR_MODE,
        Alertable: BOOLEAN,
        Timeout: PLARGE_INTEGER,
    ) -> NTSTATUS;
    pub fn KeDelayExecutionThread(
        WaitMode: KPROCESSOR_MODE,
        Alertable: BOOLEAN,
        Interval: PLARGE_INTEGER,
    ) -> NTSTATUS;
    pub fn KeInitializeTimerEx(Timer: PKTIMER, Type: TIMER_TYPE);
    pub fn KeSetTimerEx(Timer: PKTIMER, DueTime: LARGE_INTEGER, Period: LONG, Dpc: PKDPC) -> BOOLEAN;
    pub fn KeSetCoalescableTimer(
        Timer: PKTIMER,
        DueTime: LARGE_INTEGER,
        Period: ULONG,
        TolerableDelay: ULONG,
        Dpc: PKDPC,
    ) -> BOOLEAN;
    pub fn KeCancelTimer(Timer: PKTIMER) -> BOOLEAN;
    pub fn KeReadStateTimer(Timer: PKTIMER) -> BOOLEAN;

    // Time. The first two are the HAL's.
    pub fn KeQueryPerformanceCounter(PerformanceFrequency: PLARGE_INTEGER) -> LARGE_INTEGER;
    pub fn KeStallExecutionProcessor(MicroSeconds: ULONG);
    pub fn KeQueryUnbiasedInterruptTime() -> ULONGLONG;

    // Threads and handles.
    pub fn IoCreateSystemThread(
        IoObject: PVOID,
        ThreadHandle: PHANDLE,
        DesiredAccess: ULONG,
        ObjectAttributes: POBJECT_ATTRIBUTES,
        ProcessHandle: HANDLE,
        ClientId: PCLIENT_ID,
        StartRoutine: PKSTART_ROUTINE,
        StartContext: PVOID,
    ) -> NTSTATUS;
    pub fn PsGetCurrentThreadId() -> HANDLE;
    pub fn ZwClose(Handle: HANDLE) -> NTSTATUS;

    // The registry.
    pub fn IoOpenDeviceRegistryKey(
        DeviceObject: PDEVICE_OBJECT,
        DevInstKeyType: ULONG,
        DesiredAccess: ACCESS_MASK,
        DeviceRegKey: PHANDLE,
    ) -> NTSTATUS;
    pub fn ZwSetValueKey(
        KeyHandle: HANDLE,
        ValueName: PUNICODE_STRING,
        TitleIndex: ULONG,
        Type: ULONG,
        Data: PVOID,
        DataSize: ULONG,
    ) -> NTSTATUS;

    // Devices.
    pub fn IoCreateDevice(
        DriverObject: PDRIVER_OBJECT,
        DeviceExtensionSize: ULONG,
        DeviceName: PUNICODE_STRING,
        DeviceType: ULONG,
        DeviceCharacteristics: ULONG,
        Exclusive: BOOLEAN,
        DeviceObject: *mut PDEVICE_OBJECT,
    ) -> NTSTATUS;
    pub fn IoDeleteDevice(DeviceObject: PDEVICE_OBJECT);
    pub fn IoAttachDeviceToDeviceStack(
        SourceDevice: PDEVICE_OBJECT,
        TargetDevice: PDEVICE_OBJECT,
    ) -> PDEVICE_OBJECT;
    pub fn IoAttachDeviceToDeviceStackSafe(
        SourceDevice: PDEVICE_OBJECT,
        TargetDevice: PDEVICE_OBJECT,
        AttachedToDeviceObject: *mut PDEVICE_OBJECT,
    ) -> NTSTATUS;
    pub fn IoDetachDevice(TargetDevice: PDEVICE_OBJECT);

    // IRPs. `IoCallDriver` and `IoCompleteRequest` are macros for the first two.
    pub fn IofCallDriver(DeviceObject: PDEVICE_OBJECT, Irp: PIRP) -> NTSTATUS;
    pub fn IoForwardIrpSynchronously(DeviceObject: PDEVICE_OBJECT, Irp: PIRP) -> BOOLEAN;
    pub fn IofCompleteRequest(Irp: PIRP, PriorityBoost: CCHAR);

    // Interrupts.
    pub fn IoConnectInterruptEx(Parameters: PIO_CONNECT_INTERRUPT_PARAMETERS) -> NTSTATUS;
    pub fn IoDisconnectInterruptEx(Parameters: PIO_DISCONNECT_INTERRUPT_PARAMETERS);

    // Remove locks. `IoInitializeRemoveLock` and the others without `Ex` are macros for these.
    pub fn IoInitializeRemoveLockEx(
        Lock: PIO_REMOVE_LOCK,
        AllocateTag: ULONG,
        MaxLockedMinutes: ULONG,
        HighWatermark: ULONG,
        RemlockSize: ULONG,
    );
    pub fn IoAcquireRemoveLockEx(
        RemoveLock: PIO_REMOVE_LOCK,
        Tag: PVOID,
        File: PCSTR,
        Line: ULONG,
        RemlockSize: ULONG,
    ) -> NTSTATUS;
    pub fn IoReleaseRemoveLockEx(RemoveLock: PIO_REMOVE_LOCK, Tag: PVOID, RemlockSize: ULONG);
    pub fn IoReleaseRemoveLockAndWaitEx(RemoveLock: PIO_REMOVE_LOCK, Tag: PVOID, RemlockSize: ULONG);
}
