//! A device's life: its keys, its ring, its end and its beginning anew.
#![forbid(unsafe_code)]

use xen_abi::{
    domid::DomId,
    event_channel::Channel,
    grant_table::GTF_READONLY,
    io::{
        ring::{REQ_PROD, RSP_EVENT, RSP_PROD, SRING, Sring},
        xenbus::XenbusState::{Closed, Closing, Connected, InitWait, Initialised, Initialising},
        xs_wire::XsError,
    },
    seam::Access as _,
};
use xen_sim::{DeviceConfig, Dice, Fault, echo};
use zerocopy::IntoBytes as _;

use crate::{
    frontend::{COUNT, FRONT, Frontend, back},
    kernel::Kernel,
    wire::Failed,
};

/// From the toolstack's first key to its last.
#[test]
fn a_life() {
    let mut kernel = Kernel::alone(1);
    let device = kernel.attach();
    assert_eq!(kernel.machine.toolstack().devices(&kernel.guest), [device]);
    assert_eq!(kernel.backend(), Some(InitWait));
    let back = back(&kernel);
    let halves = [
        (
            FRONT,
            &["n1", "r0"],
            vec![("backend", &*back), ("backend-id", "0"), ("front-key", "f"), ("state", "1")],
        ),
        (
            &*back,
            &["n0", "r1"],
            vec![
                ("frontend", "/local/domain/1/device/echo/0"),
                ("frontend-id", "1"),
                ("online", "1"),
                ("back-key", "b"),
                ("state", "2"),
                ("feature-echo", "1"),
            ],
        ),
    ];
    for (directory, permissions, keys) in halves {
        assert_eq!(kernel.permissions(directory).as_deref(), Ok(&permissions.map(str::to_owned)[..]));
        let names: Vec<_> = keys.iter().map(|(key, _)| (*key).to_owned()).collect();
        assert_eq!(kernel.directory(directory), Ok(names));
        for (key, value) in keys {
            assert_eq!(kernel.read(&format!("{directory}/{key}")).as_deref(), Ok(value), "{key}");
        }
    }
    assert_eq!(kernel.write(&format!("{back}/state"), "6"), Err(Failed::Refused(XsError::EACCES)));
    let mut frontend = Frontend::connect(&mut kernel, device);
    assert!(matches!(kernel.channel(frontend.port), Channel::Interdomain(DomId(0), _)));
    frontend.echo(&kernel, &[0, 1, u64::MAX]);
    kernel.machine.toolstack().detach(device);
    assert_eq!(kernel.read(&format!("{back}/online")).as_deref(), Ok("0"));
    assert_eq!(kernel.backend(), Some(Closing));
    frontend.echo(&kernel, &[2]);
    kernel.say(Closing);
    kernel.say(Closed);
    assert_eq!(kernel.backend(), None);
    frontend.let_go(&kernel);
    kernel.end();
}

/// Indices count on for ever; their difference is what counts.
#[test]
fn indices_wrap() {
    let mut kernel = Kernel::alone(1);
    let device = kernel.attach();
    let mut frontend = Frontend::unannounced_from(&mut kernel, device, u32::MAX - 5);
    frontend.write_keys(&mut kernel);
    kernel.say(Initialised);
    assert_eq!(kernel.backend(), Some(Connected));
    frontend.echo(&kernel, &[1, 2, 3, 4]);
    frontend.echo(&kernel, &[5, 6, 7, 8, 9]);
    assert_eq!(frontend.made, 3);
    frontend.echo(&kernel, &[10]);
}

/// A ring holds as many requests as it has slots: a backend that stops at its batch would leave some of them.
#[test]
fn a_full_ring() {
    let mut kernel = Kernel::alone(1);
    let mut frontend = Frontend::connected(&mut kernel);
    for _ in 0..3 {
        let values: Vec<u64> = (0..COUNT.into()).collect();
        frontend.echo(&kernel, &values);
    }
}

