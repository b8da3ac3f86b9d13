//! The two-level ABI, as the header tells it: pending, mask, selector, upcall.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use xen_abi::{
    domid::DomId,
    seam::Access,
    shared_info::{EVTCHN_MASK, EVTCHN_PENDING, VCPU_INFO},
};
use xen_sim::{Dice, GuestFrame};

use crate::support::{Lab, PENDING_SEL, UPCALL_PENDING, Vm, bits};

const DOM0: DomId = DomId(0);

fn word(port: u32) -> usize {
    (port / 64) as usize
}

fn bit(port: u32) -> u64 {
    1 << (port % 64)
}

pub(crate) fn is_pending(shared: &GuestFrame, port: u32) -> bool {
    shared.load(EVTCHN_PENDING.get(word(port)).unwrap()) & bit(port) != 0
}

fn mask(shared: &GuestFrame, port: u32) {
    shared.fetch_or(EVTCHN_MASK.get(word(port)).unwrap(), bit(port));
}

/// Upcall and selector of one of the first 32 virtual CPUs.
fn upcall(shared: &GuestFrame, vcpu: usize) -> (u8, u64) {
    let pending = shared.load(VCPU_INFO.evtchn_upcall_pending.get(vcpu).unwrap());
    (pending, shared.load(VCPU_INFO.evtchn_pending_sel.get(vcpu).unwrap()))
}

fn clear_upcall(shared: &GuestFrame, vcpu: usize) {
    shared.store(VCPU_INFO.evtchn_upcall_pending.get(vcpu).unwrap(), 0);
    shared.store(VCPU_INFO.evtchn_pending_sel.get(vcpu).unwrap(), 0);
}

/// An event goes up all four levels, to the virtual CPU that the port is bound to.
#[test]
fn an_event_goes_all_the_way_up() {
    let vm = Lab::new().guest(32);
    let shared = vm.shared_info();
    let ports: Vec<u32> = (0..100).map(|port| vm.bind_ipi(port % 32).unwrap()).collect();
    let port = ports[93];
    vm.send(port).unwrap();
    assert!(is_pending(&shared, port));
    assert_eq!(upcall(&shared, 93 % 32), (1, 1 << (port / 64)));
    for vcpu in (0..32).filter(|vcpu| *vcpu != 93 % 32) {
        assert_eq!(upcall(&shared, vcpu), (0, 0), "vCPU {vcpu}");
    }
}

/// The first bit that is found set ends the way up: whoever set it has made the upcall. A guest that takes an upcall
/// without looking at its selector loses the event, here as on a real Xen.
#[test]
fn a_set_bit_stops_an_event() {
    let vm = Lab::new().guest(1);
    let shared = vm.shared_info();
    let (port, neighbour) = (vm.bind_ipi(0).unwrap(), vm.bind_ipi(0).unwrap());
    vm.send(port).unwrap();
    clear_upcall(&shared, 0);
    vm.send(port).unwrap();
    assert_eq!(upcall(&shared, 0), (0, 0), "the port was pending");
    shared.store(VCPU_INFO.evtchn_pending_sel.get(0).unwrap(), 1);
    vm.send(neighbour).unwrap();
    assert!(is_pending(&shared, neighbour));
    assert_eq!(upcall(&shared, 0), (0, 1), "the selector was set");
}

/// A masked port becomes pending and nothing else. Unmasking by hypercall makes up for it, and by the guest's own
/// hand does not.
#[test]
fn a_mask_keeps_an_event_quiet() {
    let vm = Lab::new().guest(1);
    let shared = vm.shared_info();
    let port = vm.bind_ipi(0).unwrap();
    mask(&shared, port);
    vm.send(port).unwrap();
    assert!(is_pending(&shared, port));
    assert_eq!(upcall(&shared, 0), (0, 0));
    vm.unmask(port).unwrap();
    assert_eq!(shared.load(EVTCHN_MASK.get(0).unwrap()) & bit(port), 0);
    assert_eq!(upcall(&shared, 0), (1, 1));
    clear_upcall(&shared, 0);
    vm.unmask(port).unwrap();
    assert_eq!(upcall(&shared, 0), (0, 0), "it was not masked");
    shared.store(EVTCHN_PENDING.get(0).unwrap(), 0);
    mask(&shared, port);
    vm.unmask(port).unwrap();
    assert_eq!(upcall(&shared, 0), (0, 0), "it was not pending");
}

