//! Each fault does what it says, and nothing else.
#![forbid(unsafe_code)]

use std::time::Duration;

use xen_abi::{
    domid::DomId,
    event_channel::Channel,
    io::{
        xenbus::XenbusState::{Closed, Closing, Connected, InitWait, Initialised, Initialising},
        xs_wire::{ERROR, MessageType, REQ_CONS, XENSTORE_ERROR_COMM, XsError},
    },
    seam::{Access as _, Memory as _},
};
use xen_sim::{DeviceId, Dice, Fault, GuestConfig, Machine, Peer, Plan, Suspend, xenstored};

use crate::{
    frontend::{FRONT, Frontend},
    kernel::Kernel,
    wire::Failed,
};

const LATE: Duration = Duration::from_secs(2);
const ALMOST: Duration = Duration::from_nanos(1_999_999_999);

/// A guest whose device is in one of the moments of its life, and what its backend says then.
fn moments() -> impl Iterator<Item = (Kernel, Frontend, &'static str)> {
    ["waiting", "connected", "closing", "closed"].into_iter().map(|moment| {
        let mut kernel = Kernel::alone(1);
        let device = kernel.attach();
        let frontend = match moment {
            "waiting" => Frontend::offer(&mut kernel, device),
            _ => Frontend::connect(&mut kernel, device),
        };
        match moment {
            "closing" => kernel.say(Closing),
            "closed" => {
                kernel.say(Closing);
                kernel.say(Closed);
            }
            _ => {}
        }
        (kernel, frontend, moment)
    })
}

/// All that the store says of a device.
fn keys(kernel: &mut Kernel) -> Vec<(String, String)> {
    let back = crate::frontend::back(kernel);
    let mut keys = Vec::new();
    for directory in [FRONT, &back] {
        for key in kernel.directory(directory).expect("it may read it") {
            let path = format!("{directory}/{key}");
            keys.push((path.clone(), kernel.read(&path).expect("it may read it")));
        }
    }
    keys
}

fn kill(device: DeviceId) -> Fault {
    Fault::Kill(Peer::Device(device))
}

/// A backend that is killed is as one whose domain is gone: its channels are closed and its mappings gone, and its keys say what they said.
#[test]
fn a_backend_is_killed() {
    for (mut kernel, frontend, moment) in moments() {
        let before = keys(&mut kernel);
        kernel.machine.inject(&kernel.guest, kill(frontend.device));
        kernel.settle();
        assert_eq!(keys(&mut kernel), before, "{moment}");
        assert_eq!(kernel.channel(frontend.port), Channel::Unbound(DomId(0)), "{moment}");
        assert!(kernel.revoke(frontend.reference), "{moment}: nothing is mapped");
        // For ever: whatever else goes wrong, and whatever the frontend says.
        kernel.machine.inject(&kernel.guest, Fault::Wedge(Peer::Device(frontend.device)));
        kernel.machine.inject(&kernel.guest, Fault::Close(frontend.device));
        for state in [Initialising, Initialised, Closing, Closed] {
            kernel.say(state);
        }
        kernel.settle();
        let states = |keys: Vec<(String, String)>| keys.into_iter().rfind(|(key, _)| key.ends_with("/state"));
        assert_eq!(states(keys(&mut kernel)), states(before), "{moment}");
        // And there is still somebody who can take it away.
        assert!(kernel.machine.toolstack().remove(frontend.device));
        assert_eq!(kernel.backend(), None);
    }
}

/// One that hangs has what it had, and does nothing with it.
#[test]
fn a_backend_is_wedged() {
    for (mut kernel, mut frontend, moment) in moments() {
        let before = keys(&mut kernel);
        let had = (kernel.channel(frontend.port), kernel.entry(frontend.reference));
        kernel.machine.inject(&kernel.guest, Fault::Wedge(Peer::Device(frontend.device)));
        kernel.machine.inject(&kernel.guest, Fault::Close(frontend.device));
        frontend.put([1]);
        frontend.publish();
        kernel.send(frontend.port).expect("it is open");
        kernel.settle();
        assert_eq!(frontend.take(), [], "{moment}");
        assert_eq!(keys(&mut kernel), before, "{moment}");
        assert_eq!((kernel.channel(frontend.port), kernel.entry(frontend.reference)), had, "{moment}");
        // A peer that hangs can still die.
        kernel.machine.inject(&kernel.guest, kill(frontend.device));
        assert!(kernel.revoke(frontend.reference), "{moment}");
        assert_eq!(keys(&mut kernel), before, "{moment}");
    }
}

/// One that closes says so if it has not yet, and keeps to the protocol from then on.
#[test]
fn a_backend_closes() {
    for (mut kernel, frontend, moment) in moments() {
        kernel.machine.inject(&kernel.guest, Fault::Close(frontend.device));
        assert_eq!(kernel.backend(), Some(if moment == "closed" { Closed } else { Closing }), "{moment}");
        kernel.say(Closed);
        assert_eq!(kernel.backend(), Some(Closed), "{moment}");
        kernel.say(Initialising);
        assert_eq!(kernel.backend(), Some(InitWait), "{moment}: once");
        frontend.let_go(&kernel);
    }
}

