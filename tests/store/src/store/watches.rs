//! What a watch tells, and what not.
#![forbid(unsafe_code)]

use core::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use kexec::{irql::Dispatch, time::timeout};
use xenbus::store::{
    Access, Path, Permission, Root, StoreError,
    WatchEvent::{self, Changed, Initial},
    Watching, Xenstore,
};

use crate::{
    difference::{Difference, Outcome, Step},
    ground::Ground,
};

/// No event takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

async fn next(watch: &mut impl Watching) -> Option<Result<WatchEvent, StoreError>> {
    timeout(PATIENCE, watch.next()).await.ok()
}

/// Sets a watch, and takes its first event.
async fn set<'a, R: Root>(at: &'a Dispatch, store: &'a R, path: Path<'_>) -> Outcome<R::Watch<'a>> {
    let mut watch = Step("watch").done(store.watch(at, path).await)?;
    Step("wait for the first event").event(Initial, next(&mut watch).await)?;
    Ok(watch)
}

/// There is no event of what was done before: it would have come before the answer to another question.
async fn silent(
    at: &Dispatch,
    store: &impl Xenstore,
    home: &str,
    step: Step,
    watch: &mut impl Watching,
) -> Outcome {
    let mut room = [0; 64];
    step.done(store.read(at, home, &mut room).await)?;
    let mut event = pin!(watch.next());
    let came = poll_fn(|context| {
        Poll::Ready(match event.as_mut().poll(context) {
            Poll::Ready(event) => Some(event),
            Poll::Pending => None,
        })
    });
    match came.await {
        None => Ok(()),
        Some(event) => Err(step.differs("no event", format_args!("{event:?}"))),
    }
}

pub(super) async fn fire_when_set(at: &Dispatch, store: &impl Root, ground: &mut Ground<'_>) -> Outcome {
    let home = ground.absolute(Step("put the path together"))?;
    let there = Path::new(ground.home);
    for path in [there, there.join("none"), there.join("none/at/all"), Path::new(&home)] {
        let mut watch = set(at, store, path).await?;
        silent(at, store, ground.home, Step("wait for a second event"), &mut watch).await?;
    }
    Ok(())
}

pub(super) async fn of_a_node(at: &Dispatch, store: &impl Root, ground: &mut Ground<'_>) -> Outcome {
    let node = ground.node("node");
    let shared = [ground.own(), Permission::new(0, Access::Read)];
    let mut watch = set(at, store, node).await?;
    Step("write a new node").done(store.write(at, node, b"one").await)?;
    Step("wait after a new node").event(Changed, next(&mut watch).await)?;
    Step("write").done(store.write(at, node, b"other").await)?;
    Step("wait after a write").event(Changed, next(&mut watch).await)?;
    Step("set permissions").done(store.set_permissions(at, node, &shared).await)?;
    Step("wait after permissions were set").event(Changed, next(&mut watch).await)?;
    Step("remove").done(store.remove(at, node).await)?;
    Step("wait after a removal").event(Changed, next(&mut watch).await)?;
    Step("make").done(store.make(at, node).await)?;
    Step("wait after it was made").event(Changed, next(&mut watch).await)?;
    Step("remove").done(store.remove(at, node).await)?;
    Step("wait after a removal").event(Changed, next(&mut watch).await)
}

pub(super) async fn of_all_below(at: &Dispatch, store: &impl Root, ground: &mut Ground<'_>) -> Outcome {
    let node = ground.node("node");
    let shared = [ground.own(), Permission::new(0, Access::Read)];
    Step("make").done(store.make(at, node).await)?;
    let mut watch = set(at, store, node).await?;
    for below in ["node/a", "node/a/b", "node/c/d/e"] {
        Step("write below").done(store.write(at, ground.node(below), b"").await)?;
        Step("wait after a write below").event(Changed, next(&mut watch).await)?;
    }
    Step("set permissions below").done(store.set_permissions(at, ground.node("node/a/b"), &shared).await)?;
    Step("wait after permissions were set below").event(Changed, next(&mut watch).await)?;
    Step("remove below").done(store.remove(at, ground.node("node/c")).await)?;
    Step("wait after a removal below").event(Changed, next(&mut watch).await)?;
    drop(watch);
    Step("remove").done(store.remove(at, node).await)
}

