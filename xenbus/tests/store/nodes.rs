//! Single questions.
#![forbid(unsafe_code)]

use std::sync::atomic::Ordering::Relaxed;

use kexec::irql::Dispatch;
use xen_abi::io::xs_wire::XsError;
use xenbus::store::{Access, Path, Permission, StoreError, Xenstore, optional};

use crate::world::{Driver, Failed, Work, scenario};

struct Nodes;

const HERE: Path<'_> = Path::new("data/here");

/// Each operation once, and what it has done as another one sees it.
async fn look_and_change(at: &Dispatch, store: &impl Xenstore) -> Result<(), Failed> {
    let mut room = [0; 64];
    // What is there from before is of a run that a suspend has cut off.
    store.remove(at, HERE).await?;
    right(optional(store.read(at, HERE, &mut room).await)?.is_none(), "it was removed")?;

    store.write(at, HERE, b"a \0 value").await?;
    right(store.read(at, HERE, &mut room).await? == b"a \0 value", "what was written is read")?;
    let short = store.read(at, HERE, &mut room[..3]).await;
    fails(&short, |error| matches!(error, StoreError::NoRoom { needed: 9, .. }))?;
    right(room[..3] == *b"a \0", "the beginning is there")?;
    let number = store.read_number::<u32>(at, HERE).await;
    fails(&number, |error| matches!(error, StoreError::Value { .. }))?;

    store.print(at, HERE.join("number"), 4_000_000_000_u32).await?;
    right(store.read_number::<u32>(at, HERE.join("number")).await? == 4_000_000_000, "a number")?;
    store.make(at, HERE.join("made").join("below")).await?;
    right(store.read(at, HERE.join("made"), &mut room).await?.is_empty(), "a node without a value")?;
    right(store.directory(at, HERE, &mut room).await?.eq(["number", "made"]), "its children")?;

    let (node, mut entries) = (HERE.join("number"), [Permission::new(9, Access::Both); 2]);
    let [own] = *store.permissions(at, node, &mut entries).await? else {
        return Err(Failed::Wrong("an owner"));
    };
    right(own.access == Access::None, "nobody else may")?;
    let list = [own, Permission::new(0, Access::Read)];
    store.set_permissions(at, node, &list).await?;
    right(store.permissions(at, node, &mut entries).await? == list, "what was set is read")?;
    let short = store.permissions(at, node, &mut entries[..1]).await;
    fails(&short, |error| matches!(error, StoreError::NoRoom { needed: 2, .. }))?;

    let foreign = store.write(at, "/tool/mine", b"").await;
    fails(&foreign, |error| error.refusal() == Some(XsError::EACCES))?;
    let long = store.print(at, HERE, format_args!("{:300}", "")).await;
    fails(&long, |error| matches!(error, StoreError::TooLong { length: 300, .. }))?;
    let long = store.write(at, HERE, &[0; 4096]).await;
    fails(&long, |error| matches!(error, StoreError::TooLong { length: 4106, .. }))?;
    let nowhere = store.read(at, "", &mut room).await;
    fails(&nowhere, |error| matches!(error, StoreError::Path { length: 0, .. }))
}

fn right(is_right: bool, what: &'static str) -> Result<(), Failed> {
    if is_right { Ok(()) } else { Err(Failed::Wrong(what)) }
}

/// It fails like this, or for a reason of the run's.
fn fails<T>(outcome: &Result<T, StoreError>, like_this: fn(&StoreError) -> bool) -> Result<(), Failed> {
    match outcome {
        Ok(_) => Err(Failed::Wrong("it should have failed")),
        Err(error) if like_this(error) => Ok(()),
        Err(error) => Err((*error).into()),
    }
}

impl Work for Nodes {
    async fn work(at: &Dispatch, driver: &Driver) -> Result<(), Failed> {
        loop {
            match look_and_change(at, &driver.store).await {
                Err(Failed::Store(StoreError::Disconnected)) if driver.is_connected() => {
                    driver.counted.fetch_add(1, Relaxed);
                }
                outcome => return outcome,
            }
        }
    }
}

/// Every operation, whatever goes wrong meanwhile: it has done what it says, or says what has failed. A suspend costs
/// the answer, not the connection.
#[test]
fn single_questions() {
    scenario::<Nodes>("nodes", "asked again", |_| ())
        .seeds(0..0)
        .boundaries(50)
        .floor("asked again", 100)
        .run();
}
