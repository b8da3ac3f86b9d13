//! Domains: how they come, and what is left of them.
#![forbid(unsafe_code)]

use xen_abi::io::xs_wire::{
    CONNECTION, MessageType, REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, XENSTORE_CONNECTED, XENSTORE_RECONNECT,
    XENSTORE_SERVER_FEATURE_ERROR, XENSTORE_SERVER_FEATURE_WATCHDEPTH, XsError,
};
use xen_sim::xenstored::{Access, Config, Features, Permission, Refusal};

use crate::world::{PORT, World, home, pair, strings};

fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>) -> (XsError, &'static str) {
    let refusal = result.expect_err("it must be refused");
    (refusal.error, refusal.rule.name)
}

/// `INTRODUCE_REAL`: the toolstack's own mistakes.
#[test]
fn only_a_domain_is_introduced() {
    let mut world = World::of([1]);
    let mut page = world.guest(1).page.clone();
    let unreal = (XsError::EINVAL, "INTRODUCE_REAL");
    assert_eq!(refused(world.tools().introduce(0, PORT, &mut page)), unreal, "dom0 is there");
    assert_eq!(refused(world.tools().introduce(2, PORT, &mut page)), unreal, "there is no 2");
    world.daemon.domain_created(2);
    assert_eq!(refused(world.tools().introduce(2, 0, &mut page)), unreal, "no event channel");
    assert!(!world.tools().is_introduced(2));
    assert_eq!(world.daemon.port(2), None);
    assert_eq!(world.tools().introduce(2, 9, &mut page), Ok(()));
    assert!(world.tools().is_introduced(2));
    assert_eq!(world.daemon.port(2), Some(9));
}

/// `INTRODUCE_ANEW`: after a migration, or a suspend that was cancelled, nothing of the old connection is left to answer to the new.
#[test]
fn an_introduction_begins_anew() {
    let mut world = World::of([1]);
    world.watch(1, "a", "t").expect("its first");
    world.start_transaction(1).expect("its first");
    world.write(1, 0, "long", &"v".repeat(1500)).expect("its own");
    world.send(1, MessageType::Read, 0, &strings(["long"]));
    world.serve(1);
    world.send_bytes(1, b"half a header");
    world.serve(1);
    let holdings = world.holdings(1);
    assert!(holdings.queued > 0 && holdings.received > 0 && holdings.outstanding > 0);

    world.guest(1).page.set_word(CONNECTION, XENSTORE_RECONNECT);
    world.introduce(1).expect("dom0 may");
    let holdings = world.holdings(1);
    assert_eq!((holdings.watches.len(), holdings.transactions.len()), (0, 0));
    assert_eq!((holdings.received, holdings.queued, holdings.outstanding), (0, 0, 0));
    let indices = [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD];
    assert_eq!(indices.map(|index| world.guest(1).page.word(index)), [0; 4]);
    assert_eq!(world.guest(1).page.word(CONNECTION), XENSTORE_CONNECTED, "it can see that it is done");
    assert_eq!(world.holdings(1).nodes, 2, "its nodes stay");
    world.daemon.check().expect("the daemon is in order");
}

/// `INTRODUCE_ANEW`: the page may have anything in it, as may a page that a guest has used before.
#[test]
fn a_page_may_be_dirty() {
    let mut world = World::of([1]);
    world.tools().release(1).expect("it is introduced");
    for index in [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD] {
        world.guest(1).page.set_word(index, 0xDEAD_BEEF);
    }
    world.introduce(1).expect("it exists");
    world.settle();
    assert!(!world.holdings(1).is_dead);
}