/// A backend makes the frontend's port pending when its responses go past `rsp_event`, once, and not before
/// (`RING_PUSH_RESPONSES_AND_CHECK_NOTIFY`). One that did it always would hide a frontend that does not ask.
#[test]
fn responses_are_announced_when_asked() {
    let mut kernel = Kernel::alone(1);
    let mut frontend = Frontend::connected(&mut kernel);
    frontend.echo(&kernel, &[1]);
    kernel.come(frontend.port);
    // The fourth from now.
    frontend.ring.store(RSP_EVENT, frontend.taken + 4);
    for (request, times) in [(1, 0), (2, 0), (3, 0), (4, 1), (5, 0)] {
        frontend.put([request]);
        frontend.publish();
        kernel.send(frontend.port).expect("it is open");
        kernel.settle();
        assert_eq!(kernel.come(frontend.port), times, "response {request}");
    }
    assert_eq!(frontend.take().len(), 5);
}

/// And it asks to hear of the next request when it has nothing to do, so that a frontend need not tell it of each.
#[test]
fn requests_are_announced_when_asked() {
    let mut kernel = Kernel::alone(1);
    let mut frontend = Frontend::connected(&mut kernel);
    frontend.echo(&kernel, &[1]);
    frontend.put([2]);
    assert!(frontend.publish(), "it waits for this one");
    frontend.put([3]);
    assert!(!frontend.publish(), "it has been told already");
    kernel.send(frontend.port).expect("it is open");
    kernel.settle();
    assert_eq!(frontend.take().len(), 2);
}

/// A frontend that ends its driver and starts another finds the same device; with it come a new ring and a new channel.
#[test]
fn reconnected() {
    let mut kernel = Kernel::alone(1);
    let mut frontend = Frontend::connected(&mut kernel);
    let device = frontend.device;
    for round in 0..3 {
        frontend.echo(&kernel, &[round]);
        frontend.close(&mut kernel);
        kernel.say(Initialising);
        frontend = Frontend::connect(&mut kernel, device);
    }
    frontend.close(&mut kernel);
    kernel.end();
}

/// A frontend may be `Initialised` "without waiting for the backend" (blkif.h): what it says before anybody looks is not lost.
#[test]
fn a_frontend_that_does_not_wait() {
    let mut kernel = Kernel::alone(1);
    let device = kernel.attach();
    let mut frontend = Frontend::unannounced(&mut kernel, device);
    kernel.announce(&frontend);
    kernel.machine.toolstack().write(&format!("/local/domain/1/{FRONT}/state"), "3");
    // Requests, too.
    frontend.put([1]);
    frontend.publish();
    assert_eq!(kernel.backend(), Some(Connected));
    assert_eq!(frontend.take().len(), 1);
}

