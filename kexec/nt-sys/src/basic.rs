//! Integers, strings, lists, handles and statuses: `ntdef.h`, `ntstatus.h`.
#![forbid(unsafe_code)]

use core::ffi::c_void;

pub type BOOLEAN = u8;
pub type CCHAR = i8;
pub type CSHORT = i16;
pub type HANDLE = PVOID;
pub type LONG = i32;
pub type LONGLONG = i64;
pub type PCSTR = *const i8;
pub type PHANDLE = *mut HANDLE;
pub type PLARGE_INTEGER = *mut LARGE_INTEGER;
pub type PVOID = *mut c_void;
pub type PWSTR = *mut u16;
pub type UCHAR = u8;
pub type ULONG = u32;
pub type ULONG_PTR = u64;
pub type ULONGLONG = u64;
pub type USHORT = u16;

pub type ACCESS_MASK = ULONG;
pub type KAFFINITY = ULONG_PTR;
pub type KIRQL = UCHAR;
pub type KPRIORITY = LONG;
pub type KSPIN_LOCK = ULONG_PTR;
pub type PKSPIN_LOCK = *mut KSPIN_LOCK;

pub const FALSE: BOOLEAN = 0;
pub const TRUE: BOOLEAN = 1;

pub const PASSIVE_LEVEL: KIRQL = 0;
pub const APC_LEVEL: KIRQL = 1;
pub const DISPATCH_LEVEL: KIRQL = 2;
pub const HIGH_LEVEL: KIRQL = 15;

/// Negative for an error or a warning; the two bits on top are the severity.
pub type NTSTATUS = LONG;

pub const STATUS_SUCCESS: NTSTATUS = 0;
pub const STATUS_TIMEOUT: NTSTATUS = 0x0000_0102;
pub const STATUS_PENDING: NTSTATUS = 0x0000_0103;
pub const STATUS_DEVICE_BUSY: NTSTATUS = error(0x8000_0011);
pub const STATUS_UNSUCCESSFUL: NTSTATUS = error(0xC000_0001);
pub const STATUS_INVALID_PARAMETER: NTSTATUS = error(0xC000_000D);
pub const STATUS_NO_SUCH_DEVICE: NTSTATUS = error(0xC000_000E);
pub const STATUS_INVALID_DEVICE_REQUEST: NTSTATUS = error(0xC000_0010);
pub const STATUS_MORE_PROCESSING_REQUIRED: NTSTATUS = error(0xC000_0016);
pub const STATUS_ACCESS_DENIED: NTSTATUS = error(0xC000_0022);
pub const STATUS_BUFFER_TOO_SMALL: NTSTATUS = error(0xC000_0023);
pub const STATUS_DELETE_PENDING: NTSTATUS = error(0xC000_0056);
pub const STATUS_INSUFFICIENT_RESOURCES: NTSTATUS = error(0xC000_009A);
pub const STATUS_DEVICE_NOT_READY: NTSTATUS = error(0xC000_00A3);
pub const STATUS_IO_TIMEOUT: NTSTATUS = error(0xC000_00B5);
pub const STATUS_NOT_SUPPORTED: NTSTATUS = error(0xC000_00BB);
pub const STATUS_CANCELLED: NTSTATUS = error(0xC000_0120);
pub const STATUS_INVALID_DEVICE_STATE: NTSTATUS = error(0xC000_0184);
pub const STATUS_IO_DEVICE_ERROR: NTSTATUS = error(0xC000_0185);

/// An error as the headers write it.
const fn error(code: u32) -> NTSTATUS {
    code.cast_signed()
}

#[repr(C)]
#[derive(Clone, Copy)]
pub union LARGE_INTEGER {
    pub u: LARGE_INTEGER_PARTS,
    pub QuadPart: LONGLONG,
}

/// `LARGE_INTEGER::u`, which has no name of its own.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LARGE_INTEGER_PARTS {
    pub LowPart: ULONG,
    pub HighPart: LONG,
}

pub type PHYSICAL_ADDRESS = LARGE_INTEGER;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct LIST_ENTRY {
    pub Flink: *mut LIST_ENTRY,
    pub Blink: *mut LIST_ENTRY,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct SINGLE_LIST_ENTRY {
    pub Next: *mut SINGLE_LIST_ENTRY,
}

/// Lengths are in bytes; the buffer need not end with a zero.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct UNICODE_STRING {
    pub Length: USHORT,
    pub MaximumLength: USHORT,
    pub Buffer: PWSTR,
}
pub type PUNICODE_STRING = *mut UNICODE_STRING;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct PROCESSOR_NUMBER {
    pub Group: USHORT,
    pub Number: UCHAR,
    pub Reserved: UCHAR,
}
pub type PPROCESSOR_NUMBER = *mut PROCESSOR_NUMBER;

pub const OBJ_KERNEL_HANDLE: ULONG = 0x0000_0200;
pub const SYNCHRONIZE: ACCESS_MASK = 0x0010_0000;

/// What an object is called, and what its handle is like.
#[repr(C)]
pub struct OBJECT_ATTRIBUTES {
    pub Length: ULONG,
    pub RootDirectory: HANDLE,
    pub ObjectName: PUNICODE_STRING,
    pub Attributes: ULONG,
    pub SecurityDescriptor: PVOID,
    pub SecurityQualityOfService: PVOID,
}
pub type POBJECT_ATTRIBUTES = *mut OBJECT_ATTRIBUTES;
