//! What names a node.
#![forbid(unsafe_code)]

use kexec::irql::Dispatch;
use xenbus::store::{Path, Xenstore};

use crate::{
    difference::{Outcome, Step},
    ground::Ground,
};

pub(super) async fn a_relative_path(
    at: &Dispatch,
    store: &impl Xenstore,
    ground: &mut Ground<'_>,
) -> Outcome {
    let home = ground.absolute(Step("put the path together"))?;
    let (relative, absolute) = (ground.node("node"), Path::new(&home).join("node"));
    Step("write by the relative path").done(store.write(at, relative, b"one").await)?;
    Step("read by the absolute path").value(b"one", store.read(at, absolute, ground.room).await)?;
    Step("write by the absolute path").done(store.write(at, absolute, b"other").await)?;
    Step("read by the relative path").value(b"other", store.read(at, relative, ground.room).await)?;
    Step("list by the absolute path").names(&["node"], store.directory(at, &home, ground.room).await)?;
    Step("remove by the absolute path").done(store.remove(at, absolute).await)?;
    Step("read by the relative path").refused("ENOENT", store.read(at, relative, ground.room).await)
}

pub(super) async fn permitted_characters(
    at: &Dispatch,
    store: &impl Xenstore,
    ground: &mut Ground<'_>,
) -> Outcome {
    const NAMES: [&str; 7] = [
        "abcdefghijklmnopqrstuvwxyz",
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        "0123456789",
        "-",
        "_",
        // Only at the beginning of a path it is something special.
        "@",
        "-_@a0Z",
    ];
    for name in NAMES {
        Step("write").done(store.write(at, ground.node(name), name.as_bytes()).await)?;
    }
    for name in NAMES {
        // It is told apart from all others: case matters.
        Step("read").value(name.as_bytes(), store.read(at, ground.node(name), ground.room).await)?;
    }
    Step("list").names_anyhow(&NAMES, store.directory(at, ground.home, ground.room).await)?;
    for name in NAMES {
        Step("remove").done(store.remove(at, ground.node(name)).await)?;
    }
    Ok(())
}

pub(super) async fn other_characters(
    at: &Dispatch,
    store: &impl Xenstore,
    ground: &mut Ground<'_>,
) -> Outcome {
    // A nul ends the path, so that no path can have one.
    let others = (1..=0x7F_u8)
        .map(char::from)
        .filter(|character| !character.is_ascii_alphanumeric() && !['-', '/', '_', '@'].contains(character));
    for other in others.chain(['\u{E4}']) {
        let mut letters = [0; 2];
        let name = &*other.encode_utf8(&mut letters);
        let path = Path::new(ground.home).join(name);
        Step("write a node of another character").refused("EINVAL", store.write(at, path, b"").await)?;
    }
    let path = ground.node("a b");
    Step("read one").refused("EINVAL", store.read(at, path, ground.room).await)?;
    Step("list one").refused("EINVAL", store.directory(at, path, ground.room).await)?;
    Step("make one").refused("EINVAL", store.make(at, path).await)?;
    Step("remove one").refused("EINVAL", store.remove(at, path).await)?;
    let mut permissions = [ground.own()];
    Step("ask for the permissions of one")
        .refused("EINVAL", store.permissions(at, path, &mut permissions).await)?;
    Step("set the permissions of one").refused("EINVAL", store.set_permissions(at, path, &permissions).await)
}

pub(super) async fn slashes(at: &Dispatch, store: &impl Xenstore, ground: &mut Ground<'_>) -> Outcome {
    Step("write").done(store.write(at, ground.node("a/b"), b"").await)?;
    let home = ground.absolute(Step("put the path together"))?;
    for bad in ["a/", "a//b", "a/b/", "a/b//", "/b"] {
        for above in [ground.home, &home] {
            // Put together by hand: a path of parts would have no doubled slash.
            let mut text = [0; 128];
            let bad = joined(&mut text, above, bad);
            Step("read by a path with such slashes")
                .refused("EINVAL", store.read(at, bad, ground.room).await)?;
            Step("write by one").refused("EINVAL", store.write(at, bad, b"").await)?;
            Step("list by one").refused("EINVAL", store.directory(at, bad, ground.room).await)?;
        }
    }
    // The root is a path, and not the guest's.
    Step("read the root").refused("EACCES", store.read(at, "/", ground.room).await)?;
    Step("remove").done(store.remove(at, ground.node("a")).await)
}

/// Two parts with a slash between them, whatever they are.
fn joined<'t>(text: &'t mut [u8], above: &str, below: &str) -> &'t str {
    let length = above.len() + 1 + below.len();
    for (to, from) in text.iter_mut().zip(above.bytes().chain([b'/']).chain(below.bytes())) {
        *to = from;
    }
    str::from_utf8(&text[..length]).unwrap_or("")
}

pub(super) async fn special_paths(at: &Dispatch, store: &impl Xenstore, ground: &mut Ground<'_>) -> Outcome {
    let profile = ground.profile;
    for special in ["@releaseDomain", "@introduceDomain"] {
        Step("read a special node")
            .refused(profile.read_special, store.read(at, special, ground.room).await)?;
        Step("list a special node")
            .refused(profile.read_special, store.directory(at, special, ground.room).await)?;
    }
    for special in ["@releaseDomain", "@introduceDomain", "@guest"] {
        Step("write a special node").refused(profile.write_special, store.write(at, special, b"").await)?;
        Step("make a special node").refused(profile.write_special, store.make(at, special).await)?;
    }
    let mut permissions = [ground.own(); 4];
    Step("ask for the permissions of a special node").refused(
        profile.special_permissions,
        store.permissions(at, "@releaseDomain", &mut permissions).await,
    )?;
    Step("set the permissions of a special node").refused_anyhow(
        profile.share_special,
        store.set_permissions(at, "@releaseDomain", &[ground.own()]).await,
    )
}
