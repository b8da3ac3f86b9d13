//! Drivers, devices, IRPs, interrupts, remove locks, the registry.
#![forbid(unsafe_code)]

use crate::{
    basic::{
        ACCESS_MASK, BOOLEAN, CCHAR, CSHORT, KAFFINITY, KIRQL, LIST_ENTRY, LONG, NTSTATUS, PKSPIN_LOCK,
        PUNICODE_STRING, PVOID, UCHAR, ULONG, ULONG_PTR, UNICODE_STRING, USHORT,
    },
    ke::{KDPC, KEVENT, KPROCESSOR_MODE, PKEVENT, PKINTERRUPT, PKSERVICE_ROUTINE},
};

/// `POOL_TYPE`.
pub mod _POOL_TYPE {
    pub type Type = i32;
    /// Never paged out, and not executable: Windows 8.
    pub const NonPagedPoolNx: Type = 512;
}
pub use _POOL_TYPE::Type as POOL_TYPE;

/// `DPFLTR_TYPE`: who speaks.
pub mod _DPFLTR_TYPE {
    pub type Type = i32;
    pub const DPFLTR_IHVDRIVER_ID: Type = 77;
}
pub const DPFLTR_ERROR_LEVEL: ULONG = 0;
pub const DPFLTR_INFO_LEVEL: ULONG = 3;

// Drivers.

pub type PDRIVER_INITIALIZE =
    Option<unsafe extern "C" fn(DriverObject: PDRIVER_OBJECT, RegistryPath: PUNICODE_STRING) -> NTSTATUS>;
pub type PDRIVER_UNLOAD = Option<unsafe extern "C" fn(DriverObject: PDRIVER_OBJECT)>;
pub type PDRIVER_DISPATCH = Option<unsafe extern "C" fn(DeviceObject: PDEVICE_OBJECT, Irp: PIRP) -> NTSTATUS>;
pub type PDRIVER_ADD_DEVICE = Option<
    unsafe extern "C" fn(DriverObject: PDRIVER_OBJECT, PhysicalDeviceObject: PDEVICE_OBJECT) -> NTSTATUS,
>;
pub type PDRIVER_CANCEL = Option<unsafe extern "C" fn(DeviceObject: PDEVICE_OBJECT, Irp: PIRP)>;
pub type PIO_COMPLETION_ROUTINE =
    Option<unsafe extern "C" fn(DeviceObject: PDEVICE_OBJECT, Irp: PIRP, Context: PVOID) -> NTSTATUS>;

pub const IRP_MJ_CREATE: UCHAR = 0x00;
pub const IRP_MJ_CLOSE: UCHAR = 0x02;
pub const IRP_MJ_DEVICE_CONTROL: UCHAR = 0x0E;
pub const IRP_MJ_CLEANUP: UCHAR = 0x12;
pub const IRP_MJ_POWER: UCHAR = 0x16;
pub const IRP_MJ_SYSTEM_CONTROL: UCHAR = 0x17;
pub const IRP_MJ_PNP: UCHAR = 0x1B;
pub const IRP_MJ_MAXIMUM_FUNCTION: UCHAR = 0x1B;

pub const IRP_MN_START_DEVICE: UCHAR = 0x00;
pub const IRP_MN_QUERY_REMOVE_DEVICE: UCHAR = 0x01;
pub const IRP_MN_REMOVE_DEVICE: UCHAR = 0x02;
pub const IRP_MN_CANCEL_REMOVE_DEVICE: UCHAR = 0x03;
pub const IRP_MN_QUERY_STOP_DEVICE: UCHAR = 0x05;
pub const IRP_MN_CANCEL_STOP_DEVICE: UCHAR = 0x06;
pub const IRP_MN_SURPRISE_REMOVAL: UCHAR = 0x17;

