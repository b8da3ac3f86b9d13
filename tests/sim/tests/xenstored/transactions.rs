//! Transactions: what they see, when they fail, and what others see of them.
#![forbid(unsafe_code)]

use xen_abi::io::xs_wire::{MessageType, XsError};
use xen_sim::xenstored::{Access, Permission};

use crate::world::{World, home, pair, strings};

const CONFLICT: (XsError, &str) = (XsError::EAGAIN, "TRANSACTION_CONFLICT");

/// `TRANSACTION_OPEN`: a number that is not open, is another guest's, or has been used is refused, by every request that looks at it.
#[test]
fn a_request_is_in_an_open_transaction() {
    let mut world = World::of([1, 2]);
    let closed = (XsError::ENOENT, "TRANSACTION_OPEN");
    let tx = world.start_transaction(1).expect("its first");
    world.start_transaction(2).expect("its first");
    let mine = world.start_transaction(2).expect("its second");
    assert_eq!(world.write(1, mine, "a", ""), Err(closed));
    world.end(1, tx, "F").expect("it is open");
    assert_eq!(world.end(1, tx, "F"), Err(closed));
    assert_eq!(world.end(1, 0, "F"), Err(closed), "zero is none");
    for kind in [
        MessageType::Read,
        MessageType::Directory,
        MessageType::Mkdir,
        MessageType::Rm,
        MessageType::TransactionStart,
        MessageType::GetDomainPath,
        MessageType::ResetWatches,
    ] {
        assert_eq!(world.ask(1, kind, tx, &strings(["1"])).map(drop), Err(closed), "{kind}");
    }
    // WATCH and UNWATCH do not look at it.
    assert!(world.ask(1, MessageType::Watch, 77, &strings(["a", "t"])).is_ok());
    assert!(world.ask(1, MessageType::Unwatch, 77, &strings(["a", "t"])).is_ok());
    let other = world.daemon.connect();
    let tx = world.tools().start().expect("dom0 may");
    let refused = world.daemon.tools(&other).commit(tx).expect_err("another's");
    assert_eq!((refused.error, refused.rule.name), closed);
}

/// `TRANSACTION_NOT_NESTED`: and the one that is open stays as it is.
#[test]
fn transactions_are_not_nested() {
    let mut world = World::of([1]);
    let tx = world.start_transaction(1).expect("its first");
    let refused = world.ask(1, MessageType::TransactionStart, tx, b"\0");
    assert_eq!(refused, Err((XsError::EBUSY, "TRANSACTION_NOT_NESTED")));
    assert_eq!(world.end(1, tx, "T"), Ok(()));
}

/// `TRANSACTION_END_SYNTAX`: a slip of the pen neither commits nor discards.
#[test]
fn a_transaction_ends_with_t_or_f() {
    let mut world = World::of([1]);
    let tx = world.start_transaction(1).expect("its first");
    world.write(1, tx, "a", "v").expect("its own");
    for bad in [&b""[..], b"\0", b"T", b"t\0", b"TF\0", b"T\0F\0"] {
        let refused = world.ask(1, MessageType::TransactionEnd, tx, bad);
        assert_eq!(refused, Err((XsError::EINVAL, "TRANSACTION_END_SYNTAX")), "{bad:?}");
    }
    assert_eq!(world.end(1, tx, "T"), Ok(()));
    assert_eq!(world.read(1, 0, "a").as_deref(), Ok("v"));
}

