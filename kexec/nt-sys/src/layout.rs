//! Size and offset of everything that crosses the boundary, in one table with three readers: this file's
//! assertions, the comparison with mingw-w64's DDK headers, and (feature `wdk`) the one with `wdk-sys`.
//!
//! Offsets are those of x86-64 Windows 10, version 1809. Where mingw-w64 has others, the comparison says so.
#![forbid(unsafe_code)]

use crate::{
    basic::{
        LARGE_INTEGER, LIST_ENTRY, OBJECT_ATTRIBUTES, PROCESSOR_NUMBER, SINGLE_LIST_ENTRY, UNICODE_STRING,
    },
    io::{
        DEVICE_OBJECT, DRIVER_EXTENSION, DRIVER_OBJECT, IO_CONNECT_INTERRUPT_PARAMETERS,
        IO_DISCONNECT_INTERRUPT_PARAMETERS, IO_REMOVE_LOCK, IO_STACK_LOCATION, IO_STATUS_BLOCK, IRP,
    },
    ke::{CLIENT_ID, DISPATCHER_HEADER, KDPC, KEVENT, KTIMER},
};

/// A structure, as the table has it.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Its name, here, in the headers and in `wdk-sys`.
    pub name: &'static str,
    /// In bytes.
    pub size: usize,
    /// In bytes.
    pub align: usize,
    /// Each field's path, as Rust's `offset_of!` takes it, and its offset in bytes.
    pub fields: &'static [(&'static str, usize)],
}

/// Writes the table: rows of `NAME = size, align { path = offset, .. }`.
macro_rules! layouts {
    ($($name:ident = $size:literal, $align:literal { $($($field:ident).+ = $offset:literal,)* })*) => {
        /// Every structure of this crate that NT reads or writes.
        pub const LAYOUTS: &[Layout] = &[$(Layout {
            name: stringify!($name),
            size: $size,
            align: $align,
            fields: &[$((stringify!($($field).+), $offset),)*],
        },)*];

        $(const _: () = {
            assert!(size_of::<$name>() == $size, concat!("size of ", stringify!($name)));
            assert!(align_of::<$name>() == $align, concat!("alignment of ", stringify!($name)));
            $(assert!(
                core::mem::offset_of!($name, $($field).+) == $offset,
                concat!("offset of ", stringify!($name), $(".", stringify!($field)),+)
            );)*
        };)*

        /// The same comparison, with what the WDK's headers say.
        #[cfg(all(test, windows, feature = "wdk"))]
        mod wdk {
            #[test]
            fn agrees_with_wdk_sys() {
                $(
                    assert_eq!(size_of::<wdk_sys::$name>(), $size, stringify!($name));
                    assert_eq!(align_of::<wdk_sys::$name>(), $align, stringify!($name));
                    $(assert_eq!(
                        core::mem::offset_of!(wdk_sys::$name, $($field).+), $offset,
                        concat!(stringify!($name), $(".", stringify!($field)),+)
                    );)*
                )*
            }
        }
    };
}

