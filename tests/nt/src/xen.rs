//! A fake Xen, from its public headers: what a guest sees of it with CPUID and hypercalls.
//!
//! Sources: `xen/include/public/arch-x86/cpuid.h` (leaves), `arch-x86/xen-x86_64.h` (the hypercall ABI), `xen.h`
//! (numbers of hypercalls), `version.h` (`xen_version`), `errno.h`; `docs/misc/hvm-emulated-unplug.pandoc` (ports);
//! `xen/arch/x86/hvm/vmx/vmx.c` and `svm/svm.c` (`init_hypercall_page`).
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, time::Duration};

use crate::{
    machine::{Hypercall, Registers},
    schedule::Dice,
    verdict::{Finding, Verdict},
};

/// What kind of Xen there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How it behaves.
    pub mood: Mood,
    /// The processor's vendor, which decides on the instruction for hypercalls.
    pub vendor: Vendor,
    /// The first of its CPUID leaves: `0x4000_0000`, or so many times 0x100 above. What is below belongs to the other
    /// hypervisor that it then plays ("Microsoft Hv").
    pub base: u32,
    /// Major and minor.
    pub version: (u16, u16),
    /// How long a hypercall takes.
    pub takes: Duration,
}

/// How Xen behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// As its headers say.
    Kind,
    /// There is none: no leaves, and hypercall instructions raise #UD.
    Absent,
    /// Every hypercall is answered with `-ENOSYS`.
    Refusing,
    /// So many hypercalls are answered with `-EAGAIN`, the others as the headers say.
    Busy {
        /// So many.
        calls: u64,
    },
    /// Every hypercall is answered with any number.
    Hostile,
    /// Hypercalls are as the headers say. The hypercall page is not: each of its bytes is this.
    Scrawling {
        /// This.
        byte: u8,
    },
}

/// Who made the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// `vmcall`
    Intel,
    /// `vmmcall`
    Amd,
    /// Somebody of whom nobody has heard, who makes them like one of the others.
    Unknown {
        /// For hypercalls.
        instruction: Hypercall,
    },
}

impl Vendor {
    /// The instruction for hypercalls: the other one is an invalid opcode.
    fn instruction(self) -> Hypercall {
        match self {
            Self::Intel => Hypercall::Vmcall,
            Self::Amd => Hypercall::Vmmcall,
            Self::Unknown { instruction } => instruction,
        }
    }
}

impl Config {
    /// Xen 4.17 on an Intel processor.
    pub const DEFAULT: Self = Self {
        mood: Mood::Kind,
        vendor: Vendor::Intel,
        base: FIRST_LEAF,
        version: (4, 17),
        takes: Duration::ZERO,
    };
}

impl Default for Config {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// `XEN_CPUID_FIRST_LEAF`, and how far apart two hypervisors' leaves are.
const FIRST_LEAF: u32 = 0x4000_0000;
const STRIDE: u32 = 0x100;
/// The leaves that there are above the first.
const LEAVES: u32 = 5;
/// `XEN_CPUID_LEAF(2)`: the MSR for a hypercall page. Where Xen plays another hypervisor, it makes room for that one's.
const HYPERCALL_MSR: u32 = 0x4000_0000;
const HYPERCALL_MSR_BEHIND: u32 = 0x4000_0200;
/// Bytes of the hypercall page for each hypercall.
const ENTRY: usize = 32;
/// `__HYPERVISOR_iret`, which an HVM guest has not: `ud2`.
const IRET: u32 = 23;

/// `__HYPERVISOR_xen_version`, `XENVER_version`.
const XEN_VERSION: u64 = 17;
const XENVER_VERSION: u64 = 0;
/// `XEN_EAGAIN`, `XEN_ENOSYS`.
const EAGAIN: i64 = 11;
const ENOSYS: i64 = 38;
/// The ports of the unplug protocol, what the first of them reads as, and the version of the protocol.
const UNPLUG: u16 = 0x10;
const UNPLUG_MORE: u16 = 0x12;
const UNPLUG_MAGIC: u32 = 0x49D2;
const UNPLUG_PROTOCOL: u32 = 1;
/// What a debug hypervisor leaves in the argument registers, which are clobbered by a hypercall.
const CLOBBERED: u64 = 0xDEAD_BEEF_DEAD_BEEF;

/// The hypervisor.
#[derive(Debug)]
pub(crate) struct Xen {
    config: Config,
    dice: Dice,
    calls: BTreeMap<u64, u64>,
}

impl Xen {
    pub(crate) fn new(config: Config, seed: u64) -> Self {
        Self { config, dice: Dice::new(!seed), calls: BTreeMap::new() }
    }

