//! Emulated twins: the disk and the NIC that a device model shows to whoever has no drivers of Xen's. The guest sends
//! them away before its bus starts, and looks whether they have gone.
//!
//! An HVM guest has them, and the platform device, by which they go. A PVH guest has no device at all: `xenbus` is to
//! find nobody to talk to.
//!
//! Sources: PCI Local Bus Specification 3.0, 3.2.2.3.2 "Software Generation of Configuration Transactions" and
//! chapter 6; ATA/ATAPI-6, 7.15 "Status register"; `docs/misc/hvm-emulated-unplug.pandoc` of Xen.
#![expect(unsafe_code, reason = "configuration space and a disk's registers are ports")]

use core::fmt;

use kexec::irql::Dispatch;
use static_cell::StaticCell;
use xen_abi::{cpuid, seam::Processor};
use xenbus::{
    suspend::{Registration, Suspend},
    unplug::{Policy, Unplug, UnplugError, Unplugged, Wish},
    x86::Native,
};

use crate::report;

/// The ports by which configuration space is read: the address, and what is there.
const CONFIG_ADDRESS: u16 = 0xCF8;
const CONFIG_DATA: u16 = 0xCFC;
const CONFIG_ENABLE: u32 = 1 << 31;

/// The first register of a function, which nobody has where nobody is.
const NOBODY: u32 = u32::MAX;
/// The Xen platform device, by its vendor, 0x5853, and its number.
const PLATFORM: u32 = 0x0001_5853;
/// The registers of a class, and of a header's type, with its bit for a device of several functions.
const CLASS: u32 = 0x08;
const HEADER: u32 = 0x0C;
const SEVERAL_FUNCTIONS: u32 = 1 << 23;

/// Classes with their sub-class.
const IDE: u16 = 0x0101;
const ETHERNET: u16 = 0x0200;

/// The registers of a compatible IDE controller's two channels, of which a drive is selected, and tells how it is.
const CHANNELS: [u16; 2] = [0x1F0, 0x170];
const SELECT: u16 = 6;
const STATUS: u16 = 7;
const DRIVES: [u8; 2] = [0xA0, 0xB0];
/// The drive takes commands. Where there is none, nothing is set, or everything.
const READY: u8 = 1 << 6;

/// What the host is told of these drivers.
const BUILD: u32 = 1;

/// How a guest has begun, as the toolstack says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Pvh,
    Hvm,
}

impl Kind {
    /// By its name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [(Self::Pvh, "pvh"), (Self::Hvm, "hvm")]
            .into_iter()
            .find_map(|(kind, is)| (is == name).then_some(kind))
    }
}

/// What there is on the first PCI bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Devices {
    platforms: u8,
    nics: u8,
    /// Drives, at controllers which are there for ever.
    disks: u8,
}

/// What was found, and what has become of it.
#[derive(Debug)]
pub(crate) struct Twins {
    leaf: u32,
    before: Devices,
    outcome: Result<(), UnplugError>,
    after: Devices,
    /// They go again in each epoch.
    _again: Option<Registration<'static>>,
}

/// Sends them away, now, and after each suspend: before all others who are registered later. Once.
pub(crate) fn send_away(at: &Dispatch, leaf: u32, suspend: &'static Suspend) -> Twins {
    static UNPLUGGED: StaticCell<Unplugged<Native>> = StaticCell::new();

    let policy = Policy { disks: Wish::Forced, nics: Wish::Forced, boot_emulated: false };
    let before = Devices::look(&Native, |what| report::note(format_args!("before: {what}")));
    let unplugged = Unplugged::new(Unplug::new(policy.devices(), BUILD), Native);
    let after = Devices::look(&Native, |what| report::note(format_args!("after: {what}")));
    let (again, outcome) = match unplugged {
        Ok(unplugged) => {
            let Ok(again) = suspend.register(at, UNPLUGGED.init(unplugged)) else {
                unreachable!("nobody has registered before")
            };
            (Some(again), Ok(()))
        }
        Err(error) => {
            report::note(format_args!("unplug: {error}"));
            (None, Err(error))
        }
    };
    Twins { leaf, before, outcome, after, _again: again }
}