layouts! {
    UNICODE_STRING = 0x10, 8 { Length = 0x00, MaximumLength = 0x02, Buffer = 0x08, }
    LARGE_INTEGER = 0x08, 8 { QuadPart = 0x00, u.LowPart = 0x00, u.HighPart = 0x04, }
    LIST_ENTRY = 0x10, 8 { Flink = 0x00, Blink = 0x08, }
    SINGLE_LIST_ENTRY = 0x08, 8 { Next = 0x00, }
    PROCESSOR_NUMBER = 0x04, 2 { Group = 0x00, Number = 0x02, Reserved = 0x03, }
    OBJECT_ATTRIBUTES = 0x30, 8 {
        Length = 0x00,
        RootDirectory = 0x08,
        ObjectName = 0x10,
        Attributes = 0x18,
        SecurityDescriptor = 0x20,
        SecurityQualityOfService = 0x28,
    }
    CLIENT_ID = 0x10, 8 { UniqueProcess = 0x00, UniqueThread = 0x08, }
    KDPC = 0x40, 8 {
        __bindgen_anon_1.TargetInfoAsUlong = 0x00,
        __bindgen_anon_1.__bindgen_anon_1.Importance = 0x01,
        __bindgen_anon_1.__bindgen_anon_1.Number = 0x02,
        DpcListEntry = 0x08,
        ProcessorHistory = 0x10,
        DeferredRoutine = 0x18,
        DeferredContext = 0x20,
        SystemArgument1 = 0x28,
        SystemArgument2 = 0x30,
        DpcData = 0x38,
    }
    DISPATCHER_HEADER = 0x18, 8 {
        __bindgen_anon_1.__bindgen_anon_1.Lock = 0x00,
        SignalState = 0x04,
        WaitListHead = 0x08,
    }
    KEVENT = 0x18, 8 { Header = 0x00, }
    KTIMER = 0x40, 8 {
        Header = 0x00,
        DueTime = 0x18,
        TimerListEntry = 0x20,
        Dpc = 0x30,
        Period = 0x3C,
    }
    DRIVER_OBJECT = 0x150, 8 {
        Type = 0x00,
        Size = 0x02,
        DeviceObject = 0x08,
        Flags = 0x10,
        DriverStart = 0x18,
        DriverSize = 0x20,
        DriverSection = 0x28,
        DriverExtension = 0x30,
        DriverName = 0x38,
        HardwareDatabase = 0x48,
        FastIoDispatch = 0x50,
        DriverInit = 0x58,
        DriverStartIo = 0x60,
        DriverUnload = 0x68,
        MajorFunction = 0x70,
    }
    DRIVER_EXTENSION = 0x28, 8 {
        DriverObject = 0x00,
        AddDevice = 0x08,
        Count = 0x10,
        ServiceKeyName = 0x18,
    }
    DEVICE_OBJECT = 0x150, 16 {
        Type = 0x00,
        Size = 0x02,
        ReferenceCount = 0x04,
        DriverObject = 0x08,
        NextDevice = 0x10,
        AttachedDevice = 0x18,
        CurrentIrp = 0x20,
        Timer = 0x28,
        Flags = 0x30,
        Characteristics = 0x34,
        Vpb = 0x38,
        DeviceExtension = 0x40,
        DeviceType = 0x48,
        StackSize = 0x4C,
        Queue = 0x50,
        AlignmentRequirement = 0x98,
        DeviceQueue = 0xA0,
        Dpc = 0xC8,
        ActiveThreadCount = 0x108,
        SecurityDescriptor = 0x110,
        DeviceLock = 0x118,
        SectorSize = 0x130,
        Spare1 = 0x132,
        DeviceObjectExtension = 0x138,
        Reserved = 0x140,
    }
    IO_STATUS_BLOCK = 0x10, 8 { __bindgen_anon_1.Status = 0x00, Information = 0x08, }
    IRP = 0xD0, 16 {
        Type = 0x00,
        Size = 0x02,
        MdlAddress = 0x08,
        Flags = 0x10,
        AssociatedIrp.SystemBuffer = 0x18,
        ThreadListEntry = 0x20,
        IoStatus = 0x30,
        RequestorMode = 0x40,
        PendingReturned = 0x41,
        StackCount = 0x42,
        CurrentLocation = 0x43,
        Cancel = 0x44,
        CancelIrql = 0x45,
        ApcEnvironment = 0x46,
        AllocationFlags = 0x47,
        UserEvent = 0x50,
        Overlay = 0x58,
        CancelRoutine = 0x68,
        UserBuffer = 0x70,
        Tail = 0x78,
        Tail.Overlay.__bindgen_anon_1.__bindgen_anon_1.DriverContext = 0x78,
        Tail.Overlay.Thread = 0x98,
        Tail.Overlay.AuxiliaryBuffer = 0xA0,
        Tail.Overlay.__bindgen_anon_2.ListEntry = 0xA8,
        Tail.Overlay.__bindgen_anon_2.__bindgen_anon_1.CurrentStackLocation = 0xB8,
        Tail.Overlay.OriginalFileObject = 0xC0,
    }
    IO_STACK_LOCATION = 0x48, 8 {
        MajorFunction = 0x00,
        MinorFunction = 0x01,
        Flags = 0x02,
        Control = 0x03,
        Parameters = 0x08,
        Parameters.DeviceIoControl.OutputBufferLength = 0x08,
        Parameters.DeviceIoControl.InputBufferLength = 0x10,
        Parameters.DeviceIoControl.IoControlCode = 0x18,
        Parameters.DeviceIoControl.Type3InputBuffer = 0x20,
        Parameters.StartDevice.AllocatedResources = 0x08,
        Parameters.StartDevice.AllocatedResourcesTranslated = 0x10,
        Parameters.Others.Argument4 = 0x20,
        DeviceObject = 0x28,
        FileObject = 0x30,
        CompletionRoutine = 0x38,
        Context = 0x40,
    }
    IO_CONNECT_INTERRUPT_PARAMETERS = 0x50, 8 {
        Version = 0x00,
        __bindgen_anon_1.FullySpecified.PhysicalDeviceObject = 0x08,
        __bindgen_anon_1.FullySpecified.InterruptObject = 0x10,
        __bindgen_anon_1.FullySpecified.ServiceRoutine = 0x18,
        __bindgen_anon_1.FullySpecified.ServiceContext = 0x20,
        __bindgen_anon_1.FullySpecified.SpinLock = 0x28,
        __bindgen_anon_1.FullySpecified.SynchronizeIrql = 0x30,
        __bindgen_anon_1.FullySpecified.FloatingSave = 0x31,
        __bindgen_anon_1.FullySpecified.ShareVector = 0x32,
        __bindgen_anon_1.FullySpecified.Vector = 0x34,
        __bindgen_anon_1.FullySpecified.Irql = 0x38,
        __bindgen_anon_1.FullySpecified.InterruptMode = 0x3C,
        __bindgen_anon_1.FullySpecified.ProcessorEnableMask = 0x40,
        __bindgen_anon_1.FullySpecified.Group = 0x48,
        __bindgen_anon_1.LineBased.PhysicalDeviceObject = 0x08,
        __bindgen_anon_1.LineBased.InterruptObject = 0x10,
        __bindgen_anon_1.LineBased.ServiceRoutine = 0x18,
        __bindgen_anon_1.LineBased.ServiceContext = 0x20,
        __bindgen_anon_1.LineBased.SpinLock = 0x28,
        __bindgen_anon_1.LineBased.SynchronizeIrql = 0x30,
        __bindgen_anon_1.LineBased.FloatingSave = 0x31,
    }
    IO_DISCONNECT_INTERRUPT_PARAMETERS = 0x10, 8 {
        Version = 0x00,
        ConnectionContext.Generic = 0x08,
        ConnectionContext.InterruptObject = 0x08,
    }
    IO_REMOVE_LOCK = 0x20, 8 {
        Common.Removed = 0x00,
        Common.IoCount = 0x04,
        Common.RemoveEvent = 0x08,
    }
}
