//! A consumer of the FIFO ABI, written from its description, against random events.
//!
//! It takes `ready`, and from each queue, the highest priority first, one port after the other: it clears LINKED and
//! LINK in the port's word, and goes on where LINK said. Zero was the end: the next time it begins with the head.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use xen_abi::{
    domid::DomId,
    event_channel::fifo::{
        EVENT_WORDS, EVTCHN_FIFO_LINK_MASK, EVTCHN_FIFO_LINKED, EVTCHN_FIFO_MASKED, EVTCHN_FIFO_PENDING,
        HEAD, READY,
    },
    seam::{Access, Place},
};
use xen_sim::{Dice, GuestConfig, GuestFrame};

use crate::{
    fifo::{expand, init_control, set_priority},
    support::{Lab, UPCALL_PENDING, Vm},
};

const DOM0: DomId = DomId(0);
const PENDING: u32 = 1 << EVTCHN_FIFO_PENDING;
const MASKED: u32 = 1 << EVTCHN_FIFO_MASKED;
const LINKED: u32 = 1 << EVTCHN_FIFO_LINKED;

/// A guest that drains its queues in its interrupt handler.
struct Consumer {
    control: Vec<GuestFrame>,
    infos: Vec<GuestFrame>,
    array: Vec<GuestFrame>,
    /// Where each queue goes on: by virtual CPU and priority.
    heads: Mutex<BTreeMap<(u32, u32), u32>>,
    seen: Mutex<Vec<u32>>,
}

impl Consumer {
    fn new(vm: &Vm, pages: usize) -> Arc<Self> {
        let vcpus = || vm.vcpus.iter();
        let consumer = Arc::new(Self {
            control: vcpus().map(|_| vm.page()).collect(),
            infos: vcpus().map(|vcpu| vm.move_info(*vcpu)).collect(),
            array: (0..pages).map(|_| vm.page()).collect(),
            heads: Mutex::default(),
            seen: Mutex::default(),
        });
        for vcpu in vcpus() {
            init_control(vm, *vcpu, consumer.control[*vcpu as usize].gfn(), 0).unwrap();
            vm.set_vector(*vcpu, 0x40).unwrap();
        }
        for page in &consumer.array {
            expand(vm, page.gfn()).unwrap();
        }
        let handler = consumer.clone();
        vm.guest.on_upcall(move |vcpu, _| handler.upcall(vcpu));
        vm.settle();
        consumer
    }

    fn word(&self, port: u32) -> (&GuestFrame, Place<u32>) {
        (&self.array[port as usize / 1024], EVENT_WORDS.get(port as usize % 1024).unwrap())
    }

    fn mask(&self, port: u32) {
        let (page, word) = self.word(port);
        page.fetch_or(word, MASKED);
    }

    fn upcall(&self, vcpu: u32) {
        while self.infos[vcpu as usize].swap(UPCALL_PENDING, 0) != 0 {
            let mut ready = self.control[vcpu as usize].swap(READY, 0);
            while ready != 0 {
                let priority = ready.trailing_zeros();
                if self.take(vcpu, priority) {
                    ready &= !(1 << priority);
                }
                // A queue of a higher priority may have got something.
                ready |= self.control[vcpu as usize].swap(READY, 0);
            }
        }
    }

    /// Takes the first port off a queue, and says whether it was the last.
    fn take(&self, vcpu: u32, priority: u32) -> bool {
        let mut heads = self.heads.lock().unwrap();
        let head = heads.entry((vcpu, priority)).or_default();
        if *head == 0 {
            *head = self.control[vcpu as usize].load(HEAD.get(priority as usize).unwrap());
        }
        let port = *head;
        let (page, place) = self.word(port);
        let old = page.fetch_and(place, !(LINKED | EVTCHN_FIFO_LINK_MASK));
        assert_ne!(old & LINKED, 0, "port {port} is not in the queue that it was found in");
        *head = old & EVTCHN_FIFO_LINK_MASK;
        if old & (PENDING | MASKED) == PENDING {
            page.fetch_and(place, !PENDING);
            self.seen.lock().unwrap().push(port);
        }
        *head == 0
    }
}

