//! Paths and nodes.
#![forbid(unsafe_code)]

use xen_abi::io::xs_wire::{MessageType, XsError};
use xen_sim::xenstored::{Config, Quota, Quotas};

use crate::world::{World, home, strings, text};

/// `PATH_CHARACTERS`: what a shell, a tool or a log would take apart is not in a path.
#[test]
fn paths_have_few_characters() {
    let mut world = World::of([1]);
    for bad in ["a b", "a.b", "a:b", "a*", "é", "a\n", "a\\b", "~a"] {
        assert_eq!(world.write(1, 0, bad, ""), Err((XsError::EINVAL, "PATH_CHARACTERS")), "{bad:?}");
    }
    let refused = world.ask(1, MessageType::Read, 0, b"\xFF\xFE\0");
    assert_eq!(refused, Err((XsError::EINVAL, "PATH_CHARACTERS")));
    assert_eq!(world.write(1, 0, "azAZ09-_@", ""), Ok(()));
}

/// `PATH_SLASHES`: one node has one path.
#[test]
fn slashes_are_between_names() {
    let mut world = World::of([1]);
    for bad in ["", "a/", "a//b", "//", "/local/domain/1/", "//local"] {
        assert_eq!(world.read(1, 0, bad), Err((XsError::EINVAL, "PATH_SLASHES")), "{bad:?}");
    }
    assert_eq!(
        world.tools().directory(None, "/").as_deref(),
        Ok(&["tool".to_owned(), "local".to_owned()][..])
    );
}

/// `PATH_LENGTH`: the quota is for what comes after the home; the limit of the protocol is for dom0, too.
#[test]
fn paths_are_short() {
    let mut world = World::of([1]);
    // A name that is long makes its parent's list long, so they are looked for, and not created.
    let longest = "n".repeat(2047);
    assert_eq!(world.read(1, 0, &longest), Err((XsError::ENOENT, "NODE_EXISTS")));
    let absolute = format!("/local/domain/1/{longest}");
    assert_eq!(world.read(1, 0, &absolute), Err((XsError::ENOENT, "NODE_EXISTS")));
    for bad in [format!("{longest}n"), format!("{absolute}n"), format!("/local/domain/x/{longest}")] {
        assert_eq!(world.read(1, 0, &bad), Err((XsError::EINVAL, "PATH_LENGTH")), "{} bytes", bad.len());
    }
    let path = format!("/{}", "n".repeat(3071));
    assert_eq!(world.tools().mkdir(None, &path), Ok(()));
    let refused = world.tools().mkdir(None, &format!("{path}n")).expect_err("3073 bytes");
    assert_eq!((refused.error, refused.rule.name), (XsError::EINVAL, "PATH_LENGTH"));
}

/// `PATH_SPECIAL`: special nodes have neither values nor children.
#[test]
fn special_paths_are_no_nodes() {
    let mut world = World::of([1]);
    let refused = Err((XsError::EINVAL, "PATH_SPECIAL"));
    assert_eq!(world.write(1, 0, "@releaseDomain", ""), refused);
    assert_eq!(world.mkdir(1, 0, "@mine"), refused);
    assert_eq!(world.rm(1, 0, "@releaseDomain"), refused);
    assert_eq!(world.read(1, 0, "@releaseDomain").map(drop), refused);
    assert_eq!(world.directory(1, 0, "@releaseDomain").map(drop), refused);
}

/// `CREATION`: a guest can hand its nodes on, but not create them for another; dom0 can.
#[test]
fn parents_are_created_and_permissions_inherited() {
    let mut world = World::of([1, 2]);
    world.set_permissions(1, &home(1), &["n1", "r2"]).expect("its own");
    world.write(1, 0, "a/b/c", "deep").expect("its own");
    for path in ["a", "a/b", "a/b/c"] {
        assert_eq!(world.permissions(1, path), Ok(vec!["n1".into(), "r2".into()]), "{path}");
    }
    assert_eq!(world.read(1, 0, "a/b").as_deref(), Ok(""));
    assert_eq!(world.directory(1, 0, "a"), Ok(vec!["b".into()]));

    world.set_permissions(1, "a", &["n1", "b2"]).expect("its own");
    world.write(2, 0, "/local/domain/1/a/of-2", "").expect("it may write there");
    assert_eq!(world.permissions(2, "/local/domain/1/a/of-2"), Ok(vec!["n2".into(), "b2".into()]));
    world.tools().write(None, "/local/domain/1/a/of-dom0", b"").expect("dom0 may");
    assert_eq!(world.permissions(1, "a/of-dom0"), Ok(vec!["n1".into(), "b2".into()]));
    assert_eq!(world.holdings(1).nodes, 5);
    assert_eq!(world.holdings(2).nodes, 2);
}

