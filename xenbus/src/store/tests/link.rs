//! Messages and indices.
#![forbid(unsafe_code)]

use std::{format, string::String, vec, vec::Vec};

use xen_abi::{
    io::xs_wire::{Header, MessageType, REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, XsError},
    seam::{Access, Place},
};
use xen_sim::Dice;
use zerocopy::IntoBytes;

use super::{
    super::{
        error::{Asked, StoreError},
        link::{Abandoned, NotBegun, Pumped},
        request::Request,
        ring::Violation,
    },
    daemon::{Daemon, connected, message},
};

/// The largest messages go through a ring of a quarter of their size, in pieces of every size, and with indices that
/// pass 2^32.
#[test]
fn messages_of_every_size_in_pieces_of_every_size() {
    for most in [1, 2, 7, 15, 16, 17, 1023, 1024] {
        let (mut client, mut daemon) = connected(u32::MAX - 700);
        for length in [0, 1, 2, 1007, 1008, 1009, 4094, 4095] {
            let path: String = "p".repeat(length);
            let call = client.read(&path);
            let (header, payload) = client.sent(&mut daemon, most);
            assert_eq!((header.r#type, header.tx_id), (2, 0));
            assert_eq!(payload, format!("{path}\0").as_bytes());
            assert_eq!(client.answer(call), None);

            let value = vec![b'v'; length];
            let reply = message(2, header.req_id, &value);
            let mut rest = &reply[..];
            while !rest.is_empty() {
                rest = &rest[daemon.give(rest, most)..];
                let _ = client.pump();
            }
            assert_eq!(client.answer(call), Some(Ok(value)), "{length} bytes, {most} at a time");
        }
    }
}

/// Xenstored may answer in any order; each call has the reply with its number.
#[test]
fn replies_in_any_order() {
    let (mut client, mut daemon) = connected(0);
    let mut asked = Vec::new();
    for path in ["a", "b", "c", "d"] {
        let call = client.read(path);
        asked.push((call, client.sent(&mut daemon, 1024).0, path));
    }
    for (_, header, path) in asked.iter().rev() {
        daemon.give(&message(2, header.req_id, format!("value of {path}").as_bytes()), 1024);
    }
    assert_eq!(client.pump().answered.count_ones(), 4);
    for (call, _, path) in asked {
        assert_eq!(client.answer(call), Some(Ok(format!("value of {path}").into_bytes())));
    }
}

/// Whoever asked has gone: the message still goes out whole, the reply is thrown away, and the call is free only
/// then. Its next user does not get the reply of the one before.
#[test]
fn an_abandoned_call_is_used_again_after_its_reply() {
    let (mut client, mut daemon) = connected(0);
    let calls: Vec<usize> = (0..3)
        .map(|_| {
            let call = client.read("x");
            let _ = client.sent(&mut daemon, 1024);
            call
        })
        .collect();
    let long = "l".repeat(2000);
    let last = client.read(&long);
    let _ = client.pump();
    assert_eq!(client.link.abandon(last), Abandoned::Waiting, "the reply is still to come");
    let (header, payload) = client.sent(&mut daemon, 100);
    assert_eq!(payload.len(), 2001, "the rest was sent all the same");
    assert!(
        matches!(client.begin(&Request::plain(MessageType::Read, "y")), Err(NotBegun::Later)),
        "no call is free"
    );

    daemon.give(&message(2, header.req_id, b"late"), 1024);
    assert_eq!(client.pump().freed, 1 << last);
    let next = client.read("y");
    assert_eq!(next, last);
    let (header, _) = client.sent(&mut daemon, 1024);
    assert_eq!(client.answer(next), None);
    daemon.give(&message(2, header.req_id, b"of y"), 1024);
    let _ = client.pump();
    assert_eq!(client.answer(next), Some(Ok(b"of y".to_vec())));
    assert!(calls.into_iter().all(|call| client.answer(call).is_none()));
}

/// Refusals have names; a name that nobody knows is an error, too; and a reply of another type is no reply.
#[test]
fn refusals() {
    let long = vec![b'E'; 4096];
    let asked = Asked::new(MessageType::Read, "x");
    let unnamed = |answer: &[u8]| StoreError::Unnamed { asked, answer: answer.into() };
    let other = |kind| StoreError::Mismatch { asked, kind, transaction: 0 };
    for (kind, payload, expected) in [
        (16, &b"ENOENT\0"[..], StoreError::Refused { asked, error: XsError::ENOENT }),
        (16, b"EACCES", StoreError::Refused { asked, error: XsError::EACCES }),
        (16, b"EWHATEVER\0", unnamed(b"EWHATEVER\0")),
        (16, b"", unnamed(b"")),
        (16, &long, unnamed(&long)),
        (1, b"a\0b\0", other(1)),
        (999, b"", other(999)),
    ] {
        let (mut client, mut daemon) = connected(5);
        let call = client.read("x");
        let (header, _) = client.sent(&mut daemon, 1024);
        let reply = message(kind, header.req_id, payload);
        let mut rest = &reply[..];
        while !rest.is_empty() {
            rest = &rest[daemon.give(rest, 1024)..];
            let _ = client.pump();
        }
        assert_eq!(client.answer(call), Some(Err(expected)));
    }
}

/// A reply has the request's transaction, or it is one to something else.
#[test]
fn transactions_are_matched() {
    for kind in [2, 16] {
        let (mut client, mut daemon) = connected(0);
        let call = client.read("x");
        let (header, _) = client.sent(&mut daemon, 1024);
        daemon.give(Header { r#type: kind, tx_id: 9, len: 0, ..header }.as_bytes(), 1024);
        let _ = client.pump();
        let asked = Asked::new(MessageType::Read, "x");
        let mismatch = StoreError::Mismatch { asked, kind, transaction: 9 };
        assert_eq!(client.answer(call), Some(Err(mismatch)));
    }
}

/// Replies to nothing are counted, and nothing else happens.
#[test]
fn strays() {
    let (mut client, mut daemon) = connected(0);
    let call = client.read("x");
    let (header, _) = client.sent(&mut daemon, 1024);
    for other in [0, header.req_id.wrapping_add(1), header.req_id.wrapping_sub(1), u32::MAX] {
        daemon.give(&message(2, other, b"nobody asked"), 1024);
    }
    daemon.give(&message(15, 0, b"path\0token\0"), 1024);
    daemon.give(&message(2, header.req_id, b"mine"), 1024);
    daemon.give(&message(2, header.req_id, b"again"), 1024);
    let _ = client.pump();
    assert_eq!(client.answer(call), Some(Ok(b"mine".to_vec())));
    assert_eq!(client.link.strays(), 6);
}

/// An index or a length that cannot be ends the connection, once, with the value that was wrong; everybody who waits
/// is told, and nothing is touched after that.
#[test]
fn violations() {
    type Wrong = fn(&mut Daemon);
    let cases: [(Wrong, Violation); 5] = [
        (|daemon| daemon.page.store(RSP_PROD, 1025), Violation::Replies { consumed: 0, produced: 1025 }),
        (
            |daemon| daemon.page.store(RSP_PROD, u32::MAX),
            Violation::Replies { consumed: 0, produced: u32::MAX },
        ),
        (|daemon| daemon.page.store(REQ_CONS, 19), Violation::Requests { consumed: 19, produced: 18 }),
        (
            |daemon| daemon.page.store(REQ_CONS, 0x8000_0000),
            Violation::Requests { consumed: 0x8000_0000, produced: 18 },
        ),
        (
            |daemon| {
                daemon.give(Header { r#type: 2, req_id: 1, tx_id: 0, len: 4097 }.as_bytes(), 1024);
            },
            Violation::Length(4097),
        ),
    ];
    for (wrong, violation) in cases {
        let (mut client, mut daemon) = connected(0);
        let call = client.read("x");
        assert!(client.pump().written);
        wrong(&mut daemon);
        assert_eq!(client.pump().answered, 1 << call);
        assert_eq!(client.answer(call), Some(Err(StoreError::Violation(violation))));
        assert_eq!(
            client.begin(&Request::plain(MessageType::Read, "y")),
            Err(NotBegun::Never(StoreError::Violation(violation)))
        );
        let words = |daemon: &Daemon| {
            [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD].map(|word: Place<u32>| daemon.page.load(word))
        };
        let before = words(&daemon);
        let Pumped { moved, again, .. } = client.pump();
        assert!(!moved && !again && before == words(&daemon));
    }
}

/// A daemon that moves its index while it is looked at costs a bounded number of rounds.
#[test]
fn a_pump_ends() {
    let (mut client, mut daemon) = connected(0);
    let mut pumps = 0;
    let stray = message(2, 77, &[0; 1008]);
    for _ in 0..100 {
        daemon.give(&stray, 1024);
        let pumped = client.pump();
        assert!(pumped.moved && !pumped.again, "one ring's worth takes a few rounds");
        pumps += 1;
    }
    assert_eq!(client.link.strays(), pumps);
}

/// Whatever the indices begin with, and in whatever pieces bytes come and go: each call gets its own reply, and
/// xenstored its own request, to the last byte. Indices pass 2^32, and the ends of both rings, in the middle of
/// anything.
#[test]
fn streams_by_chance() {
    let mut passed = 0;
    for seed in 0..200 {
        let mut dice = Dice::new(seed);
        let first = u32::try_from(dice.below(6000)).unwrap().wrapping_neg();
        let (mut client, mut daemon) = connected(first);
        let mut asked: Vec<(usize, Vec<u8>)> = Vec::new();
        let mut out: Vec<u8> = Vec::new();
        let value = |dice: &mut Dice| {
            let mut value = vec![0; usize::try_from(dice.below(700)).unwrap()];
            dice.fill(&mut value);
            value
        };
        for _ in 0..300 {
            match dice.below(4) {
                0 => {
                    let value = value(&mut dice);
                    if let Ok(call) = client.begin(&Request::plain(MessageType::Write, "x").value(&value)) {
                        asked.push((call, value));
                    }
                }
                1 => daemon.take(u32::try_from(dice.below(300)).unwrap()),
                2 => {
                    let given = daemon.give(&out, u32::try_from(dice.below(300)).unwrap());
                    out.drain(..given);
                }
                _ => assert_eq!(client.pump().lost, None),
            }
            // The reply says what was asked.
            while let Some((header, payload)) = daemon.request() {
                assert_eq!((header.r#type, &payload[..2]), (11, &b"x\0"[..]));
                out.extend(message(11, header.req_id, &payload[2..]));
            }
            asked.retain(|(call, value)| match client.answer(*call) {
                Some(answer) => {
                    assert_eq!(answer.as_ref(), Ok(value), "seed {seed}");
                    false
                }
                None => true,
            });
        }
        assert_eq!(client.link.strays(), 0);
        passed += u32::from(daemon.page.load(REQ_CONS) < first && daemon.page.load(RSP_CONS) < first);
    }
    assert!(passed > 50, "{passed} of the streams have passed 2^32");
}
