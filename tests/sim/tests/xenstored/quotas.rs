//! Quotas: each is reached, and each leaves the daemon as it was.
#![forbid(unsafe_code)]

use xen_abi::io::xs_wire::{MessageType, XsError};
use xen_sim::xenstored::{Config, Features, Quota, Quotas};

use crate::world::{World, home, strings};

fn limited(quota: Quota, value: u32) -> World {
    let quotas = Quotas::default().with(quota, value);
    let mut world = World::with(&Config { quotas, ..Config::default() });
    world.start(1);
    world
}

/// `QUOTA_NODES`: of 5, the home is the first and three more can be had. What dom0 creates for a guest counts, and is not refused.
#[test]
fn nodes_are_counted_for_their_owner() {
    let full = Err((XsError::ENOSPC, "QUOTA_NODES"));
    let mut world = limited(Quota::Nodes, 5);
    for path in ["a", "a/b", "c"] {
        world.mkdir(1, 0, path).expect("there is room");
    }
    assert_eq!(world.mkdir(1, 0, "d"), full);
    assert_eq!(world.write(1, 0, "a/x", ""), full);
    assert_eq!(world.write(1, 0, "c", "value"), Ok(()), "it is no new node");
    assert_eq!(world.holdings(1).nodes, 4, "nothing was half done");
    world.rm(1, 0, "a").expect("its own");
    assert_eq!(world.mkdir(1, 0, "d"), Ok(()));
    world.tools().write(None, "/local/domain/1/dom0/was/here", b"").expect("dom0 has no quota");
    assert_eq!(world.mkdir(1, 0, "e"), full);
}

/// `QUOTA_NODES`: in a transaction the nodes are counted at its end, where others may have been quicker.
#[test]
fn a_transactions_nodes_are_counted_at_its_end() {
    let mut world = limited(Quota::Nodes, 5);
    world.start(2);
    let tx = world.start_transaction(1).expect("its first");
    for path in ["a", "b", "c", "d", "e"] {
        world.mkdir(1, tx, path).expect("not looked at yet");
    }
    assert_eq!(world.end(1, tx, "T"), Err((XsError::ENOSPC, "QUOTA_NODES")));
    assert_eq!(world.holdings(1).nodes, 1);

    let tx = world.start_transaction(1).expect("its first");
    for path in ["a", "b", "c", "d", "e"] {
        world.mkdir(1, tx, path).expect("not looked at yet");
    }
    world.rm(1, tx, "a").expect("its own");
    world.rm(1, tx, "b").expect("its own");
    assert_eq!(world.end(1, tx, "T"), Ok(()), "what is gone again does not count");
    assert_eq!(world.holdings(1).nodes, 4);
}

/// `QUOTA_NODE_SIZE`: 16 bytes, 8 for its permission, the value, and the names of its children.
#[test]
fn nodes_are_small() {
    let full = Err((XsError::ENOSPC, "QUOTA_NODE_SIZE"));
    let mut world = World::of([1]);
    let value = "v".repeat(2047 - 24);
    assert_eq!(world.write(1, 0, "a", &value), Ok(()));
    assert_eq!(world.write(1, 0, "a", &format!("{value}v")), full);
    assert_eq!(world.read(1, 0, "a"), Ok(value.clone()));
    assert_eq!(world.set_permissions(1, "a", &["n1", "r0"]), full);
    assert_eq!(world.mkdir(1, 0, "a/b"), full, "the name goes into the parent");
    assert_eq!(world.directory(1, 0, "a"), Ok(vec![]));
    assert_eq!(world.write(1, 0, "b", &format!("{value}v")), full);
    assert_eq!(world.directory(1, 0, &home(1)), Ok(vec!["a".into()]), "nothing was half done");
    let whole = "v".repeat(4000);
    assert_eq!(world.tools().write(None, "/local/domain/1/a", whole.as_bytes()), Ok(()));
    assert_eq!(world.rm(1, 0, "a"), Ok(()), "less is always possible");
}

