//! Faults on purpose: each does what it says, and nothing else.
#![forbid(unsafe_code)]

use xen_abi::io::xs_wire::{ERROR, Header, MessageType, XENSTORE_ERROR_COMM, XsError};
use xen_sim::xenstored::{Fault, Record};

use crate::world::{World, pair, strings};

/// A world in which the next request of domain 1 meets a fault, after a MKDIR of `a` with it, and what came of that.
fn mkdir_with(fault: Fault) -> (World, Vec<(Header, Vec<u8>)>) {
    let mut world = World::of([1]);
    assert!(world.daemon.fault(1, fault));
    world.send(1, MessageType::Mkdir, 5, b"");
    world.guest(1).messages.clear();
    world.settle();
    let replies = world.guest(1).messages.drain(..).collect();
    (world, replies)
}

fn request() -> Header {
    Header { r#type: MessageType::Error as u32, req_id: 101, tx_id: 5, len: 7 }
}

/// `INJECTED`: an error of any name, for a request that then was not done.
#[test]
fn any_error_can_be_answered() {
    for &error in XsError::ALL {
        let mut world = World::of([1]);
        world.daemon.fault(1, Fault::Refuse(error));
        assert_eq!(world.mkdir(1, 0, "a"), Err((error, "INJECTED")));
        assert_eq!(world.read(1, 0, "a"), Err((XsError::ENOENT, "NODE_EXISTS")), "it was not done");
        assert_eq!(world.mkdir(1, 0, "a"), Ok(()), "and the next is as ever");
    }
}

/// `INJECTED`: a request that was not done, with an answer as if it had been, so that only what comes later can tell.
#[test]
fn it_can_be_said_that_something_was_done() {
    let mut world = World::of([1]);
    world.daemon.fault(1, Fault::Pretend(b"OK\0".to_vec()));
    assert_eq!(world.mkdir(1, 0, "a"), Ok(()));
    assert_eq!(world.read(1, 0, "a"), Err((XsError::ENOENT, "NODE_EXISTS")), "it was not done");
    assert_eq!(world.mkdir(1, 0, "a"), Ok(()), "and the next is as ever");
    assert_eq!(world.read(1, 0, "a"), Ok(String::new()));
}

/// `INJECTED`: the request is done, and the reply is distorted: a client must not believe it.
#[test]
fn replies_can_be_distorted() {
    let payload = b"ENOENT\0".to_vec();
    let honest = (request(), payload.clone());
    let cases = [
        (Fault::Payload(b"\xFF".to_vec()), vec![(Header { len: 1, ..request() }, b"\xFF".to_vec())]),
        (Fault::Truncate(3), vec![(Header { len: 3, ..request() }, b"ENO".to_vec())]),
        (Fault::RequestId(7), vec![(Header { req_id: 7, ..request() }, payload.clone())]),
        (Fault::TransactionId(7), vec![(Header { tx_id: 7, ..request() }, payload.clone())]),
        (Fault::Type(2), vec![(Header { r#type: 2, ..request() }, payload.clone())]),
        (Fault::Length(6), vec![(Header { len: 6, ..request() }, b"ENOENT".to_vec())]),
        (Fault::Swallow, vec![]),
        (Fault::Repeat, vec![honest.clone(), honest]),
    ];
    for (fault, expected) in cases {
        let (world, replies) = mkdir_with(fault.clone());
        assert_eq!(replies, expected, "{fault:?}");
        assert_eq!(world.holdings(1).outstanding, 0, "{fault:?}");
    }
}

/// `INJECTED`: a swallowed request was done: whoever sends it again does it twice.
#[test]
fn a_swallowed_reply_is_to_a_request_that_was_done() {
    let mut world = World::of([1]);
    world.daemon.fault(1, Fault::Swallow);
    world.send(1, MessageType::Mkdir, 0, &strings(["a"]));
    world.settle();
    assert!(world.guest(1).messages.is_empty());
    assert_eq!(world.read(1, 0, "a").as_deref(), Ok(""));
}

/// `INJECTED`: faults wait for their requests in order, and for those of their domain.
#[test]
fn faults_are_of_a_domain_and_in_order() {
    let mut world = World::of([1, 2]);
    world.daemon.fault(1, Fault::Refuse(XsError::EAGAIN));
    world.daemon.fault(1, Fault::Refuse(XsError::EIO));
    assert_eq!(world.mkdir(2, 0, "a"), Ok(()));
    assert_eq!(world.mkdir(1, 0, "a"), Err((XsError::EAGAIN, "INJECTED")));
    assert_eq!(world.mkdir(1, 0, "a"), Err((XsError::EIO, "INJECTED")));
    assert_eq!(world.mkdir(1, 0, "a"), Ok(()));
    assert!(!world.daemon.fault(9, Fault::Swallow), "there is no such domain");
}

/// `INJECTED`: a daemon that is wedged neither takes nor gives; when it goes on, nothing is lost.
#[test]
fn a_daemon_can_be_wedged() {
    let mut world = World::of([1]);
    assert!(world.daemon.stop_taking(1, true));
    let request = world.send(1, MessageType::Mkdir, 0, &strings(["a"]));
    assert!(!world.step(1).again);
    assert_eq!(world.holdings(1).received, 0);
    world.daemon.stop_taking(1, false);
    world.daemon.stop_giving(1, true);
    world.settle();
    assert_eq!(world.holdings(1).queued, 1, "done, and not said");
    world.daemon.stop_giving(1, false);
    assert_eq!(world.reply(1, MessageType::Mkdir as u32, 0, request), Ok(b"OK\0".to_vec()));
}

/// `INJECTED`: a killed connection is as one that has ended for an error: the page says so, and the daemon keeps
/// nothing.
#[test]
fn a_connection_can_be_killed() {
    let mut world = World::of([1]);
    world.watch(1, "a", "t").expect("its first");
    assert!(world.daemon.kill(1, XENSTORE_ERROR_COMM));
    assert!(world.daemon.has_output(1), "there is something to do");
    assert!(world.step(1).signal);
    assert_eq!(world.guest(1).page.word(ERROR), XENSTORE_ERROR_COMM);
    assert!(world.holdings(1).is_dead);
    assert_eq!(world.holdings(1).watches, []);
    assert!(world.records.iter().any(|record| matches!(record, Record::Ended { domid: 1, error: 1, .. })));
    assert!(!world.daemon.fault(1, Fault::Swallow), "it is dead");
}

/// `INJECTED`: events of no cause, of no watch, and messages of no sense.
#[test]
fn messages_can_come_from_nowhere() {
    let mut world = World::of([1]);
    assert!(!world.daemon.fire_for_nothing(1, 0), "it has no watch");
    world.watch(1, "a", "t").expect("its first");
    world.watch(1, "b", "u").expect("its second");
    assert!(world.daemon.fire_for_nothing(1, 1));
    assert!(world.daemon.fire_for_nothing(1, 2), "the first again");
    assert!(world.daemon.send_stray_event(1, "never/watched", b"x"));
    assert_eq!(world.events(1), [pair("b", "u"), pair("a", "t"), pair("never/watched", "x")]);
    let header = Header { r#type: 77, req_id: 1, tx_id: 2, len: 2 };
    assert!(world.daemon.send_stray(1, header, b"hi"));
    world.settle();
    assert_eq!(world.guest(1).messages.pop_front(), Some((header, b"hi".to_vec())));
    assert!(!world.daemon.send_stray(2, header, b"hi"), "there is no such domain");
}

/// A timeline reads as what was asked and what came of it; it costs nothing if nobody wants it.
#[test]
fn records_can_be_read() {
    let mut world = World::of([1]);
    world.daemon.take_records();
    let tx = world.start_transaction(1).expect("its first");
    assert!(world.read(1, tx, "a").is_err());
    world.send_type(1, 99, 0, b"x\0");
    world.settle();
    let lines: Vec<String> = world.records.iter().map(ToString::to_string).collect();
    let read = r#"domain 1: XS_READ "a" in transaction 1: ENOENT by NODE_EXISTS: "#;
    assert!(lines.iter().any(|line| line.starts_with(read)), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with(r#"domain 1: type 99 "x": ENOSYS by KNOWN_TYPES: "#)));
    world.daemon.keep_records(false);
    world.send(1, MessageType::Mkdir, 0, &strings(["b"]));
    let mut page = world.guest(1).page.clone();
    let _ = world.daemon.step(1, &mut page);
    assert_eq!(world.daemon.take_records(), []);
}