/// `TRANSACTION_VIEW`: what is done in it is seen in it, and by nobody else before its end. What it has not touched yet is as it is now.
#[test]
fn a_transaction_has_its_own_view() {
    let mut world = World::of([1]);
    world.write(1, 0, "a", "old").expect("its own");
    world.write(1, 0, "b", "old").expect("its own");
    let tx = world.start_transaction(1).expect("its first");
    assert_eq!(world.read(1, tx, "a").as_deref(), Ok("old"));
    world.write(1, tx, "c/d", "new").expect("its own");
    world.rm(1, tx, "b").expect("its own");
    assert_eq!(world.directory(1, tx, &home(1)), Ok(vec!["a".into(), "c".into()]));
    assert_eq!(world.directory(1, 0, &home(1)), Ok(vec!["a".into(), "b".into()]));
    assert_eq!(world.read(1, tx, "b").map(drop), Err((XsError::ENOENT, "NODE_EXISTS")));
    world.write(1, 0, "a", "newer").expect("its own");
    assert_eq!(world.read(1, tx, "a").as_deref(), Ok("old"), "it was touched before");
    world.end(1, tx, "F").expect("it is open");
    assert_eq!(world.directory(1, 0, &home(1)), Ok(vec!["a".into(), "b".into()]));

    let tx = world.start_transaction(1).expect("its first");
    world.write(1, 0, "a", "newest").expect("its own");
    assert_eq!(world.read(1, tx, "a").as_deref(), Ok("newest"), "it is touched after");
    assert_eq!(world.end(1, tx, "T"), Ok(()));
}

/// `TRANSACTION_CONFLICT`: a change by somebody else of anything that it has touched, in any way, is one.
#[test]
fn a_transaction_that_was_overtaken_fails() {
    /// What somebody else does meanwhile.
    type Change = fn(&mut World);
    /// What it does itself.
    type Touch = fn(&mut World, u32);
    let changes: [(&str, Change); 6] = [
        ("written", |world| world.write(1, 0, "a", "other").expect("its own")),
        ("written as before", |world| world.write(1, 0, "a", "v").expect("its own")),
        ("removed", |world| world.rm(1, 0, "a").expect("its own")),
        ("given a child", |world| world.mkdir(1, 0, "a/new").expect("its own")),
        ("given permissions", |world| world.set_permissions(1, "a", &["r1"]).expect("its own")),
        ("removed and created", |world| {
            world.rm(1, 0, "a").expect("its own");
            world.write(1, 0, "a", "v").expect("its own");
        }),
    ];
    for (how, change) in changes {
        let touches: [(&str, Touch); 3] = [
            ("read", |world, tx| drop(world.read(1, tx, "a").expect("its own"))),
            ("write", |world, tx| world.write(1, tx, "a", "mine").expect("its own")),
            ("child", |world, tx| world.mkdir(1, tx, "a/mine").expect("its own")),
        ];
        for (what, touch) in touches {
            let mut world = World::of([1]);
            world.write(1, 0, "a", "v").expect("its own");
            let tx = world.start_transaction(1).expect("its first");
            touch(&mut world, tx);
            change(&mut world);
            let before = world.holdings(1).nodes;
            assert_eq!(world.end(1, tx, "T"), Err(CONFLICT), "{what}, {how}");
            assert_eq!(world.holdings(1).nodes, before, "{what}, {how}: nothing has happened");
            assert_eq!(world.holdings(1).transactions, [], "and it is gone");
        }
    }
}

/// `TRANSACTION_CONFLICT`: that a node was missing is something that it has seen.
#[test]
fn what_was_missing_must_be_missing_still() {
    let mut world = World::of([1]);
    let tx = world.start_transaction(1).expect("its first");
    assert!(world.read(1, tx, "a").is_err());
    world.write(1, 0, "a", "").expect("its own");
    assert_eq!(world.end(1, tx, "T"), Err(CONFLICT));
}

