//! Who may do what.
#![forbid(unsafe_code)]

use kexec::irql::Dispatch;
use xenbus::store::{Access, Path, Permission, Xenstore};

use crate::{
    difference::{Outcome, Step},
    ground::Ground,
};

/// The control domain.
const CONTROL: u16 = 0;

/// More than a node can have anywhere.
const MANY: usize = 8;

async fn expect(
    at: &Dispatch,
    store: &impl Xenstore,
    step: Step,
    node: Path<'_>,
    permissions: &[Permission],
) -> Outcome {
    let mut room = [Permission::new(0, Access::None); MANY];
    step.equal(Ok(permissions), store.permissions(at, node, &mut room).await)
}

pub(super) async fn are_inherited(at: &Dispatch, store: &impl Xenstore, ground: &mut Ground<'_>) -> Outcome {
    let own = ground.own();
    let shared = [own, Permission::new(CONTROL, Access::Read)];
    let home = Path::new(ground.home);
    expect(at, store, Step("ask for those of the ground"), home, &[own]).await?;
    Step("write").done(store.write(at, ground.node("before"), b"").await)?;
    Step("set permissions").done(store.set_permissions(at, home, &shared).await)?;
    Step("write below").done(store.write(at, ground.node("a/b"), b"").await)?;
    Step("make below").done(store.make(at, ground.node("c")).await)?;
    for new in ["a", "a/b", "c"] {
        expect(at, store, Step("ask for those of a new node"), ground.node(new), &shared).await?;
    }
    expect(at, store, Step("ask for those of an older node"), ground.node("before"), &[own]).await?;
    Step("set other permissions").done(store.set_permissions(at, home, &[own]).await)?;
    expect(at, store, Step("ask for those that were inherited"), ground.node("a"), &shared).await?;
    for node in ["before", "a", "c"] {
        Step("remove").done(store.remove(at, ground.node(node)).await)?;
    }
    Ok(())
}

pub(super) async fn are_what_was_set(
    at: &Dispatch,
    store: &impl Xenstore,
    ground: &mut Ground<'_>,
) -> Outcome {
    use Access::{Both, None, Read, Write};
    let node = ground.node("node");
    let own = |access| Permission::new(ground.domain, access);
    let control = |access| Permission::new(CONTROL, access);
    Step("write").done(store.write(at, node, b"value").await)?;
    for permissions in [
        &[own(None), control(Read)][..],
        &[own(Read), control(Write)],
        &[own(Write), control(Both)],
        &[own(Both), control(None)],
        &[own(None)],
        &[own(Read), control(None), own(Write)],
    ] {
        Step("set permissions").done(store.set_permissions(at, node, permissions).await)?;
        expect(at, store, Step("ask for those that were set"), node, permissions).await?;
    }
    Step("read").value(b"value", store.read(at, node, ground.room).await)?;
    Step("remove").done(store.remove(at, node).await)
}

pub(super) async fn the_owner_may(at: &Dispatch, store: &impl Xenstore, ground: &mut Ground<'_>) -> Outcome {
    let node = ground.node("node");
    let nobody =
        [ground.own(), Permission::new(CONTROL, Access::None), Permission::new(ground.domain, Access::None)];
    Step("write").done(store.write(at, node, b"value").await)?;
    Step("allow nothing to anybody").done(store.set_permissions(at, node, &nobody).await)?;
    Step("read one's own").value(b"value", store.read(at, node, ground.room).await)?;
    Step("write one's own").done(store.write(at, node, b"other").await)?;
    Step("read one's own").value(b"other", store.read(at, node, ground.room).await)?;
    Step("write below one's own").done(store.write(at, ground.node("node/below"), b"").await)?;
    Step("list one's own").names(&["below"], store.directory(at, node, ground.room).await)?;
    expect(at, store, Step("ask for permissions of one's own"), node, &nobody).await?;
    Step("set permissions of one's own").done(store.set_permissions(at, node, &[ground.own()]).await)?;
    Step("remove one's own").done(store.remove(at, node).await)
}

pub(super) async fn the_owner_stays(
    at: &Dispatch,
    store: &impl Xenstore,
    ground: &mut Ground<'_>,
) -> Outcome {
    let node = ground.node("node");
    let own = ground.own();
    Step("write").done(store.write(at, node, b"").await)?;
    let given = [Permission::new(CONTROL, Access::Both), own];
    Step("give a node away")
        .refused(ground.profile.give_away, store.set_permissions(at, node, &given).await)?;
    expect(at, store, Step("ask for permissions"), node, &[own]).await?;
    Step("remove").done(store.remove(at, node).await)
}

pub(super) async fn are_not_many(at: &Dispatch, store: &impl Xenstore, ground: &mut Ground<'_>) -> Outcome {
    let node = ground.node("node");
    let mut many = [Permission::new(CONTROL, Access::Read); MANY];
    many[0] = ground.own();
    Step("write").done(store.write(at, node, b"").await)?;
    let most = ground.profile.permissions.map_or(MANY, |quota| quota.most);
    Step("set as many as can be").done(store.set_permissions(at, node, &many[..most]).await)?;
    if let Some(quota) = ground.profile.permissions {
        Step("set one more").refused(quota.refusal, store.set_permissions(at, node, &many[..=most]).await)?;
    }
    Step("set none").refused("EINVAL", store.set_permissions(at, node, &[]).await)?;
    expect(at, store, Step("ask for those that could be set"), node, &many[..most]).await?;
    Step("remove").done(store.remove(at, node).await)
}

pub(super) async fn of_another_domain(
    at: &Dispatch,
    store: &impl Xenstore,
    ground: &mut Ground<'_>,
) -> Outcome {
    // The control domain has it, and allows nobody to read it.
    let others = Path::new("/local/domain/0");
    let own = [ground.own()];
    let mut room = [ground.own(); MANY];
    Step("read another's").refused("EACCES", store.read(at, others, ground.room).await)?;
    Step("list another's").refused("EACCES", store.directory(at, others, ground.room).await)?;
    Step("ask for permissions of another's")
        .refused("EACCES", store.permissions(at, others, &mut room).await)?;
    Step("set permissions of another's").refused("EACCES", store.set_permissions(at, others, &own).await)?;
    Step("write another's").refused("EACCES", store.write(at, others, b"").await)?;
    Step("make what is another's").refused("EACCES", store.make(at, others).await)?;
    Step("remove another's").refused("EACCES", store.remove(at, others).await)?;

    let missing = others.join("xenstore-suite");
    for missing in [missing, missing.join("below")] {
        Step("write below another's").refused("EACCES", store.write(at, missing, b"").await)?;
        Step("make below another's").refused("EACCES", store.make(at, missing).await)?;
        Step("read what is not there below another's")
            .refused(ground.profile.read_hidden, store.read(at, missing, ground.room).await)?;
    }
    Step("remove what is not there below another's")
        .refused_if(ground.profile.remove_hidden, store.remove(at, missing).await)
}
