//! Events that come late, twice or never.
#![forbid(unsafe_code)]

use std::time::Duration;

use xen_abi::{domid::DomId, seam::Access, shared_info::EVTCHN_PENDING};
use xen_sim::{Dom0, EventFault, GuestFrame};

use crate::support::{Lab, Vm};

const DOM0: DomId = DomId(0);
const LATER: Duration = Duration::from_millis(10);

struct Wire {
    lab: Lab,
    vm: Vm,
    dom0: Dom0,
    shared: GuestFrame,
    port: u32,
    backend: u32,
}

impl Wire {
    fn new() -> Self {
        let lab = Lab::new();
        let (vm, dom0) = (lab.guest(1), lab.machine.dom0());
        let (shared, port) = (vm.shared_info(), vm.alloc(DOM0).unwrap());
        let backend = dom0.bind_interdomain(&vm.guest, port).unwrap();
        Self { lab, vm, dom0, shared, port, backend }
    }

    fn send(&self) -> bool {
        self.dom0.send(self.backend).unwrap();
        self.came()
    }

    /// Whether an event came since the last time.
    fn came(&self) -> bool {
        let bit = 1_u64 << self.port;
        self.shared.fetch_and(EVTCHN_PENDING.get(0).unwrap(), !bit) & bit != 0
    }
}

/// The one that was asked for is lost, and no other.
#[test]
fn dropped() {
    let wire = Wire::new();
    wire.dom0.fault(&wire.vm.guest, 3, EventFault::Drop);
    assert_eq!([(); 5].map(|()| wire.send()), [true, true, false, true, true]);
    wire.lab.pass(Duration::from_secs(100));
    assert!(!wire.came());
}

/// It comes, and comes again.
#[test]
fn duplicated() {
    let wire = Wire::new();
    wire.dom0.fault(&wire.vm.guest, 1, EventFault::Duplicate(LATER));
    assert!(wire.send());
    wire.lab.pass(LATER.saturating_sub(Duration::from_nanos(1)));
    assert!(!wire.came());
    wire.lab.pass(Duration::from_nanos(1));
    assert!(wire.came());
    wire.lab.pass(LATER * 10);
    assert!(!wire.came());
}

/// It comes late, behind others that were sent after it.
#[test]
fn delayed() {
    let wire = Wire::new();
    wire.dom0.fault(&wire.vm.guest, 1, EventFault::Delay(LATER));
    wire.dom0.fault(&wire.vm.guest, 2, EventFault::Delay(2 * LATER));
    assert_eq!([(); 3].map(|()| wire.send()), [false, false, true]);
    wire.lab.pass(LATER);
    assert!(wire.came());
    wire.lab.pass(LATER);
    assert!(wire.came());
}

/// An event that is late does not come to another channel that has got the port's number meanwhile.
#[test]
fn a_late_event_of_a_channel_that_is_gone() {
    let wire = Wire::new();
    wire.dom0.fault(&wire.vm.guest, 1, EventFault::Delay(LATER));
    assert!(!wire.send());
    wire.vm.close(wire.port).unwrap();
    assert_eq!(wire.vm.bind_ipi(0), Ok(wire.port));
    wire.lab.pass(LATER);
    assert!(!wire.came());
}
