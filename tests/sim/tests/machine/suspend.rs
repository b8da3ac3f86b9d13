//! A guest that suspends itself: what it finds when it goes on, where it was or in another domain.
#![forbid(unsafe_code)]

use xen_abi::{
    domid::DomId,
    event_channel::Channel,
    hvm::params::{HVM_PARAM_CALLBACK_IRQ, HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN},
    io::{
        ring::RSP_EVENT,
        xenbus::XenbusState::{Closed, Connected, InitWait},
        xs_wire::{MessageType, REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, XsError},
    },
    memory::XENMAPSPACE_SHARED_INFO,
    sched::SHUTDOWN_SUSPEND,
    seam::{Access as _, Place},
    shared_info::EVTCHN_MASK,
    vcpu::{RegisterVcpuInfo, VCPUOP_REGISTER_VCPU_INFO},
};
use xen_sim::{DeviceId, Fault, Mistake, Peer, Request, Suspend};

use crate::{
    frontend::{FRONT, Frontend},
    kernel::Kernel,
    wire::{Failed, strings},
};

const WORD: Place<u64> = Place::new(8);

/// Suspends a guest, and says what its hypercall answers.
fn suspend(kernel: &Kernel, suspend: Suspend) -> u64 {
    kernel.machine.toolstack().expect_suspend(&kernel.guest, suspend);
    kernel.shut_down(SHUTDOWN_SUSPEND)
}

/// A suspend that is cancelled has not happened: ports, grants, watches, transactions and devices are as they were.
#[test]
fn cancelled() {
    let mut kernel = Kernel::alone(1);
    let mut frontend = Frontend::connected(&mut kernel);
    kernel.watch("data", "token");
    let tx = begin(&mut kernel);
    kernel.write("control/feature-suspend", "1").expect("its own");
    let page = kernel.page();
    page.store(WORD, 7);
    let port = kernel.store.port;
    for _ in 0..2 {
        assert_eq!(suspend(&kernel, Suspend::Cancelled), 1);
        assert_eq!(kernel.machine.toolstack().shutdown(&kernel.guest), None, "it goes on");
        assert_eq!(kernel.guest.domain(), 1);
        assert_eq!(kernel.param(HVM_PARAM_STORE_EVTCHN), port.into());
        assert_ne!(kernel.param(HVM_PARAM_CALLBACK_IRQ), 0);
        kernel.come(frontend.port);
        frontend.echo(&kernel, &[1, 2]);
        assert_eq!(kernel.come(frontend.port), 1, "with interrupts");
        kernel.write("data", "x").expect("its own");
        assert_eq!(kernel.events(), [("data".into(), "token".into())]);
        assert_eq!(kernel.read("control/feature-suspend").as_deref(), Ok("1"));
        assert_eq!(page.load(WORD), 7);
    }
    assert!(kernel.ask_in(tx, MessageType::Write, b"data/y\0z").is_ok());
    assert!(kernel.ask_in(tx, MessageType::TransactionEnd, b"T\0").is_ok(), "it is still open");
    assert_eq!(kernel.read("data/y").as_deref(), Ok("z"));
}

fn begin(kernel: &mut Kernel) -> u32 {
    let number = kernel.ask(MessageType::TransactionStart, b"\0").expect("its first");
    String::from_utf8(number).expect("text").trim_end_matches('\0').parse().expect("a number")
}

/// A guest that is migrated has its memory, and nothing of what it had arranged with Xen.
#[test]
fn migrated() {
    let mut kernel = Kernel::alone(1);
    let page = kernel.page();
    page.store(WORD, 7);
    let reference = kernel.grant(page.gfn());
    let info = kernel.page();
    let place = RegisterVcpuInfo { mfn: info.gfn().0, offset: 0, rsvd: 0 };
    kernel.call_vcpu(VCPUOP_REGISTER_VCPU_INFO, &place).expect("a place of its own");
    let port = kernel.port_for(0);
    let shared = kernel.shared_info();
    let mask = EVTCHN_MASK.get(0).expect("in the page");
    shared.store(mask, 1 << 60);

    assert_eq!(suspend(&kernel, Suspend::Migrated), 0);
    assert_eq!(kernel.guest.domain(), 2, "a new domain");
    assert_eq!(page.load(WORD), 7, "memory is what it was");
    assert_eq!(kernel.channel(port), Channel::Closed, "the port is gone");
    assert_eq!(kernel.param(HVM_PARAM_CALLBACK_IRQ), 0, "no upcalls come");
    assert_ne!(kernel.param(HVM_PARAM_STORE_EVTCHN), 0);
    assert_ne!(kernel.param(HVM_PARAM_STORE_PFN), 0);
    // Where Xen's page was, there is nothing, until it is put there again.
    kernel.put(XENMAPSPACE_SHARED_INFO, shared.gfn()).expect("it is nowhere");
    assert_eq!(shared.load(mask), 0, "it is another page");
    kernel.plug_in();
    assert_eq!(kernel.entry(reference), 0, "the grant table is empty");
    assert_eq!(kernel.read("domid").as_deref(), Ok("2"));
    assert_eq!(kernel.call_vcpu(VCPUOP_REGISTER_VCPU_INFO, &place), Ok(()), "it was not registered any more");
}

