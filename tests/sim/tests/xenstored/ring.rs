//! The page and its indices: what a guest can do to them, and what it sees there.
#![forbid(unsafe_code)]

use xen_abi::io::xs_wire::{
    CONNECTION, ERROR, MessageType, REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, XENSTORE_CONNECTED,
    XENSTORE_ERROR_PROTO, XENSTORE_ERROR_RINGIDX, XENSTORE_RECONNECT, XENSTORE_SERVER_FEATURE_ERROR,
    XENSTORE_SERVER_FEATURE_RECONNECTION,
};
use xen_sim::xenstored::{Config, Features, Record, Step};

use crate::world::{World, home, strings};

fn ended_by(world: &World) -> Vec<(u32, &'static str)> {
    let ended = |record: &Record| match record {
        Record::Ended { error, rule, .. } => Some((*error, rule.name)),
        _ => None,
    };
    world.records.iter().filter_map(ended).collect()
}

/// `REPLIES`: bytes come as they like, and indices are anywhere: they count modulo 2^32.
#[test]
fn a_message_comes_in_any_pieces_at_any_index() {
    for base in [0, 1, 1020, u32::MAX - 5, u32::MAX - 1030, 1 << 31] {
        let mut world = World::of([1]);
        for index in [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD] {
            world.guest(1).page.set_word(index, base);
        }
        let value = "v".repeat(900);
        world.write(1, 0, "a", &value).expect("its own");
        assert_eq!(world.read(1, 0, "a"), Ok(value), "from {base}");

        let message = [&[11_u32, 7, 0, 4].map(u32::to_le_bytes).concat()[..], b"b\x00hi"].concat();
        for byte in message {
            assert!(world.guest(1).messages.is_empty(), "not before the last byte");
            world.send_bytes(1, &[byte]);
            world.settle();
        }
        assert_eq!(world.guest(1).messages.pop_front().map(|(header, _)| header.req_id), Some(7));
        assert_eq!(world.read(1, 0, "b").as_deref(), Ok("hi"));
    }
}

/// `NOTHING_LOST`: replies and events that have no room wait for it, one byte after the other if need be.
#[test]
fn what_has_no_room_waits() {
    let mut world = World::of([1]);
    let value = "v".repeat(1500);
    world.write(1, 0, "a", &value).expect("its own");
    world.ask(1, MessageType::Watch, 0, &strings(["a", "t"])).expect("its first");
    world.guest(1).messages.clear();
    for _ in 0..3 {
        world.send(1, MessageType::Read, 0, &strings(["a"]));
    }
    world.serve(1);
    world.tools().write(None, &format!("{}/a", home(1)), b"").expect("dom0 may");
    assert_eq!(world.step(1), Step { signal: false, again: false }, "it is full");
    assert!(world.daemon.has_output(1));
    world.settle();
    assert!(!world.daemon.has_output(1));
    let lengths: Vec<usize> = world.guest(1).messages.iter().map(|(_, payload)| payload.len()).collect();
    assert_eq!(lengths, [1500, 1500, 1500, 4]);
}

/// A signal says that something in the page has changed; without one, nothing has.
#[test]
fn a_signal_is_due_when_the_page_has_changed() {
    let mut world = World::of([1]);
    assert_eq!(world.step(1), Step { signal: false, again: false });
    world.send_bytes(1, &[1]);
    assert_eq!(world.step(1), Step { signal: true, again: true }, "there is room for more");
    assert_eq!(world.step(1), Step { signal: false, again: false });
    let before = world.guest(1).page.clone();
    let _ = world.step(1);
    assert_eq!(format!("{before:?}"), format!("{:?}", world.guest(1).page));
    assert_eq!(world.holdings(1).received, 1);
}

/// `PAYLOAD_LIMIT`, `CONNECTION_ENDED`: 4096 bytes are a message, one more is the end, and the guest sees why.
#[test]
fn a_message_that_is_too_long_ends_the_connection() {
    let mut world = World::of([1]);
    world.watch(1, "a", "t").expect("its first");
    world.start_transaction(1).expect("its first");
    let longest = [&b"a\0"[..], &[b'v'; 4094]].concat();
    let refused = world.ask(1, MessageType::Write, 0, &longest);
    assert_eq!(refused.map_err(|(_, rule)| rule), Err("QUOTA_NODE_SIZE"), "it was read");

    world.send_bytes(1, &[2_u32, 9, 0, 4097].map(u32::to_le_bytes).concat());
    world.settle();
    assert_eq!(ended_by(&world), [(XENSTORE_ERROR_PROTO, "PAYLOAD_LIMIT")]);
    assert_eq!(world.state(1), [0, XENSTORE_CONNECTED, XENSTORE_ERROR_PROTO]);
    let holdings = world.holdings(1);
    assert!(holdings.is_dead);
    assert_eq!((holdings.watches.len(), holdings.transactions.len(), holdings.queued), (0, 0, 0));

    let signals = world.guest(1).signals;
    world.send(1, MessageType::Read, 0, &strings(["a"]));
    world.tools().write(None, &format!("{}/a", home(1)), b"").expect("dom0 may");
    world.settle();
    assert!(world.guest(1).messages.is_empty());
    assert_eq!(world.guest(1).signals, signals, "deaf and dumb");
    world.introduce(1).expect("dom0 may");
    world.settle();
    assert!(world.holdings(1).is_dead, "only RELEASE makes it anew");
    world.tools().release(1).expect("it is introduced");
    world.guest(1).page.set_word(ERROR, 0);
    world.start(1);
    assert_eq!(world.mkdir(1, 0, "a"), Ok(()));
}

