//! Ports that are made up, at which anybody may answer.
#![expect(unsafe_code, reason = "a processor of a test's own")]

use std::sync::Mutex;

use xen_abi::{
    hvm::emulated_unplug::{BLOCKED, CONTROL, MAGIC, VERSION},
    seam::{Port, Processor},
};
use xenbus::unplug::{Devices, PRODUCT, PortLog, Unplug, UnplugError};
use zerocopy::IntoBytes as _;

const BUILD: u32 = 0x0102_0304;
const UNPLUG: Unplug = Unplug::new(Devices::DISKS.union(Devices::NICS), BUILD);

/// What was done to a port: which, how many bytes, and what was written if it was not read.
type Done = (u16, usize, Option<u32>);

const READ_MAGIC: Done = (CONTROL, 2, None);
const READ_VERSION: Done = (VERSION, 1, None);
const TELL_PRODUCT: Done = (VERSION, 2, Some(0xFFFF));
const TELL_BUILD: Done = (CONTROL, 4, Some(BUILD));
const TELL_DEVICES: Done = (CONTROL, 2, Some(3));

/// The other end: what its magic numbers are, read after read, and its version.
struct Ports<'a> {
    magic: &'a [u16],
    version: u8,
    done: Mutex<Vec<Done>>,
}

impl Ports<'_> {
    fn done(self) -> Vec<Done> {
        self.done.into_inner().expect("nobody panics with it")
    }
}

// SAFETY: nothing happens at these ports.
unsafe impl Processor for Ports<'_> {
    fn cpuid(&self, leaf: u32) -> [u32; 4] {
        unreachable!("ports are found without leaf {leaf:#x}")
    }

    fn timestamp(&self) -> u64 {
        unreachable!("nor by the time")
    }

    unsafe fn write_msr(&self, register: u32, _: u64) {
        unreachable!("nor by a register, {register:#x}")
    }

    unsafe fn read_port<W: Port>(&self, port: u16) -> W {
        let mut done = self.done.lock().expect("nobody panics with it");
        let reads = done.iter().filter(|done| **done == READ_MAGIC).count();
        done.push((port, size_of::<W>(), None));
        let answer = match (port, size_of::<W>()) {
            (CONTROL, 2) => self.magic[reads].into(),
            (VERSION, 1) => self.version.into(),
            _ => u32::MAX,
        };
        W::read_from_bytes(&answer.as_bytes()[..size_of::<W>()]).expect("a word has its size")
    }

    unsafe fn write_port<W: Port>(&self, port: u16, value: W) {
        self.done.lock().expect("nobody panics with it").push((port, size_of::<W>(), Some(value.into())));
    }
}

/// What comes of it, and what was done.
fn execute(magic: &[u16], version: u8) -> (Result<(), UnplugError>, Vec<Done>) {
    let ports = Ports { magic, version, done: Mutex::default() };
    let outcome = UNPLUG.execute(&ports);
    (outcome, ports.done())
}

/// Steps 1 to 6 of the document, in their order and widths; from version 0, which asks nobody who he is, the short way.
#[test]
fn the_steps_of_the_protocol() {
    for version in [1, 2, u8::MAX] {
        let (outcome, done) = execute(&[MAGIC, MAGIC], version);
        assert_eq!(outcome, Ok(()));
        let steps = [READ_MAGIC, READ_VERSION, TELL_PRODUCT, TELL_BUILD, READ_MAGIC, TELL_DEVICES];
        assert_eq!(done, steps, "version {version}");
    }
    let (outcome, done) = execute(&[MAGIC], 0);
    assert_eq!((outcome, &done[..]), (Ok(()), &[READ_MAGIC, READ_VERSION, TELL_DEVICES][..]));
}

/// Whatever else answers there is left alone: nothing is written, not even to its log.
#[test]
fn nobody_else_is_written_to() {
    for magic in (0..=u16::MAX).filter(|magic| ![MAGIC, BLOCKED].contains(magic)) {
        let (outcome, done) = execute(&[magic], 1);
        assert_eq!((outcome, &done[..]), (Err(UnplugError::NoProtocol(magic)), &[READ_MAGIC][..]));
        let ports = Ports { magic: &[magic], version: 1, done: Mutex::default() };
        assert_eq!(PortLog::of_the_device_model(&ports).err(), Some(magic));
        assert_eq!(ports.done(), [READ_MAGIC]);
    }
}

/// The host's refusal is honoured, whenever it is said: before the drivers have said who they are, or because of it. So
/// is a device that is gone in between.
#[test]
fn a_refusal_is_honoured() {
    let (outcome, done) = execute(&[BLOCKED], 1);
    assert_eq!((outcome, &done[..]), (Err(UnplugError::BlockedBefore), &[READ_MAGIC][..]));

    let told = [READ_MAGIC, READ_VERSION, TELL_PRODUCT, TELL_BUILD, READ_MAGIC];
    let blocked = UnplugError::Blocked { product: PRODUCT, build: BUILD };
    for (second, error) in [(BLOCKED, blocked), (0xFFFF, UnplugError::NoProtocol(0xFFFF))] {
        let (outcome, done) = execute(&[MAGIC, second], 1);
        assert_eq!((outcome, &done[..]), (Err(error), &told[..]));
    }
}

/// The number that the host is told is on the public list, and is no other product's.
#[test]
fn the_product_is_nobody_elses() {
    assert_eq!((PRODUCT.name, PRODUCT.number), ("experimental", 0xFFFF));
}

/// An operator finds in the words the port's answer, or the key that refuses the drivers.
#[test]
fn errors_say_what_to_do() {
    for (error, words) in [
        (UnplugError::NoProtocol(0x0012), ["0x0012 instead of 0x49d2", "platform device"]),
        (UnplugError::BlockedBefore, ["already", "rebooted"]),
        (
            UnplugError::Blocked { product: PRODUCT, build: 77 },
            ["/mh/driver-blacklist/experimental/77", "other drivers"],
        ),
    ] {
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}
