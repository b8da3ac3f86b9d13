//! Lists of children, short and long.
#![forbid(unsafe_code)]

use futures_util::future::join;
use kexec::irql::Dispatch;
use xen_abi::io::xs_wire::XENSTORE_PAYLOAD_MAX;
use xenbus::store::{Names, Path, StoreError, Text, Xenstore};

use crate::{
    difference::{Listed, Outcome, Step},
    ground::Ground,
    profile::{NodeSize, Profile},
};

pub(super) async fn children_are_listed(
    at: &Dispatch,
    store: &impl Xenstore,
    ground: &mut Ground<'_>,
) -> Outcome {
    Step("list nothing").names(&[], store.directory(at, ground.home, ground.room).await)?;
    Step("write a value").done(store.write(at, ground.home, b"a value is no child").await)?;
    Step("list nothing but a value").names(&[], store.directory(at, ground.home, ground.room).await)?;
    for node in ["a", "b/below/b", "c"] {
        Step("write").done(store.write(at, ground.node(node), b"").await)?;
    }
    Step("list").names_anyhow(&["a", "b", "c"], store.directory(at, ground.home, ground.room).await)?;
    Step("list one level further down")
        .names(&["below"], store.directory(at, ground.node("b"), ground.room).await)?;
    Step("write what is listed already").done(store.write(at, ground.node("a"), b"again").await)?;
    Step("list").names_anyhow(&["a", "b", "c"], store.directory(at, ground.home, ground.room).await)?;
    for node in ["a", "b", "c"] {
        Step("remove").done(store.remove(at, ground.node(node)).await)?;
    }
    Ok(())
}

pub(super) async fn a_list_follows(at: &Dispatch, store: &impl Xenstore, ground: &mut Ground<'_>) -> Outcome {
    for node in ["q", "b", "z", "a"] {
        Step("make").done(store.make(at, ground.node(node)).await)?;
    }
    list(at, store, ground, Step("list what was made"), &["q", "b", "z", "a"]).await?;
    Step("remove one").done(store.remove(at, ground.node("b")).await)?;
    list(at, store, ground, Step("list what is left"), &["q", "z", "a"]).await?;
    Step("make it again").done(store.make(at, ground.node("b")).await)?;
    list(at, store, ground, Step("list what was made again"), &["q", "z", "a", "b"]).await?;
    for node in ["q", "b", "z", "a"] {
        Step("remove").done(store.remove(at, ground.node(node)).await)?;
    }
    Ok(())
}

async fn list(
    at: &Dispatch,
    store: &impl Xenstore,
    ground: &mut Ground<'_>,
    step: Step,
    names: &[&str],
) -> Outcome {
    let came = store.directory(at, ground.home, ground.room).await;
    if ground.profile.lists_in_order { step.names(names, came) } else { step.names_anyhow(names, came) }
}

/// As many children as make a list that is too long for one message, each name with its nul.
const MANY: usize = 80;
const NAME: usize = 60;

fn child(number: usize) -> Text<NAME> {
    // It fits, as long as there are less than a thousand.
    Text::of(format_args!("child-{number:03}-{:x<50}", "")).unwrap_or_else(|_| unreachable!())
}

/// Makes children, as many as the node has room for, and says how many that were.
async fn populate(at: &Dispatch, store: &impl Xenstore, ground: &mut Ground<'_>) -> Outcome<usize> {
    let limit = ground.profile.node.filter(|size| size.counts_names);
    let most = limit.map_or(MANY, |NodeSize { most, empty, .. }| MANY.min((most - empty) / (NAME + 1)));
    for number in 0..most {
        Step("make one of many").done(store.make(at, Path::new(ground.home).join(&child(number))).await)?;
    }
    if let Some(size) = limit.filter(|_| most < MANY) {
        let one_more = store.make(at, Path::new(ground.home).join(&child(most))).await;
        Step("make one for which the list has no room").refused(size.refusal, one_more)?;
    }
    Ok(most)
}

async fn clear(at: &Dispatch, store: &impl Xenstore, ground: &mut Ground<'_>, most: usize) -> Outcome {
    for number in 0..most {
        Step("remove one of many")
            .done(store.remove(at, Path::new(ground.home).join(&child(number))).await)?;
    }
    Ok(())
}

/// The list has these children, unless it is too long to be had.
fn compare(
    step: Step,
    profile: &Profile,
    numbers: impl Iterator<Item = usize> + Clone,
    came: Result<Names<'_>, StoreError>,
) -> Outcome {
    if !profile.has_parts && numbers.clone().count() * (NAME + 1) > XENSTORE_PAYLOAD_MAX as usize {
        return step.refused("ENOSYS", came);
    }
    let came = step.done(came)?;
    let is_each_there = numbers.clone().enumerate().all(|(place, number)| {
        let name = child(number);
        let mut places = came.clone().enumerate().filter(|(_, other)| **other == *name);
        let found = places.next();
        found.is_some_and(|(found, _)| !profile.lists_in_order || found == place) && places.next().is_none()
    });
    let count = numbers.count();
    step.holds(
        is_each_there && came.clone().count() == count,
        "each child once",
        format_args!("{} of {count}: {}", came.clone().count(), Listed(came)),
    )
}

pub(super) async fn a_long_list(at: &Dispatch, store: &impl Xenstore, ground: &mut Ground<'_>) -> Outcome {
    let profile = ground.profile;
    let most = populate(at, store, ground).await?;
    let came = store.directory(at, ground.home, ground.room).await;
    compare(Step("list many"), profile, 0..most, came)?;
    clear(at, store, ground, most).await
}

pub(super) async fn a_long_list_that_changes(
    at: &Dispatch,
    store: &impl Xenstore,
    ground: &mut Ground<'_>,
) -> Outcome {
    let profile = ground.profile;
    let most = populate(at, store, ground).await?;
    let gone = child(0);
    let (came, removed) = join(
        store.directory(at, ground.home, ground.room),
        store.remove(at, Path::new(ground.home).join(&gone)),
    )
    .await;
    Step("remove one while the list is read").done(removed)?;
    let step = Step("list many that change");
    let compared = |first, came| compare(step, profile, first..most, came);
    compared(0, came.clone()).or_else(|_| compared(1, came))?;
    clear(at, store, ground, most).await
}