impl Twins {
    /// Looks once more: a guest that has moved has got another device model.
    pub(crate) fn look_again(&mut self) {
        self.after = Devices::look(&Native, |what| report::note(format_args!("at the end: {what}")));
    }

    /// Whether it is as it should be in a guest of this kind.
    pub(crate) fn judge(&self, kind: Option<Kind>) -> Result<(), Strange> {
        let is_nobody = self.outcome == Err(UnplugError::NoProtocol(u16::MAX));
        let rules = match kind {
            None => return self.strange("nobody says of which kind the guest is"),
            Some(Kind::Pvh) => [
                (self.leaf == cpuid::FIRST_LEAF, "Xen's CPUID leaves are not the first"),
                (self.before == Devices::default(), "there are devices"),
                (is_nobody, "somebody answers at the platform device's port"),
                (self.after == self.before, "devices have come"),
            ],
            Some(Kind::Hvm) => [
                (self.leaf > cpuid::FIRST_LEAF, "Viridian's CPUID leaves do not come before Xen's"),
                (self.before == Devices { platforms: 1, nics: 1, disks: 1 }, "the twins were not there"),
                (self.outcome.is_ok(), "they were not sent away"),
                (self.after == Devices { platforms: 1, nics: 0, disks: 0 }, "it is not they who have gone"),
            ],
        };
        let broken = rules.into_iter().find(|(holds, _)| !holds);
        broken.map_or(Ok(()), |(_, rule)| self.strange(rule))
    }

    const fn strange(&self, rule: &'static str) -> Result<(), Strange> {
        Err(Strange { rule, leaf: self.leaf, devices: [self.before, self.after] })
    }
}

/// What is not as it should be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strange {
    rule: &'static str,
    leaf: u32,
    devices: [Devices; 2],
}

impl fmt::Display for Strange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, leaf, devices: [before, after] } = self;
        write!(f, "{rule} (Xen's leaves are at {leaf:#x}, there was {before}, and there is {after})")
    }
}

