//! The daemon's end of a guest's console, as the guest sees it.
#![forbid(unsafe_code)]

use xen_abi::{
    domid::DomId,
    event_channel::Channel,
    hvm::params::{HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN},
    io::console::{IN, IN_CONS, IN_PROD, IN_SIZE, OUT, OUT_CONS, OUT_PROD, OUT_SIZE},
    sched::SHUTDOWN_SUSPEND,
    seam::{Access as _, Gfn, Place},
};
use xen_sim::{Actor, Fault, GuestFrame, Peer, Suspend};

use crate::kernel::Kernel;

/// The guest's end, found as every guest finds it.
struct Console {
    page: GuestFrame,
    port: u32,
}

impl Console {
    fn of(kernel: &Kernel) -> Self {
        let port = u32::try_from(kernel.param(HVM_PARAM_CONSOLE_EVTCHN)).expect("a port");
        assert!(matches!(kernel.channel(port), Channel::Interdomain(DomId(0), _)));
        Self { page: kernel.guest.physical(Gfn(kernel.param(HVM_PARAM_CONSOLE_PFN))), port }
    }

    fn indices(&self) -> [u32; 4] {
        [IN_CONS, IN_PROD, OUT_CONS, OUT_PROD].map(|index| self.page.load(index))
    }

    /// Puts bytes into the ring, whether there is room or not, and tells nobody.
    fn put(&self, text: &[u8]) {
        let mut produced = self.page.load(OUT_PROD);
        for byte in text {
            self.page.store(OUT.get(produced as usize % OUT_SIZE).expect("in the ring"), *byte);
            produced = produced.wrapping_add(1);
        }
        self.page.store(OUT_PROD, produced);
    }

    /// Takes what is there.
    fn take(&self) -> Vec<u8> {
        let [consumed, produced, ..] = self.indices();
        let indices =
            (0..produced.wrapping_sub(consumed)).map(|n| consumed.wrapping_add(n) as usize % IN_SIZE);
        let bytes = indices.map(|index| self.page.load(IN.get(index).expect("in the ring"))).collect();
        self.page.store(IN_CONS, produced);
        bytes
    }

    fn start_at(&self, first: u32) {
        for index in [IN_CONS, IN_PROD, OUT_CONS, OUT_PROD] {
            self.page.store(index, first);
        }
    }
}

fn is_due(kernel: &Kernel) -> bool {
    kernel.machine.ready().contains(&Actor::Console(kernel.guest.id()))
}

/// What a guest writes is kept, in any pieces, over the end of the ring and of 32 bits; nothing is looked at before the
/// guest says that it is there, and the guest hears that it was taken.
#[test]
fn what_is_written_is_kept() {
    let kernel = Kernel::alone(1);
    let console = Console::of(&kernel);
    kernel.settle();
    console.start_at(u32::MAX - 5000);
    let mut expected = Vec::new();
    for length in [1, 2, 1000, 2047, 2048, 2048, 1, 7] {
        let text: Vec<u8> = (0..length).map(|n: u32| n.to_le_bytes()[0]).collect();
        console.put(&text);
        assert!(!is_due(&kernel), "nobody has told it");
        kernel.send(console.port).expect("it is open");
        kernel.settle();
        expected.extend(text);
        assert!(kernel.machine.toolstack().console(&kernel.guest) == expected, "after {length} bytes");
        assert!(kernel.come(console.port) > 0, "it has been taken");
    }
    kernel.end();
}

/// What is typed comes as far as there is room, and the rest when the guest has taken some and says so.
#[test]
fn what_is_typed_comes() {
    let kernel = Kernel::alone(2);
    let console = Console::of(&kernel);
    console.start_at(u32::MAX - 700);
    let text: Vec<u8> = (0..3000_u32).map(|n| n.to_le_bytes()[0]).collect();
    kernel.machine.toolstack().type_in(&kernel.guest, &text);
    let mut taken = Vec::new();
    while taken.len() < text.len() {
        kernel.settle();
        assert!(kernel.come(console.port) > 0, "something has come");
        let some = console.take();
        assert!(!some.is_empty() && some.len() <= IN_SIZE);
        taken.extend(some);
        kernel.send(console.port).expect("it is open");
    }
    kernel.settle();
    assert!(taken == text, "nothing is lost, and nothing comes twice");
    assert_eq!(console.take(), []);
    kernel.end();
}