#[repr(C)]
pub struct DRIVER_OBJECT {
    pub Type: CSHORT,
    pub Size: CSHORT,
    pub DeviceObject: PDEVICE_OBJECT,
    pub Flags: ULONG,
    pub DriverStart: PVOID,
    pub DriverSize: ULONG,
    pub DriverSection: PVOID,
    pub DriverExtension: PDRIVER_EXTENSION,
    pub DriverName: UNICODE_STRING,
    pub HardwareDatabase: PUNICODE_STRING,
    pub FastIoDispatch: PVOID,
    pub DriverInit: PDRIVER_INITIALIZE,
    pub DriverStartIo: PVOID,
    pub DriverUnload: PDRIVER_UNLOAD,
    pub MajorFunction: [PDRIVER_DISPATCH; IRP_MJ_MAXIMUM_FUNCTION as usize + 1],
}
pub type PDRIVER_OBJECT = *mut DRIVER_OBJECT;

#[repr(C)]
pub struct DRIVER_EXTENSION {
    pub DriverObject: PDRIVER_OBJECT,
    pub AddDevice: PDRIVER_ADD_DEVICE,
    pub Count: ULONG,
    pub ServiceKeyName: UNICODE_STRING,
}
pub type PDRIVER_EXTENSION = *mut DRIVER_EXTENSION;

// Devices.

pub const FILE_DEVICE_UNKNOWN: ULONG = 0x22;
pub const FILE_DEVICE_SECURE_OPEN: ULONG = 0x0000_0100;

pub const DO_BUFFERED_IO: ULONG = 0x0000_0004;
pub const DO_DEVICE_INITIALIZING: ULONG = 0x0000_0080;
pub const DO_POWER_PAGABLE: ULONG = 0x0000_2000;

#[repr(C, align(16))]
pub struct DEVICE_OBJECT {
    pub Type: CSHORT,
    pub Size: USHORT,
    pub ReferenceCount: LONG,
    pub DriverObject: PDRIVER_OBJECT,
    pub NextDevice: PDEVICE_OBJECT,
    pub AttachedDevice: PDEVICE_OBJECT,
    pub CurrentIrp: PIRP,
    pub Timer: PVOID,
    pub Flags: ULONG,
    pub Characteristics: ULONG,
    pub Vpb: PVOID,
    pub DeviceExtension: PVOID,
    pub DeviceType: ULONG,
    pub StackSize: CCHAR,
    /// A union of which drivers use nothing.
    pub Queue: [u64; 9],
    pub AlignmentRequirement: ULONG,
    /// `KDEVICE_QUEUE`, which drivers of today do not use.
    pub DeviceQueue: [u64; 5],
    pub Dpc: KDPC,
    pub ActiveThreadCount: ULONG,
    pub SecurityDescriptor: PVOID,
    pub DeviceLock: KEVENT,
    pub SectorSize: USHORT,
    pub Spare1: USHORT,
    pub DeviceObjectExtension: PVOID,
    pub Reserved: PVOID,
}
pub type PDEVICE_OBJECT = *mut DEVICE_OBJECT;

// IRPs.

pub const IO_NO_INCREMENT: CCHAR = 0;

pub const SL_PENDING_RETURNED: UCHAR = 0x01;
pub const SL_INVOKE_ON_CANCEL: UCHAR = 0x20;
pub const SL_INVOKE_ON_SUCCESS: UCHAR = 0x40;
pub const SL_INVOKE_ON_ERROR: UCHAR = 0x80;

pub const METHOD_BUFFERED: ULONG = 0;
pub const FILE_ANY_ACCESS: ULONG = 0;

