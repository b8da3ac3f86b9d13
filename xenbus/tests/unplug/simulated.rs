//! Emulated devices of a simulated guest.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use xen_abi::sched::SHUTDOWN_SUSPEND;
use xen_sim::{
    Emulated::{self, IdeDisk, Nic, NvmeDisk, PrimaryMaster, ScsiDisk},
    Guest, GuestConfig, Machine, Suspend,
};
use xenbus::{
    hypercall::sched,
    unplug::{Devices, PRODUCT, PortLog, Unplug, UnplugError},
};

const ALL: [Emulated; 5] = [PrimaryMaster, IdeDisk, ScsiDisk, NvmeDisk, Nic];
const BUILD: u32 = 70_000;

fn guest(machine: &Machine, has_platform: bool) -> Guest {
    machine.create(GuestConfig { has_platform, emulated: ALL.into(), ..GuestConfig::default() })
}

fn left(guest: &Guest) -> BTreeSet<Emulated> {
    guest.machine().toolstack().emulated(guest)
}

/// Each set of classes: what is of one of them goes, and nothing else; and to do it again takes nothing more.
#[test]
fn what_goes() {
    for devices in (0..16).map(Devices::from_bits_truncate) {
        let guest = guest(&Machine::new(1), true);
        let unplug = Unplug::new(devices, BUILD);
        assert_eq!(unplug.devices(), devices);
        let stays = |device: &Emulated| {
            !devices.intersects(match device {
                PrimaryMaster | ScsiDisk => Devices::DISKS,
                IdeDisk => Devices::DISKS | Devices::AUX_IDE_DISKS,
                NvmeDisk => Devices::NVME_DISKS,
                Nic => Devices::NICS,
            })
        };
        let expected: BTreeSet<_> = ALL.into_iter().filter(stays).collect();
        for _once_and_again in 0..2 {
            assert_eq!(unplug.execute(&guest), Ok(()));
            assert_eq!(left(&guest), expected, "{devices:?}");
        }
    }
}

/// A host that does not want this build says so, and keeps all devices plugged in; another build is welcome, and the
/// one that was refused still has its log.
#[test]
fn a_host_that_refuses() {
    let machine = Machine::new(1);
    let key = format!("/mh/driver-blacklist/{}/{BUILD}", PRODUCT.name);
    machine.toolstack().write(&key, "");
    let refused = guest(&machine, true);
    let blocked = UnplugError::Blocked { product: PRODUCT, build: BUILD };
    assert_eq!(Unplug::new(Devices::all(), BUILD).execute(&refused), Err(blocked));
    // Now another, whatever its number: a host that has refused does not change its mind.
    assert_eq!(Unplug::new(Devices::all(), BUILD + 1).execute(&refused), Err(UnplugError::BlockedBefore));
    assert_eq!(left(&refused), ALL.into());
    assert!(blocked.to_string().contains(&key), "{blocked}");
    drop(PortLog::of_the_device_model(&refused).expect("it may still log").line());
    assert_eq!(machine.toolstack().log(&refused), [""]);

    let welcome = guest(&machine, true);
    assert_eq!(Unplug::new(Devices::all(), BUILD + 1).execute(&welcome), Ok(()));
    assert_eq!(left(&welcome), [].into());
}

/// Without a platform device there is nobody to ask, and nothing happens.
#[test]
fn without_a_platform_device() {
    let guest = guest(&Machine::new(1), false);
    let outcome = Unplug::new(Devices::all(), BUILD).execute(&guest);
    assert_eq!(outcome, Err(UnplugError::NoProtocol(0xFFFF)));
    assert_eq!(left(&guest), ALL.into());
}

/// What resumes a guest does it again, with the value from before the suspend, and Xen has no complaint.
#[test]
fn again_after_a_migration() {
    let machine = Machine::new(1);
    let guest = guest(&machine, true);
    let unplug = Unplug::new(Devices::DISKS | Devices::NICS, BUILD);
    assert_eq!(unplug.execute(&guest), Ok(()));
    machine.toolstack().expect_suspend(&guest, Suspend::Migrated);
    assert_eq!(sched::shutdown(&guest, SHUTDOWN_SUSPEND), Ok(false), "a new domain");
    assert_eq!(left(&guest), ALL.into(), "another device model");
    assert_eq!(unplug.execute(&guest), Ok(()));
    assert_eq!(left(&guest), [NvmeDisk].into());
    let audit = machine.audit(&guest);
    assert!(audit.is_clean(), "{audit}");
}
