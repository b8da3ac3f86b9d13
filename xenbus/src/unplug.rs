//! Emulated devices, and how a guest takes away those for which it has drivers of its own; and the logs of the host,
//! which are ports as well.
//!
//! - [`Policy`] decides which [`Devices`] go;
//! - [`Unplug`] takes them away;
//! - [`Unplugged`] does so again after each resume: another device model has plugged them in;
//! - [`PortLog`] is the log of the device model, or Xen's.
//!
//! ```
//! use xen_sim::{Emulated, GuestConfig, Machine};
//! use xenbus::unplug::{Policy, Unplug, UnplugError, Wish};
//!
//! let machine = Machine::new(1);
//! let guest = machine.create(GuestConfig::default());
//! let policy = Policy { nics: Wish::Forced, ..Policy::default() };
//! let unplug = Unplug::new(policy.devices(), 0x0001_0002);
//! unplug.execute(&guest)?;
//! assert!(!machine.toolstack().emulated(&guest).contains(&Emulated::Nic));
//! # Ok::<(), UnplugError>(())
//! ```
//!
//! Source: `docs/misc/hvm-emulated-unplug.pandoc`; `xen/include/public/hvm/pvdrivers.h`.
#![expect(unsafe_code, reason = "ports")]

mod log;
mod policy;
mod unplugged;

use core::fmt;

use bitflags::bitflags;
use xen_abi::{
    console_io::XEN_HVM_DEBUGCONS_IOPORT,
    hvm::emulated_unplug::{
        BLOCKED, CONTROL, MAGIC, PRODUCTS, Product, UNPLUG_AUX_IDE_DISKS, UNPLUG_DISKS, UNPLUG_NICS,
        UNPLUG_NVME_DISKS, VERSION,
    },
    seam::Processor,
};

pub use self::{
    log::{LONGEST_LINE, Line, PortLog},
    policy::{Policy, Wish},
    unplugged::Unplugged,
};

bitflags! {
    /// Emulated devices, by class. CD drives stay.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Devices: u16 {
        /// All IDE and SCSI disks.
        const DISKS = UNPLUG_DISKS;
        /// All NICs.
        const NICS = UNPLUG_NICS;
        /// All IDE disks but the primary master; nothing more than [`DISKS`](Self::DISKS), if those go.
        const AUX_IDE_DISKS = UNPLUG_AUX_IDE_DISKS;
        /// All `NVMe` disks.
        const NVME_DISKS = UNPLUG_NVME_DISKS;
    }
}

/// The product that the host is told: that of drivers which have not been given a number.
///
/// The other numbers are other people's drivers, which a host may refuse for their own mistakes, and a number that
/// nobody has cannot be refused: the host finds no name for it. This one has a name, by which a host can refuse it, and
/// one that can be part of a path in xenstore.
pub const PRODUCT: Product = {
    let [.., experimental] = PRODUCTS;
    experimental
};

/// What to take away, and who does: a value that can be executed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unplug {
    devices: Devices,
    build: u32,
}

/// Why nothing was taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnplugError {
    /// Nobody answers as the protocol's other end does: the port reads as this. There is no platform device, or no Xen.
    NoProtocol(u16),
    /// The host has refused drivers of this guest before these have said who they are.
    BlockedBefore,
    /// The host refuses these.
    Blocked {
        /// Their product,
        product: Product,
        /// and build.
        build: u32,
    },
}

impl Unplug {
    /// These devices, by a build of [`PRODUCT`]: a number that no other release has.
    #[must_use]
    pub const fn new(devices: Devices, build: u32) -> Self {
        Self { devices, build }
    }

    /// What goes.
    #[must_use]
    pub const fn devices(&self) -> Devices {
        self.devices
    }

    /// Says who is there, and takes the devices away, unless the host refuses. Best done before the guest looks for
    /// devices, and to be done again by what resumes it from a suspend that was not cancelled, or from disk, before
    /// anything else is. Callable at any level; six exits.
    ///
    /// # Errors
    ///
    /// See [`UnplugError`]: nothing has gone. A driver that is refused should not run at all.
    pub fn execute(&self, processor: &impl Processor) -> Result<(), UnplugError> {
        let platform = Platform::find(processor).map_err(UnplugError::NoProtocol)?;
        if platform.is_blocked {
            return Err(UnplugError::BlockedBefore);
        }
        // The first version of the protocol asks nobody who he is.
        if platform.version() != 0 {
            platform.announce(PRODUCT, self.build);
            let platform = Platform::find(processor).map_err(UnplugError::NoProtocol)?;
            if platform.is_blocked {
                return Err(UnplugError::Blocked { product: PRODUCT, build: self.build });
            }
        }
        platform.unplug(self.devices);
        Ok(())
    }
}

/// The other end of the protocol: who has this has read its magic number, without which nothing is written.
#[derive(Debug)]
struct Platform<'p, P> {
    processor: &'p P,
    /// The host has refused the drivers. It still takes what they log.
    is_blocked: bool,
}

impl<'p, P: Processor> Platform<'p, P> {
    /// What else the port reads as, if nobody is there.
    fn find(processor: &'p P) -> Result<Self, u16> {
        // SAFETY: in a guest that is a port of the platform device, or nobody's. Elsewhere it is a register of a DMA
        // controller's, and none that reading has an effect on.
        let magic = unsafe { processor.read_port(CONTROL) };
        match magic {
            MAGIC | BLOCKED => Ok(Self { processor, is_blocked: magic == BLOCKED }),
            other => Err(other),
        }
    }

    fn version(&self) -> u8 {
        // SAFETY: the platform device is there, and says its version.
        unsafe { self.processor.read_port(VERSION) }
    }

    fn announce(&self, product: Product, build: u32) {
        // SAFETY: the platform device is there, and takes two bytes for the product's number.
        unsafe { self.processor.write_port(VERSION, product.number) };
        // SAFETY: likewise four bytes, for the build's.
        unsafe { self.processor.write_port(CONTROL, build) };
    }

    fn unplug(&self, devices: Devices) {
        // SAFETY: the platform device is there, and takes two bytes for what to unplug. The devices' memory was never
        // the guest's.
        unsafe { self.processor.write_port(CONTROL, devices.bits()) };
    }
}

/// A port that takes a log, byte by byte.
#[derive(Clone, Copy, Debug)]
enum LogPort {
    /// Of a platform device that was found.
    DeviceModel,
    /// Of Xen's own. What is written to it elsewhere is lost.
    Xen,
}

impl LogPort {
    fn put(self, processor: &impl Processor, byte: u8) {
        let port = match self {
            Self::DeviceModel => VERSION,
            Self::Xen => XEN_HVM_DEBUGCONS_IOPORT,
        };
        // SAFETY: what takes a byte at either port does no more with it than to log it.
        unsafe { processor.write_port(port, byte) };
    }
}

impl fmt::Display for UnplugError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProtocol(magic) => {
                write!(f, "port {CONTROL:#x} reads as {magic:#06x} instead of {MAGIC:#06x}: ")?;
                f.write_str("emulated devices stay; give the guest the Xen platform device")
            }
            Self::BlockedBefore => f.write_str(
                "the host has refused drivers of this guest already; emulated devices stay until it is rebooted",
            ),
            Self::Blocked { product: Product { name, .. }, build } => {
                write!(f, "the host refuses these drivers (/mh/driver-blacklist/{name}/{build}): ")?;
                f.write_str("emulated devices stay; install other drivers")
            }
        }
    }
}

impl core::error::Error for UnplugError {}