/// `TRANSACTION_CONFLICT`: what others do elsewhere is none; two that create children of one node are.
#[test]
fn only_what_was_touched_conflicts() {
    let mut world = World::of([1, 2]);
    world.write(1, 0, "a", "").expect("its own");
    world.write(1, 0, "b", "").expect("its own");
    let first = world.start_transaction(1).expect("its first");
    let second = world.start_transaction(1).expect("its second");
    world.write(1, first, "a", "1").expect("its own");
    world.write(1, second, "b", "2").expect("its own");
    world.write(2, 0, "x", "").expect("its own");
    assert_eq!(world.end(1, first, "T"), Ok(()));
    assert_eq!(world.end(1, second, "T"), Ok(()));
    assert_eq!(world.read(1, 0, "a").as_deref(), Ok("1"));
    assert_eq!(world.read(1, 0, "b").as_deref(), Ok("2"));

    let first = world.start_transaction(1).expect("its first");
    let second = world.start_transaction(1).expect("its second");
    world.mkdir(1, first, "c").expect("its own");
    world.mkdir(1, second, "d").expect("its own");
    assert_eq!(world.end(1, first, "T"), Ok(()));
    assert_eq!(world.end(1, second, "T"), Err(CONFLICT));
    assert_eq!(world.directory(1, 0, &home(1)), Ok(["a", "b", "c"].map(String::from).to_vec()));
}

/// `TRANSACTION_CONFLICT`: who only reads changes nothing: else two that look at the same node would overtake each other for ever.
#[test]
fn readers_do_not_conflict() {
    let mut world = World::of([1]);
    world.write(1, 0, "a", "v").expect("its own");
    let first = world.start_transaction(1).expect("its first");
    let second = world.start_transaction(1).expect("its second");
    for tx in [first, second] {
        world.read(1, tx, "a").expect("its own");
    }
    assert_eq!(world.end(1, first, "T"), Ok(()));
    assert_eq!(world.end(1, second, "T"), Ok(()));
}

/// `TRANSACTION_FAILED`: what could not be written in full is not committed, though the guest has not looked at the error.
#[test]
fn a_transaction_that_failed_halfway_is_not_committed() {
    let mut world = World::of([1]);
    let tx = world.start_transaction(1).expect("its first");
    world.write(1, tx, "a", "").expect("its own");
    let refused = world.write(1, tx, "b", &"v".repeat(2048));
    assert_eq!(refused, Err((XsError::ENOSPC, "QUOTA_NODE_SIZE")));
    assert_eq!(world.end(1, tx, "T"), Err((XsError::ENOMEM, "TRANSACTION_FAILED")));
    assert_eq!(world.directory(1, 0, &home(1)), Ok(vec![]));
}

/// `TRANSACTION_EVENTS`: one for each path however often it was written, none for what came and went, none before, none if it fails.
#[test]
fn events_come_at_the_end() {
    let mut world = World::of([1]);
    let path = |rest: &str| format!("{}/{rest}", home(1));
    world.write(1, 0, "old/child", "").expect("its own");
    for watched in [home(1), path("old/child")] {
        world.tools().watch(&watched, "t").expect("dom0 may");
    }
    world.dom0_events();

    let tx = world.start_transaction(1).expect("its first");
    world.write(1, tx, "b", "1").expect("its own");
    world.write(1, tx, "a/deep", "1").expect("its own");
    world.write(1, tx, "b", "2").expect("its own");
    world.write(1, tx, "brief", "").expect("its own");
    world.rm(1, tx, "brief").expect("its own");
    world.rm(1, tx, "old").expect("its own");
    world.set_permissions(1, "b", &["n1"]).expect_err("it is not there yet");
    assert_eq!(world.dom0_events(), []);
    assert_eq!(world.end(1, tx, "T"), Ok(()));
    let both = [pair(&path("b"), "t"), pair(&path("a/deep"), "t")];
    let removed = [pair(&path("old"), "t"), pair(&path("old/child"), "t")];
    assert_eq!(world.dom0_events(), [both, removed].concat(), "in the order in which they were touched");

    for end in ["F", "T"] {
        let tx = world.start_transaction(1).expect("its first");
        world.write(1, tx, "b", "3").expect("its own");
        if end == "T" {
            world.tools().write(None, &path("b"), b"").expect("dom0 may");
            world.dom0_events();
        }
        assert_eq!(world.end(1, tx, end).is_ok(), end == "F");
        assert_eq!(world.dom0_events(), []);
    }
}