/// The store knows a restored guest as a new one: no watches, no transactions, an empty ring; and nothing that it had
/// said of itself.
#[test]
fn the_store_after_a_migration() {
    let mut kernel = Kernel::alone(1);
    let toolstack = kernel.machine.toolstack();
    kernel.watch("data", "token");
    let tx = begin(&mut kernel);
    for key in ["control/feature-suspend", "control/feature-poweroff", "data/mine", "attr/os"] {
        kernel.write(key, "1").expect("its own");
    }
    let indices = [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD];
    assert_ne!(indices.map(|index| kernel.ring().load(index)), [0; 4]);

    assert_eq!(suspend(&kernel, Suspend::Migrated), 0);
    assert_eq!(toolstack.read("/local/domain/1"), None, "the old directory is gone");
    assert_eq!(indices.map(|index| kernel.ring().load(index)), [0; 4]);
    kernel.plug_in();
    assert_eq!(kernel.read("control/feature-suspend").as_deref(), Ok(""));
    assert_eq!(kernel.read("control/feature-poweroff").as_deref(), Ok(""));
    assert_eq!(kernel.read("data/mine"), Err(Failed::Refused(XsError::ENOENT)));
    assert_eq!(kernel.read("name").as_deref(), Ok("guest"));
    assert_eq!(
        kernel.read("vm").as_deref(),
        Ok("/vm/00000000-0000-0000-0000-000000000000"),
        "it is the same guest"
    );
    let ended = kernel.ask_in(tx, MessageType::TransactionEnd, b"T\0");
    assert_eq!(ended, Err(Failed::Refused(XsError::ENOENT)));
    kernel.write("data", "x").expect("its own");
    assert_eq!(kernel.events(), [], "nobody watches");
    kernel.end();
}

/// A guest that is suspended in the middle of a message begins its next one from the start: half a message is not
/// left in the new ring.
#[test]
fn in_the_middle_of_a_message() {
    let mut kernel = Kernel::alone(1);
    kernel.begin(MessageType::Write, 0, &[b"data/a\0", &[b'x'; 3000][..]].concat());
    kernel.produce();
    assert_eq!(kernel.ring().load(REQ_PROD), 1024, "so much of it fits");
    kernel.machine.run(1);
    assert_eq!(suspend(&kernel, Suspend::Migrated), 0);
    kernel.plug_in();
    assert_eq!(kernel.write("data/b", "1"), Ok(()));
    assert_eq!(kernel.read("data/a"), Err(Failed::Refused(XsError::ENOENT)));
    // Half a reply is lost as well.
    let request = kernel.begin(MessageType::Read, 0, &strings(&["data/b"]));
    kernel.produce();
    kernel.send(kernel.store.port).expect("it is open");
    kernel.settle();
    assert!(kernel.ring().load(RSP_PROD) > 16, "a header and more");
    assert_eq!(suspend(&kernel, Suspend::Migrated), 0);
    kernel.plug_in();
    kernel.pump();
    assert_eq!(kernel.reply(request), None);
    assert_eq!(kernel.read("name").as_deref(), Ok("guest"));
}

/// Its devices are published anew: their backends know nothing of it, and have let go of its pages.
#[test]
fn devices_after_a_migration() {
    let mut kernel = Kernel::alone(1);
    let mut frontend = Frontend::connected(&mut kernel);
    let device = frontend.device;
    for domain in 2..4 {
        frontend.echo(&kernel, &[1]);
        frontend.put([2]);
        frontend.publish();
        assert_eq!(suspend(&kernel, Suspend::Migrated), 0);
        assert_eq!(kernel.guest.domain(), domain);
        kernel.plug_in();
        assert_eq!(kernel.read(&format!("{FRONT}/state")).as_deref(), Ok("1"));
        assert_eq!(kernel.read(&format!("{FRONT}/ring-ref")), Err(Failed::Refused(XsError::ENOENT)));
        assert_eq!(kernel.read(&format!("{FRONT}/front-key")).as_deref(), Ok("f"));
        assert_eq!(kernel.backend(), Some(InitWait));
        assert_eq!(
            kernel.machine.toolstack().read(&format!("/local/domain/0/backend/echo/{}", domain - 1)),
            None
        );
        let Frontend { ring, .. } = frontend;
        assert_ne!(ring.load(RSP_EVENT), 0, "the ring's bytes are what they were");
        kernel.free(ring);
        frontend = Frontend::connect(&mut kernel, device);
    }
    frontend.echo(&kernel, &[3]);
    frontend.close(&mut kernel);
    kernel.end();
}

