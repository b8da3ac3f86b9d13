//! The FIFO ABI: its set-up, and single events through it.
#![forbid(unsafe_code)]

use xen_abi::{
    Errno,
    domid::{DOMID_SELF, DomId},
    event_channel::{
        Channel, EVTCHN_2L_NR_CHANNELS, EVTCHNOP_EXPAND_ARRAY, EVTCHNOP_INIT_CONTROL, EVTCHNOP_SET_PRIORITY,
        EvtchnPort,
        fifo::{
            EVENT_WORDS, EVTCHN_FIFO_BUSY, EVTCHN_FIFO_LINK_MASK, EVTCHN_FIFO_LINKED, EVTCHN_FIFO_MASKED,
            EVTCHN_FIFO_NR_CHANNELS, EVTCHN_FIFO_PENDING, ExpandArray, HEAD, InitControl, READY, SetPriority,
        },
    },
    seam::{Access, Gfn},
};
use xen_sim::{Dice, GuestConfig, GuestFrame};

use crate::support::{Lab, Outcome, UPCALL_PENDING, Vm};

const DOM0: DomId = DomId(0);
const PENDING: u32 = 1 << EVTCHN_FIFO_PENDING;
const MASKED: u32 = 1 << EVTCHN_FIFO_MASKED;
const LINKED: u32 = 1 << EVTCHN_FIFO_LINKED;
/// The queue of a new port.
const DEFAULT: usize = 7;

pub(crate) fn init_control(vm: &Vm, vcpu: u32, Gfn(control_gfn): Gfn, offset: u32) -> Outcome<u8> {
    let at = InitControl { control_gfn, offset, vcpu, ..Default::default() };
    Ok(vm.event(EVTCHNOP_INIT_CONTROL, at)?.link_bits)
}

pub(crate) fn expand(vm: &Vm, Gfn(array_gfn): Gfn) -> Outcome<()> {
    vm.event(EVTCHNOP_EXPAND_ARRAY, ExpandArray { array_gfn }).map(drop)
}

pub(crate) fn set_priority(vm: &Vm, port: u32, priority: u32) -> Outcome<()> {
    vm.event(EVTCHNOP_SET_PRIORITY, SetPriority { port: EvtchnPort(port), priority }).map(drop)
}

fn word(array: &GuestFrame, port: u32) -> u32 {
    array.load(EVENT_WORDS.get(port as usize).unwrap())
}

fn head(control: &GuestFrame, queue: usize) -> u32 {
    control.load(HEAD.get(queue).unwrap())
}

/// A guest with control blocks for its virtual CPUs, and words for its first 1024 ports.
struct Fifo {
    lab: Lab,
    vm: Vm,
    control: Vec<GuestFrame>,
    array: GuestFrame,
}

impl Fifo {
    fn new(vcpus: u32) -> Self {
        let lab = Lab::new();
        let vm = lab.guest(vcpus);
        let control: Vec<_> = (0..vcpus).map(|_| vm.page()).collect();
        for (vcpu, control) in (0..).zip(&control) {
            assert_eq!(init_control(&vm, vcpu, control.gfn(), 0), Ok(17), "a link has 17 bits");
        }
        let array = vm.page();
        expand(&vm, array.gfn()).unwrap();
        Self { lab, vm, control, array }
    }

    fn word(&self, port: u32) -> u32 {
        word(&self.array, port)
    }

    fn set_word(&self, port: u32, value: u32) {
        self.array.store(EVENT_WORDS.get(port as usize).unwrap(), value);
    }

    /// Takes a port off its queue, and its event with it.
    fn take(&self, port: u32) {
        self.array.fetch_and(EVENT_WORDS.get(port as usize).unwrap(), MASKED);
    }

    fn ready(&self, vcpu: usize) -> u32 {
        self.control[vcpu].load(READY)
    }
}

/// Each thing that can be wrong with a control block.
#[test]
fn control_blocks() {
    let vm = Lab::new().guest(2);
    let (Gfn(missing), page) = (Gfn(0x9999_9999), vm.page());
    assert_eq!(init_control(&vm, 2, page.gfn(), 1), Err(Errno::ENOENT), "the vCPU comes first");
    for offset in [1, 4, 4025, 4028, 4032, 4096, u32::MAX, u32::MAX - 7] {
        assert_eq!(init_control(&vm, 0, page.gfn(), offset), Err(Errno::EINVAL), "{offset}");
    }
    assert_eq!(init_control(&vm, 0, Gfn(missing), 0), Err(Errno::EINVAL));
    assert_eq!(expand(&vm, page.gfn()), Err(Errno::EOPNOTSUPP), "it has not gone over yet");
    assert_eq!(init_control(&vm, 0, page.gfn(), 4024), Ok(17), "the last place that there is");
    assert_eq!(init_control(&vm, 0, page.gfn(), 0), Err(Errno::EINVAL), "it is set for good");
    assert_eq!(init_control(&vm, 1, Gfn(missing), 0), Err(Errno::EINVAL));
    assert_eq!(init_control(&vm, 1, page.gfn(), 0), Ok(17), "two in a page");
}