/// A backend believes nothing that it reads: it says what is wrong, closes, and begins anew with a frontend that has come to its senses.
#[test]
fn keys_that_make_no_sense() {
    let mut kernel = Kernel::alone(1);
    let device = kernel.attach();
    let mut frontend = Frontend::offer(&mut kernel, device);
    let page = kernel.page();
    let foreign = kernel.grant_to(7, page.gfn(), 0);
    let readable = kernel.grant_to(0, page.gfn(), GTF_READONLY);
    let other = kernel.port_for(7);
    let (foreign, readable) = (foreign.0.to_string(), readable.0.to_string());
    let (store, other) = (kernel.store.port.to_string(), other.to_string());
    let right =
        [("ring-ref", frontend.reference.0.to_string()), ("event-channel", frontend.port.to_string())];
    let cases = [
        ("ring-ref", None, "the frontend has no ring-ref"),
        ("ring-ref", Some(""), "the frontend's ring-ref is ``"),
        ("ring-ref", Some("eight"), "the frontend's ring-ref is `eight`"),
        ("ring-ref", Some("-1"), "the frontend's ring-ref is `-1`"),
        ("ring-ref", Some("4294967296"), "the frontend's ring-ref is `4294967296`"),
        ("ring-ref", Some("4294967295"), "ring-ref 4294967295: "),
        ("ring-ref", Some("500"), "ring-ref 500: "),
        ("ring-ref", Some(&foreign), &format!("ring-ref {foreign}: ")),
        ("ring-ref", Some(&readable), &format!("ring-ref {readable}: ")),
        ("event-channel", None, "the frontend has no event-channel"),
        ("event-channel", Some("0"), "port 0 of the frontend's: "),
        ("event-channel", Some("99999999"), "port 99999999 of the frontend's: "),
        ("event-channel", Some(&store), &format!("port {store} of the frontend's: ")),
        ("event-channel", Some(&other), &format!("port {other} of the frontend's: ")),
    ];
    for (key, value, why) in cases {
        let path = format!("{FRONT}/{key}");
        match value {
            Some(value) => kernel.write(&path, value).expect("it is the guest's own"),
            None => kernel.rm(&path).expect("it is the guest's own"),
        }
        kernel.say(Initialised);
        assert_eq!(kernel.backend(), Some(Closing), "{key} {value:?}");
        let error = kernel.error().expect("it says why");
        assert!(error.starts_with(why), "{key} {value:?}: {error}");
        assert!(kernel.revoke(frontend.reference), "{key} {value:?}: it has nothing mapped");
        frontend.reference = kernel.grant(frontend.ring.gfn());
        kernel.say(Closed);
        assert_eq!(kernel.backend(), Some(Closed), "{key} {value:?}");
        kernel.say(Initialising);
        for (key, value) in &right {
            kernel.write(&format!("{FRONT}/{key}"), value).expect("it is the guest's own");
        }
        kernel.write(&format!("{FRONT}/ring-ref"), &frontend.reference.0.to_string()).expect("it is its own");
    }
    kernel.say(Initialised);
    assert_eq!(kernel.backend(), Some(Connected));
    frontend.echo(&kernel, &[1, 2, 3]);
}

/// More requests than there are slots is no ring any more.
#[test]
fn a_ring_that_runs_away() {
    let mut kernel = Kernel::alone(1);
    let mut frontend = Frontend::connected(&mut kernel);
    frontend.echo(&kernel, &[1]);
    frontend.ring.store(REQ_PROD, frontend.made + COUNT + 1);
    kernel.send(frontend.port).expect("it is open");
    assert_eq!(kernel.backend(), Some(Closing));
    assert_eq!(kernel.error().as_deref(), Some("req_prod is 130, and 1 requests were answered"));
    assert_eq!(kernel.channel(frontend.port), Channel::Unbound(DomId(0)), "it has let go of the channel");
    let device = frontend.device;
    frontend.let_go(&kernel);
    kernel.say(Closed);
    kernel.say(Initialising);
    Frontend::connect(&mut kernel, device).echo(&kernel, &[2]);
}

/// Whatever is in the page: the backend answers, or says what is wrong; the machine goes on.
#[test]
fn any_bytes_in_the_ring() {
    for seed in 0..64 {
        let mut kernel = Kernel::alone(seed);
        let frontend = Frontend::connected(&mut kernel);
        let mut dice = Dice::new(seed);
        for _ in 0..16 {
            let mut ring = Sring { ..xen_abi::io::ring::NEW };
            dice.fill(ring.as_mut_bytes());
            if dice.hits(2) {
                // A few requests that may be.
                ring.req_prod = frontend.ring.load(RSP_PROD).wrapping_add(3);
            }
            frontend.ring.write(SRING, &ring);
            let _ = kernel.send(frontend.port);
            kernel.settle();
        }
        let state = kernel.backend();
        assert!(matches!(state, Some(Closing)) && kernel.error().is_some(), "seed {seed}: {state:?}");
        frontend.let_go(&kernel);
    }
}