pub(super) async fn of_a_parent_that_goes(
    at: &Dispatch,
    store: &impl Root,
    ground: &mut Ground<'_>,
) -> Outcome {
    Step("write").done(store.write(at, ground.node("tree/a/b"), b"").await)?;
    let mut watch = set(at, store, ground.node("tree/a/b")).await?;
    Step("remove the tree").done(store.remove(at, ground.node("tree")).await)?;
    Step("wait after a parent was removed").event(Changed, next(&mut watch).await)?;
    // It is set still.
    Step("write again").done(store.write(at, ground.node("tree/a/b"), b"").await)?;
    Step("wait after it was made again").event(Changed, next(&mut watch).await)?;
    drop(watch);
    Step("remove").done(store.remove(at, ground.node("tree")).await)
}

pub(super) async fn of_nothing_else(at: &Dispatch, store: &impl Root, ground: &mut Ground<'_>) -> Outcome {
    let node = ground.node("node");
    Step("write").done(store.write(at, node, b"value").await)?;
    let mut watch = set(at, store, node).await?;
    let mut permissions = [ground.own(); 4];

    Step("read").value(b"value", store.read(at, node, ground.room).await)?;
    Step("list").done(store.directory(at, node, ground.room).await)?;
    Step("ask for permissions").done(store.permissions(at, node, &mut permissions).await)?;
    silent(at, store, ground.home, Step("wait after what only reads"), &mut watch).await?;

    Step("make what is there").done(store.make(at, node).await)?;
    Step("remove what is not there").done(store.remove(at, ground.node("node/none")).await)?;
    silent(at, store, ground.home, Step("wait after what changes nothing"), &mut watch).await?;

    Step("write by no path").refused("EINVAL", store.write(at, ground.node("node/a b"), b"").await)?;
    let given = [Permission::new(0, Access::None)];
    Step("give it away").refused(ground.profile.give_away, store.set_permissions(at, node, &given).await)?;
    silent(at, store, ground.home, Step("wait after what was refused"), &mut watch).await?;

    for beside in ["node2", "nod", "other/node"] {
        Step("write elsewhere").done(store.write(at, ground.node(beside), b"").await)?;
    }
    Step("write the node above").done(store.write(at, ground.home, b"").await)?;
    for beside in ["node2", "nod", "other"] {
        Step("remove elsewhere").done(store.remove(at, ground.node(beside)).await)?;
    }
    silent(at, store, ground.home, Step("wait after what was elsewhere"), &mut watch).await?;
    drop(watch);
    Step("remove").done(store.remove(at, node).await)
}

pub(super) async fn are_independent(at: &Dispatch, store: &impl Root, ground: &mut Ground<'_>) -> Outcome {
    let node = ground.node("node");
    let mut above = set(at, store, Path::new(ground.home)).await?;
    let mut one = set(at, store, node).await?;
    let mut other = set(at, store, node).await?;
    Step("write").done(store.write(at, node, b"").await)?;
    Step("wait for the first").event(Changed, next(&mut one).await)?;
    Step("wait for the second").event(Changed, next(&mut other).await)?;
    Step("wait for the one above").event(Changed, next(&mut above).await)?;
    drop(one);
    Step("remove").done(store.remove(at, node).await)?;
    Step("wait for the one that is left").event(Changed, next(&mut other).await)?;
    Step("wait for the one above").event(Changed, next(&mut above).await)
}

pub(super) async fn wait_for_the_commit(
    at: &Dispatch,
    store: &impl Root,
    ground: &mut Ground<'_>,
) -> Outcome {
    let (node, home) = (ground.node("node"), ground.home);
    let mut watch = set(at, store, node).await?;
    let step = Step("give a transaction up");
    let given_up = store.transaction(at, async |tx| {
        change(at, tx, node).await?;
        silent(at, store, home, Step("wait while it is open"), &mut watch).await?;
        Err(step.give_up())
    });
    step.given_up(&given_up.await)?;
    silent(at, store, home, Step("wait after it was given up"), &mut watch).await?;

    let committed = store.transaction(at, async |tx| -> Outcome {
        change(at, tx, node).await?;
        silent(at, store, home, Step("wait while another is open"), &mut watch).await
    });
    Step("commit").committed(committed.await)?;
    Step("wait after the commit").event(Changed, next(&mut watch).await)?;
    drop(watch);
    Step("remove").done(store.remove(at, node).await)
}

async fn change(at: &Dispatch, tx: &impl Xenstore, node: Path<'_>) -> Result<(), Difference> {
    Step("write inside").done(tx.write(at, node, b"value").await)
}

pub(super) async fn of_special_paths(at: &Dispatch, store: &impl Root, ground: &mut Ground<'_>) -> Outcome {
    for special in ["@releaseDomain", "@introduceDomain", "@whatever"] {
        let mut watch = set(at, store, Path::new(special)).await?;
        silent(at, store, ground.home, Step("wait for more of it"), &mut watch).await?;
    }
    Ok(())
}