/// A block that begins in the middle of its page, as drivers that keep them with other things have it.
#[test]
fn a_control_block_at_the_end_of_its_page() {
    let vm = Lab::new().guest(1);
    let (control, array) = (vm.page(), vm.page());
    init_control(&vm, 0, control.gfn(), 4024).unwrap();
    expand(&vm, array.gfn()).unwrap();
    let port = vm.bind_ipi(0).unwrap();
    vm.send(port).unwrap();
    let mut block = [0; 72];
    control.read_bytes(4024, &mut block).unwrap();
    let words: Vec<u32> = block.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
    assert_eq!((words[0], words[2 + DEFAULT]), (1 << DEFAULT, port));
}

/// The array has 128 pages, which are 2^17 ports.
#[test]
fn the_event_array() {
    let vm = Lab::new().guest(1);
    init_control(&vm, 0, vm.page().gfn(), 0).unwrap();
    assert_eq!(expand(&vm, Gfn(0x9999_9999)), Err(Errno::EINVAL));
    for page in 0..EVTCHN_FIFO_NR_CHANNELS / 1024 {
        assert_eq!(expand(&vm, vm.page().gfn()), Ok(()), "page {page}");
    }
    assert_eq!(expand(&vm, vm.page().gfn()), Err(Errno::ENOSPC));
    assert_eq!(expand(&vm, Gfn(0x9999_9999)), Err(Errno::ENOSPC), "that it is full comes first");
}

/// Priorities, and the order of what can be wrong with them.
#[test]
fn priorities() {
    let fifo = Fifo::new(1);
    let (vm, dom0) = (&fifo.vm, fifo.lab.machine.dom0());
    let (port, model) = (vm.bind_ipi(0).unwrap(), dom0.alloc_xen_for(&vm.guest, 0).unwrap());
    assert_eq!(set_priority(vm, 64, 16), Err(Errno::EINVAL), "no such port");
    assert_eq!(set_priority(vm, 9, 16), Err(Errno::EACCES), "it is closed");
    assert_eq!(set_priority(vm, model, 0), Err(Errno::EACCES), "it is Xen's");
    for priority in [16, u32::MAX] {
        assert_eq!(set_priority(vm, port, priority), Err(Errno::EINVAL), "{priority}");
    }
    for priority in 0..16 {
        set_priority(vm, port, priority).unwrap();
        vm.send(port).unwrap();
        assert_eq!(head(&fifo.control[0], priority as usize), port);
        assert_eq!(fifo.ready(0), 1 << priority);
        fifo.control[0].store(READY, 0);
        fifo.take(port);
    }
    // The next one with its number begins in the middle.
    vm.close(port).unwrap();
    assert_eq!(vm.bind_ipi(0), Ok(port));
    vm.send(port).unwrap();
    assert_eq!(fifo.ready(0), 1 << DEFAULT);
}

/// More ports than the two-level ABI has: what a guest goes over for.
#[test]
fn ports_beyond_the_other_abis() {
    let vm = Lab::new().build(GuestConfig { max_evtchn_port: u32::MAX, ..GuestConfig::default() });
    init_control(&vm, 0, vm.page().gfn(), 0).unwrap();
    let mut array = Vec::new();
    for _ in 0..5 {
        array.push(vm.page());
        expand(&vm, array.last().unwrap().gfn()).unwrap();
    }
    let last = EVTCHN_2L_NR_CHANNELS;
    for port in 1..=last {
        assert_eq!(vm.bind_ipi(0), Ok(port));
    }
    vm.send(last).unwrap();
    assert_eq!(word(&array[4], last % 1024), PENDING | LINKED);
}