/// A backend that closes by itself serves its ring until its frontend has closed: nothing that was asked is lost.
#[test]
fn closed_by_the_backend() {
    let mut kernel = Kernel::alone(1);
    let mut frontend = Frontend::connected(&mut kernel);
    let device = frontend.device;
    kernel.machine.inject(&kernel.guest, Fault::Close(device));
    assert_eq!(kernel.backend(), Some(Closing));
    frontend.echo(&kernel, &[1]);
    kernel.say(Closing);
    frontend.echo(&kernel, &[2]);
    kernel.say(Closed);
    assert_eq!(kernel.backend(), Some(Closed));
    assert_eq!(kernel.error(), None, "nothing was wrong");
    frontend.let_go(&kernel);
    kernel.say(Initialising);
    Frontend::connect(&mut kernel, device).close(&mut kernel);
    kernel.end();
}

/// Guests do not stand in each other's way: one's device lives while the other's goes.
#[test]
fn devices_of_two_guests() {
    let mut one = Kernel::alone(1);
    let mut two = Kernel::boot(&one.machine);
    let (mut first, mut second) = (Frontend::connected(&mut one), Frontend::connected(&mut two));
    first.echo(&one, &[1]);
    second.echo(&two, &[2]);
    first.close(&mut one);
    second.echo(&two, &[3]);
    assert_eq!(one.machine.toolstack().devices(&two.guest), [second.device]);
    assert_eq!(two.read("device/echo/0/backend").as_deref(), Ok("/local/domain/0/backend/echo/2/0"));
}

/// A guest has one device of a class and a number; another of that class has another.
#[test]
fn devices_of_a_class() {
    let mut kernel = Kernel::alone(1);
    let first = kernel.attach();
    let protocol = Box::new(echo::Echo::new());
    let config = DeviceConfig { index: 51712, frontend: Vec::new(), backend: Vec::new(), protocol };
    let second = kernel.machine.toolstack().attach(&kernel.guest, config);
    kernel.settle();
    assert_eq!(kernel.directory("device/echo"), Ok(vec!["0".into(), "51712".into()]));
    assert_eq!(kernel.read("/local/domain/0/backend/echo/1/51712/state").as_deref(), Ok("2"));
    kernel.machine.toolstack().remove(first);
    assert_eq!(kernel.directory("device/echo"), Ok(vec!["51712".into()]));
    kernel.machine.toolstack().remove(second);
    assert_eq!(kernel.directory("device"), Ok(vec!["suspend".into()]));
}

/// The test is wrong, and is told so.
#[test]
#[should_panic(expected = "the guest has echo/0 already")]
fn two_devices_of_one_number() {
    let kernel = Kernel::alone(1);
    kernel.attach();
    kernel.attach();
}

/// A disk that grows says so, and says again what it is: the frontend's watch of `state` is what tells it.
#[test]
fn a_disk_grows() {
    let mut kernel = Kernel::alone(1);
    let frontend = Frontend::connected(&mut kernel);
    let back = back(&kernel);
    kernel.watch(&back, "size");
    assert!(kernel.machine.toolstack().resize(frontend.device, 1 << 40));
    let event = |key| (format!("{back}/{key}"), "size".to_owned());
    assert_eq!(kernel.events(), [event("sectors"), event("state")]);
    assert_eq!(kernel.read(&format!("{back}/sectors")).as_deref(), Ok("1099511627776"));
    assert_eq!(kernel.backend(), Some(Connected));
}

/// The plug of a network device is a key of the frontend's.
#[test]
fn a_plug_is_pulled() {
    let mut kernel = Kernel::alone(1);
    let device = kernel.attach();
    kernel.watch("device/echo/0/disconnect", "link");
    for (is_up, value) in [(false, "1"), (true, "0")] {
        assert!(kernel.machine.toolstack().link(device, is_up));
        assert_eq!(kernel.events(), [("device/echo/0/disconnect".into(), "link".into())]);
        assert_eq!(kernel.read("device/echo/0/disconnect").as_deref(), Ok(value));
    }
    kernel.machine.toolstack().remove(device);
    assert!(!kernel.machine.toolstack().link(device, true) && !kernel.machine.toolstack().resize(device, 1));
}
