//! A connection that ends, and begins again.
#![forbid(unsafe_code)]

use std::{vec, vec::Vec};

use xen_abi::{
    io::xs_wire::{
        CONNECTION, ERROR, MessageType, REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, SERVER_FEATURES,
        XENSTORE_CONNECTED, XENSTORE_ERROR_PROTO, XENSTORE_RECONNECT, XENSTORE_SERVER_FEATURE_ERROR,
        XENSTORE_SERVER_FEATURE_RECONNECTION,
    },
    seam::Access,
};

use super::{
    super::{
        error::StoreError,
        link::{Abandoned, NotBegun, Tx},
        request::Request,
        ring::Violation,
    },
    daemon::{Client, Daemon, Shared, connected, message},
};

const DISCONNECTED: StoreError = StoreError::Disconnected;

impl Client {
    fn disconnect(&mut self) {
        let (page, pumped) = self.link.disconnect(&self.framing, DISCONNECTED);
        assert!(page.is_some() && pumped.lost == Some(DISCONNECTED));
    }

    fn connect(&mut self, daemon: &Daemon) {
        self.link.connect(&self.framing, Shared(daemon.page), None);
    }

    /// Asks for a node, and gets its value.
    fn reads(&mut self, daemon: &mut Daemon, path: &str) {
        let call = self.read(path);
        let (header, payload) = self.sent(daemon, 1024);
        assert_eq!(payload, [path.as_bytes(), &[0]].concat());
        daemon.give(&message(2, header.req_id, b"value"), 1024);
        let _ = self.pump();
        assert_eq!(self.answer(call), Some(Ok(b"value".to_vec())));
    }

    /// Starts a transaction.
    fn start(&mut self) -> usize {
        self.begin(&Request::plain(MessageType::TransactionStart, "")).expect("there is room")
    }
}

/// A driver that was disabled and is enabled again has the same ring: a message of which xenstored has a part is sent
/// to its end first, or everything after it would be taken for that.
#[test]
fn the_rest_of_a_message_is_sent_first() {
    for begin in [0, u32::MAX - 1500] {
        let (mut client, mut daemon) = connected(begin);
        let value = vec![b'v'; 3000];
        let write = Request::plain(MessageType::Write, "x").value(&value);
        client.begin(&write).expect("there is room");
        assert!(!client.pump().written);
        client.disconnect();
        client.connect(&daemon);
        assert_eq!(client.begin(&write), Err(NotBegun::Later));
        let (header, payload) = client.sent(&mut daemon, 100);
        assert_eq!(payload[2..], value);
        daemon.give(&message(11, header.req_id, b"OK\0"), 1024);
        client.reads(&mut daemon, "y");
        assert_eq!(client.link.strays(), 1, "nobody waits for the first one's reply");
    }
}

/// A message of which xenstored has nothing is forgotten: nobody waits for it.
#[test]
fn a_message_that_was_not_sent_is_not_sent_later() {
    let (mut client, mut daemon) = connected(9);
    client.read("x");
    client.disconnect();
    client.connect(&daemon);
    client.reads(&mut daemon, "y");
}

/// The rest of a message of which a part was taken is thrown away, also if its header was just taken, or is not yet
/// there as a whole.
#[test]
fn the_rest_of_a_reply_is_thrown_away() {
    for part in [1, 15, 16, 17, 40] {
        let (mut client, mut daemon) = connected(u32::MAX - 50);
        client.read("x");
        let (header, _) = client.sent(&mut daemon, 1024);
        let reply = message(2, header.req_id, &[2; 64]);
        assert_eq!(daemon.give(&reply[..part], 1024), part);
        let _ = client.pump();
        client.disconnect();
        client.connect(&daemon);
        daemon.give(&reply[part..], 1024);
        client.reads(&mut daemon, "y");
    }
}

