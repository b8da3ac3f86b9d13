//! Values, and the nodes that have them.
#![forbid(unsafe_code)]

use kexec::irql::Dispatch;
use xen_abi::io::xs_wire::XENSTORE_PAYLOAD_MAX;
use xenbus::store::{Access, Permission, Xenstore};

use crate::{
    difference::{Outcome, Step},
    ground::{Ground, fill, is_filled},
};

pub(super) async fn what_was_written_is_read(
    at: &Dispatch,
    store: &impl Xenstore,
    ground: &mut Ground<'_>,
) -> Outcome {
    let node = ground.node("node");
    for value in [&b"first"[..], b"and a longer one", b"short", b"short"] {
        Step("write").done(store.write(at, node, value).await)?;
        Step("read what was written").value(value, store.read(at, node, ground.room).await)?;
    }
    Step("remove").done(store.remove(at, node).await)?;
    Step("read what was removed").refused("ENOENT", store.read(at, node, ground.room).await)
}

pub(super) async fn a_value_is_octets(
    at: &Dispatch,
    store: &impl Xenstore,
    ground: &mut Ground<'_>,
) -> Outcome {
    let node = ground.node("node");
    let mut all = [0; 256];
    for (byte, value) in all.iter_mut().zip(0..=u8::MAX) {
        *byte = value;
    }
    for value in [&b""[..], &all, b"\0", b"\0\0ends\0", b"line\r\n", b"", b"\xff\xfe"] {
        Step("write any octets").done(store.write(at, node, value).await)?;
        Step("read any octets").value(value, store.read(at, node, ground.room).await)?;
    }
    Step("remove").done(store.remove(at, node).await)
}

pub(super) async fn the_longest_value(
    at: &Dispatch,
    store: &impl Xenstore,
    ground: &mut Ground<'_>,
) -> Outcome {
    // The path's nul is in the message, too.
    let path = ground.home.len() + "/node".len() + 1;
    let message = XENSTORE_PAYLOAD_MAX as usize - path;
    let node = ground.node("node");
    let most = ground.profile.node.map_or(message, |size| message.min(size.most - size.empty));

    for (length, seed) in [(most - 1, 1), (most, 2)] {
        fill(&mut ground.room[..length], seed);
        Step("write a long value").done(store.write(at, node, &ground.room[..length]).await)?;
        ground.room.fill(0);
        let value = Step("read a long value").done(store.read(at, node, ground.room).await)?;
        Step("compare lengths").equal(length, value.len())?;
        Step("compare a long value").holds(is_filled(value, seed), "each octet", "another one")?;
    }
    // What is longer than a message is the client's to refuse.
    if let Some(size) = ground.profile.node.filter(|_| most < message) {
        fill(&mut ground.room[..=most], 3);
        Step("write a value that is too long")
            .refused(size.refusal, store.write(at, node, &ground.room[..=most]).await)?;
        let value = Step("read what was there before").done(store.read(at, node, ground.room).await)?;
        Step("compare what was there before").holds(
            value.len() == most && is_filled(value, 2),
            "that nothing has changed",
            "another value",
        )?;
    }
    Step("remove").done(store.remove(at, node).await)
}

pub(super) async fn what_is_not_there(
    at: &Dispatch,
    store: &impl Xenstore,
    ground: &mut Ground<'_>,
) -> Outcome {
    let own = ground.own();
    let mut permissions = [own; 4];
    for missing in [ground.node("none"), ground.node("none/at/all")] {
        Step("read").refused("ENOENT", store.read(at, missing, ground.room).await)?;
        Step("list").refused("ENOENT", store.directory(at, missing, ground.room).await)?;
        Step("ask for permissions")
            .refused("ENOENT", store.permissions(at, missing, &mut permissions).await)?;
        Step("set permissions").refused("ENOENT", store.set_permissions(at, missing, &[own]).await)?;
    }
    // None of that has made it.
    Step("list what is there").names(&[], store.directory(at, ground.home, ground.room).await)
}

