//! Watches: when they fire, for whom, with what, and in which order.
#![forbid(unsafe_code)]

use std::time::Duration;

use xen_abi::io::xs_wire::{
    MessageType, XENSTORE_SERVER_FEATURE_DOMID_ANY, XENSTORE_SERVER_FEATURE_WATCHDEPTH, XsError,
};
use xen_sim::xenstored::{Access, Config, Features, Permission, Quota, Quotas};

use crate::world::{World, home, pair, strings};

fn offering(offered: u32) -> World {
    let features = Features { offered, ..Features::default() };
    World::with(&Config { features, ..Config::default() })
}

/// `WATCH_FIRES_AT_ONCE`: for a node that is not there, too, and though the watcher may not read it. The reply comes first: a guest
/// may give the token its meaning when it sees the reply.
#[test]
fn a_new_watch_fires_after_its_reply() {
    let mut world = World::of([1]);
    let request = world.send(1, MessageType::Watch, 0, &strings(["/tool/none", "token"]));
    world.settle();
    let kinds: Vec<(u32, u32)> =
        world.guest(1).messages.iter().map(|(header, _)| (header.r#type, header.req_id)).collect();
    assert_eq!(kinds, [(MessageType::Watch as u32, request), (MessageType::WatchEvent as u32, 0)]);
    assert_eq!(world.guest(1).messages[1].1, b"/tool/none\0token\0");
}

/// `WATCH_FIRES_AT_ONCE`: the first event is of no request. A guest that waits for the reply alone is heard again.
#[test]
fn the_first_event_is_not_outstanding() {
    let mut world = World::of([1]);
    let token = "t".repeat(900);
    for path in ["a", "b"] {
        world.send(1, MessageType::Watch, 0, &strings([path, &token]));
        world.serve(1);
    }
    let holdings = world.holdings(1);
    assert_eq!(
        (holdings.queued, holdings.outstanding),
        (1, 0),
        "of the second event there is a part in the ring"
    );
}

/// `WATCH_BELOW`: once for each change, with its path; not for a read, for MKDIR of what is there, and for a name that only begins alike.
#[test]
fn a_watch_is_for_all_below() {
    let mut world = World::of([1]);
    let path = |rest: &str| format!("{}/{rest}", home(1));
    world.watch(1, &path("a"), "t").expect("its first");
    world.write(1, 0, "a/b/c", "1").expect("its own");
    assert_eq!(world.events(1), [pair(&path("a/b/c"), "t")], "created parents do not count");
    world.write(1, 0, "a/b/c", "1").expect("its own");
    assert_eq!(world.events(1), [pair(&path("a/b/c"), "t")], "though the value is the same");
    world.set_permissions(1, "a/b", &["n1"]).expect("its own");
    assert_eq!(world.events(1), [pair(&path("a/b"), "t")]);
    world.mkdir(1, 0, "a/d").expect("its own");
    assert_eq!(world.events(1), [pair(&path("a/d"), "t")]);
    world.mkdir(1, 0, "a/d").expect("its own");
    world.read(1, 0, "a/b").expect("its own");
    world.write(1, 0, "ab", "").expect("its own");
    world.rm(1, 0, "a/none").expect("its parent is there");
    assert_eq!(world.events(1), []);
    world.rm(1, 0, "a").expect("its own");
    assert_eq!(world.events(1), [pair(&path("a"), "t")]);
}

/// `WATCH_RELATIVE`: a guest compares the event's path with what it has asked for.
#[test]
fn a_relative_watch_has_relative_events() {
    let mut world = World::of([1]);
    world.watch(1, "a", "relative").expect("its first");
    world.watch(1, &home(1), "absolute").expect("its second");
    assert_eq!(world.watch(1, "/local/domain/1/a", "relative"), Err((XsError::EEXIST, "WATCH_ONCE")));
    world.tools().write(None, "/local/domain/1/a/b", b"").expect("dom0 may");
    assert_eq!(world.events(1), [pair("a/b", "relative"), pair("/local/domain/1/a/b", "absolute")]);
    let named: Vec<String> = world.holdings(1).watches.into_iter().map(|watch| watch.path).collect();
    assert_eq!(named, ["a", "/local/domain/1"]);
}

/// `WATCH_ONCE`: the same path with another token is another watch.
#[test]
fn a_watch_is_set_once() {
    let mut world = World::of([1]);
    world.watch(1, "a", "x").expect("its first");
    world.watch(1, "a", "y").expect("another token");
    world.watch(1, "b", "x").expect("another path");
    assert_eq!(world.watch(1, "a", "x"), Err((XsError::EEXIST, "WATCH_ONCE")));
}

/// `WATCH_EXISTS`: after UNWATCH there are no more events, but for one that is on its way.
#[test]
fn unwatch_ends_events() {
    let mut world = World::of([1]);
    world.watch(1, "a", "t").expect("its first");
    for (path, token) in [("a", "other"), ("b", "t")] {
        let refused = world.ask(1, MessageType::Unwatch, 0, &strings([path, token]));
        assert_eq!(refused, Err((XsError::ENOENT, "WATCH_EXISTS")));
    }
    world.send(1, MessageType::Write, 0, b"a\0");
    world.send(1, MessageType::Unwatch, 0, &strings(["a", "t"]));
    world.send(1, MessageType::Write, 0, b"a\0");
    world.settle();
    let kinds: Vec<u32> = world.guest(1).messages.drain(..).map(|(header, _)| header.r#type).collect();
    let order = [MessageType::WatchEvent, MessageType::Write, MessageType::Unwatch, MessageType::Write];
    assert_eq!(kinds, order.map(|kind| kind as u32), "an event comes before the reply to who caused it");
    assert_eq!(world.holdings(1).watches, []);
}

/// `RESET_WATCHES` is what a guest begins with that does not know what ran before it.
#[test]
fn reset_watches_forgets_transactions_too() {
    let mut world = World::of([1]);
    world.watch(1, "a", "t").expect("its first");
    let tx = world.start_transaction(1).expect("its first");
    world.write(1, tx, "a", "never").expect("its own");
    world.ask(1, MessageType::ResetWatches, 0, b"\0").expect("anybody may");
    let holdings = world.holdings(1);
    assert_eq!((holdings.watches.len(), holdings.transactions.len()), (0, 0));
    assert_eq!(world.end(1, tx, "T"), Err((XsError::ENOENT, "TRANSACTION_OPEN")));
    world.write(1, 0, "a", "").expect("its own");
    assert_eq!(world.events(1), []);
}

/// `WATCH_PARENT_REMOVED`: a backend that watches a frontend's state sees the whole device go. The deepest goes first.
#[test]
fn a_removed_parent_fires_the_watches_below() {
    let mut world = World::of([1]);
    let path = |rest: &str| format!("{}/{rest}", home(1));
    world.write(1, 0, "a/b/state", "1").expect("its own");
    world.write(1, 0, "a/c", "").expect("its own");
    for watched in ["a", "a/b/state", "a/b/none", "a/c"] {
        let watched = path(watched);
        world.tools().watch(&watched, "t").expect("dom0 may");
    }
    world.dom0_events();
    world.rm(1, 0, "a").expect("its own");
    assert_eq!(
        world.dom0_events(),
        [pair(&path("a/b/state"), "t"), pair(&path("a/c"), "t"), pair(&path("a"), "t")]
    );
}

/// `WATCH_PERMITTED`: an event would tell a stranger that there is something. Losing the right, and a removal, are still told.
#[test]
fn only_who_may_see_a_node_is_told() {
    let mut world = World::of([1, 2]);
    world.watch(2, &home(1), "t").expect("its first");
    world.write(1, 0, "secret", "").expect("its own");
    assert_eq!(world.events(2), []);
    let path = |rest: &str| format!("{}/{rest}", home(1));
    world.write(1, 0, "a/b", "").expect("its own");
    world.set_permissions(1, "a", &["r1"]).expect("its own");
    assert_eq!(world.events(2), [pair(&path("a"), "t")], "gained");
    world.write(1, 0, "a/b", "").expect("its own");
    assert_eq!(world.events(2), [pair(&path("a/b"), "t")], "its parent lists it");
    world.set_permissions(1, "a", &["n1"]).expect("its own");
    assert_eq!(world.events(2), [pair(&path("a"), "t")], "lost");
    world.write(1, 0, "a", "").expect("its own");
    assert_eq!(world.events(2), []);
    world.set_permissions(1, "a/b", &["r1"]).expect("its own");
    assert_eq!(world.events(2), [pair(&path("a/b"), "t")]);
    world.rm(1, 0, "a/b").expect("its own");
    assert_eq!(world.events(2), [pair(&path("a/b"), "t")], "it could read what is gone");
}

/// `WATCH_ORDER`: connections as they came, watches as they were set.
#[test]
fn events_are_in_order() {
    let mut world = World::of([2, 1]);
    let late = world.daemon.connect();
    let public = [Permission::new(Access::Read, 0)];
    world.tools().write(None, "/a/b", b"").expect("dom0 may");
    world.tools().set_permissions(None, "/a/b", &public).expect("dom0 may");
    world.daemon.tools(&late).watch("/a", "late").expect("dom0 may");
    world.watch(1, "/a", "1a").expect("its first");
    world.watch(1, "/a/b", "1b").expect("its second");
    world.watch(2, "/a", "2").expect("its first");
    world.tools().watch("/a", "early").expect("dom0 may");
    world.settle();
    world.records.clear();
    world.tools().write(None, "/a/b", b"").expect("dom0 may");
    world.settle();
    let order: Vec<String> = world.records.iter().map(ToString::to_string).collect();
    assert_eq!(
        order,
        [
            r#"dom0: event "/a/b", "early""#,
            r#"domain 2: event "/a/b", "2""#,
            r#"domain 1: event "/a/b", "1a""#,
            r#"domain 1: event "/a/b", "1b""#,
            r#"dom0: event "/a/b", "late""#,
            r#"dom0: XS_WRITE "/a/b""#,
        ]
    );
}

/// `WATCH_MERGED`: who is slow is told once, and who is quick each time. A special event stands for a domain each, and is not merged.
#[test]
fn an_event_that_waits_is_not_repeated() {
    let mut world = World::of([1]);
    world.watch(1, "a", "t").expect("its first");
    world.watch(1, "@releaseDomain", "gone").expect("its second");
    let read = [Permission::new(Access::None, 0), Permission::new(Access::Read, 1)];
    world.tools().set_permissions(None, "@releaseDomain", &read).expect("dom0 may");
    world.tools().watch("/local/domain/1/a", "dom0").expect("dom0 may");
    world.events(1);
    world.dom0_events();
    for value in [b"1", b"2", b"3"] {
        world.tools().write(None, "/local/domain/1/a", value).expect("dom0 may");
        world.tools().write(None, "/local/domain/1/a/b", value).expect("dom0 may");
    }
    assert_eq!(world.dom0_events().len(), 6, "a socket takes them at once");
    assert_eq!(world.events(1), [pair("a", "t"), pair("a/b", "t")]);
    world.write(1, 0, "a", "4").expect("its own");
    assert_eq!(world.events(1), [pair("a", "t")]);
    for domid in [2, 3] {
        world.start(domid);
        world.daemon.domain_destroyed(domid);
        world.guests.remove(&domid);
    }
    assert_eq!(world.events(1), [pair("@releaseDomain", "gone"), pair("@releaseDomain", "gone")]);
}

/// `WATCH_TIMEOUT`: who never looks at its ring must not make others wait for ever. An event that is half written is completed.
#[test]
fn an_event_that_is_not_taken_is_given_up() {
    let mut world = World::of([1, 2]);
    let token = "t".repeat(700);
    world.watch(1, "a", &token).expect("its first");
    assert_eq!(world.daemon.next_deadline(), None);
    for path in ["a", "a/1", "a/2"] {
        world.tools().write(None, &format!("/local/domain/1/{path}"), b"").expect("dom0 may");
    }
    world.serve(1);
    let half = world.holdings(1).queued;
    assert_eq!(half, 2, "the first is in the ring, of the second a part");
    assert_eq!(world.daemon.next_deadline(), Some(Duration::from_secs(20)));
    world.daemon.set_time(Duration::from_millis(19_999));
    assert_eq!(world.holdings(1).queued, 2);
    world.daemon.set_time(Duration::from_secs(20));
    assert_eq!(world.holdings(1).queued, 1);
    assert_eq!(world.daemon.next_deadline(), None);
    world.daemon.check().expect("the daemon is in order");
    assert_eq!(world.events(1), [pair("a", &token), pair("a/1", &token)]);
}

/// `WATCH_DEPTH`: with zero only the path itself, with one its children, and none of it where it is not offered.
#[test]
fn a_watch_can_have_a_depth() {
    let mut world = World::of([1]);
    let refused = world.ask(1, MessageType::Watch, 0, &strings(["a", "t", "1"]));
    assert_eq!(refused, Err((XsError::EINVAL, "WATCH_DEPTH")));
    assert_eq!(world.tools().watch_to_depth("/a", "t", 1).map_err(|r| r.rule.name), Err("WATCH_DEPTH"));

    let mut world = offering(XENSTORE_SERVER_FEATURE_WATCHDEPTH);
    world.start(1);
    for (token, depth) in [("zero", "0"), ("one", "1"), ("two", "2")] {
        world.ask(1, MessageType::Watch, 0, &strings(["a", token, depth])).expect("it is offered");
    }
    world.watch(1, "a", "all").expect("its fourth");
    world.events(1);
    let tokens = |world: &mut World, path: &str| -> Vec<String> {
        world.write(1, 0, path, "").expect("its own");
        world.events(1).into_iter().map(|(_, token)| token).collect()
    };
    assert_eq!(tokens(&mut world, "a"), ["zero", "one", "two", "all"]);
    assert_eq!(tokens(&mut world, "a/b"), ["one", "two", "all"]);
    assert_eq!(tokens(&mut world, "a/b/c"), ["two", "all"]);
    assert_eq!(tokens(&mut world, "a/b/c/d"), ["all"]);
    world.tools().watch_to_depth("/", "root", 1).expect("it is offered");
    world.dom0_events();
    world.tools().write(None, "/new", b"").expect("dom0 may");
    world.tools().write(None, "/new/deeper", b"").expect("dom0 may");
    assert_eq!(world.dom0_events(), [pair("/new", "root")]);
}

/// `WATCH_SPECIAL`: the toolstack learns of every domain that comes and goes, a guest only if it was allowed.
#[test]
fn domains_that_come_and_go_are_told_of() {
    let mut world = offering(XENSTORE_SERVER_FEATURE_WATCHDEPTH);
    world.start(1);
    for path in ["@introduceDomain", "@releaseDomain"] {
        world.tools().watch(path, "plain").expect("dom0 may");
        world.tools().watch_to_depth(path, "which", 1).expect("dom0 may");
        world.watch(1, path, "guest").expect("setting one is nobody's business");
    }
    world.tools().watch("@releaseDomain/3", "three").expect("dom0 may");
    world.dom0_events();
    for domid in [2, 3] {
        world.start(domid);
    }
    assert_eq!(
        world.dom0_events(),
        [
            pair("@introduceDomain", "plain"),
            pair("@introduceDomain/2", "which"),
            pair("@introduceDomain", "plain"),
            pair("@introduceDomain/3", "which"),
        ]
    );
    world.daemon.domain_destroyed(2);
    world.tools().release(3).expect("it is introduced");
    assert_eq!(
        world.dom0_events(),
        [
            pair("@releaseDomain", "plain"),
            pair("@releaseDomain/2", "which"),
            pair("@releaseDomain", "plain"),
            pair("@releaseDomain/3", "which"),
            pair("@releaseDomain/3", "three"),
        ]
    );
    assert_eq!(world.events(1), []);
    let read = [Permission::new(Access::None, 0), Permission::new(Access::Read, 1)];
    world.tools().set_permissions(None, "@releaseDomain", &read).expect("dom0 may");
    world.events(1);
    world.start(4);
    world.daemon.domain_destroyed(4);
    assert_eq!(world.events(1), [pair("@releaseDomain", "guest")]);
    // A watch of everything is no watch of these.
    world.tools().watch("/", "all").expect("dom0 may");
    world.dom0_events();
    world.daemon.domain_created(5);
    world.daemon.domain_destroyed(5);
    assert_eq!(world.dom0_events(), [], "it was never introduced");
}

/// A special event of a domain that all may watch, where the daemon offers that.
#[test]
fn release_is_public_where_all_can_be_named() {
    let mut world = offering(XENSTORE_SERVER_FEATURE_DOMID_ANY);
    world.start(1);
    world.watch(1, "@releaseDomain", "t").expect("its first");
    world.start(2);
    world.daemon.domain_destroyed(2);
    assert_eq!(world.events(1), [pair("@releaseDomain", "t")]);
}

/// An event that is longer than a payload may be is not sent: it would end the connection.
#[test]
fn an_event_that_is_too_long_is_not_sent() {
    let quotas = Quotas::default().with(Quota::Memory, 0);
    let mut world = World::with(&Config { quotas, ..Config::default() });
    world.start(1);
    let token = "t".repeat(4000);
    world.watch(1, "a", &token).expect("its first");
    let deep = format!("/local/domain/1/a/{}", "d".repeat(100));
    world.tools().write(None, &deep, b"").expect("dom0 may");
    assert_eq!(world.events(1), []);
    world.write(1, 0, "a", "").expect("its own");
    assert_eq!(world.events(1), [pair("a", &token)]);
}