/// In another domain, nothing is left of the connection before: neither of what was sent in part, nor of what was
/// taken.
#[test]
fn another_ring_begins_between_two_messages() {
    let (mut client, mut daemon) = connected(500);
    client.read("x");
    let (header, _) = client.sent(&mut daemon, 1024);
    daemon.give(&message(2, header.req_id, &[2; 64])[..40], 1024);
    client.begin(&Request::plain(MessageType::Write, "x").value(&[0; 3000])).expect("there is room");
    let _ = client.pump();
    client.disconnect();
    for index in [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD] {
        daemon.page.store(index, 0);
    }
    daemon.taken.clear();
    client.connect(&daemon);
    client.reads(&mut daemon, "y");
    assert_eq!(client.link.strays(), 0);
}

/// A xenstored that breaks the protocol, or says that it has ended the connection, is asked to begin anew, if it can;
/// until it says that it has, only the page's state is looked at. One that does that again and again is not asked for
/// ever.
#[test]
fn the_connection_begins_anew() {
    let (mut client, mut daemon) = connected(100);
    daemon.page.store(SERVER_FEATURES, XENSTORE_SERVER_FEATURE_RECONNECTION);
    for round in 0..5 {
        let call = client.read("x");
        // Xenstored does not take back what it says.
        let word = if round % 2 == 0 { RSP_PROD } else { ERROR };
        daemon.page.store(word, 5000);
        let pumped = client.pump();
        assert_eq!(pumped.answered, 1 << call);
        let Some(Err(why)) = client.answer(call) else { panic!("it is not found out") };
        assert!(matches!(
            why,
            StoreError::Violation(Violation::Replies { produced: 5000, .. }) | StoreError::Ended(5000)
        ));
        assert_eq!(pumped.lost, Some(why));
        if round == 4 {
            assert!(!pumped.moved && daemon.page.load(CONNECTION) == XENSTORE_CONNECTED);
            let again = client.begin(&Request::plain(MessageType::Read, "x"));
            assert_eq!(again, Err(NotBegun::Never(why)));
            return;
        }
        assert!(pumped.moved && daemon.page.load(CONNECTION) == XENSTORE_RECONNECT);
        assert!(client.framing.check().is_err(), "nobody goes on from here");
        for absurd in [0, 77, u32::MAX] {
            daemon.page.store(REQ_CONS, absurd);
            let pumped = client.pump();
            assert!(!pumped.renewed && !pumped.moved && pumped.lost.is_none());
            assert_eq!(client.begin(&Request::plain(MessageType::Read, "x")), Err(NotBegun::Later));
        }
        for index in [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, CONNECTION] {
            daemon.page.store(index, 0);
        }
        daemon.taken.clear();
        assert!(client.pump().renewed);
        client.reads(&mut daemon, "y");
    }
}

/// A ring that begins anew when it is found is waited for: nothing in it means anything before.
#[test]
fn a_ring_that_is_not_there_yet() {
    let (mut client, mut daemon) = connected(100);
    client.disconnect();
    daemon.page.store(CONNECTION, XENSTORE_RECONNECT);
    client.connect(&daemon);
    assert_eq!(client.begin(&Request::plain(MessageType::Read, "x")), Err(NotBegun::Later));
    for index in [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, CONNECTION] {
        daemon.page.store(index, 0);
    }
    assert!(client.pump().renewed);
    client.reads(&mut daemon, "y");
}

/// Xenstored says that it has ended the connection. A page in whose last words there was something before is one of
/// an older xenstored, which does not mean it; but a newer one says that it does.
#[test]
fn xenstored_ends_the_connection() {
    for (features, before, is_heard) in [
        (0, 0, true),
        (XENSTORE_SERVER_FEATURE_ERROR, 0, true),
        (0, 0x5A5A, false),
        (XENSTORE_SERVER_FEATURE_ERROR, 0x5A5A, true),
    ] {
        let (mut client, mut daemon) = connected(3);
        client.disconnect();
        daemon.page.store(SERVER_FEATURES, features);
        daemon.page.store(ERROR, before);
        client.connect(&daemon);
        if before == 0 {
            client.reads(&mut daemon, "x");
            daemon.page.store(ERROR, XENSTORE_ERROR_PROTO);
        }
        let call = client.read("x");
        let _ = client.pump();
        let ended = StoreError::Ended(daemon.page.load(ERROR));
        assert_eq!(client.answer(call), is_heard.then_some(Err(ended)));
    }
}