/// Three ports in one queue: Xen writes the head once and then the links, and makes one upcall.
#[test]
fn a_queue() {
    let fifo = Fifo::new(1);
    let (vm, info) = (&fifo.vm, fifo.vm.move_info(0));
    info.store(UPCALL_PENDING, 0);
    let ports = [(); 3].map(|()| vm.bind_ipi(0).unwrap());
    vm.send(ports[0]).unwrap();
    assert_eq!((head(&fifo.control[0], DEFAULT), fifo.ready(0)), (ports[0], 1 << DEFAULT));
    assert_eq!(info.swap(UPCALL_PENDING, 0), 1);
    vm.send(ports[1]).unwrap();
    vm.send(ports[2]).unwrap();
    assert_eq!(head(&fifo.control[0], DEFAULT), ports[0]);
    assert_eq!(fifo.word(ports[0]), PENDING | LINKED | ports[1]);
    assert_eq!(fifo.word(ports[1]), PENDING | LINKED | ports[2]);
    assert_eq!(fifo.word(ports[2]), PENDING | LINKED);
    assert_eq!(info.load(UPCALL_PENDING), 0, "the guest is on its way already");
    vm.send(ports[0]).unwrap();
    assert_eq!(fifo.word(ports[0]), PENDING | LINKED | ports[1], "it is in the queue, and stays where it is");
}

/// A queue that the guest has emptied begins anew with the head; a `ready` bit that is set makes no second upcall.
#[test]
fn an_emptied_queue() {
    let fifo = Fifo::new(1);
    let (vm, info) = (&fifo.vm, fifo.vm.move_info(0));
    let ports = [(); 3].map(|()| vm.bind_ipi(0).unwrap());
    vm.send(ports[0]).unwrap();
    vm.send(ports[1]).unwrap();
    for port in ports {
        fifo.take(port);
    }
    info.store(UPCALL_PENDING, 0);
    vm.send(ports[2]).unwrap();
    assert_eq!(head(&fifo.control[0], DEFAULT), ports[2]);
    assert_eq!(fifo.word(ports[1]), 0, "it was taken off: nothing is linked behind it");
    assert_eq!(info.load(UPCALL_PENDING), 0, "`ready` was not cleared");
    fifo.control[0].store(READY, 0);
    fifo.take(ports[2]);
    // The same port again, which is still the last one that Xen knows.
    vm.send(ports[2]).unwrap();
    assert_eq!(head(&fifo.control[0], DEFAULT), ports[2]);
    assert_eq!(fifo.word(ports[2]), PENDING | LINKED, "it is not linked behind itself");
    assert_eq!(info.load(UPCALL_PENDING), 1);
}

/// A guest that clears LINKED and leaves the rest of the word as it was: what Xen links there is the next port, and
/// nothing else.
#[test]
fn a_word_with_something_left_in_it() {
    let fifo = Fifo::new(1);
    let ports = [(); 2].map(|()| fifo.vm.bind_ipi(0).unwrap());
    fifo.set_word(ports[0], 1 << EVTCHN_FIFO_BUSY | EVTCHN_FIFO_LINK_MASK);
    fifo.vm.send(ports[0]).unwrap();
    fifo.vm.send(ports[1]).unwrap();
    assert_eq!(fifo.word(ports[0]), PENDING | LINKED | ports[1]);
}

/// A masked port is pending and in no queue, until it is unmasked by hypercall.
#[test]
fn a_masked_port() {
    let fifo = Fifo::new(1);
    let port = fifo.vm.bind_ipi(0).unwrap();
    fifo.set_word(port, MASKED);
    fifo.vm.send(port).unwrap();
    assert_eq!((fifo.word(port), fifo.ready(0)), (PENDING | MASKED, 0));
    fifo.vm.unmask(port).unwrap();
    assert_eq!((fifo.word(port), fifo.ready(0)), (PENDING | LINKED, 1 << DEFAULT));
    fifo.take(port);
    fifo.set_word(port, MASKED);
    fifo.vm.unmask(port).unwrap();
    assert_eq!(fifo.word(port), 0, "nothing was pending");
}

/// A port that changes its queue: the event that is in the old one stays there; the next goes into the new one, and
/// the old one must not go on behind it.
#[test]
fn a_port_between_two_queues() {
    let fifo = Fifo::new(2);
    let (vm, dom0) = (&fifo.vm, fifo.lab.machine.dom0());
    let port = vm.alloc(DOM0).unwrap();
    let backend = dom0.bind_interdomain(&vm.guest, port).unwrap();
    let neighbour = vm.bind_ipi(0).unwrap();
    dom0.send(backend).unwrap();
    vm.bind_vcpu(port, 1).unwrap();
    set_priority(vm, port, 3).unwrap();
    dom0.send(backend).unwrap();
    assert_eq!((fifo.ready(0), fifo.ready(1)), (1 << DEFAULT, 0), "it is in the old queue still");
    fifo.take(port);
    dom0.send(backend).unwrap();
    assert_eq!((head(&fifo.control[1], 3), fifo.ready(1)), (port, 1 << 3));
    vm.send(neighbour).unwrap();
    assert_eq!(head(&fifo.control[0], DEFAULT), neighbour, "the old queue is empty");
    assert_eq!(fifo.word(port) & EVTCHN_FIFO_LINK_MASK, 0, "and does not go on in the new one");
}