/// One answer is not what it should be, and the next is.
#[test]
fn a_backend_answers_with_garbage() {
    let mut kernel = Kernel::alone(1);
    let mut frontend = Frontend::connected(&mut kernel);
    kernel.machine.inject(&kernel.guest, Fault::Garbage(Peer::Device(frontend.device)));
    frontend.put([7]);
    frontend.publish();
    kernel.send(frontend.port).expect("it is open");
    kernel.settle();
    let answers = frontend.take();
    assert!(answers.len() == 1 && answers[0].value != !7, "{answers:?}");
    frontend.echo(&kernel, &[7]);
    assert_eq!(kernel.backend(), Some(Connected));
}

/// A device that is gone has nothing that could go wrong, and no other device suffers for it.
#[test]
fn faults_of_a_device_that_is_gone() {
    let mut kernel = Kernel::alone(1);
    let gone = kernel.attach();
    kernel.machine.toolstack().remove(gone);
    let mut frontend = Frontend::connected(&mut kernel);
    for fault in
        [kill(gone), Fault::Close(gone), Fault::Wedge(Peer::Device(gone)), Fault::Garbage(Peer::Device(gone))]
    {
        kernel.machine.inject(&kernel.guest, fault);
        frontend.echo(&kernel, &[1]);
    }
}

/// Xenstored's end of the connection: the guest reads in the page that it is at its end, and hears of that.
#[test]
fn xenstored_is_killed() {
    let mut kernel = Kernel::alone(1);
    let mut other = Kernel::boot(&kernel.machine);
    kernel.watch("data", "mine");
    kernel.come(kernel.store.port);
    kernel.machine.inject(&kernel.guest, Fault::Kill(Peer::Xenstored));
    kernel.settle();
    assert_eq!(kernel.ring().load(ERROR), XENSTORE_ERROR_COMM);
    assert_eq!(kernel.come(kernel.store.port), 1);
    assert_eq!(kernel.read("name"), Err(Failed::Silence));
    assert_eq!(kernel.events(), [], "its watches are gone");
    assert_eq!(other.read("name").as_deref(), Ok("guest"), "another guest's is as it was");
    // A new domain has a new connection.
    kernel.machine.toolstack().expect_suspend(&kernel.guest, Suspend::Migrated);
    kernel.shut_down(xen_abi::sched::SHUTDOWN_SUSPEND);
    kernel.plug_in();
    assert_eq!(kernel.read("name").as_deref(), Ok("guest"));
}

/// A xenstored that hangs takes nothing, and says nothing; there is no error in the page.
#[test]
fn xenstored_is_wedged() {
    let mut kernel = Kernel::alone(1);
    let mut other = Kernel::boot(&kernel.machine);
    kernel.machine.inject(&kernel.guest, Fault::Wedge(Peer::Xenstored));
    let taken = kernel.ring().load(REQ_CONS);
    assert_eq!(kernel.read("name"), Err(Failed::Silence));
    assert_eq!(kernel.ring().load(REQ_CONS), taken);
    assert_eq!(kernel.ring().load(ERROR), 0);
    // Nor does it say what it has said already to itself.
    let mut kernel = Kernel::alone(1);
    kernel.watch("data", "mine");
    kernel.machine.inject(&kernel.guest, Fault::Wedge(Peer::Xenstored));
    kernel.machine.toolstack().write("/local/domain/1/data", "");
    assert_eq!(kernel.events(), []);
    assert_eq!(other.read("name").as_deref(), Ok("guest"));
}

/// One reply is not what it should be, whichever way the seed says; none of the ways stops the machine.
#[test]
fn xenstored_answers_with_garbage() {
    let mut is_as_ever = 0;
    for seed in 0..100 {
        let mut kernel = Kernel::alone(seed);
        kernel.settle();
        kernel.machine.inject(&kernel.guest, Fault::Garbage(Peer::Xenstored));
        let request = kernel.begin(MessageType::Read, 0, b"domid\0");
        kernel.produce();
        kernel.send(kernel.store.port).expect("it is open");
        kernel.settle();
        let reply = kernel.bytes_of_ring();
        is_as_ever += u32::from(reply == right_reply(request));
    }
    assert_eq!(is_as_ever, 0, "it was distorted each time");
}