/// A transaction whose number comes when nobody waits for it is to be ended; the number of places for such is that of
/// transactions, which somebody else counts.
#[test]
fn transactions_are_not_lost() {
    // The reply comes before, or after the caller has gone.
    for is_early in [true, false] {
        let (mut client, mut daemon) = connected(0);
        let call = client.start();
        let (header, payload) = client.sent(&mut daemon, 1024);
        assert_eq!(payload, b"\0");
        let give = |client: &mut Client, daemon: &mut Daemon| {
            daemon.give(&message(6, header.req_id, b"17\0"), 1024);
            client.pump()
        };
        if is_early {
            assert_eq!(give(&mut client, &mut daemon).answered, 1 << call);
            assert_eq!(client.link.abandon(call), Abandoned::Orphan);
        } else {
            assert_eq!(client.link.abandon(call), Abandoned::Waiting);
            assert!(client.link.has_abandoned());
            let pumped = give(&mut client, &mut daemon);
            assert!(pumped.orphaned && pumped.freed == 1 << call && pumped.over == 0);
        }
        assert!(!client.link.has_abandoned());
        let tx = client.link.next_orphan().expect("it is to be ended");
        assert_eq!(tx.number, 17);
        client.disconnect();
        assert!(!client.link.bury(tx), "it has ended with the connection");
    }
}

/// What is no number is no transaction, and nothing has to be ended.
#[test]
fn numbers_that_are_no_transactions() {
    for wrong in [&b""[..], b"\0", b"0\0", b"x\0", b"-1\0", b"4294967296\0", b"1\0\0"] {
        let (mut client, mut daemon) = connected(0);
        let call = client.start();
        let (header, _) = client.sent(&mut daemon, 1024);
        daemon.give(&message(6, header.req_id, wrong), 1024);
        let _ = client.pump();
        let reply = client.link.take(call).expect("it is there").expect("it is of the right type");
        assert!(matches!(reply.transaction(), Err(StoreError::Nonsense { .. })), "{wrong:?}");

        let call = client.start();
        let (header, _) = client.sent(&mut daemon, 1024);
        assert_eq!(client.link.abandon(call), Abandoned::Waiting);
        daemon.give(&message(6, header.req_id, wrong), 1024);
        let pumped = client.pump();
        assert!(!pumped.orphaned && pumped.over == 1);
    }
}

/// The number of a transaction of the connection before may be another's in this one.
#[test]
fn a_transaction_does_not_outlive_its_connection() {
    let (mut client, mut daemon) = connected(0);
    let call = client.start();
    let (header, _) = client.sent(&mut daemon, 1024);
    daemon.give(&message(6, header.req_id, b"17"), 1024);
    let _ = client.pump();
    let tx: Tx = client.link.take(call).unwrap().unwrap().transaction().expect("it is a number");
    let read = Request::plain(MessageType::Read, "x");
    assert!(client.link.begin(&client.framing, &read, tx).is_ok());
    let (header, _) = client.sent(&mut daemon, 1024);
    assert_eq!(header.tx_id, 17);
    client.disconnect();
    client.connect(&daemon);
    assert_eq!(client.link.begin(&client.framing, &read, tx), Err(NotBegun::Never(DISCONNECTED)));
    assert!(!client.link.orphan(tx), "nothing is to be ended");
    let strangers: Vec<Tx> = client.link.next_orphan().into_iter().collect();
    assert_eq!(strangers, []);
}
