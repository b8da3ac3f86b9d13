//! A client that stops anywhere, and another that goes on.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, string::String, vec, vec::Vec};

use xen_abi::{
    io::xs_wire::{
        Header, MessageType, REQ, REQ_CONS, REQ_PROD, RSP, RSP_CONS, RSP_PROD, XENSTORE_RING_SIZE,
    },
    seam::{Access, Mapped},
};

use super::{
    super::{
        framing::Framing,
        link::{Link, Tx},
        request::Request,
    },
    daemon::{Daemon, Shared, message, page_at},
    freeze,
};

/// A xenstored that has a few nodes, and moves so many bytes at a time.
struct Small {
    daemon: Daemon,
    at_a_time: u32,
    nodes: BTreeMap<String, Vec<u8>>,
    /// What is to be given.
    out: Vec<u8>,
    /// The writes that came.
    writes: Vec<(String, Vec<u8>)>,
}

impl Small {
    fn new(page: &'static Mapped, at_a_time: u32) -> Self {
        let nodes = BTreeMap::from([("name".into(), b"guest".to_vec())]);
        Self {
            daemon: Daemon { page, taken: Vec::new() },
            at_a_time,
            nodes,
            out: Vec::new(),
            writes: Vec::new(),
        }
    }

    fn turn(&mut self) {
        self.daemon.take(self.at_a_time);
        while let Some((header, payload)) = self.daemon.request() {
            self.answer(header, &payload);
        }
        let given = self.daemon.give(&self.out, self.at_a_time);
        self.out.drain(..given);
    }