pub(super) async fn writing_makes_parents(
    at: &Dispatch,
    store: &impl Xenstore,
    ground: &mut Ground<'_>,
) -> Outcome {
    Step("write below what is not there").done(store.write(at, ground.node("a/b/c"), b"value").await)?;
    for (parent, child) in [("a", "b"), ("a/b", "c")] {
        Step("read a parent").value(b"", store.read(at, ground.node(parent), ground.room).await)?;
        Step("list a parent").names(&[child], store.directory(at, ground.node(parent), ground.room).await)?;
    }
    Step("read").value(b"value", store.read(at, ground.node("a/b/c"), ground.room).await)?;
    Step("list").names(&[], store.directory(at, ground.node("a/b/c"), ground.room).await)?;

    Step("write a parent").done(store.write(at, ground.node("a"), b"of a parent").await)?;
    Step("write below it").done(store.write(at, ground.node("a/b/d"), b"").await)?;
    Step("read a parent that has a value")
        .value(b"of a parent", store.read(at, ground.node("a"), ground.room).await)?;
    Step("remove").done(store.remove(at, ground.node("a")).await)
}

pub(super) async fn making_leaves_alone(
    at: &Dispatch,
    store: &impl Xenstore,
    ground: &mut Ground<'_>,
) -> Outcome {
    Step("make below what is not there").done(store.make(at, ground.node("a/b")).await)?;
    for node in ["a", "a/b"] {
        Step("read what was made").value(b"", store.read(at, ground.node(node), ground.room).await)?;
    }
    let [own, others] = [ground.own(), Permission::new(0, Access::Read)];
    Step("write").done(store.write(at, ground.node("a"), b"value").await)?;
    Step("set permissions").done(store.set_permissions(at, ground.node("a"), &[own, others]).await)?;
    Step("make what is there").done(store.make(at, ground.node("a")).await)?;
    Step("read").value(b"value", store.read(at, ground.node("a"), ground.room).await)?;
    Step("list").names(&["b"], store.directory(at, ground.node("a"), ground.room).await)?;
    let mut room = [own; 4];
    let permissions = store.permissions(at, ground.node("a"), &mut room).await;
    Step("ask for permissions").equal(Ok(&[own, others][..]), permissions)?;
    Step("remove").done(store.remove(at, ground.node("a")).await)
}

pub(super) async fn removing_takes_the_tree(
    at: &Dispatch,
    store: &impl Xenstore,
    ground: &mut Ground<'_>,
) -> Outcome {
    for node in ["tree/a/b", "tree/a/c", "tree/d", "tree2"] {
        Step("write").done(store.write(at, ground.node(node), node.as_bytes()).await)?;
    }
    Step("remove a branch").done(store.remove(at, ground.node("tree/a")).await)?;
    for node in ["tree/a", "tree/a/b", "tree/a/c"] {
        Step("read below it").refused("ENOENT", store.read(at, ground.node(node), ground.room).await)?;
    }
    for node in ["tree/d", "tree2"] {
        Step("read beside it")
            .value(node.as_bytes(), store.read(at, ground.node(node), ground.room).await)?;
    }
    Step("make it again").done(store.make(at, ground.node("tree/a")).await)?;
    Step("list it").names(&[], store.directory(at, ground.node("tree/a"), ground.room).await)?;
    Step("remove the tree").done(store.remove(at, ground.node("tree")).await)?;
    Step("list what is left").names(&["tree2"], store.directory(at, ground.home, ground.room).await)?;
    Step("remove").done(store.remove(at, ground.node("tree2")).await)
}

pub(super) async fn removing_what_is_not_there(
    at: &Dispatch,
    store: &impl Xenstore,
    ground: &mut Ground<'_>,
) -> Outcome {
    Step("remove what is not there").done(store.remove(at, ground.node("none")).await)?;
    Step("remove what has no parent")
        .refused("ENOENT", store.remove(at, ground.node("none/at/all")).await)?;
    Step("write").done(store.write(at, ground.node("node"), b"").await)?;
    for _ in 0..2 {
        Step("remove").done(store.remove(at, ground.node("node")).await)?;
    }
    Ok(())
}