/// Nothing of the old domain is left in the control domain: no port, no mapping, and no backend that answers what the
/// old ring asks.
#[test]
fn the_control_domain_after_a_migration() {
    let mut kernel = Kernel::alone(1);
    let dom0 = kernel.machine.dom0();
    let device = kernel.attach();
    let next_port = |kernel: &Kernel| {
        let port = dom0.alloc_unbound(&kernel.guest).expect("there is room");
        dom0.close(port).expect("it is open");
        port
    };
    kernel.settle();
    let free = next_port(&kernel);
    let mut frontend = Frontend::connect(&mut kernel, device);
    assert_ne!(next_port(&kernel), free, "the backend has it");
    frontend.put([1]);
    frontend.publish();
    kernel.send(frontend.port).expect("it is open");
    assert_eq!(suspend(&kernel, Suspend::Migrated), 0);
    kernel.plug_in();
    assert_eq!(kernel.backend(), Some(InitWait));
    assert_eq!(next_port(&kernel), free);
    assert_eq!(frontend.take(), []);
}

/// Whatever its backend was, and whatever had become of it: the new one is well.
#[test]
fn backends_after_a_migration() {
    let faults: [fn(DeviceId) -> Fault; 3] = [
        |device| Fault::Kill(Peer::Device(device)),
        |device| Fault::Wedge(Peer::Device(device)),
        Fault::Close,
    ];
    for fault in faults {
        let mut kernel = Kernel::alone(1);
        let Frontend { device, ring, .. } = Frontend::connected(&mut kernel);
        kernel.machine.inject(&kernel.guest, fault(device));
        assert_eq!(suspend(&kernel, Suspend::Migrated), 0);
        kernel.plug_in();
        kernel.free(ring);
        let mut frontend = Frontend::connect(&mut kernel, device);
        frontend.echo(&kernel, &[1]);
        frontend.close(&mut kernel);
        kernel.end();
    }
}

/// Of two guests one moves: the other does not notice.
#[test]
fn one_of_two() {
    let mut one = Kernel::alone(1);
    let mut two = Kernel::boot(&one.machine);
    let mut frontend = Frontend::connected(&mut two);
    one.write("data/mine", "1").expect("its own");
    assert_eq!(suspend(&one, Suspend::Migrated), 0);
    assert_eq!((one.guest.domain(), two.guest.domain()), (3, 2));
    one.plug_in();
    frontend.echo(&two, &[1]);
    assert!(matches!(two.channel(two.store.port), Channel::Interdomain(DomId(0), _)));
    assert_eq!(one.read("name").as_deref(), Ok("guest"));
    assert_eq!(two.backend(), Some(Connected));
    frontend.close(&mut two);
    assert_eq!(two.backend(), Some(Closed));
}

/// A guest that was asked to acknowledges by writing nothing, and then goes; the new domain has no command waiting.
#[test]
fn asked_to() {
    let mut kernel = Kernel::alone(1);
    kernel.watch("control/shutdown", "control");
    assert!(kernel.machine.toolstack().request(&kernel.guest, Request::Suspend(Suspend::Migrated)));
    assert_eq!(kernel.events(), [("control/shutdown".into(), "control".into())]);
    assert_eq!(kernel.read("control/shutdown").as_deref(), Ok("suspend"));
    kernel.write("control/shutdown", "").expect("its own");
    assert_eq!(kernel.shut_down(SHUTDOWN_SUSPEND), 0);
    kernel.plug_in();
    assert_eq!(kernel.guest.domain(), 2);
    assert_eq!(kernel.read("control/shutdown").as_deref(), Ok(""));
}

/// Pages that the guest's code has are still its own: the auditor counts them, and finds what is left, after the
/// migration as before.
#[test]
fn pages_are_still_to_be_given_back() {
    let kernel = Kernel::alone(1);
    let page = kernel.page();
    assert_eq!(suspend(&kernel, Suspend::Migrated), 0);
    let left =
        |kernel: &Kernel| kernel.mistakes().iter().filter(|mistake| **mistake == Mistake::PageLeft).count();
    let before = left(&kernel);
    kernel.free(page);
    assert_eq!(left(&kernel), before - 1);
}

/// A page with a `vcpu_info` is Xen's until the domain ends, so that nobody can give it back. In the next domain it is
/// anybody's.
#[test]
fn a_vcpu_info_stays_where_it_is() {
    let kernel = Kernel::alone(1);
    let left =
        |kernel: &Kernel| kernel.mistakes().iter().filter(|mistake| **mistake == Mistake::PageLeft).count();
    let before = left(&kernel);
    let info = kernel.page();
    assert_eq!(left(&kernel), before + 1);
    let place = RegisterVcpuInfo { mfn: info.gfn().0, offset: 0, rsvd: 0 };
    kernel.call_vcpu(VCPUOP_REGISTER_VCPU_INFO, &place).expect("a place of its own");
    assert_eq!(left(&kernel), before);
    assert_eq!(suspend(&kernel, Suspend::Migrated), 0);
    let after = left(&kernel);
    kernel.free(info);
    assert_eq!(left(&kernel), after - 1);
    assert!(!kernel.mistakes().contains(&Mistake::FreedPinned));
}
