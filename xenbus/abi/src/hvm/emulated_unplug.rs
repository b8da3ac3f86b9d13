//! `docs/misc/hvm-emulated-unplug.pandoc`: how a guest takes away its emulated devices, for which it has drivers of its
//! own. The ports are those of the Xen platform PCI device: without it they are nobody's.
//!
//! 1. Read two bytes from [`CONTROL`]: without [`MAGIC`] there is nothing to be done.
//! 2. Read one byte, the protocol's version, from [`VERSION`]. If it is zero go to 6.
//! 3. Write the product's number, two bytes, to [`VERSION`].
//! 4. Write its build's, four bytes, to [`CONTROL`].
//! 5. Read [`CONTROL`] again: if it is [`BLOCKED`] now, the host does not want these drivers.
//! 6. Write two bytes, the devices to unplug, to [`CONTROL`].
//!
//! From step 1 on, bytes that are written to [`VERSION`] one by one go to the host's log, each line when it ends.
#![forbid(unsafe_code)]

/// The port of the magic number, of the build's and of the devices.
pub const CONTROL: u16 = 0x10;
/// The port of the protocol's version, of the product's number and of the log.
pub const VERSION: u16 = 0x12;

/// The protocol is spoken here.
pub const MAGIC: u16 = 0x49D2;
/// The drivers are not to load.
pub const BLOCKED: u16 = 0xD249;

/// All disks, CD drives excepted, that are IDE or SCSI.
pub const UNPLUG_DISKS: u16 = 1 << 0;
/// All NICs.
pub const UNPLUG_NICS: u16 = 1 << 1;
/// All IDE disks but the primary master, CD drives excepted; nothing more than [`UNPLUG_DISKS`], if that is set.
pub const UNPLUG_AUX_IDE_DISKS: u16 = 1 << 2;
/// All `NVMe` disks.
pub const UNPLUG_NVME_DISKS: u16 = 1 << 3;

/// A product that has a number (`hvm/pvdrivers.h`), by which a host can refuse it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// The name by which the host knows it.
    pub name: &'static str,
    /// What is written to [`VERSION`].
    pub number: u16,
}

/// All products that have a number (`PVDRIVERS_PRODUCT_LIST`); the last is for those that have not been given one yet.
pub const PRODUCTS: [Product; 6] = [
    Product { name: "xensource-windows", number: 0x0001 },
    Product { name: "gplpv-windows", number: 0x0002 },
    Product { name: "linux", number: 0x0003 },
    Product { name: "xenserver-windows-v7.0+", number: 0x0004 },
    Product { name: "xenserver-windows-v7.2+", number: 0x0005 },
    Product { name: "experimental", number: 0xFFFF },
];