/// A value is bytes, and MKDIR of what is there leaves it alone.
#[test]
fn values_are_bytes() {
    let mut world = World::of([1]);
    let value = [0, 255, b'\n', 0];
    let payload = [b"v\0", &value[..]].concat();
    world.ask(1, MessageType::Write, 0, &payload).expect("its own");
    world.mkdir(1, 0, "v").expect("it is there");
    assert_eq!(world.ask(1, MessageType::Read, 0, b"v\0"), Ok(value.to_vec()));
    world.write(1, 0, "v", "").expect("its own");
    assert_eq!(world.read(1, 0, "v").as_deref(), Ok(""));
}

/// `LISTING`: drivers find their devices in this order; a node that is made anew is the last.
#[test]
fn children_are_listed_in_the_order_of_their_creation() {
    let mut world = World::of([1]);
    for name in ["c", "a", "b"] {
        world.mkdir(1, 0, name).expect("its own");
    }
    world.write(1, 0, "c", "again").expect("its own");
    assert_eq!(world.directory(1, 0, &home(1)), Ok(["c", "a", "b"].map(String::from).to_vec()));
    world.rm(1, 0, "c").expect("its own");
    world.mkdir(1, 0, "c").expect("its own");
    assert_eq!(world.directory(1, 0, &home(1)), Ok(["a", "b", "c"].map(String::from).to_vec()));
    assert_eq!(world.directory(1, 0, "a"), Ok(vec![]));
}

/// `LISTING_PARTS`: the only way to a long list. A change between two pieces shows in the generation.
#[test]
fn a_long_list_comes_in_pieces() {
    let mut world = World::of([1]);
    let names: Vec<String> = (0..50).map(|index| format!("{}{index}", "n".repeat(100))).collect();
    for name in &names {
        let path = format!("/local/domain/1/{name}");
        world.tools().write(None, &path, b"").expect("dom0 has no quota");
    }
    let part = |world: &mut World, offset: usize| {
        let payload = strings([home(1).as_str(), &offset.to_string()]);
        let reply = world.ask(1, MessageType::DirectoryPart, 0, &payload).expect("its own");
        assert!(reply.len() <= 4096);
        let nul = reply.iter().position(|&byte| byte == 0).expect("a generation");
        (text(&reply[..nul]), reply[nul + 1..].to_vec())
    };
    let (generation, first) = part(&mut world, 0);
    assert!(first.ends_with(b"\0") && !first.ends_with(b"\0\0"), "whole names, and not the end");
    let (same, second) = part(&mut world, first.len());
    assert_eq!(generation, same);
    let whole = [first, second].concat();
    assert_eq!(whole, [strings(names.iter().map(String::as_str)), vec![0]].concat());
    assert_eq!(part(&mut world, whole.len()).1, [0], "behind the end");
    assert_eq!(part(&mut world, 1_000_000).1, [0]);
    world.rm(1, 0, &names[0]).expect("its own");
    assert_ne!(part(&mut world, 0).0, generation);
}

/// `LISTING_PARTS`: lists that just fit, and just do not: the nul at the end must find room, too.
#[test]
fn a_list_of_any_length_comes_whole() {
    let mut world = World::of([1]);
    for index in 0..40 {
        let path = format!("/local/domain/1/{}{}", "n".repeat(99), index + 10);
        world.tools().write(None, &path, b"").expect("dom0 has no quota");
    }
    let names = world.tools().directory(None, &home(1)).expect("it is there");
    assert_eq!(strings(&names).len(), 4080);
    for length in 1..30 {
        let last = "m".repeat(length);
        world.tools().write(None, &format!("/local/domain/1/{last}"), b"").expect("dom0 has no quota");
        let mut whole = Vec::new();
        while !whole.ends_with(b"\0\0") {
            let payload = strings([home(1), whole.len().to_string()]);
            let reply = world.ask(1, MessageType::DirectoryPart, 0, &payload).expect("it always fits");
            let nul = reply.iter().position(|&byte| byte == 0).expect("a generation");
            whole.extend_from_slice(&reply[nul + 1..]);
        }
        assert_eq!(whole, [strings(&names), strings([&last]), vec![0]].concat(), "{length}");
        world.rm(1, 0, &last).expect("dom0's nodes there are the guest's");
    }
}

