//! Who may do what with a node.
#![forbid(unsafe_code)]

use xen_abi::io::xs_wire::{MessageType, XENSTORE_SERVER_FEATURE_DOMID_ANY, XsError};
use xen_sim::xenstored::{Access, Config, Features, Permission};

use crate::world::{World, home, strings};

const DENIED: (XsError, &str) = (XsError::EACCES, "NODE_ACCESS");

/// `NODE_ACCESS`: what is not permitted is not done, and the error does not tell whether there is such a node.
#[test]
fn who_may_not_learns_nothing() {
    let mut world = World::of([1, 2]);
    world.write(1, 0, "secret", "s").expect("its own");
    for path in ["/local/domain/1/secret", "/local/domain/1/missing", "/tool", "/nothing"] {
        assert_eq!(world.read(2, 0, path).map(drop), Err(DENIED), "{path}");
        assert_eq!(world.directory(2, 0, path).map(drop), Err(DENIED), "{path}");
        assert_eq!(world.write(2, 0, path, ""), Err(DENIED), "{path}");
        assert_eq!(world.mkdir(2, 0, path), Err(DENIED), "{path}");
        assert_eq!(world.rm(2, 0, path), Err(DENIED), "{path}");
        assert_eq!(world.permissions(2, path).map(drop), Err(DENIED), "{path}");
        assert_eq!(world.set_permissions(2, path, &["n2"]), Err(DENIED), "{path}");
    }
    assert_eq!(world.permissions(2, "@releaseDomain").map(drop), Err(DENIED));
}

/// `PERMISSION_ORDER`: reading is not writing, writing is not reading, neither is owning.
#[test]
fn each_right_is_its_own() {
    let mut world = World::of([1, 2]);
    let path = "/local/domain/1/a";
    world.write(1, 0, "a", "v").expect("its own");
    // What the permission is, and whether 2 may read, write, and give permissions.
    let cases: [(&[&str], bool, bool); 8] = [
        (&["n1"], false, false),
        (&["r1"], true, false),
        (&["w1"], false, true),
        (&["b1"], true, true),
        (&["n1", "r2"], true, false),
        (&["b1", "n2"], false, false),
        (&["n1", "w2", "r2"], false, true),
        (&["r1", "b0"], true, false),
    ];
    for (permissions, reads, writes) in cases {
        world.set_permissions(1, "a", permissions).expect("its own");
        assert_eq!(world.permissions(1, "a").expect("its own"), permissions);
        assert_eq!(world.read(2, 0, path).is_ok(), reads, "{permissions:?}");
        assert_eq!(world.write(2, 0, path, "v").is_ok(), writes, "{permissions:?}");
        assert_eq!(world.set_permissions(2, path, &["n1"]), Err(DENIED), "{permissions:?}");
        assert_eq!(world.read(1, 0, "a").as_deref(), Ok("v"), "the owner always may");
    }
}

/// `PERMISSION_SYNTAX`: what is no permission is not taken for `n0`.
#[test]
fn permissions_are_a_letter_and_a_domain() {
    let mut world = World::of([1]);
    world.mkdir(1, 0, "a").expect("its own");
    for bad in ["", "x1", "r", "1", "R1", "r1x", "r-1", "rr1", "r 1"] {
        let refused = world.set_permissions(1, "a", &[bad]);
        assert_eq!(refused, Err((XsError::EINVAL, "PERMISSION_SYNTAX")), "{bad:?}");
        let refused = world.set_permissions(1, "a", &["n1", bad]);
        assert_eq!(refused, Err((XsError::EINVAL, "PERMISSION_SYNTAX")), "{bad:?}");
    }
    let refused = world.ask(1, MessageType::SetPerms, 0, &strings(["a"]));
    assert_eq!(refused, Err((XsError::EINVAL, "PERMISSION_SYNTAX")), "none at all");
}

/// `PERMISSION_COUNT`: dom0 may set more.
#[test]
fn permissions_are_few() {
    let mut world = World::of([1]);
    world.mkdir(1, 0, "a").expect("its own");
    assert_eq!(world.set_permissions(1, "a", &["n1", "r0", "r0", "r0"]), Ok(()));
    let refused = world.set_permissions(1, "a", &["n1", "r0", "r0", "r0", "r0"]);
    assert_eq!(refused, Err((XsError::ENOSPC, "PERMISSION_COUNT")));
    let many = [Permission::new(Access::Read, 1); 20];
    assert_eq!(world.tools().set_permissions(None, "/local/domain/1/a", &many), Ok(()));
}