/// A port that is closed while it is in a queue keeps its number busy until the guest has taken it off; what was
/// pending is not.
#[test]
fn a_closed_port_in_a_queue() {
    let fifo = Fifo::new(1);
    let vm = &fifo.vm;
    let port = vm.bind_ipi(0).unwrap();
    vm.send(port).unwrap();
    vm.close(port).unwrap();
    assert_eq!(fifo.word(port), LINKED);
    assert_eq!(vm.bind_ipi(0), Ok(port + 1));
    fifo.take(port);
    assert_eq!(vm.bind_ipi(0), Ok(port));
}

/// What is pending when the guest goes over is not lost: it comes when the port gets its word. So do events that come
/// before.
#[test]
fn events_before_there_are_words() {
    let lab = Lab::new();
    let vm = lab.guest(1);
    let (early, late, quiet) = (vm.bind_ipi(0).unwrap(), vm.bind_ipi(0).unwrap(), vm.bind_ipi(0).unwrap());
    vm.send(early).unwrap();
    let (control, array) = (vm.page(), vm.page());
    init_control(&vm, 0, control.gfn(), 0).unwrap();
    vm.send(late).unwrap();
    assert_eq!(control.load(READY), 0);
    expand(&vm, array.gfn()).unwrap();
    assert_eq!(word(&array, early), PENDING | LINKED | late);
    assert_eq!(word(&array, late), PENDING | LINKED);
    assert_eq!(word(&array, quiet), 0);
    assert_eq!((head(&control, DEFAULT), control.load(READY)), (early, 1 << DEFAULT));
}

/// An event for a virtual CPU without a control block is lost, and not even pending: a guest has to set them all first.
#[test]
fn an_event_before_there_is_a_control_block() {
    let vm = Lab::new().guest(2);
    init_control(&vm, 0, vm.page().gfn(), 0).unwrap();
    let array = vm.page();
    expand(&vm, array.gfn()).unwrap();
    let port = vm.bind_ipi(1).unwrap();
    vm.send(port).unwrap();
    assert_eq!(word(&array, port), 0);
    let control = vm.page();
    init_control(&vm, 1, control.gfn(), 0).unwrap();
    vm.send(port).unwrap();
    assert_eq!(head(&control, DEFAULT), port);
}

/// The way back is a reset, and then everything can be set anew.
#[test]
fn back_to_the_other_abi() {
    let fifo = Fifo::new(1);
    let vm = &fifo.vm;
    vm.bind_ipi(0).unwrap();
    vm.reset(DOMID_SELF).unwrap();
    let (shared, port) = (vm.shared_info(), vm.bind_ipi(0).unwrap());
    assert_eq!(vm.status(port), Channel::Ipi);
    vm.send(port).unwrap();
    assert!(crate::two_level::is_pending(&shared, port));
    assert_eq!(fifo.word(port), 0);
    assert_eq!(expand(vm, fifo.array.gfn()), Err(Errno::EOPNOTSUPP));
    assert_eq!(init_control(vm, 0, fifo.control[0].gfn(), 8), Ok(17));
}

/// Whatever a guest writes into its words, links that go in a circle and ports that are not among it, Xen comes to an
/// end of what it does; and others are none the worse.
#[test]
fn garbage_in_the_words() {
    let fifo = Fifo::new(4);
    let (vm, other) = (&fifo.vm, fifo.lab.guest(1));
    let shared = other.shared_info();
    let victim = other.bind_ipi(0).unwrap();
    let ports: Vec<u32> = (0..300).map(|port| vm.bind_ipi(port % 4).unwrap()).collect();
    let mut dice = Dice::new(11);
    for round in 0..5_000 {
        let value = u32::try_from(dice.roll() >> 32).unwrap();
        let port = *dice.choose(&ports).unwrap();
        match round % 3 {
            0 => fifo.set_word(port, value),
            // A link to itself.
            1 => fifo.set_word(port, LINKED | port),
            _ => {
                let mut bytes = [0; 72];
                dice.fill(&mut bytes);
                dice.choose(&fifo.control).unwrap().write_bytes(0, &bytes).unwrap();
            }
        }
        vm.send(port).unwrap();
        vm.unmask(port).unwrap();
        assert_eq!(fifo.word(port) & PENDING, PENDING);
    }
    other.send(victim).unwrap();
    assert!(crate::two_level::is_pending(&shared, victim));
}
