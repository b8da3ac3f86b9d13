//! Several things at once, and who comes in between.
#![forbid(unsafe_code)]

use futures_util::future::join3;
use kexec::irql::Dispatch;
use xenbus::store::{Access, Path, Permission, Root, StoreError, TransactionError, Xenstore, optional};

use crate::{
    difference::{Outcome, Step},
    ground::{Ground, fill},
    profile::Conflicts,
};

/// Room for a value here.
const SHORT: usize = 16;

pub(super) async fn are_isolated(at: &Dispatch, store: &impl Root, ground: &mut Ground<'_>) -> Outcome {
    let [old, new] = [ground.node("old"), ground.node("new")];
    Step("write").done(store.write(at, old, b"before").await)?;
    let committed = store.transaction(at, async |tx| inside_and_outside(at, tx, store, [old, new]).await);
    Step("commit").committed(committed.await)?;
    Step("read what was committed").value(b"after", store.read(at, old, ground.room).await)?;
    Step("read what was made").value(b"made", store.read(at, new, ground.room).await)?;
    for node in [old, new] {
        Step("remove").done(store.remove(at, node).await)?;
    }
    Ok(())
}

/// Changes a node and makes another, which is seen inside and not outside.
async fn inside_and_outside(
    at: &Dispatch,
    inside: &impl Xenstore,
    outside: &impl Xenstore,
    [old, new]: [Path<'_>; 2],
) -> Outcome {
    let mut room = [0; SHORT];
    Step("write inside").done(inside.write(at, old, b"after").await)?;
    Step("write a new node inside").done(inside.write(at, new, b"made").await)?;
    Step("read inside").value(b"after", inside.read(at, old, &mut room).await)?;
    Step("read the new node inside").value(b"made", inside.read(at, new, &mut room).await)?;
    Step("read outside").value(b"before", outside.read(at, old, &mut room).await)?;
    Step("read the new node outside").refused("ENOENT", outside.read(at, new, &mut room).await)
}

pub(super) async fn that_fail_leave_nothing(
    at: &Dispatch,
    store: &impl Root,
    ground: &mut Ground<'_>,
) -> Outcome {
    let [old, new] = [ground.node("old"), ground.node("new")];
    Step("write").done(store.write(at, old, b"before").await)?;
    let step = Step("give a transaction up");
    let given_up = store.transaction(at, async |tx| {
        inside_and_outside(at, tx, store, [old, new]).await?;
        Err(step.give_up())
    });
    step.given_up(&given_up.await)?;
    Step("read what it had changed").value(b"before", store.read(at, old, ground.room).await)?;
    Step("read what it had made").refused("ENOENT", store.read(at, new, ground.room).await)?;
    Step("list").names(&["old"], store.directory(at, ground.home, ground.room).await)?;
    Step("remove").done(store.remove(at, old).await)
}

pub(super) async fn do_everything(at: &Dispatch, store: &impl Root, ground: &mut Ground<'_>) -> Outcome {
    let own = [ground.own()];
    for node in ["written", "gone/below", "owned"] {
        Step("write").done(store.write(at, ground.node(node), b"before").await)?;
    }
    let (home, node) = (ground.home, |below| Path::new(ground.home).join(below));
    let both = [own[0], Permission::new(0, Access::Both)];
    let committed = store.transaction(at, async |tx| -> Outcome {
        let mut names = [0; 64];
        let mut permissions = own;
        everything(at, tx, node, &both).await?;
        Step("list inside")
            .names_anyhow(&["written", "owned", "made"], tx.directory(at, home, &mut names).await)?;
        Step("read inside").refused("ENOENT", tx.read(at, node("gone/below"), &mut names).await)?;
        Step("ask for permissions inside").equal(
            Ok(2),
            match tx.permissions(at, node("owned"), &mut permissions).await {
                Err(StoreError::NoRoom { needed, .. }) => Ok(needed),
                other => other.map(<[_]>::len),
            },
        )
    });
    Step("commit").committed(committed.await)?;

    let room = &mut *ground.room;
    Step("list").names_anyhow(&["written", "owned", "made"], store.directory(at, home, room).await)?;
    Step("read").value(b"after", store.read(at, node("written"), room).await)?;
    Step("read what was removed").refused("ENOENT", store.read(at, node("gone"), room).await)?;
    let mut permissions = [own[0]; 4];
    Step("ask for permissions")
        .equal(Ok(&both[..]), store.permissions(at, node("owned"), &mut permissions).await)?;
    for below in ["written", "owned", "made"] {
        Step("remove").done(store.remove(at, node(below)).await)?;
    }
    Ok(())
}

async fn everything<'p>(
    at: &Dispatch,
    tx: &impl Xenstore,
    node: impl Fn(&'p str) -> Path<'p>,
    permissions: &[Permission],
) -> Outcome {
    Step("write inside").done(tx.write(at, node("written"), b"after").await)?;
    Step("make inside").done(tx.make(at, node("made/below")).await)?;
    Step("remove inside").done(tx.remove(at, node("gone")).await)?;
    Step("set permissions inside").done(tx.set_permissions(at, node("owned"), permissions).await)?;
    // What it has made it can remove.
    Step("make inside").done(tx.make(at, node("passing/by")).await)?;
    Step("remove inside what was made inside").done(tx.remove(at, node("passing")).await)
}

pub(super) async fn read_what_they_have_read(
    at: &Dispatch,
    store: &impl Root,
    ground: &mut Ground<'_>,
) -> Outcome {
    let node = ground.node("node");
    Step("write").done(store.write(at, node, b"at the start").await)?;
    let sees_the_start = ground.profile.sees_the_start;
    let mut attempts = 0;
    let committed = store.transaction(at, async |tx| -> Outcome {
        let mut room = [0; SHORT];
        attempts += 1;
        let first: &[u8] = match attempts {
            1 if sees_the_start => b"at the start",
            1 => b"at first sight",
            _ => b"later",
        };
        if attempts == 1 {
            Step("write outside").done(store.write(at, node, b"at first sight").await)?;
        }
        Step("read inside").value(first, tx.read(at, node, &mut room).await)?;
        if attempts == 1 {
            Step("write outside again").done(store.write(at, node, b"later").await)?;
        }
        Step("read inside again").value(first, tx.read(at, node, &mut room).await)
    });
    Step("commit what only reads").committed(committed.await)?;
    let expected = if ground.profile.conflicts == Conflicts::Touched { 2 } else { 1 };
    Step("count attempts").equal(expected, attempts)?;
    Step("remove").done(store.remove(at, node).await)
}

/// Something to be done below the ground.
#[derive(Clone, Copy)]
enum Deed {
    Read(&'static str),
    List(&'static str),
    Permissions(&'static str),
    Write(&'static str, &'static [u8]),
    Remove(&'static str),
    /// Everybody may read it.
    Share(&'static str),
}

use Deed::{List, Permissions, Read, Remove, Share, Write};

impl Deed {
    async fn be_done(
        self,
        at: &Dispatch,
        nodes: &impl Xenstore,
        ground: &Ground<'_>,
    ) -> Result<(), StoreError> {
        let node = |below| ground.node(below);
        let mut room = [0; 64];
        match self {
            // That it is not there is an answer, too.
            Read(below) => optional(nodes.read(at, node(below), &mut room).await).map(drop),
            List(below) => nodes.directory(at, node(below), &mut room).await.map(drop),
            Permissions(below) => {
                let mut room = [ground.own(); 4];
                nodes.permissions(at, node(below), &mut room).await.map(drop)
            }
            Write(below, value) => nodes.write(at, node(below), value).await,
            Remove(below) => nodes.remove(at, node(below)).await,
            Share(below) => {
                let shared = [Permission::new(ground.domain, Access::Read)];
                nodes.set_permissions(at, node(below), &shared).await
            }
        }
    }
}

/// Does this work in a transaction, with somebody else's deed before its first end, and looks how often it had to be
/// done.
async fn takes(
    attempts: u32,
    at: &Dispatch,
    store: &impl Root,
    ground: &Ground<'_>,
    step: Step,
    work: &[Deed],
    others: Deed,
) -> Outcome {
    for ready in [
        Write("read", b"one"),
        Write("written", b"one"),
        Write("list/child", b"one"),
        Write("other/child", b"one"),
        Remove("new"),
    ] {
        step.done(ready.be_done(at, store, ground).await)?;
    }
    let mut count = 0;
    let outcome = store.transaction(at, async |tx| -> Outcome {
        count += 1;
        all(at, tx, ground, step, work).await?;
        if count == 1 {
            step.done(others.be_done(at, store, ground).await)?;
        }
        Ok(())
    });
    step.committed(outcome.await)?;
    step.equal((attempts, "attempts"), (count, "attempts"))
}

async fn all(at: &Dispatch, tx: &impl Xenstore, ground: &Ground<'_>, step: Step, work: &[Deed]) -> Outcome {
    for deed in work {
        step.done(deed.be_done(at, tx, ground).await)?;
    }
    Ok(())
}

/// Takes away what [`takes`] has made.
async fn clear(at: &Dispatch, store: &impl Xenstore, ground: &Ground<'_>) -> Outcome {
    for below in ["read", "written", "list", "other", "new"] {
        Step("remove").done(Remove(below).be_done(at, store, ground).await)?;
    }
    Ok(())
}

/// What a transaction that is not only to read does besides.
const CHANGE: Deed = Write("other/child", b"two");

pub(super) async fn conflict_by_what_they_read(
    at: &Dispatch,
    store: &impl Root,
    ground: &mut Ground<'_>,
) -> Outcome {
    let missed = if ground.profile.misses_conflict { 2 } else { 1 };
    for (counts, step, looked_at, others) in [
        (2, "change a value that was read", Read("read"), Write("read", b"two")),
        (2, "remove a node that was read", Read("read"), Remove("read")),
        (missed, "make a node that was missed", Read("new"), Write("new", b"")),
        (2, "add to a list that was read", List("list"), Write("list/newcomer", b"")),
        (2, "take from a list that was read", List("list"), Remove("list/child")),
        (2, "change permissions that were read", Permissions("read"), Share("read")),
    ] {
        takes(counts, at, store, ground, Step(step), &[looked_at, CHANGE], others).await?;
    }
    clear(at, store, ground).await
}

pub(super) async fn conflict_by_what_they_write(
    at: &Dispatch,
    store: &impl Root,
    ground: &mut Ground<'_>,
) -> Outcome {
    let counts = if ground.profile.conflicts == Conflicts::Touched { 2 } else { 1 };
    for (step, written, others) in [
        ("write what was written", Write("written", b"two"), Write("written", b"three")),
        ("write the same value", Write("written", b"two"), Write("written", b"one")),
        ("make a child where one was made", Write("list/a", b""), Write("list/b", b"")),
        ("change a value that was only read", Read("read"), Write("read", b"two")),
    ] {
        takes(counts, at, store, ground, Step(step), &[written], others).await?;
    }
    clear(at, store, ground).await
}

pub(super) async fn beside_each_other(at: &Dispatch, store: &impl Root, ground: &mut Ground<'_>) -> Outcome {
    for (step, work, others) in [
        ("write beside what was written", &[Write("written", b"two")][..], Write("read", b"two")),
        ("write beside what was read", &[Read("read"), CHANGE], Write("written", b"two")),
        ("make a child elsewhere", &[Write("list/a", b"")], Write("other/b", b"")),
        ("write a child of what was read", &[Read("other"), CHANGE], Write("list/child", b"two")),
        ("read what was written", &[Write("written", b"two")], Read("written")),
        ("remove elsewhere", &[Remove("list/child")], Remove("other/child")),
    ] {
        takes(1, at, store, ground, Step(step), work, others).await?;
    }
    clear(at, store, ground).await
}

pub(super) async fn at_the_same_time(at: &Dispatch, store: &impl Root, ground: &mut Ground<'_>) -> Outcome {
    const BRANCHES: [&str; 3] = ["a", "b", "c"];
    let home = ground.home;
    for branch in BRANCHES {
        Step("write").done(store.write(at, ground.node(branch), b"before").await)?;
    }
    let work = async |branch: &'static str| {
        let mine = Path::new(home).join(branch);
        let outcome = store.transaction(at, async |tx| several(at, tx, mine, branch).await);
        Step("commit one of several").committed(outcome.await)
    };
    let (a, b, c) = join3(work("a"), work("b"), work("c")).await;
    a.and(b).and(c)?;
    for branch in BRANCHES {
        Step("read what one has committed")
            .value(branch.as_bytes(), store.read(at, ground.node(branch), ground.room).await)?;
        Step("remove").done(store.remove(at, ground.node(branch)).await)?;
    }
    Ok(())
}

async fn several(at: &Dispatch, tx: &impl Xenstore, mine: Path<'_>, value: &str) -> Outcome {
    let mut room = [0; SHORT];
    Step("read in one of several").value(b"before", tx.read(at, mine, &mut room).await)?;
    Step("write in one of several").done(tx.write(at, mine, value.as_bytes()).await)?;
    Step("read what was written in one of several")
        .value(value.as_bytes(), tx.read(at, mine, &mut room).await)
}

pub(super) async fn with_a_failed_write(
    at: &Dispatch,
    store: &impl Root,
    ground: &mut Ground<'_>,
) -> Outcome {
    // More than a node can have, if there is a limit.
    const LONG: usize = 3000;
    let (node, profile) = (ground.node("node"), ground.profile);
    let refusal = profile.node.map(|size| size.refusal);
    fill(&mut ground.room[..LONG], 1);
    let long = &ground.room[..LONG];
    Step("write").done(store.write(at, node, b"before").await)?;
    let outcome = store.transaction(at, async |tx| {
        Step("write a value that is too long inside").refused_if(refusal, tx.write(at, node, long).await)
    });
    let outcome = outcome.await;
    let step = Step("commit what has failed in part");
    match (outcome, profile.failed_transaction.filter(|_| refusal.is_some())) {
        (Err(TransactionError::Store(error)), Some(name)) => step.refused(name, Err::<(), _>(error))?,
        (Ok(()), Some(name)) => return Err(step.differs(name, "that it is committed")),
        (outcome, _) => step.committed(outcome)?,
    }
    if refusal.is_some() {
        Step("read").value(b"before", store.read(at, node, ground.room).await)?;
    }
    Step("remove").done(store.remove(at, node).await)
}