/// `RING_INDICES`: both directions, and only what is beyond the ring: a full one is none.
#[test]
fn indices_that_cannot_be_end_the_connection() {
    for bad in [1025, 4096, u32::MAX, 1 << 31] {
        let mut world = World::of([1]);
        let consumer = world.guest(1).page.word(REQ_CONS);
        world.guest(1).page.set_word(REQ_PROD, consumer.wrapping_add(bad));
        assert_eq!(world.step(1), Step { signal: true, again: false });
        assert_eq!(ended_by(&world), [(XENSTORE_ERROR_RINGIDX, "RING_INDICES")], "{bad}");

        let mut world = World::of([1]);
        let producer = world.guest(1).page.word(RSP_PROD);
        world.guest(1).page.set_word(RSP_CONS, producer.wrapping_sub(bad));
        world.send(1, MessageType::Mkdir, 0, &strings(["a"]));
        for _ in 0..5 {
            let _ = world.step(1);
        }
        assert_eq!(ended_by(&world), [(XENSTORE_ERROR_RINGIDX, "RING_INDICES")], "{bad}");
        assert!(world.holdings(1).is_dead);
    }
    let mut world = World::of([1]);
    world.send(1, MessageType::Write, 0, &[b"a\0", &[b'v'; 1006][..]].concat());
    let page = &world.guest(1).page;
    assert_eq!(page.word(REQ_PROD).wrapping_sub(page.word(REQ_CONS)), 1024);
    world.settle();
    assert!(!world.holdings(1).is_dead, "it is full, and no more");
}

/// `RECONNECTION`: a guest that does not know what ran before it begins on a packet boundary.
#[test]
fn a_guest_can_begin_anew() {
    let offered = XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR;
    let features = Features { offered, ..Features::default() };
    let mut world = World::with(&Config { features, ..Config::default() });
    world.start(1);
    assert_eq!(world.state(1), [offered, XENSTORE_CONNECTED, 0]);
    world.watch(1, "a", "t").expect("its first");
    world.start_transaction(1).expect("its first");
    world.send(1, MessageType::Mkdir, 0, &strings(["a"]));
    world.serve(1);
    world.send_bytes(1, &[1, 2, 3]);
    world.serve(1);
    assert_eq!(world.holdings(1).received, 3);

    world.guest(1).page.set_word(CONNECTION, XENSTORE_RECONNECT);
    assert!(world.step(1).signal, "it is told");
    let words = [CONNECTION, REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD];
    assert_eq!(words.map(|word| world.guest(1).page.word(word)), [0; 5]);
    let holdings = world.holdings(1);
    assert_eq!((holdings.watches.len(), holdings.transactions.len()), (0, 0));
    assert_eq!((holdings.received, holdings.queued, holdings.outstanding), (0, 0, 0));
    world.watch(1, "a", "t").expect("it was forgotten");
    assert_eq!(world.read(1, 0, "a").as_deref(), Ok(""), "its nodes stay");

    // A daemon that does not offer it leaves the word alone.
    let mut old = World::of([1]);
    old.guest(1).page.set_word(CONNECTION, XENSTORE_RECONNECT);
    old.watch(1, "a", "t").expect("its first");
    assert_eq!(old.state(1), [0, XENSTORE_RECONNECT, 0]);
}

/// Whatever is in the page, a step ends, and the daemon is in order: here its own indices are overwritten, too.
#[test]
fn scribbling_over_the_daemons_indices_is_the_guests_own_problem() {
    let mut world = World::of([1, 2]);
    for (index, value) in [(REQ_CONS, 77), (RSP_PROD, 1 << 30), (REQ_CONS, u32::MAX), (RSP_PROD, 5)] {
        world.guest(1).page.set_word(index, value);
        for _ in 0..100 {
            let _ = world.step(1);
        }
    }
    assert_eq!(world.mkdir(2, 0, "a"), Ok(()), "others do not notice");
}