/// What was sent and not yet seen.
#[derive(Default)]
struct Model {
    due: BTreeSet<u32>,
}

impl Model {
    fn check(&mut self, consumer: &Consumer, seed: u64) {
        for port in consumer.seen.lock().unwrap().drain(..) {
            assert!(self.due.remove(&port), "seed {seed}: port {port} was not sent to");
        }
    }
}

/// Sends, masks, unmasks, moves from queue to queue, closes and binds at random: after each event the guest sees its
/// port once at least, unless that is masked or closed; and it sees none that was not sent.
#[test]
fn no_event_is_lost_and_none_is_invented() {
    for seed in 0..40 {
        let lab = Lab::new();
        let (vm, dom0) = (lab.guest(4), lab.machine.dom0());
        let consumer = Consumer::new(&vm, 1);
        let connect = || {
            let port = vm.alloc(DOM0).unwrap();
            (port, dom0.bind_interdomain(&vm.guest, port).unwrap())
        };
        let mut ports: Vec<(u32, u32)> = (0..60).map(|_| connect()).collect();
        let mut masked = BTreeSet::new();
        let mut model = Model::default();
        let mut dice = Dice::new(seed);
        let small = |dice: &mut Dice, below| u32::try_from(dice.below(below)).unwrap();
        for _ in 0..4_000 {
            let index = usize::try_from(dice.below(ports.len() as u64)).unwrap();
            let (port, backend) = ports[index];
            match dice.below(12) {
                0 => {
                    consumer.mask(port);
                    masked.insert(port);
                }
                1 => {
                    vm.unmask(port).unwrap();
                    masked.remove(&port);
                }
                2 => vm.bind_vcpu(port, small(&mut dice, 4)).unwrap(),
                3 => set_priority(&vm, port, small(&mut dice, 16)).unwrap(),
                4 => {
                    vm.close(port).unwrap();
                    dom0.close(backend).unwrap();
                    model.due.remove(&port);
                    ports[index] = connect();
                    // A port keeps the mask that its predecessor had.
                    vm.unmask(ports[index].0).unwrap();
                    masked.remove(&ports[index].0);
                }
                5 | 6 => vm.step(),
                _ => {
                    dom0.send(backend).unwrap();
                    model.due.insert(port);
                }
            }
            model.check(&consumer, seed);
        }
        let open: BTreeSet<u32> = ports.iter().map(|(port, _)| *port).collect();
        masked.intersection(&open).for_each(|port| vm.unmask(*port).unwrap());
        vm.settle();
        model.check(&consumer, seed);
        assert_eq!(model.due, BTreeSet::new(), "seed {seed}: these were never seen");
    }
}

/// Higher priorities first, and within one in the order in which they came.
#[test]
fn events_come_in_order() {
    let vm = Lab::new().guest(1);
    let consumer = Consumer::new(&vm, 1);
    let ports: Vec<u32> = (0..160).map(|_| vm.bind_ipi(0).unwrap()).collect();
    for port in &ports {
        set_priority(&vm, *port, (port * 7) % 16).unwrap();
        vm.send(*port).unwrap();
    }
    vm.settle();
    let mut expected = ports;
    expected.sort_by_key(|port| (port * 7) % 16);
    assert_eq!(*consumer.seen.lock().unwrap(), expected);
}

/// The largest guest there is: each virtual CPU hears its own IPI, and no other's.
#[test]
fn all_512_vcpus() {
    let lab = Lab::new();
    let vm = lab.build(GuestConfig { vcpus: (0..512).collect(), ..GuestConfig::default() });
    let consumer = Consumer::new(&vm, 1);
    let ports: Vec<u32> = (0..512).map(|vcpu| vm.bind_ipi(vcpu).unwrap()).collect();
    for port in ports.iter().rev() {
        vm.send(*port).unwrap();
        vm.settle();
        assert_eq!(std::mem::take(&mut *consumer.seen.lock().unwrap()), [*port]);
    }
}