    /// How often a hypercall was made.
    pub(crate) fn calls(&self, number: u64) -> u64 {
        self.calls.get(&number).copied().unwrap_or(0)
    }

    /// How long a hypercall takes, in units of 100 ns.
    pub(crate) fn takes(&self) -> Option<u64> {
        let units = u64::try_from(self.config.takes.as_nanos() / 100).expect("less than an age");
        (units != 0).then_some(units)
    }

    /// eax, ebx, ecx, edx of a leaf.
    pub(crate) fn cpuid(&self, leaf: u32) -> [u32; 4] {
        let Config { mood, vendor, base, version, .. } = self.config;
        if leaf == 0 {
            let vendor = match vendor {
                Vendor::Intel => b"GenuntelineI",
                Vendor::Amd => b"AuthcAMDenti",
                Vendor::Unknown { .. } => b"Nobonowsdy K",
            };
            return signature(0xD, vendor);
        }
        if mood == Mood::Absent {
            return [0; 4];
        }
        if leaf == 1 {
            // The hypervisor bit.
            return [0, 0, 1 << 31, 0];
        }
        match leaf.checked_sub(base) {
            Some(0) => signature(base + LEAVES, b"XenVMMXenVMM"),
            Some(1) => [u32::from(version.0) << 16 | u32::from(version.1), 0, 0, 0],
            Some(2) => [1, self.hypercall_register().unwrap_or(0), 0, 0],
            _ if (FIRST_LEAF..base).contains(&leaf) && leaf.is_multiple_of(STRIDE) => {
                signature(leaf + LEAVES, b"Microsoft Hv")
            }
            _ => [0; 4],
        }
    }

    /// A hypercall: the number in rax, the arguments in rdi, rsi, rdx, r10, r8, r9, the result in rax.
    pub(crate) fn hypercall(
        &mut self,
        instruction: Hypercall,
        registers: &mut Registers,
    ) -> Result<u64, Finding> {
        if self.config.mood == Mood::Absent || instruction != self.config.vendor.instruction() {
            let vendor = self.config.vendor;
            let facts = format!("#UD: {instruction:?} on {vendor:?}, Xen is {:?}", self.config.mood);
            return Err(Verdict::Exception.because(facts));
        }
        let before: u64 = self.calls.values().sum();
        *self.calls.entry(registers.rax).or_default() += 1;
        let result = match (self.config.mood, registers.rax, registers.rdi) {
            (Mood::Hostile, ..) => self.any_number(),
            (Mood::Busy { calls }, ..) if before < calls => (-EAGAIN).cast_unsigned(),
            (Mood::Kind | Mood::Busy { .. } | Mood::Scrawling { .. }, XEN_VERSION, XENVER_VERSION) => {
                let (major, minor) = self.config.version;
                u64::from(major) << 16 | u64::from(minor)
            }
            _ => (-ENOSYS).cast_unsigned(),
        };
        registers.rdi = CLOBBERED;
        registers.rsi = CLOBBERED;
        Ok(result)
    }

    /// What a port of the platform reads as, if it is one that a driver may read.
    pub(crate) fn port(&self, port: u16, width: u8) -> Option<u32> {
        let value = match (port, width) {
            (UNPLUG, 2) => UNPLUG_MAGIC,
            (UNPLUG_MORE, 1) => UNPLUG_PROTOCOL,
            _ => return None,
        };
        // Where nothing is, nothing drives the bus.
        Some(if self.config.mood == Mood::Absent { u32::MAX >> (32 - 8 * u32::from(width)) } else { value })
    }

    /// Whether a driver may write to a port: what to unplug and its build, its product and a log.
    pub(crate) fn accepts(port: u16, width: u8) -> bool {
        matches!((port, width), (UNPLUG, 2 | 4) | (UNPLUG_MORE, 1 | 2))
    }

    /// The register that takes a hypercall page's address.
    pub(crate) fn hypercall_register(&self) -> Option<u32> {
        let register = if self.config.base == FIRST_LEAF { HYPERCALL_MSR } else { HYPERCALL_MSR_BEHIND };
        (self.config.mood != Mood::Absent).then_some(register)
    }

