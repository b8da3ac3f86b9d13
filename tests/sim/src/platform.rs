//! The Xen platform device, as far as it is ports: the unplug protocol, and the log of the device model.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use crate::rule::rules;

rules! {
    /// The port 0x10 reads as 0x49D2 where there is a platform device, and as 0xD249 once the drivers are blacklisted.
    MAGIC: "docs/misc/hvm-emulated-unplug.pandoc", "step 1, step 5";
    /// The port 0x12 reads as the version of the protocol.
    PROTOCOL: "docs/misc/hvm-emulated-unplug.pandoc", "step 2";
    /// Two bytes to the port 0x12 are the product's number.
    PRODUCT: "docs/misc/hvm-emulated-unplug.pandoc", "step 3";
    /// Four bytes to the port 0x10 are the build's number; after them the drivers may turn out to be blacklisted.
    BUILD: "docs/misc/hvm-emulated-unplug.pandoc", "step 4, step 5";
    /// Two bytes to the port 0x10 are what to unplug, which is then gone for good.
    UNPLUG: "docs/misc/hvm-emulated-unplug.pandoc", "step 6";
    /// Bit 0 overrides bit 2.
    ALL_DISKS: "docs/misc/hvm-emulated-unplug.pandoc", "step 6";
    /// A byte to the port 0x12 is one of the log's, whose lines end with a newline.
    LOG: "docs/misc/hvm-emulated-unplug.pandoc", "log messages";
    /// A build is blacklisted by a key in the store.
    BLACKLIST: "docs/misc/hvm-emulated-unplug.pandoc", "/mh/driver-blacklist";
    /// A port that nobody answers at reads as all ones, and what is written to it vanishes.
    NOBODY: "docs/misc/hvm-emulated-unplug.pandoc", "NOTE: the Xen Platform PCI Device";
}

/// An emulated device, which a driver may have unplugged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Emulated {
    /// The first IDE disk.
    PrimaryMaster,
    /// Another IDE disk.
    IdeDisk,
    /// A SCSI disk.
    ScsiDisk,
    /// An NVMe disk.
    NvmeDisk,
    /// A network card.
    Nic,
}

/// The device model of a guest.
#[derive(Clone, Debug)]
pub(crate) struct Platform {
    /// Whether the guest has the device at all.
    pub(crate) is_there: bool,
    /// The protocol's version.
    pub(crate) protocol: u8,
    /// What is still plugged in.
    pub(crate) emulated: BTreeSet<Emulated>,
    /// What the drivers said of themselves.
    pub(crate) product: Option<u16>,
    pub(crate) build: Option<u32>,
    /// Whether they were told to keep out.
    pub(crate) is_blacklisted: bool,
    /// The lines that the guest logged.
    pub(crate) log: Vec<String>,
    line: Vec<u8>,
}

/// What the guest wants of the rest of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AskBlacklist {
    pub(crate) product: u16,
    pub(crate) build: u32,
}

const UNPLUG_PORT: u16 = 0x10;
const MORE_PORT: u16 = 0x12;
const FREE: u16 = 0x49D2;
const BLACKLISTED: u16 = 0xD249;

/// The longest line of the log that is kept: a guest may never end one.
const LONGEST_LINE: usize = 4096;
/// Lines that are kept.
const LINES: usize = 1024;

impl Platform {
    /// With these emulated devices plugged in.
    pub(crate) fn new(is_there: bool, emulated: BTreeSet<Emulated>) -> Self {
        Self {
            is_there,
            protocol: 1,
            emulated,
            product: None,
            build: None,
            is_blacklisted: false,
            log: Vec::new(),
            line: Vec::new(),
        }
    }

    /// What a port reads as.
    pub(crate) fn read(&self, port: u16, bytes: usize) -> u32 {
        match (port, bytes) {
            _ if !self.is_there => u32::MAX,
            (UNPLUG_PORT, 2) => u32::from(if self.is_blacklisted { BLACKLISTED } else { FREE }),
            (MORE_PORT, 1) => self.protocol.into(),
            _ => u32::MAX,
        }
    }

    /// What a write to a port does. The store may have to be asked whether a build is blacklisted.
    pub(crate) fn write(&mut self, port: u16, bytes: usize, value: u32) -> Option<AskBlacklist> {
        let [low, high, ..] = value.to_le_bytes();
        match (port, bytes) {
            _ if !self.is_there => {}
            (UNPLUG_PORT, 2) => self.unplug(u16::from_le_bytes([low, high])),
            (UNPLUG_PORT, 4) => {
                self.build = Some(value);
                return Some(AskBlacklist { product: self.product?, build: value });
            }
            (MORE_PORT, 2) => self.product = Some(u16::from_le_bytes([low, high])),
            (MORE_PORT, 1) => self.log(low),
            _ => {}
        }
        None
    }

    fn unplug(&mut self, what: u16) {
        let bit = |number: u16| what & 1 << number != 0;
        self.emulated.retain(|device| match device {
            Emulated::PrimaryMaster | Emulated::ScsiDisk => !bit(0),
            Emulated::IdeDisk => !bit(0) && !bit(2),
            Emulated::Nic => !bit(1),
            Emulated::NvmeDisk => !bit(3),
        });
    }

    fn log(&mut self, byte: u8) {
        if byte != b'\n' && self.line.len() < LONGEST_LINE {
            self.line.push(byte);
            return;
        }
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        if self.log.len() < LINES {
            self.log.push(line);
        }
    }
}