/// `QUOTA_WATCHES`: with one less there is room again.
#[test]
fn watches_are_counted() {
    let mut world = World::of([1]);
    for index in 0..127 {
        world.watch(1, "a", &index.to_string()).expect("there is room");
    }
    assert_eq!(world.watch(1, "a", "127"), Err((XsError::ENOSPC, "QUOTA_WATCHES")));
    assert_eq!(world.watch(1, "a", "126"), Err((XsError::EEXIST, "WATCH_ONCE")), "which is said first");
    assert_eq!(world.holdings(1).watches.len(), 127);
    world.ask(1, MessageType::Unwatch, 0, &strings(["a", "5"])).expect("it is set");
    assert_eq!(world.watch(1, "a", "127"), Ok(()));
}

/// `QUOTA_TRANSACTIONS`: a guest that forgets to end them finds out.
#[test]
fn transactions_are_counted() {
    let mut world = World::of([1]);
    let open: Vec<u32> = (0..9).map(|_| world.start_transaction(1).expect("there is room")).collect();
    assert_eq!(world.start_transaction(1), Err((XsError::ENOSPC, "QUOTA_TRANSACTIONS")));
    assert_eq!(world.holdings(1).transactions, open);
    world.end(1, open[4], "F").expect("it is open");
    assert!(world.start_transaction(1).is_ok());
}

/// `QUOTA_TRANSACTION_NODES`: the transaction is lost, since part of what it looked at is not kept.
#[test]
fn a_transaction_touches_few_nodes() {
    let mut world = limited(Quota::TransactionNodes, 5);
    let tx = world.start_transaction(1).expect("its first");
    // It looks at the node, and at its home, whether it may know.
    assert_eq!(world.read(1, tx, "a"), Err((XsError::ENOENT, "NODE_EXISTS")));
    for path in ["b", "c"] {
        assert_eq!(world.read(1, tx, path), Err((XsError::ENOENT, "NODE_EXISTS")));
    }
    assert_eq!(world.read(1, tx, "d"), Err((XsError::ENOSPC, "QUOTA_TRANSACTION_NODES")));
    assert_eq!(world.read(1, tx, "c"), Err((XsError::ENOENT, "NODE_EXISTS")), "that one it knows");
    assert_eq!(world.end(1, tx, "T"), Err((XsError::ENOMEM, "TRANSACTION_FAILED")));
}

/// `QUOTA_MEMORY`: a node that does not fit is EIO, a watch and a long reply are ENOMEM, and a guest that is over it is not heard.
#[test]
fn memory_is_counted() {
    let mut world = limited(Quota::Memory, 3000);
    let value = "v".repeat(1000);
    assert_eq!(world.write(1, 0, "a", &value), Ok(()));
    assert_eq!(world.write(1, 0, "b", &value), Ok(()));
    assert_eq!(world.write(1, 0, "c", &value), Err((XsError::EIO, "QUOTA_MEMORY")));
    assert_eq!(world.write(1, 0, "b", &value), Ok(()), "it is no more than it was");
    assert_eq!(world.read(1, 0, "a").map(drop), Err((XsError::ENOMEM, "QUOTA_MEMORY")));
    let token = "t".repeat(1000);
    assert_eq!(world.watch(1, "a", &token), Err((XsError::ENOMEM, "QUOTA_MEMORY")));
    world.write(1, 0, "b", "").expect("it is less");
    assert_eq!(world.read(1, 0, "a").as_deref(), Ok(value.as_str()));
    assert!(world.holdings(1).memory < 3000);

    let large = "v".repeat(3000);
    world.tools().write(None, "/local/domain/1/a", large.as_bytes()).expect("dom0 has no quota");
    let request = world.send(1, MessageType::Rm, 0, &strings(["a"]));
    world.settle();
    assert!(world.guest(1).messages.is_empty(), "its next request waits");
    world.tools().rm(None, "/local/domain/1/a").expect("dom0 may");
    assert!(world.reply(1, MessageType::Rm as u32, 0, request).is_ok(), "and is done then");
}