    /// Writes into a page how each hypercall is made; what an entry does not need stays as it was.
    pub(crate) fn write_hypercalls(&self, page: &mut [u8]) {
        if let Mood::Scrawling { byte } = self.config.mood {
            page.fill(byte);
            return;
        }
        let call = match self.config.vendor.instruction() {
            Hypercall::Vmcall => [0x0F, 0x01, 0xC1],
            Hypercall::Vmmcall => [0x0F, 0x01, 0xD9],
        };
        for (number, entry) in (0_u32..).zip(page.chunks_exact_mut(ENTRY)) {
            if number == IRET {
                entry[..2].copy_from_slice(&[0x0F, 0x0B]);
                continue;
            }
            // mov eax, number; the call; ret
            entry[0] = 0xB8;
            entry[1..5].copy_from_slice(&number.to_le_bytes());
            entry[5..8].copy_from_slice(&call);
            entry[8] = 0xC3;
        }
    }

    /// Numbers that code might take for something else, and others.
    fn any_number(&mut self) -> u64 {
        const ODD: [u64; 6] = [0, 1, u64::MAX, 1 << 63, 0xFFFF_FFFF, 0x8000_0000];
        let index = self.dice.index(ODD.len() + 2);
        ODD.get(index).copied().unwrap_or_else(|| self.dice.roll())
    }
}

/// A leaf that names somebody: the twelve letters are in ebx, ecx, edx.
fn signature(eax: u32, name: &[u8; 12]) -> [u32; 4] {
    let word = |at: usize| u32::from_le_bytes([name[at], name[at + 1], name[at + 2], name[at + 3]]);
    [eax, word(0), word(4), word(8)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xen(config: Config) -> Xen {
        Xen::new(config, 1)
    }

    #[test]
    fn the_leaves_are_those_of_the_header() {
        let xen = xen(Config::DEFAULT);
        assert_eq!(xen.cpuid(0x4000_0000), [0x4000_0005, 0x566E_6558, 0x6558_4D4D, 0x4D4D_566E]);
        assert_eq!(xen.cpuid(0x4000_0001)[0], 0x0004_0011);
        assert_eq!(xen.cpuid(0)[1..], [0x756E_6547, 0x6C65_746E, 0x4965_6E69]);
    }

    #[test]
    fn the_ports_are_those_of_the_unplug_protocol() {
        let there = xen(Config::DEFAULT);
        assert_eq!([there.port(0x10, 2), there.port(0x12, 1)], [Some(0x49D2), Some(1)]);
        assert_eq!([there.port(0x10, 1), there.port(0x11, 2), there.port(0x60, 1)], [None; 3]);
        let absent = xen(Config { mood: Mood::Absent, ..Config::DEFAULT });
        assert_eq!([absent.port(0x10, 2), absent.port(0x12, 1)], [Some(0xFFFF), Some(0xFF)]);
        assert!(Xen::accepts(0x10, 2) && Xen::accepts(0x12, 1) && !Xen::accepts(0x60, 1));
    }

    /// A driver that reads another entry, or more of one than Xen writes, is to be found here as on Xen.
    #[test]
    fn the_hypercall_page_is_as_xen_writes_it() {
        let entry = |config, number: usize| {
            let mut page = [0xEE; 4096];
            xen(config).write_hypercalls(&mut page);
            page[number * ENTRY..][..10].to_vec()
        };
        let amd = Config { vendor: Vendor::Amd, ..Config::DEFAULT };
        assert_eq!(entry(Config::DEFAULT, 17), [0xB8, 17, 0, 0, 0, 0x0F, 0x01, 0xC1, 0xC3, 0xEE]);
        assert_eq!(entry(amd, 127), [0xB8, 127, 0, 0, 0, 0x0F, 0x01, 0xD9, 0xC3, 0xEE]);
        assert_eq!(entry(amd, 23)[..3], [0x0F, 0x0B, 0xEE]);
        assert_eq!(entry(Config { mood: Mood::Scrawling { byte: 7 }, ..amd }, 17), [7; 10]);
    }

    #[test]
    fn another_hypervisor_is_below_when_the_base_is_not_the_first() {
        let xen = xen(Config { base: 0x4000_0100, ..Config::DEFAULT });
        assert_ne!(xen.cpuid(0x4000_0000)[1], 0x566E_6558);
        assert_ne!(xen.cpuid(0x4000_0000)[1], 0);
        assert_eq!(xen.cpuid(0x4000_0100)[1], 0x566E_6558);
        assert_eq!(xen.cpuid(0x4000_0102), [1, 0x4000_0200, 0, 0], "its registers make room, too");
    }
}