/// `TRANSACTION_EVENTS`: a node that was written is told of to who watches above it, though its parent was removed afterwards.
#[test]
fn a_write_is_told_though_a_removal_follows() {
    let mut world = World::of([1]);
    let path = |rest: &str| format!("{}/{rest}", home(1));
    world.write(1, 0, "a/b", "").expect("its own");
    world.tools().watch(&path("a"), "t").expect("dom0 may");
    world.dom0_events();
    let tx = world.start_transaction(1).expect("its first");
    world.write(1, tx, "a/b", "").expect("its own");
    world.rm(1, tx, "a").expect("its own");
    world.end(1, tx, "T").expect("nobody else was there");
    assert_eq!(world.dom0_events(), [pair(&path("a/b"), "t"), pair(&path("a"), "t")]);
}

/// `TRANSACTION_EVENTS`: who could read what a transaction has removed is told, who could not is not.
#[test]
fn a_transactions_removal_is_told_to_who_could_see() {
    let mut world = World::of([1, 2]);
    world.write(1, 0, "open", "").expect("its own");
    world.write(1, 0, "secret", "").expect("its own");
    world.set_permissions(1, "open", &["r1"]).expect("its own");
    world.watch(2, &home(1), "t").expect("its first");
    let tx = world.start_transaction(1).expect("its first");
    world.rm(1, tx, "open").expect("its own");
    world.rm(1, tx, "secret").expect("its own");
    world.end(1, tx, "T").expect("nobody else was there");
    assert_eq!(world.events(2), [pair(&format!("{}/open", home(1)), "t")]);
}

/// `TRANSACTION_VIEW`: a domain that is gone does not come back by the copy of a transaction that began before.
#[test]
fn a_dead_domain_does_not_come_back_by_a_commit() {
    let mut world = World::of([1, 2]);
    world.tools().write(None, "/shared", b"").expect("dom0 may");
    let tx = world.tools().start().expect("dom0 may");
    let list = [Permission::new(Access::None, 0), Permission::new(Access::Both, 2)];
    world.tools().set_permissions(Some(tx), "/shared", &list).expect("dom0 may");
    let doomed = world.tools().start().expect("dom0 may");
    world.tools().write(Some(doomed), "/of-2", b"").expect("dom0 may");
    world
        .tools()
        .set_permissions(Some(doomed), "/of-2", &[Permission::new(Access::None, 2)])
        .expect("dom0 may");
    world.daemon.domain_destroyed(2);
    world.start(2);
    assert_eq!(world.tools().commit(tx), Ok(()));
    assert!(world.read(2, 0, "/shared").is_err(), "it is another domain");
    let refused = world.tools().commit(doomed).expect_err("its owner is gone");
    assert_eq!(refused.rule.name, "TRANSACTION_FAILED");
    world.daemon.check().expect("the daemon is in order");
}

/// Dom0's are the same: what a driver's toolstack and backends do in one is whole.
#[test]
fn dom0_has_transactions() {
    let mut world = World::of([1]);
    let tx = world.tools().start().expect("dom0 may");
    world.tools().write(Some(tx), "/backend/1", b"").expect("dom0 may");
    world.tools().write(Some(tx), "/backend/1/state", b"2").expect("dom0 may");
    assert!(world.tools().read(None, "/backend/1").is_err());
    assert_eq!(world.tools().commit(tx), Ok(()));
    assert_eq!(world.tools().read(None, "/backend/1/state").as_deref(), Ok(&b"2"[..]));
    let tx = world.tools().start().expect("dom0 may");
    world.tools().rm(Some(tx), "/backend").expect("dom0 may");
    assert_eq!(world.tools().abort(tx), Ok(()));
    assert_eq!(world.tools().directory(None, "/backend"), Ok(vec!["1".into()]));
}
