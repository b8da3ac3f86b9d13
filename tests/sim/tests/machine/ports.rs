//! The unplug protocol, step by step: `docs/misc/hvm-emulated-unplug.pandoc`.
#![expect(unsafe_code, reason = "ports are")]

use xen_abi::{
    console_io::XEN_HVM_DEBUGCONS_IOPORT,
    hvm::emulated_unplug::{
        BLOCKED, CONTROL, MAGIC, PRODUCTS, UNPLUG_AUX_IDE_DISKS, UNPLUG_DISKS, UNPLUG_NICS,
        UNPLUG_NVME_DISKS, VERSION,
    },
    seam::{Port, Processor as _},
};
use xen_sim::{
    Emulated::{self, IdeDisk, Nic, NvmeDisk, PrimaryMaster, ScsiDisk},
    Guest, GuestConfig, Machine,
};

const ALL: [Emulated; 5] = [PrimaryMaster, IdeDisk, ScsiDisk, NvmeDisk, Nic];

fn guest(machine: &Machine) -> Guest {
    machine.create(GuestConfig { emulated: ALL.into(), ..GuestConfig::default() })
}

fn input<W: Port>(guest: &Guest, port: u16) -> W {
    // SAFETY: a simulated port has no effect on anything but the simulation.
    unsafe { guest.read_port(port) }
}

fn output<W: Port>(guest: &Guest, port: u16, value: W) {
    // SAFETY: as above.
    unsafe { guest.write_port(port, value) };
}

fn left(guest: &Guest) -> Vec<Emulated> {
    guest.machine().toolstack().emulated(guest).into_iter().collect()
}

/// Steps 1 to 6, as a driver does them that is welcome.
#[test]
fn all_the_steps() {
    let guest = guest(&Machine::new(1));
    assert_eq!(input::<u16>(&guest, CONTROL), MAGIC);
    assert_eq!(input::<u8>(&guest, VERSION), 1);
    output(&guest, VERSION, PRODUCTS[3].number);
    output(&guest, CONTROL, 70_000_u32);
    assert_eq!(input::<u16>(&guest, CONTROL), MAGIC);
    assert_eq!(left(&guest), ALL, "nothing has gone yet");
    output(&guest, CONTROL, UNPLUG_DISKS | UNPLUG_NICS);
    assert_eq!(left(&guest), [NvmeDisk]);
}

/// Each bit of step 6.
#[test]
fn what_goes() {
    for (mask, expected) in [
        (0, &ALL[..]),
        (UNPLUG_DISKS, &[NvmeDisk, Nic]),
        (UNPLUG_NICS, &[PrimaryMaster, IdeDisk, ScsiDisk, NvmeDisk]),
        (UNPLUG_AUX_IDE_DISKS, &[PrimaryMaster, ScsiDisk, NvmeDisk, Nic]),
        (UNPLUG_DISKS | UNPLUG_AUX_IDE_DISKS, &[NvmeDisk, Nic]),
        (UNPLUG_NVME_DISKS, &[PrimaryMaster, IdeDisk, ScsiDisk, Nic]),
        (0xFFFF, &[]),
    ] {
        let guest = guest(&Machine::new(1));
        output(&guest, CONTROL, mask);
        assert_eq!(left(&guest), expected, "{mask:#x}");
        output(&guest, CONTROL, 0_u16);
        assert_eq!(left(&guest), expected, "{mask:#x}: for good");
    }
}