/// `OWNER_EXISTS`: a node of nobody's would never be removed.
#[test]
fn an_owner_exists() {
    let mut world = World::of([1]);
    world.mkdir(1, 0, "a").expect("its own");
    for nobody in ["n2", "n65535", "n65537", "n4294967295", "n32757"] {
        let refused = world.set_permissions(1, "a", &[nobody]);
        assert_eq!(refused, Err((XsError::ENOENT, "OWNER_EXISTS")), "{nobody}");
    }
}

/// `OWNER_STAYS`: a guest could fill another's quota.
#[test]
fn only_dom0_gives_nodes_away() {
    let mut world = World::of([1, 2]);
    world.mkdir(1, 0, "a").expect("its own");
    assert_eq!(world.set_permissions(1, "a", &["n2", "b1"]), Err((XsError::EPERM, "OWNER_STAYS")));
    let to_2 = [Permission::new(Access::None, 2)];
    assert_eq!(world.tools().set_permissions(None, "/local/domain/1/a", &to_2), Ok(()));
    assert_eq!((world.holdings(1).nodes, world.holdings(2).nodes), (1, 2), "the books have it, too");
    assert_eq!(world.read(1, 0, "a").map(drop), Err(DENIED));
}

/// `PERMISSION_STALE`: the next domain of the number is another one.
#[test]
fn a_permission_is_not_inherited_by_number() {
    let mut world = World::of([1]);
    world.write(1, 0, "a", "v").expect("its own");
    world.set_permissions(1, "a", &["n1", "b2"]).expect("2 need not exist");
    assert_eq!(world.permissions(1, "a"), Ok(vec!["n1".into(), "b2".into()]), "and is listed");
    world.start(2);
    assert_eq!(world.read(2, 0, "/local/domain/1/a").map(drop), Err(DENIED));

    world.set_permissions(1, "a", &["n1", "b2"]).expect("now it exists");
    assert_eq!(world.read(2, 0, "/local/domain/1/a").as_deref(), Ok("v"));
    world.daemon.domain_destroyed(2);
    assert_eq!(world.permissions(1, "a"), Ok(vec!["n1".into()]));
    world.start(2);
    assert_eq!(world.read(2, 0, "/local/domain/1/a").map(drop), Err(DENIED));
}

/// `PERMISSION_ANY`: a daemon that does not offer it takes the number for a domain that does not exist.
#[test]
fn all_domains_can_be_named_where_that_is_offered() {
    for offered in [0, XENSTORE_SERVER_FEATURE_DOMID_ANY] {
        let features = Features { offered, ..Features::default() };
        let mut world = World::with(&Config { features, ..Config::default() });
        world.start(1);
        world.start(2);
        world.write(1, 0, "a", "v").expect("its own");
        world.set_permissions(1, "a", &["n1", "r32757"]).expect("its own");
        let is_any = offered != 0;
        assert_eq!(world.read(2, 0, "/local/domain/1/a").is_ok(), is_any);
        // The daemon itself uses it for those who want to know of domains that go.
        assert_eq!(world.permissions(2, "@releaseDomain").is_ok(), is_any);
        assert!(world.permissions(2, "@introduceDomain").is_err());
    }
}

/// `TARGET`: a device model in a domain of its own acts for its guest, and only as long as that is there.
#[test]
fn a_domain_may_what_its_target_may() {
    let mut world = World::of([1, 2]);
    let node = format!("{}/a", home(1));
    world.write(1, 0, "a", "v").expect("its own");
    world.tools().set_target(2, 1).expect("both are introduced");
    assert_eq!(world.read(2, 0, &node).as_deref(), Ok("v"));
    assert_eq!(world.set_permissions(2, &node, &["n1"]), Ok(()), "as an owner");
    assert_eq!(world.set_permissions(2, &node, &["n2"]), Err((XsError::EPERM, "OWNER_STAYS")));
    world.write(2, 0, &format!("{node}/b"), "").expect("as an owner");
    assert_eq!(world.permissions(2, &format!("{node}/b")), Ok(vec!["n2".into()]));
    world.tools().release(1).expect("it is introduced");
    world.start(1);
    world.write(1, 0, "a", "v").expect("its own");
    assert_eq!(world.read(2, 0, &node).map(drop), Err(DENIED), "another domain of the number");
}