/// A daemon that is wedged, and one that has died: nothing moves. What it was told stays where it is.
#[test]
fn it_stops() {
    for fault in [Fault::Wedge(Peer::Console), Fault::Kill(Peer::Console)] {
        let kernel = Kernel::alone(3);
        let console = Console::of(&kernel);
        kernel.machine.inject(&kernel.guest, fault);
        kernel.machine.toolstack().type_in(&kernel.guest, "x");
        console.put(b"y");
        kernel.send(console.port).expect("an event for nobody is no mistake");
        let has_peer = matches!(kernel.channel(console.port), Channel::Interdomain(..));
        assert_eq!(has_peer, fault == Fault::Wedge(Peer::Console), "{fault}");
        assert!(!is_due(&kernel));
        assert_eq!(console.indices(), [0, 0, 0, 1], "{fault}");
        assert!(kernel.machine.toolstack().console(&kernel.guest).is_empty());
    }
}

/// A daemon that raves moves one of its indices to where none can be, of either ring, by little and by much; and from a
/// ring that is wrong it takes nothing.
#[test]
fn it_raves() {
    let mut seen = [0; 4];
    for seed in 0..100 {
        let kernel = Kernel::alone(seed);
        let console = Console::of(&kernel);
        kernel.settle();
        kernel.machine.inject(&kernel.guest, Fault::Garbage(Peer::Console));
        kernel.settle();
        assert!(kernel.come(console.port) > 0, "it says that it has done something");
        let there = |producer: Place<u32>, consumer| {
            console.page.load(producer).wrapping_sub(console.page.load(consumer)) as usize
        };
        let (output, input) = (there(OUT_PROD, OUT_CONS), there(IN_PROD, IN_CONS));
        match (output > OUT_SIZE, input > IN_SIZE) {
            (true, false) => seen[usize::from(output != u32::MAX as usize)] += 1,
            (false, true) => seen[2 + usize::from(input != IN_SIZE + 1)] += 1,
            both => panic!("seed {seed}: {both:?}"),
        }
        if output > OUT_SIZE {
            kernel.send(console.port).expect("it is open");
            kernel.settle();
            assert!(kernel.machine.toolstack().console(&kernel.guest).is_empty());
        }
    }
    assert!(seen.iter().all(|&times| times > 5), "{seen:?}");
}

/// In a new domain there is a new ring, with a new daemon at its other end, in whatever state the one before was; what
/// was kept is the guest's.
#[test]
fn a_new_domain_has_a_new_one() {
    for fault in [None, Some(Fault::Wedge(Peer::Console)), Some(Fault::Kill(Peer::Console))] {
        let mut kernel = Kernel::alone(4);
        let console = Console::of(&kernel);
        console.put(b"one ");
        kernel.send(console.port).expect("it is open");
        kernel.settle();
        if let Some(fault) = fault {
            kernel.machine.inject(&kernel.guest, fault);
        }
        console.put(b"lost");
        kernel.machine.toolstack().expect_suspend(&kernel.guest, Suspend::Migrated);
        assert_eq!(kernel.shut_down(SHUTDOWN_SUSPEND), 0);
        kernel.plug_in();
        let console = Console::of(&kernel);
        assert_eq!(console.indices(), [0; 4], "{fault:?}");
        console.put(b"two");
        kernel.send(console.port).expect("it is open");
        kernel.settle();
        assert_eq!(kernel.machine.toolstack().console(&kernel.guest), b"one two", "{fault:?}");
    }
}