/// A build that the store has a key for is told to keep out in step 5; others of the product are not, nor those of nobody.
#[test]
fn the_blacklist() {
    let machine = Machine::new(1);
    // With a `.` or a `+` in its name, there is no such path in the store: such a product is always welcome.
    let is_letter = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'-';
    let mut blocked = 0;
    for product in PRODUCTS {
        let has_path = product.name.bytes().all(is_letter);
        blocked += u32::from(has_path);
        machine.toolstack().write(&format!("/mh/driver-blacklist/{}/77", product.name), "");
        for (number, build, is_blocked) in
            [(product.number, 77, has_path), (product.number, 78, false), (0x1234, 77, false)]
        {
            let guest = guest(&machine);
            output(&guest, VERSION, number);
            output::<u32>(&guest, CONTROL, build);
            let magic = input::<u16>(&guest, CONTROL);
            assert_eq!(magic, if is_blocked { BLOCKED } else { MAGIC }, "{} {number} {build}", product.name);
            // "It is still permitted to use this logging feature".
            output(&guest, VERSION, b'x');
            output(&guest, VERSION, b'\n');
            assert_eq!(machine.toolstack().log(&guest), ["x"]);
        }
    }
    assert_eq!(blocked, 4);
    let silent = guest(&machine);
    output(&silent, CONTROL, 77_u32);
    assert_eq!(input::<u16>(&silent, CONTROL), MAGIC, "it has not said who it is");
}

/// The host's log has the lines that end; what never ends is cut, and what never stops is not kept.
#[test]
fn the_log() {
    let guest = guest(&Machine::new(1));
    let log = |text: &[u8]| text.iter().for_each(|byte| output(&guest, VERSION, *byte));
    let lines = || guest.machine().toolstack().log(&guest);
    log(b"one\n\ntwo");
    assert_eq!(lines(), ["one", ""]);
    log(b"!\n\xFF\n");
    assert_eq!(lines(), ["one", "", "two!", "\u{FFFD}"]);
    log(&[b'x'; 5000]);
    log(b"\n");
    assert_eq!(lines()[4..], ["x".repeat(4096), "x".repeat(904)]);
    log(&[b'\n'; 3000]);
    assert_eq!(lines().len(), 1024);
}

/// Xen's own log is there without a platform device, and takes what can be printed.
#[test]
fn the_log_of_xen() {
    let machine = Machine::new(1);
    let guest = machine.create(GuestConfig { has_platform: false, ..GuestConfig::default() });
    assert_eq!(input::<u8>(&guest, XEN_HVM_DEBUGCONS_IOPORT), 0xE9);
    for byte in *b"o\r\0n\xFFe\t!\n" {
        output(&guest, XEN_HVM_DEBUGCONS_IOPORT, byte);
    }
    output::<u16>(&guest, XEN_HVM_DEBUGCONS_IOPORT, 0x0A78);
    assert_eq!(machine.toolstack().xen_log(&guest), ["one\t!"]);
    assert_eq!(machine.toolstack().log(&guest), [""; 0]);
}

/// Who reads a port that nobody answers at sees all ones, whatever the width; so does everybody where there is no platform device.
#[test]
fn ports_of_nobody() {
    let machine = Machine::new(1);
    let alone =
        machine.create(GuestConfig { has_platform: false, emulated: ALL.into(), ..GuestConfig::default() });
    for (guest, ports) in
        [(&guest(&machine), &[0x0F, 0x11, 0x13, 0x80, 0xFFFF][..]), (&alone, &[CONTROL, VERSION])]
    {
        for &port in ports {
            assert_eq!(input::<u8>(guest, port), u8::MAX, "{port:#x}");
            assert_eq!(input::<u16>(guest, port), u16::MAX, "{port:#x}");
            assert_eq!(input::<u32>(guest, port), u32::MAX, "{port:#x}");
            output::<u8>(guest, port, b'\n');
            output::<u16>(guest, port, 0xFFFF);
            output::<u32>(guest, port, 0xFFFF_FFFF);
        }
        assert_eq!(left(guest), ALL);
        assert_eq!(machine.toolstack().log(guest), [""; 0]);
    }
    // The right port in the wrong width.
    let guest = guest(&machine);
    assert_eq!(input::<u8>(&guest, CONTROL), u8::MAX);
    assert_eq!(input::<u32>(&guest, CONTROL), u32::MAX);
    assert_eq!(input::<u16>(&guest, VERSION), u16::MAX);
    output::<u8>(&guest, CONTROL, 0xFF);
    output::<u32>(&guest, VERSION, 0xFFFF_FFFF);
    assert_eq!(left(&guest), ALL);
}
