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
#![forbid(unsafe_code)]

mod log;
mod policy;
mod unplugged;

use core::fmt;

use bitflags::bitflags;
use xen_abi::{
    hvm::emulated_unplug::{
        CONTROL, MAGIC, PRODUCTS, Product, UNPLUG_AUX_IDE_DISKS, UNPLUG_DISKS, UNPLUG_NICS, UNPLUG_NVME_DISKS,
    },
    seam::Processor,
};

pub use self::{
    log::{LONGEST_LINE, Line, PortLog},
    policy::{Policy, Wish},
    unplugged::Unplugged,
};
use crate::x86::privileged::PlatformDevice;

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
        let platform = PlatformDevice::find(processor).map_err(UnplugError::NoProtocol)?;
        if platform.is_blocked() {
            return Err(UnplugError::BlockedBefore);
        }
        // The first version of the protocol asks nobody who he is.
        if platform.version() != 0 {
            platform.announce(PRODUCT, self.build);
            let platform = PlatformDevice::find(processor).map_err(UnplugError::NoProtocol)?;
            if platform.is_blocked() {
                return Err(UnplugError::Blocked { product: PRODUCT, build: self.build });
            }
        }
        platform.unplug(self.devices);
        Ok(())
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
