//! Ports: those of the Xen platform device, which are the unplug protocol and the log of the device model; and that of
//! Xen's own log.
#![forbid(unsafe_code)]

use std::{collections::BTreeSet, mem};

use xen_abi::{
    console_io::XEN_HVM_DEBUGCONS_IOPORT,
    hvm::emulated_unplug::{
        self, CONTROL, UNPLUG_AUX_IDE_DISKS, UNPLUG_DISKS, UNPLUG_NICS, UNPLUG_NVME_DISKS, VERSION,
    },
};

use crate::rule::rules;

rules! {
    /// The port 0x10 reads as 0x49D2 where there is a platform device, and as 0xD249 once the drivers are blacklisted.
    MAGIC: "docs/misc/hvm-emulated-unplug.pandoc", "step 1, step 5";
    /// A byte of the port 0x12 reads as the version of the protocol.
    PROTOCOL: "docs/misc/hvm-emulated-unplug.pandoc", "step 2";
    /// Two bytes to the port 0x12 are the product's number.
    PRODUCT: "docs/misc/hvm-emulated-unplug.pandoc", "step 3";
    /// Four bytes to the port 0x10 are the build's number; after them the drivers may turn out to be blacklisted.
    BUILD: "docs/misc/hvm-emulated-unplug.pandoc", "step 4, step 5";
    /// Two bytes to the port 0x10 are what to unplug, which is then gone for as long as there is this device model.
    UNPLUG: "docs/misc/hvm-emulated-unplug.pandoc", "step 6";
    /// Bit 0 overrides bit 2.
    ALL_DISKS: "docs/misc/hvm-emulated-unplug.pandoc", "step 6";
    /// A byte to the port 0x12 is one of the log's, whose lines end with a newline.
    LOG: "docs/misc/hvm-emulated-unplug.pandoc", "log messages";
    /// A build is blacklisted by a key in the store.
    BLACKLIST: "docs/misc/hvm-emulated-unplug.pandoc", "/mh/driver-blacklist";
    /// A byte to the port 0xE9 is one of Xen's log, if it can be printed; it reads as its number.
    DEBUG_PORT: "xen/arch/x86/hvm/hvm.c", "hvm_print_line";
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
    /// An `NVMe` disk.
    NvmeDisk,
    /// A network card.
    Nic,
}

/// The device model of a guest, and the port of Xen's beside it.
#[derive(Clone, Debug)]
pub(crate) struct Platform {
    /// Whether the guest has the device at all.
    is_there: bool,
    /// What is still plugged in.
    emulated: BTreeSet<Emulated>,
    /// What the drivers said that they are.
    product: Option<u16>,
    /// Whether they were told to keep out.
    is_blacklisted: bool,
    log: Log,
    xen_log: Log,
}

/// What the guest has to say.
#[derive(Clone, Debug, Default)]
struct Log {
    lines: Vec<String>,
    /// The one that has not ended.
    line: Vec<u8>,
}

/// What the guest wants of the rest of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AskBlacklist {
    pub(crate) product: u16,
    pub(crate) build: u32,
}

/// That of the protocol which is written down.
const PROTOCOL_VERSION: u8 = 1;
/// The longest line of the log: a guest may never end one.
const LONGEST_LINE: usize = 4096;
/// Lines that are kept.
const LINES: usize = 1024;

impl Platform {
    /// With these emulated devices plugged in.
    pub(crate) fn new(is_there: bool, emulated: BTreeSet<Emulated>) -> Self {
        Self {
            is_there,
            emulated,
            product: None,
            is_blacklisted: false,
            log: Log::default(),
            xen_log: Log::default(),
        }
    }

    /// The guest goes on with another device model, on the same host or on another one, which has all of these plugged
    /// in and knows nothing of the drivers. What was logged stays so.
    pub(crate) fn begin_again(&mut self, emulated: BTreeSet<Emulated>) {
        let (log, xen_log) = (mem::take(&mut self.log), mem::take(&mut self.xen_log));
        *self = Self { log, xen_log, ..Self::new(self.is_there, emulated) };
    }

    /// What is still plugged in.
    pub(crate) const fn emulated(&self) -> &BTreeSet<Emulated> {
        &self.emulated
    }

    /// The lines that the guest has logged.
    pub(crate) fn log(&self) -> &[String] {
        &self.log.lines
    }

    /// The lines that it has logged with Xen.
    pub(crate) fn xen_log(&self) -> &[String] {
        &self.xen_log.lines
    }

    /// What a port reads as.
    pub(crate) fn read(&self, port: u16, bytes: usize) -> u32 {
        match (port, bytes) {
            (XEN_HVM_DEBUGCONS_IOPORT, 1) => port.into(),
            _ if !self.is_there => u32::MAX,
            (CONTROL, 2) => {
                u32::from(if self.is_blacklisted { emulated_unplug::BLOCKED } else { emulated_unplug::MAGIC })
            }
            (VERSION, 1) => PROTOCOL_VERSION.into(),
            _ => u32::MAX,
        }
    }

    /// What a write to a port does. The store has to be asked then whether a build is blacklisted.
    pub(crate) fn write(&mut self, port: u16, bytes: usize, value: u32) -> Option<AskBlacklist> {
        let [low, high, ..] = value.to_le_bytes();
        match (port, bytes) {
            (XEN_HVM_DEBUGCONS_IOPORT, 1) if matches!(low, b' '..=b'~' | b'\t' | b'\n') => {
                self.xen_log.add(low);
            }
            _ if !self.is_there => {}
            (CONTROL, 2) => self.unplug(u16::from_le_bytes([low, high])),
            (CONTROL, 4) => return Some(AskBlacklist { product: self.product?, build: value }),
            (VERSION, 2) => self.product = Some(u16::from_le_bytes([low, high])),
            (VERSION, 1) => self.log.add(low),
            _ => {}
        }
        None
    }

    /// What the store said.
    pub(crate) const fn answer_blacklist(&mut self, is_blacklisted: bool) {
        self.is_blacklisted = is_blacklisted;
    }

    fn unplug(&mut self, what: u16) {
        let all_disks = what & UNPLUG_DISKS != 0;
        self.emulated.retain(|device| match device {
            Emulated::PrimaryMaster | Emulated::ScsiDisk => !all_disks,
            Emulated::IdeDisk => !all_disks && what & UNPLUG_AUX_IDE_DISKS == 0,
            Emulated::Nic => what & UNPLUG_NICS == 0,
            Emulated::NvmeDisk => what & UNPLUG_NVME_DISKS == 0,
        });
    }
}

impl Log {
    fn add(&mut self, byte: u8) {
        if byte != b'\n' {
            self.line.push(byte);
        }
        if byte == b'\n' || self.line.len() == LONGEST_LINE {
            let line = mem::take(&mut self.line);
            if self.lines.len() < LINES {
                self.lines.push(String::from_utf8_lossy(&line).into_owned());
            }
        }
    }
}