/// `DOMAIN_GONE`: when a domain is destroyed nothing that it owned is left, wherever it was, and who watched it is told.
#[test]
fn nothing_is_left_of_a_domain() {
    let mut world = World::of([1, 2]);
    world.write(1, 0, "device/vbd/state", "4").expect("its own");
    world.write(1, 0, "shared", "").expect("its own");
    world.set_permissions(1, "shared", &["b1"]).expect("its own");
    world.write(2, 0, "/local/domain/1/shared/of-2", "").expect("it may");
    world.tools().write(None, "/vm/1", b"").expect("dom0 may");
    let list = [Permission::new(Access::None, 0), Permission::new(Access::Read, 1)];
    world.tools().set_permissions(None, "/vm/1", &list).expect("dom0 may");
    world.tools().write(None, "/a/of-1", b"").expect("dom0 may");
    world.tools().set_permissions(None, "/a/of-1", &[Permission::new(Access::None, 1)]).expect("dom0 may");
    world.watch(1, "a", "t").expect("its first");
    world.tools().watch("/local/domain/1/device/vbd/state", "state").expect("dom0 may");
    world.tools().watch("/a", "a").expect("dom0 may");
    world.tools().watch("@releaseDomain", "gone").expect("dom0 may");
    world.dom0_events();

    world.daemon.domain_destroyed(1);
    world.guests.remove(&1);
    let events = world.dom0_events();
    let state = pair("/local/domain/1/device/vbd/state", "state");
    assert_eq!(events, [state, pair("/a/of-1", "a"), pair("@releaseDomain", "gone")]);
    assert_eq!(world.daemon.holdings(1), None);
    assert!(!world.tools().is_introduced(1));
    assert!(world.tools().read(None, &home(1)).is_err());
    assert_eq!(world.tools().directory(None, "/a"), Ok(vec![]));
    assert_eq!(world.tools().permissions(None, "/vm/1"), Ok(vec![Permission::new(Access::None, 0)]));
    assert_eq!(world.holdings(2).nodes, 1, "what was below goes with it");
    world.daemon.check().expect("the daemon is in order");
    world.daemon.domain_destroyed(1);
    assert_eq!(world.dom0_events(), [], "it is gone already");
}

/// `DOMAIN_GONE`: what cannot go is dom0's then: the root, and special nodes.
#[test]
fn the_root_outlives_its_owner() {
    let mut world = World::of([1]);
    for path in ["/", "@releaseDomain"] {
        let give = [Permission::new(Access::Read, 1)];
        world.tools().set_permissions(None, path, &give).expect("dom0 may");
    }
    world.daemon.domain_destroyed(1);
    for path in ["/", "@releaseDomain"] {
        assert_eq!(world.tools().permissions(None, path), Ok(vec![Permission::new(Access::None, 0)]));
    }
    world.daemon.check().expect("the daemon is in order");
}

/// `DOMAIN_GONE`: who waits for a dead domain to take its events waits no longer.
#[test]
fn a_dead_domain_blocks_nobody() {
    let mut world = World::of([1, 2]);
    world.set_permissions(1, &home(1), &["r1"]).expect("its own");
    world.watch(2, &home(1), &"t".repeat(1000)).expect("its first");
    for index in 0..3 {
        world.send(1, MessageType::Mkdir, 0, &strings([format!("{index}").as_str()]));
        world.serve(1);
        let _ = world.step(2);
    }
    assert!(world.holdings(1).outstanding > 0);
    world.daemon.domain_destroyed(2);
    world.guests.remove(&2);
    assert_eq!(world.holdings(1).outstanding, 0);
    world.daemon.check().expect("the daemon is in order");
}

/// `DOMAIN_GONE`: the next domain of the number is not made to wait for what the last one has caused.
#[test]
fn what_a_dead_domain_caused_is_nobodys() {
    let mut world = World::of([1, 2]);
    world.set_permissions(1, &home(1), &["r1"]).expect("its own");
    world.watch(2, &home(1), &"t".repeat(1000)).expect("its first");
    for index in 0..3 {
        world.send(1, MessageType::Mkdir, 0, &strings([index.to_string()]));
        world.serve(1);
    }
    assert_eq!(world.holdings(1).outstanding, 3);
    world.daemon.domain_destroyed(1);
    world.start(1);
    assert_eq!(world.holdings(1).outstanding, 0);
    world.settle();
}

/// `DOMAIN_INTRODUCED`: RELEASE, RESUME and `SET_TARGET` of what is not there, or of dom0.
#[test]
fn only_an_introduced_domain_is_released_resumed_or_targeted() {
    let mut world = World::of([1]);
    world.daemon.domain_created(2);
    let (missing, dom0) = ((XsError::ENOENT, "DOMAIN_INTRODUCED"), (XsError::EINVAL, "DOMAIN_INTRODUCED"));
    for domid in [2, 3] {
        assert_eq!(refused(world.tools().release(domid)), missing);
        assert_eq!(refused(world.tools().resume(domid)), missing);
        assert_eq!(refused(world.tools().set_target(1, domid)), missing);
        assert_eq!(refused(world.tools().set_target(domid, 1)), missing);
    }
    assert_eq!(refused(world.tools().release(0)), dom0);
    assert_eq!(refused(world.tools().resume(0)), dom0);
    world.tools().release(1).expect("it is introduced");
    assert_eq!(refused(world.tools().release(1)), missing, "no longer");
    assert_eq!(world.daemon.port(1), None);
    assert!(world.tools().read(None, &home(1)).is_err(), "its nodes are gone with it");
    assert!(world.tools().is_introduced(0));
}