fn right_reply(request: u32) -> Vec<u8> {
    let header =
        xen_abi::io::xs_wire::Header { r#type: MessageType::Read as u32, req_id: request, tx_id: 0, len: 1 };
    [zerocopy::IntoBytes::as_bytes(&header), b"1"].concat()
}

/// A test that wants one form of it says which: the next request of that guest's meets it, and then the next.
#[test]
fn one_request_is_distorted() {
    let machine = Machine::new(1);
    let [mut one, mut two] = [(); 2].map(|()| Kernel::boot(&machine));
    for error in [XsError::EAGAIN, XsError::EIO] {
        assert!(machine.distort(&one.guest, xenstored::Fault::Refuse(error)));
    }
    assert_eq!(two.read("name").as_deref(), Ok("guest"));
    assert_eq!(one.read("name"), Err(Failed::Refused(XsError::EAGAIN)));
    assert_eq!(one.read("name"), Err(Failed::Refused(XsError::EIO)));
    assert_eq!(one.read("name").as_deref(), Ok("guest"));
    let without = machine.create(GuestConfig { has_store: false, ..GuestConfig::default() });
    assert!(!machine.distort(&without, xenstored::Fault::Swallow), "it has no connection");
}

/// The n-th event for the guest, counted from the moment of the fault: it does not come, comes again, comes late; the others are as ever.
#[test]
fn events_go_astray() {
    for (fault, now, later) in [
        (Fault::DropEvent(2), [1, 0, 1], 0),
        (Fault::DelayEvent(2, LATE), [1, 0, 1], 1),
        (Fault::DuplicateEvent(2, LATE), [1, 1, 1], 1),
    ] {
        let mut kernel = Kernel::alone(1);
        let mut frontend = Frontend::connected(&mut kernel);
        kernel.come(frontend.port);
        kernel.machine.inject(&kernel.guest, fault);
        for times in now {
            frontend.echo(&kernel, &[1]);
            assert_eq!(kernel.come(frontend.port), times, "{fault}");
        }
        assert_eq!(kernel.machine.next_alarm().is_some(), later > 0, "{fault}");
        kernel.machine.pass(ALMOST);
        kernel.settle();
        assert_eq!(kernel.come(frontend.port), 0, "{fault}: not yet");
        kernel.machine.pass(Duration::from_nanos(1));
        kernel.settle();
        assert_eq!(kernel.come(frontend.port), later, "{fault}");
    }
}

/// The n-th page is not to be had, of whatever kind; the one before is, and the one after.
#[test]
fn memory_runs_out_once() {
    let kernel = Kernel::alone(1);
    kernel.machine.inject(&kernel.guest, Fault::FailAllocation(2));
    let pages = [(); 4].map(|()| kernel.guest.allocate());
    assert_eq!(pages.each_ref().map(Result::is_ok), [true, false, true, true]);
    kernel.guest.fail_allocation(1);
    assert!(kernel.guest.hole().is_err());
    assert!(kernel.guest.hole().is_ok());
    kernel.guest.fail_allocation(1);
    kernel.guest.fail_allocation(0);
    assert!(kernel.guest.allocate().is_ok(), "never mind");
}

/// A suspend that is asked for is a command that the guest reads, and does as it likes.
#[test]
fn a_suspend_is_asked_for() {
    let mut kernel = Kernel::alone(1);
    kernel.machine.inject(&kernel.guest, Fault::Suspend(Suspend::Migrated));
    assert_eq!(kernel.read("control/shutdown").as_deref(), Ok("suspend"));
    assert_eq!(kernel.guest.domain(), 1, "nothing happens before it does something");
    assert_eq!(kernel.shut_down(xen_abi::sched::SHUTDOWN_SUSPEND), 0);
    assert_eq!(kernel.guest.domain(), 2);
}

// Plans.

/// What is planned happens at its boundary: in order, several at one, and those that were jumped over at the next.
#[test]
fn planned_faults() {
    let mut kernel = Kernel::alone(1);
    let other = Kernel::boot(&kernel.machine);
    let frontend = Frontend::connected(&mut kernel);
    let device = frontend.device;
    let plan = Plan::of([
        (7, Fault::FailAllocation(1)),
        (3, Fault::Close(device)),
        (3, Fault::FailAllocation(1)),
        (5, kill(device)),
    ]);
    let said = "3: close device 0; 3: fail allocation 1; 5: kill device 0; 7: fail allocation 1";
    assert_eq!(plan.to_string(), said);
    kernel.machine.plan(&kernel.guest, plan);
    kernel.machine.boundary(2);
    assert_eq!(kernel.backend(), Some(Connected));
    assert!(kernel.guest.allocate().is_ok());
    kernel.machine.boundary(3);
    assert!(other.guest.allocate().is_ok(), "it is of one guest");
    assert!(kernel.guest.allocate().is_err());
    assert_eq!(kernel.backend(), Some(Closing));
    kernel.machine.boundary(3);
    assert!(kernel.guest.allocate().is_ok(), "once");
    kernel.machine.boundary(100);
    assert!(kernel.revoke(frontend.reference), "the backend was killed");
    assert!(kernel.guest.allocate().is_err());
}

/// A plan that is drawn is in the seed: the same again, and another from another.
#[test]
fn drawn_faults() {
    let from = [Fault::DropEvent(1), Fault::FailAllocation(1), Fault::Kill(Peer::Xenstored)];
    let drawn = |seed| Plan::drawn(&mut Dice::new(seed), 8, &from, 100);
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
    assert_eq!(drawn(1).to_string().split("; ").count(), 8);
    assert_eq!(Plan::drawn(&mut Dice::new(1), 8, &[], 100), Plan::default(), "from nothing comes nothing");
}