/// The macro of the same name.
#[must_use]
pub const fn CTL_CODE(DeviceType: ULONG, Function: ULONG, Method: ULONG, Access: ULONG) -> ULONG {
    DeviceType << 16 | Access << 14 | Function << 2 | Method
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_STATUS_BLOCK {
    pub __bindgen_anon_1: IO_STATUS_BLOCK_STATUS,
    pub Information: ULONG_PTR,
}
pub type PIO_STATUS_BLOCK = *mut IO_STATUS_BLOCK;

/// The first word of an [`IO_STATUS_BLOCK`], which has no name of its own.
#[repr(C)]
#[derive(Clone, Copy)]
pub union IO_STATUS_BLOCK_STATUS {
    pub Status: NTSTATUS,
    pub Pointer: PVOID,
}

#[repr(C, align(16))]
pub struct IRP {
    pub Type: CSHORT,
    pub Size: USHORT,
    pub MdlAddress: PVOID,
    pub Flags: ULONG,
    pub AssociatedIrp: IRP_ASSOCIATED,
    pub ThreadListEntry: LIST_ENTRY,
    pub IoStatus: IO_STATUS_BLOCK,
    pub RequestorMode: KPROCESSOR_MODE,
    pub PendingReturned: BOOLEAN,
    pub StackCount: CCHAR,
    pub CurrentLocation: CCHAR,
    pub Cancel: BOOLEAN,
    pub CancelIrql: KIRQL,
    pub ApcEnvironment: CCHAR,
    pub AllocationFlags: UCHAR,
    /// A union with `IoRingContext`.
    pub UserIosb: PIO_STATUS_BLOCK,
    pub UserEvent: PKEVENT,
    /// A union of which drivers use `AllocationSize` in `IRP_MJ_CREATE`, if at all.
    pub Overlay: [u64; 2],
    pub CancelRoutine: PDRIVER_CANCEL,
    pub UserBuffer: PVOID,
    pub Tail: IRP_TAIL,
}
pub type PIRP = *mut IRP;

/// `IRP::AssociatedIrp`.
#[repr(C)]
#[derive(Clone, Copy)]
pub union IRP_ASSOCIATED {
    pub MasterIrp: PIRP,
    pub SystemBuffer: PVOID,
}

/// `IRP::Tail`, of which drivers use one view.
#[repr(C)]
#[derive(Clone, Copy)]
pub union IRP_TAIL {
    pub Overlay: IRP_TAIL_OVERLAY,
    /// Of the same size as the other view, a `KAPC`.
    pub Apc: [u64; 11],
}

/// `IRP::Tail::Overlay`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IRP_TAIL_OVERLAY {
    pub __bindgen_anon_1: IRP_TAIL_CONTEXT,
    pub Thread: PVOID,
    pub AuxiliaryBuffer: *mut CCHAR,
    pub __bindgen_anon_2: IRP_TAIL_PLACE,
    pub OriginalFileObject: PVOID,
}

/// Four words for the driver that owns the IRP, for as long as it does.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IRP_TAIL_CONTEXT {
    pub __bindgen_anon_1: IRP_DRIVER_CONTEXT,
}

/// Its only field.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IRP_DRIVER_CONTEXT {
    pub DriverContext: [PVOID; 4],
}

/// Where the IRP is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IRP_TAIL_PLACE {
    pub ListEntry: LIST_ENTRY,
    pub __bindgen_anon_1: IRP_STACK_PLACE,
}

/// Its last field.
#[repr(C)]
#[derive(Clone, Copy)]
pub union IRP_STACK_PLACE {
    pub CurrentStackLocation: PIO_STACK_LOCATION,
    pub PacketType: ULONG,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_STACK_LOCATION {
    pub MajorFunction: UCHAR,
    pub MinorFunction: UCHAR,
    pub Flags: UCHAR,
    pub Control: UCHAR,
    pub Parameters: IO_STACK_PARAMETERS,
    pub DeviceObject: PDEVICE_OBJECT,
    pub FileObject: PVOID,
    pub CompletionRoutine: PIO_COMPLETION_ROUTINE,
    pub Context: PVOID,
}
pub type PIO_STACK_LOCATION = *mut IO_STACK_LOCATION;

/// `IO_STACK_LOCATION::Parameters`.
#[repr(C)]
#[derive(Clone, Copy)]
pub union IO_STACK_PARAMETERS {
    pub DeviceIoControl: IO_STACK_DEVICE_CONTROL,
    pub StartDevice: IO_STACK_START_DEVICE,
    pub Others: IO_STACK_OTHERS,
}

/// `Parameters.DeviceIoControl`. All but the first field are aligned like pointers.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_STACK_DEVICE_CONTROL {
    pub OutputBufferLength: ULONG,
    pub __bindgen_padding_0: u32,
    pub InputBufferLength: ULONG,
    pub __bindgen_padding_1: u32,
    pub IoControlCode: ULONG,
    pub __bindgen_padding_2: u32,
    pub Type3InputBuffer: PVOID,
}

