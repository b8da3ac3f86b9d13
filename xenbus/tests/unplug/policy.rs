//! Which devices are to go.
#![forbid(unsafe_code)]

use xenbus::unplug::{Devices, Policy, Wish};

/// Every case there is. A guest loses an emulated device only to an operator, or to one of its own drivers that has a
/// device of the class; and the disk that it boots from in no case, if it is to go on with it.
#[test]
fn every_policy() {
    let wishes = [
        (Wish::Stay, false),
        (Wish::Asked { has_other: false }, false),
        (Wish::Asked { has_other: true }, true),
        (Wish::Forced, true),
    ];
    for (disks, disks_go) in wishes {
        for (nics, nics_go) in wishes {
            for boot_emulated in [false, true] {
                let policy = Policy { disks, nics, boot_emulated };
                let expected = match (disks_go, boot_emulated) {
                    (true, true) => 0b0100,
                    (true, false) => 0b1001,
                    (false, _) => 0,
                };
                let expected = expected | if nics_go { 0b0010 } else { 0 };
                assert_eq!(policy.devices().bits(), expected, "{policy:?}");
            }
        }
    }
    assert_eq!(Policy::default().devices(), Devices::empty(), "nobody has asked for anything");
}