/// An event that came while the port was on one virtual CPU stays there; the next goes to the other.
#[test]
fn the_selector_is_that_of_the_ports_vcpu() {
    let lab = Lab::new();
    let (vm, dom0) = (lab.guest(2), lab.machine.dom0());
    let shared = vm.shared_info();
    let port = vm.alloc(DOM0).unwrap();
    let backend = dom0.bind_interdomain(&vm.guest, port).unwrap();
    dom0.send(backend).unwrap();
    vm.bind_vcpu(port, 1).unwrap();
    assert_eq!([upcall(&shared, 0).0, upcall(&shared, 1).0], [1, 0]);
    shared.store(EVTCHN_PENDING.get(0).unwrap(), 0);
    dom0.send(backend).unwrap();
    assert_eq!([upcall(&shared, 0).0, upcall(&shared, 1).0], [1, 1]);
}

/// Whatever a guest writes into the page, Xen goes on.
#[test]
fn garbage_in_the_shared_info_page() {
    let lab = Lab::new();
    let vm = lab.guest(4);
    let shared = vm.shared_info();
    let ports: Vec<u32> = (0..200).map(|port| vm.bind_ipi(port % 4).unwrap()).collect();
    let mut dice = Dice::new(7);
    for _ in 0..2_000 {
        let mut bytes = [0; 64];
        dice.fill(&mut bytes);
        let offset = usize::try_from(dice.below(4096 - 64)).unwrap();
        shared.write_bytes(offset, &bytes).unwrap();
        let port = *dice.choose(&ports).unwrap();
        vm.send(port).unwrap();
        assert!(is_pending(&shared, port));
        vm.unmask(port).unwrap();
    }
}

/// The guest of the model: it drains its virtual CPUs in its interrupt handler.
struct Drain {
    shared: GuestFrame,
    infos: Vec<GuestFrame>,
    seen: Mutex<Vec<u32>>,
}

impl Drain {
    fn upcall(&self, vcpu: u32) {
        let info = &self.infos[vcpu as usize];
        while info.swap(UPCALL_PENDING, 0) != 0 {
            for index in bits(info.swap(PENDING_SEL, 0)) {
                self.word(usize::try_from(index).unwrap());
            }
        }
    }

    fn word(&self, index: usize) {
        let (pending, masked) = (EVTCHN_PENDING.get(index).unwrap(), EVTCHN_MASK.get(index).unwrap());
        for bit in bits(self.shared.load(pending) & !self.shared.load(masked)) {
            self.shared.fetch_and::<u64>(pending, !(1 << bit));
            self.seen.lock().unwrap().push(u32::try_from(index * 64).unwrap() + bit);
        }
    }
}

/// Sends, masks, unmasks and moves at random: after each event the guest sees its port once at least, unless that is
/// masked; and it sees none that was not sent.
#[test]
fn no_event_is_lost_and_none_is_invented() {
    for seed in 0..20 {
        let lab = Lab::new();
        let (vm, dom0) = (lab.guest(4), lab.machine.dom0());
        let infos = (0..4).map(|vcpu| vm.move_info(vcpu)).collect();
        let drain = Arc::new(Drain { shared: vm.shared_info(), infos, seen: Mutex::default() });
        install(&vm, &drain);
        let ports: Vec<(u32, u32)> = (0..150)
            .map(|_| {
                let port = vm.alloc(DOM0).unwrap();
                (port, dom0.bind_interdomain(&vm.guest, port).unwrap())
            })
            .collect();
        let (mut due, mut masked) = (BTreeSet::new(), BTreeSet::new());
        let mut dice = Dice::new(seed);
        for _ in 0..3_000 {
            let (port, backend) = *dice.choose(&ports).unwrap();
            match dice.below(8) {
                0 => {
                    mask(&drain.shared, port);
                    masked.insert(port);
                }
                1 => {
                    vm.unmask(port).unwrap();
                    masked.remove(&port);
                }
                2 => vm.bind_vcpu(port, u32::try_from(dice.below(4)).unwrap()).unwrap(),
                3 => vm.step(),
                _ => {
                    dom0.send(backend).unwrap();
                    due.insert(port);
                }
            }
            for port in drain.seen.lock().unwrap().drain(..) {
                assert!(due.remove(&port), "seed {seed}: port {port} was not sent to");
            }
        }
        for port in masked {
            vm.unmask(port).unwrap();
        }
        vm.settle();
        for port in drain.seen.lock().unwrap().drain(..) {
            assert!(due.remove(&port), "seed {seed}: port {port} was not sent to");
        }
        assert_eq!(due, BTreeSet::new(), "seed {seed}: these were never seen");
    }
}

fn install(vm: &Vm, drain: &Arc<Drain>) {
    for vcpu in 0..4 {
        vm.set_vector(vcpu, 0x30).unwrap();
    }
    let handler = drain.clone();
    vm.guest.on_upcall(move |vcpu, _| handler.upcall(vcpu));
    vm.settle();
}