/// `Parameters.StartDevice`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_STACK_START_DEVICE {
    /// `PCM_RESOURCE_LIST`
    pub AllocatedResources: PVOID,
    /// `PCM_RESOURCE_LIST`
    pub AllocatedResourcesTranslated: PVOID,
}

/// `Parameters.Others`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_STACK_OTHERS {
    pub Argument1: PVOID,
    pub Argument2: PVOID,
    pub Argument3: PVOID,
    pub Argument4: PVOID,
}

// Interrupts.

pub const CONNECT_FULLY_SPECIFIED: ULONG = 1;
pub const CONNECT_LINE_BASED: ULONG = 2;

#[repr(C)]
pub struct IO_CONNECT_INTERRUPT_PARAMETERS {
    pub Version: ULONG,
    pub __bindgen_anon_1: IO_CONNECT_INTERRUPT_FORMS,
}
pub type PIO_CONNECT_INTERRUPT_PARAMETERS = *mut IO_CONNECT_INTERRUPT_PARAMETERS;

/// The forms that we use; the structure is as large as its largest one.
#[repr(C)]
#[derive(Clone, Copy)]
pub union IO_CONNECT_INTERRUPT_FORMS {
    pub FullySpecified: IO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS,
    pub LineBased: IO_CONNECT_INTERRUPT_LINE_BASED_PARAMETERS,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_CONNECT_INTERRUPT_FULLY_SPECIFIED_PARAMETERS {
    pub PhysicalDeviceObject: PDEVICE_OBJECT,
    pub InterruptObject: *mut PKINTERRUPT,
    pub ServiceRoutine: PKSERVICE_ROUTINE,
    pub ServiceContext: PVOID,
    pub SpinLock: PKSPIN_LOCK,
    pub SynchronizeIrql: KIRQL,
    pub FloatingSave: BOOLEAN,
    pub ShareVector: BOOLEAN,
    pub Vector: ULONG,
    pub Irql: KIRQL,
    pub InterruptMode: i32,
    pub ProcessorEnableMask: KAFFINITY,
    pub Group: USHORT,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IO_CONNECT_INTERRUPT_LINE_BASED_PARAMETERS {
    pub PhysicalDeviceObject: PDEVICE_OBJECT,
    pub InterruptObject: *mut PKINTERRUPT,
    pub ServiceRoutine: PKSERVICE_ROUTINE,
    pub ServiceContext: PVOID,
    pub SpinLock: PKSPIN_LOCK,
    pub SynchronizeIrql: KIRQL,
    pub FloatingSave: BOOLEAN,
}

#[repr(C)]
pub struct IO_DISCONNECT_INTERRUPT_PARAMETERS {
    pub Version: ULONG,
    pub ConnectionContext: IO_DISCONNECT_INTERRUPT_CONTEXT,
}
pub type PIO_DISCONNECT_INTERRUPT_PARAMETERS = *mut IO_DISCONNECT_INTERRUPT_PARAMETERS;

/// `IO_DISCONNECT_INTERRUPT_PARAMETERS::ConnectionContext`.
#[repr(C)]
#[derive(Clone, Copy)]
pub union IO_DISCONNECT_INTERRUPT_CONTEXT {
    pub Generic: PVOID,
    pub InterruptObject: PKINTERRUPT,
}

// Remove locks, as a free build has them.

#[repr(C)]
pub struct IO_REMOVE_LOCK {
    pub Common: IO_REMOVE_LOCK_COMMON_BLOCK,
}
pub type PIO_REMOVE_LOCK = *mut IO_REMOVE_LOCK;

#[repr(C)]
pub struct IO_REMOVE_LOCK_COMMON_BLOCK {
    pub Removed: BOOLEAN,
    pub Reserved: [BOOLEAN; 3],
    pub IoCount: LONG,
    pub RemoveEvent: KEVENT,
}

// The registry.

pub const PLUGPLAY_REGKEY_DEVICE: ULONG = 1;
pub const KEY_SET_VALUE: ACCESS_MASK = 0x0002;
pub const REG_DWORD: ULONG = 4;