impl Devices {
    /// Looks at each function of the first bus, and tells what it is.
    fn look(processor: &impl Processor, mut tell: impl FnMut(fmt::Arguments<'_>)) -> Self {
        let mut found = Self::default();
        for device in 0..32 {
            for function in 0..8 {
                let place = device << 3 | function;
                let who = config(processor, place, 0);
                if who != NOBODY {
                    let (vendor, number) = (who & 0xFFFF, who >> 16);
                    let class = (config(processor, place, CLASS) >> 16) as u16;
                    tell(format_args!(
                        "00:{device:02x}.{function} is {vendor:04x}:{number:04x}, class {class:04x}"
                    ));
                    found.count(processor, who, class);
                }
                // Where the first is nobody, or all that there is, there are no others.
                if function == 0
                    && (who == NOBODY || config(processor, place, HEADER) & SEVERAL_FUNCTIONS == 0)
                {
                    break;
                }
            }
        }
        tell(format_args!("{found}"));
        found
    }

    fn count(&mut self, processor: &impl Processor, who: u32, class: u16) {
        match (who, class) {
            (PLATFORM, _) => self.platforms += 1,
            (_, ETHERNET) => self.nics += 1,
            (_, IDE) => self.disks += drives(processor),
            _ => {}
        }
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { platforms, nics, disks } = self;
        write!(f, "{platforms} platform devices, {nics} NICs and {disks} disks")
    }
}

/// A register of a function, by its device and its number there.
fn config(processor: &impl Processor, place: u32, register: u32) -> u32 {
    // SAFETY: it is the address that is read next, or, without PCI, nobody's port.
    unsafe { processor.write_port(CONFIG_ADDRESS, CONFIG_ENABLE | place << 8 | register) };
    // SAFETY: to read the registers that are read here has no effect.
    unsafe { processor.read_port(CONFIG_DATA) }
}

/// The drives of the IDE controller.
fn drives(processor: &impl Processor) -> u8 {
    let all = CHANNELS.iter().flat_map(|channel| DRIVES.map(|drive| (channel, drive)));
    let is_there = |(channel, drive): (&u16, u8)| {
        // SAFETY: nobody uses its drives any more, so that it does not matter which of them is selected.
        unsafe { processor.write_port(channel + SELECT, drive) };
        // SAFETY: whatever interrupt is acknowledged by that, nobody waits for it.
        let status: u8 = unsafe { processor.read_port(channel + STATUS) };
        status != u8::MAX && status & READY != 0
    };
    all.map(is_there).map(u8::from).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use xen_abi::seam::Port;
    use zerocopy::IntoBytes as _;

    use super::*;

    /// A PC, as far as ports show it.
    #[derive(Default)]
    struct Pc {
        /// The functions on the bus: where, who, of which class, and whether the device has several.
        functions: &'static [(u32, u32, u16, bool)],
        /// The drives that are ready, by channel and place.
        drives: &'static [(u16, u8)],
        /// What was written to these ports last.
        written: Mutex<[(u16, u32); 3]>,
    }

    impl Pc {
        fn written(&self, port: u16) -> u32 {
            let written = self.written.lock().expect("nobody panics with it");
            written.iter().find(|(to, _)| *to == port).map_or(0, |(_, value)| *value)
        }

        fn read(&self, port: u16) -> u32 {
            if port == CONFIG_DATA {
                let address = self.written(CONFIG_ADDRESS);
                assert!(address & CONFIG_ENABLE != 0, "nobody is asked at {address:#x}");
                let (place, register) = ((address & !CONFIG_ENABLE) >> 8, address & 0xFF);
                // Who is all that there is of a device need not look at the number of the function.
                let is_it = |at: u32, several: bool| at == place || !several && at == place & !7;
                let function = self.functions.iter().find(|(at, _, _, several)| is_it(*at, *several));
                return match (register, function) {
                    (0, None) => NOBODY,
                    (0, Some((_, who, ..))) => *who,
                    (CLASS, Some((_, _, class, _))) => u32::from(*class) << 16 | 0x1234,
                    (HEADER, Some((.., several))) => u32::from(*several) * SEVERAL_FUNCTIONS,
                    strange => panic!("who asks {strange:?}?"),
                };
            }
            // A channel that nothing is connected to floats.
            let channel = port - STATUS;
            let mut drives = self.drives.iter().filter(|(of, _)| *of == channel).peekable();
            if drives.peek().is_none() {
                return 0xFF;
            }
            let selected = self.written(channel + SELECT);
            if drives.any(|(_, drive)| u32::from(*drive) == selected) { 0x50 } else { 0 }
        }
    }

    // SAFETY: nothing happens at these ports.
    unsafe impl Processor for Pc {
        fn cpuid(&self, leaf: u32) -> [u32; 4] {
            unreachable!("devices have no leaf, such as {leaf:#x}")
        }

        fn timestamp(&self) -> u64 {
            unreachable!("nor do they tell the time")
        }

        unsafe fn write_msr(&self, register: u32, _: u64) {
            unreachable!("nor have they a register {register:#x}")
        }

        unsafe fn read_port<W: Port>(&self, port: u16) -> W {
            W::read_from_bytes(&self.read(port).as_bytes()[..size_of::<W>()]).expect("a word has its size")
        }

        unsafe fn write_port<W: Port>(&self, port: u16, value: W) {
            let mut written = self.written.lock().expect("nobody panics with it");
            let place =
                written.iter().position(|(to, _)| [0, port].contains(to)).expect("there are three ports");
            written[place] = (port, value.into());
        }
    }

    fn seen(pc: &Pc) -> Devices {
        let mut lines = 0;
        let found = Devices::look(pc, |_| lines += 1);
        assert_eq!(lines, pc.functions.len() + 1, "each is told of, and all of them");
        found
    }

    const ALL: Devices = Devices { platforms: 1, nics: 1, disks: 1 };
    const PLATFORM_ONLY: Devices = Devices { platforms: 1, nics: 0, disks: 0 };
    const NONE: Devices = Devices { platforms: 0, nics: 0, disks: 0 };

    /// A function other than the first is found, a drive on each place of each channel, and a controller without drives
    /// is no disk.
    #[test]
    fn devices_are_counted_by_class() {
        let functions = &[
            (0o10, 0x7000_8086, 0x0601, true),
            (0o11, 0x7010_8086, IDE, false),
            (0o20, PLATFORM, 0xFF80, false),
            (0o37 << 3, 0x100E_8086, ETHERNET, false),
        ];
        let pc = |drives| Pc { functions, drives, ..Pc::default() };
        assert_eq!(seen(&pc(&[(0x1F0, 0xA0)])), ALL);
        assert_eq!(seen(&pc(&[])), Devices { disks: 0, ..ALL });
        let four: &[_] = &[(0x1F0, 0xA0), (0x1F0, 0xB0), (0x170, 0xA0), (0x170, 0xB0)];
        assert_eq!(seen(&pc(four)), Devices { disks: 4, ..ALL });
        assert_eq!(seen(&Pc::default()), NONE);
    }

    fn judged(
        kind: Kind,
        leaf: u32,
        before: Devices,
        outcome: Result<(), UnplugError>,
        after: Devices,
    ) -> bool {
        Twins { leaf, before, outcome, after, _again: None }.judge(Some(kind)).is_ok()
    }

    /// Whatever is not as the kind of guest has it is strange: a twin that was never there, one that has stayed, a
    /// platform device that went with them, and one where there is none.
    #[test]
    fn each_kind_has_its_rules() {
        const FIRST: u32 = cpuid::FIRST_LEAF;
        const NEXT: u32 = FIRST + cpuid::LEAF_STEP;
        const ABSENT: Result<(), UnplugError> = Err(UnplugError::NoProtocol(0xFFFF));
        assert!(judged(Kind::Hvm, NEXT, ALL, Ok(()), PLATFORM_ONLY));
        assert!(judged(Kind::Pvh, FIRST, NONE, ABSENT, NONE));
        for (leaf, before, outcome, after) in [
            (FIRST, ALL, Ok(()), PLATFORM_ONLY),
            (NEXT, Devices { disks: 0, ..ALL }, Ok(()), PLATFORM_ONLY),
            (NEXT, Devices { nics: 0, ..ALL }, Ok(()), PLATFORM_ONLY),
            (NEXT, ALL, ABSENT, PLATFORM_ONLY),
            (NEXT, ALL, Ok(()), Devices { disks: 0, ..ALL }),
            (NEXT, ALL, Ok(()), Devices { nics: 0, ..ALL }),
            (NEXT, ALL, Ok(()), NONE),
            (FIRST, NONE, ABSENT, NONE),
        ] {
            assert!(
                !judged(Kind::Hvm, leaf, before, outcome, after),
                "{leaf:#x} {before} {outcome:?} {after}"
            );
        }
        for (leaf, before, outcome, after) in [
            (NEXT, NONE, ABSENT, NONE),
            (FIRST, PLATFORM_ONLY, ABSENT, PLATFORM_ONLY),
            (FIRST, NONE, Ok(()), NONE),
            (FIRST, NONE, Err(UnplugError::NoProtocol(0x12)), NONE),
            (FIRST, NONE, ABSENT, ALL),
            (NEXT, ALL, Ok(()), PLATFORM_ONLY),
        ] {
            assert!(
                !judged(Kind::Pvh, leaf, before, outcome, after),
                "{leaf:#x} {before} {outcome:?} {after}"
            );
        }
        assert_eq!(
            [Kind::named("hvm"), Kind::named("pvh"), Kind::named("")],
            [Some(Kind::Hvm), Some(Kind::Pvh), None]
        );
    }
}