    /// Nothing but what a client has asked comes, whole.
    fn answer(&mut self, header: Header, payload: &[u8]) {
        let nul = payload.iter().position(|byte| *byte == 0).expect("a path has an end");
        let path = String::from_utf8(payload[..nul].to_vec()).expect("a path is text");
        let kind = MessageType::try_from(header.r#type).expect("it is a request");
        let answer = match kind {
            MessageType::Read => match self.nodes.get(&path) {
                Some(value) => message(2, header.req_id, value),
                None => message(16, header.req_id, b"ENOENT\0"),
            },
            MessageType::Write => {
                self.writes.push((path.clone(), payload[nul + 1..].to_vec()));
                self.nodes.insert(path, payload[nul + 1..].to_vec());
                // An event comes before the reply.
                [message(15, 0, b"data\0token\0"), message(11, header.req_id, b"OK\0")].concat()
            }
            other => panic!("nobody has asked {other}"),
        };
        self.out.extend(answer);
    }
}

const VALUE: &[u8] = b"a value of some length, with \0 in it";

/// What the client does that is stopped: it connects, writes a node and reads another.
fn life(page: &'static Mapped, framing: &Framing, small: &mut Small) {
    let mut link: Link<Shared, 2> = Link::new();
    link.connect(framing, Shared(page), None);
    let write = Request::plain(MessageType::Write, "data/x").value(VALUE);
    for request in [write, Request::plain(MessageType::Read, "name")] {
        let call = link.begin(framing, &request, Tx::NONE).expect("the last one is sent and answered");
        while link.take(call).is_none() {
            let _ = link.pump(framing, |_| true);
            small.turn();
        }
    }
}

/// Reads a node with a client that goes on, and returns its value.
fn read_on(page: &'static Mapped, stopped: &Framing, small: &mut Small, path: &str) -> Option<Vec<u8>> {
    let (framing, mut link) = (Framing::new(), Link::<Shared, 1>::new());
    link.connect(&framing, Shared(page), Some(stopped));
    let mut call = None;
    for _ in 0..10_000 {
        let _ = link.pump(&framing, |_| true);
        small.turn();
        if call.is_none() {
            call = link.begin(&framing, &Request::plain(MessageType::Read, path), Tx::NONE).ok();
        }
        if let Some(reply) = call.and_then(|call| link.take(call)) {
            return reply.ok().map(|reply| reply.payload.to_vec());
        }
    }
    panic!("there is no answer");
}

/// What is in the ring but neither sent nor to be taken is nobody's: a piece that was half written, bytes that were
/// taken.
fn scribble(page: &Mapped, framing: &Framing) {
    let sent = framing.check().map_or_else(|_| page.load(REQ_PROD), |()| framing.sent());
    for (ring, consumer, end) in [(REQ, REQ_CONS, sent), (RSP, RSP_CONS, page.load(RSP_PROD))] {
        let free = page.load(consumer).wrapping_add(XENSTORE_RING_SIZE).wrapping_sub(end);
        for index in (0..free).map(|byte| end.wrapping_add(byte)) {
            page.store(ring.get((index % XENSTORE_RING_SIZE) as usize).unwrap(), 0x5A);
        }
    }
}

/// The client stops before each of its stores and at each byte of both streams, as few as one and as many as all at a
/// time; xenstored goes on or waits. Another client goes on from the framing, and finds what is there: nothing of the
/// first one's messages is lost but a message that it had not begun, nothing comes twice, and no stray byte comes
/// between them.
#[test]
fn another_client_goes_on_from_every_step() {
    for (at_a_time, first) in [(1, u32::MAX - 40), (7, 0), (1024, u32::MAX - 90)] {
        for goes_on in [false, true] {
            let mut steps = 0;
            loop {
                let page = page_at(first);
                let (framing, mut small) = (Framing::new(), Small::new(page, at_a_time));
                let (made, is_done) = freeze::for_steps(steps, || life(page, &framing, &mut small));
                scribble(page, &framing);
                if goes_on {
                    // More events than there is room for: xenstored writes wherever it may.
                    (0..20).for_each(|_| small.out.extend(message(15, 0, &[b'e'; 100])));
                    (0..2000).for_each(|_| small.turn());
                }
                assert_eq!(
                    read_on(page, &framing, &mut small, "name").as_deref(),
                    Some(&b"guest"[..]),
                    "{at_a_time} at a time, {goes_on}, stopped at {steps}"
                );
                assert!(small.writes.is_empty() || small.writes == [("data/x".into(), VALUE.to_vec())]);
                if is_done {
                    assert_eq!(small.writes.len(), 1);
                    break;
                }
                assert_eq!(made, steps);
                steps += 1;
            }
            // Fewer would mean that there are steps at which it cannot be stopped.
            let floor = if at_a_time == 1 { 800 } else { 180 };
            assert!(steps > floor, "{steps} steps, {at_a_time} at a time");
        }
    }
}

/// Makes a framing absurd that was right, with these indices.
type Spoilt = fn(&Framing, u32, u32);

/// A client that is given no framing, or one that no client has written, goes on between two messages; one that is
/// absurd is not believed.
#[test]
fn absurd_framings_are_not_believed() {
    let page = page_at(77);
    let mut small = Small::new(page, 100);
    let framing = Framing::new();
    assert!(framing.check().is_err(), "it is of no connection");
    assert_eq!(read_on(page, &framing, &mut small, "name").as_deref(), Some(&b"guest"[..]));

    life(page, &framing, &mut small);
    assert!(framing.check().is_ok());
    let (sent, received) = (framing.sent(), framing.received());
    let absurd: [Spoilt; 4] = [
        |framing, sent, _| framing.set_sent(sent.wrapping_add(1)),
        |framing, sent, _| framing.set_sent(sent.wrapping_sub(5000)),
        |framing, _, received| framing.set_reply_end(received.wrapping_add(4113)),
        |framing, _, received| framing.set_reply_end(received.wrapping_sub(1)),
    ];
    for spoil in absurd {
        framing.begin_anew(sent, received);
        assert!(framing.check().is_ok());
        spoil(&framing, sent, received);
        assert!(framing.check().is_err());
        assert_eq!(read_on(page, &framing, &mut small, "name").as_deref(), Some(&b"guest"[..]));
    }
    assert_eq!(vec![("data/x".into(), VALUE.to_vec())], small.writes);
}