/// `NODE_EXISTS`: who might create a node may know that there is none. RM is content if only the parent is there.
#[test]
fn what_is_missing_is_missing() {
    let mut world = World::of([1]);
    let missing = Err((XsError::ENOENT, "NODE_EXISTS"));
    assert_eq!(world.read(1, 0, "a").map(drop), missing);
    assert_eq!(world.directory(1, 0, "a").map(drop), missing);
    assert_eq!(world.permissions(1, "a").map(drop), missing);
    assert_eq!(world.set_permissions(1, "a", &["n1"]), missing);
    assert_eq!(world.rm(1, 0, "a/b"), missing);
    assert_eq!(world.rm(1, 0, "a"), Ok(()));
}

/// A removed node takes everything below along, and the books know.
#[test]
fn removal_is_whole() {
    let mut world = World::of([1]);
    let before = world.holdings(1);
    for path in ["a/b/c", "a/b/d", "a/e", "ab"] {
        world.write(1, 0, path, "x").expect("its own");
    }
    world.rm(1, 0, "a").expect("its own");
    assert_eq!(world.read(1, 0, "a/b/c"), Err((XsError::ENOENT, "NODE_EXISTS")));
    assert_eq!(world.directory(1, 0, &home(1)), Ok(vec!["ab".into()]));
    world.rm(1, 0, "ab").expect("its own");
    assert_eq!(world.holdings(1), before);
}

/// `ROOT_STAYS`: without it nothing can be created again.
#[test]
fn the_root_stays() {
    let mut world = World::new();
    let refused = world.tools().rm(None, "/").expect_err("it is the root");
    assert_eq!((refused.error, refused.rule.name), (XsError::EINVAL, "ROOT_STAYS"));
}

/// `TREE_WHOLE`: a transaction's copies are of different times, and it can see a list that does not fit the nodes. It finds
/// out at the end; until then it must not break anything.
#[test]
fn a_transaction_that_sees_halves_can_do_no_harm() {
    let mut world = World::of([1]);
    world.write(1, 0, "a/b", "").expect("its own");
    let tx = world.start_transaction(1).expect("its first");
    world.directory(1, tx, "a").expect("its own");
    world.rm(1, 0, "a/b").expect("its own");
    assert_eq!(world.rm(1, tx, "a"), Err((XsError::EIO, "TREE_WHOLE")), "`b` is listed, and is not there");
    assert_eq!(world.end(1, tx, "T"), Err((XsError::EAGAIN, "TRANSACTION_CONFLICT")));

    let tx = world.start_transaction(1).expect("its first");
    world.directory(1, tx, "a").expect("its own");
    world.write(1, 0, "a/b", "").expect("its own");
    assert_eq!(world.rm(1, tx, "a/b"), Err((XsError::EIO, "TREE_WHOLE")), "`b` is there, and is not listed");
    assert_eq!(world.end(1, tx, "T"), Err((XsError::EAGAIN, "TRANSACTION_CONFLICT")));
    assert_eq!(world.directory(1, 0, "a"), Ok(vec!["b".into()]));
}

/// Absurd depth is no absurd recursion: removal, and a domain's end, walk the whole of it.
#[test]
fn a_deep_tree_is_no_danger() {
    let quotas = Quotas::default().with(Quota::Nodes, 0);
    let mut world = World::with(&Config { quotas, ..Config::default() });
    world.start(1);
    let deep = ["a"; 1000].join("/");
    world.write(1, 0, &deep, "").expect("its own");
    world.rm(1, 0, "a").expect("its own");
    world.write(1, 0, &deep, "").expect("its own");
    world.daemon.domain_destroyed(1);
    world.daemon.check().expect("the daemon is in order");
}