/// `SHUT_DOWN_ONCE`: a suspend looks like a shutdown, and a resume makes the next one count.
#[test]
fn a_shutdown_is_told_once() {
    let features = Features {
        offered: XENSTORE_SERVER_FEATURE_WATCHDEPTH,
        feature_requests: false,
        quota_requests: false,
    };
    let mut world = World::with(&Config { features, ..Config::default() });
    world.start(1);
    world.tools().watch("@releaseDomain", "any").expect("dom0 may");
    world.tools().watch_to_depth("@releaseDomain", "which", 1).expect("dom0 may");
    world.dom0_events();
    let told = [pair("@releaseDomain/1", "which"), pair("@releaseDomain", "any")];
    world.daemon.domain_shut_down(1);
    assert_eq!(world.dom0_events(), told);
    world.daemon.domain_shut_down(1);
    assert_eq!(world.dom0_events(), []);
    world.tools().resume(1).expect("it is introduced");
    world.daemon.domain_shut_down(1);
    assert_eq!(world.dom0_events(), told);
    world.daemon.domain_created(2);
    world.daemon.domain_shut_down(2);
    world.daemon.domain_shut_down(3);
    assert_eq!(world.dom0_events(), [], "not introduced, and not there");
    assert!(world.tools().is_introduced(1), "it is still there");
}

/// `FEATURES_BEFORE`, `FEATURES_KNOWN`, `DOMAIN_EXISTS`: a guest that was migrated from an older host is offered what it was offered there.
#[test]
fn features_are_settled_before_the_introduction() {
    let offered = XENSTORE_SERVER_FEATURE_ERROR | XENSTORE_SERVER_FEATURE_WATCHDEPTH;
    let features = Features { offered, feature_requests: true, quota_requests: false };
    let mut world = World::with(&Config { features, ..Config::default() });
    world.daemon.domain_created(1);
    assert_eq!(world.tools().features(1), Ok(offered));
    let unknown = refused(world.tools().set_features(1, 1 << 20));
    assert_eq!(unknown, (XsError::EINVAL, "FEATURES_KNOWN"));
    world.tools().set_features(1, XENSTORE_SERVER_FEATURE_ERROR).expect("it is not introduced");
    world.start(1);
    assert_eq!(world.state(1)[0], XENSTORE_SERVER_FEATURE_ERROR);
    let refused_watch = world.ask(1, MessageType::Watch, 0, &strings(["a", "t", "1"]));
    assert_eq!(refused_watch.map_err(|(_, rule)| rule), Err("WATCH_DEPTH"));
    assert_eq!(refused(world.tools().set_features(1, 0)), (XsError::EBUSY, "FEATURES_BEFORE"));
    assert_eq!(refused(world.tools().set_features(2, 0)), (XsError::ENOENT, "DOMAIN_EXISTS"));
    assert_eq!(refused(world.tools().features(2)), (XsError::ENOENT, "DOMAIN_EXISTS"));
}

/// A client that goes leaves nothing: its transactions neither commit nor stand in the way.
#[test]
fn a_client_of_dom0_comes_and_goes() {
    let mut world = World::of([1]);
    let backend = world.daemon.connect();
    world.daemon.tools(&backend).watch("/local/domain/1", "t").expect("dom0 may");
    let tx = world.daemon.tools(&backend).start().expect("dom0 may");
    world.daemon.tools(&backend).write(Some(tx), "/lost", b"").expect("dom0 may");
    world.mkdir(1, 0, "a").expect("its own");
    world.daemon.disconnect(backend);
    assert!(world.tools().read(None, "/lost").is_err());
    world.mkdir(1, 0, "b").expect("its own");
    world.daemon.check().expect("the daemon is in order");
}