/// `QUOTA_MEMORY`: what is another's does not count, and a reply as short as OK is always possible.
#[test]
fn at_the_limit_of_memory_a_guest_is_answered() {
    let mut world = limited(Quota::Memory, 3000);
    world.start(2);
    world.write(2, 0, "shared", "").expect("its own");
    world.set_permissions(2, "shared", &["b2"]).expect("its own");
    for path in ["a", "b"] {
        world.write(1, 0, path, &"v".repeat(1000)).expect("there is room");
    }
    assert_eq!(world.write(1, 0, "/local/domain/2/shared", &"v".repeat(1000)), Ok(()));
    // Its path, its size without a value, and its name in its parent.
    let node = "/local/domain/1/c".len() + 24 + 2;
    let filler = 2999 - world.holdings(1).memory - node;
    assert_eq!(world.write(1, 0, "c", &"v".repeat(filler + 1)), Err((XsError::EIO, "QUOTA_MEMORY")));
    assert_eq!(world.write(1, 0, "c", &"v".repeat(filler)), Ok(()));
    assert_eq!(world.holdings(1).memory, 2999);
    assert_eq!(world.rm(1, 0, "c"), Ok(()));
}

/// `QUOTA_OUTSTANDING`: who does not take replies is not heard, and who floods another with events waits until they are taken.
#[test]
fn a_guest_with_much_outstanding_is_not_heard() {
    let mut world = World::of([1, 2]);
    for _ in 0..25 {
        world.send(1, MessageType::Read, 0, &strings(["/local/domain/1"]));
    }
    // Replies with no payload: the ring has room for 64. So fill it, first.
    world.serve(1);
    assert_eq!(world.holdings(1).outstanding, 0, "all went into the ring");
    world.settle();
    assert_eq!(world.guest(1).messages.drain(..).count(), 25);

    world.write(1, 0, "long", &"v".repeat(1000)).expect("its own");
    for _ in 0..25 {
        world.send(1, MessageType::Read, 0, &strings(["long"]));
    }
    world.serve(1);
    assert_eq!(world.holdings(1).outstanding, 20, "one reply is in the ring, and these wait");
    world.settle();
    assert_eq!(world.guest(1).messages.drain(..).count(), 25, "none is lost");

    // Events that its requests cause.
    world.set_permissions(1, &home(1), &["r1"]).expect("its own");
    world.watch(2, &home(1), "t").expect("its first");
    for index in 0..40 {
        world.send(1, MessageType::Write, 0, &strings([format!("node-{index}-of-a-long-name").as_str()]));
        world.serve(1);
        world.guest(1).messages.clear();
        let _ = world.step(2);
    }
    assert_eq!(world.holdings(1).outstanding, 20);
    assert!(world.holdings(1).nodes < 42, "the rest of its requests waits");
    world.settle();
    assert_eq!((world.holdings(1).outstanding, world.holdings(1).nodes), (0, 42));
    assert_eq!(world.events(2).len(), 40);
}

/// `DOMAIN_EXISTS`: where the daemon has the requests, dom0 sets quotas for one domain or for new ones, and others keep theirs.
#[test]
fn dom0_sets_quotas() {
    let features = Features { quota_requests: true, ..Features::default() };
    let mut world = World::with(&Config { features, ..Config::default() });
    world.start(1);
    assert_eq!(world.tools().quota(Some(1), Quota::Watches), Ok(128));
    world.tools().set_quota(None, Quota::Watches, 2).expect("dom0 may");
    assert_eq!(world.tools().quota(None, Quota::Watches), Ok(2));
    world.start(2);
    world.tools().set_quota(Some(2), Quota::Nodes, 2).expect("dom0 may");
    assert_eq!(world.mkdir(2, 0, "a"), Err((XsError::ENOSPC, "QUOTA_NODES")));
    for token in ["1", "2", "3"] {
        world.watch(1, "a", token).expect("its quota is that of its beginning");
    }
    world.watch(2, "a", "1").expect("its first");
    assert_eq!(world.watch(2, "a", "2"), Err((XsError::ENOSPC, "QUOTA_WATCHES")));
    let refused = world.tools().quota(Some(3), Quota::Watches).expect_err("there is no 3");
    assert_eq!((refused.error, refused.rule.name), (XsError::ENOENT, "DOMAIN_EXISTS"));
    let mut old = World::new();
    let refused = old.tools().set_quota(None, Quota::Nodes, 1).expect_err("an old daemon");
    assert_eq!((refused.error, refused.rule.name), (XsError::ENOSYS, "KNOWN_TYPES"));
}
