//! Who is told to look again.
#![forbid(unsafe_code)]

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use futures_util::future::try_join;
use kexec::{irql::Dispatch, time::timeout};
use xen_abi::io::xs_wire::XsError;
use xenbus::store::{Root, StoreError, WatchEvent, Watching, Xenstore, optional};

use crate::world::{Driver, Failed, WATCHES, Work, locked, scenario};

struct Watched;

const NODE: &str = "data/state";
const LAST: u32 = 4;

/// Writes one number after the other, each until it is known to be written.
async fn write(at: &Dispatch, driver: &Driver) -> Result<(), Failed> {
    for number in 1..=LAST {
        loop {
            match driver.store.print(at, NODE, number).await {
                Err(StoreError::Disconnected) if driver.is_connected() => {}
                outcome => break outcome?,
            }
        }
    }
    Ok(())
}

/// Looks until the last number is there.
async fn look(at: &Dispatch, driver: &Driver) -> Result<(), Failed> {
    let mut watch = loop {
        match driver.store.watch(at, NODE).await {
            Err(StoreError::Disconnected) if driver.is_connected() => {}
            watch => break watch?,
        }
    };
    let mut is_first = true;
    loop {
        // An event channel may lose an event: then it is looked at a while later.
        let why = match timeout(Duration::from_mins(1), watch.next()).await {
            Ok(Err(StoreError::Disconnected)) if driver.is_connected() => continue,
            Ok(event) => Some(event?),
            Err(_) => None,
        };
        if why == Some(WatchEvent::Initial) && !is_first {
            return Err(Failed::Wrong("only the first event is the first"));
        }
        is_first = false;
        if why == Some(WatchEvent::Rearmed) {
            driver.counted.fetch_add(1, Relaxed);
        }
        match optional(driver.store.read_number::<u32>(at, NODE).await) {
            Ok(Some(LAST)) => return Ok(()),
            // It is another domain, where nobody has written it.
            Ok(None) if *locked(&driver.has_moved) => match driver.store.print(at, NODE, LAST).await {
                Err(StoreError::Disconnected) if driver.is_connected() => {}
                outcome => outcome?,
            },
            Ok(_) => {}
            Err(StoreError::Disconnected) if driver.is_connected() => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Work for Watched {
    async fn work(at: &Dispatch, driver: &Driver) -> Result<(), Failed> {
        try_join(look(at, driver), write(at, driver)).await.map(drop)
    }
}

/// One writes and one looks, when it is told to: in the end it has seen the last value, also in another domain; and
/// the watch is gone.
#[test]
fn one_looks_when_told_to() {
    scenario::<Watched>("watches", "rearmed", |_| ()).seeds(0..1).boundaries(50).floor("rearmed", 10).run();
}

struct Refused;

impl Work for Refused {
    async fn work(at: &Dispatch, driver: &Driver) -> Result<(), Failed> {
        let mut watches = Vec::new();
        loop {
            match driver.store.watch(at, ("data/many", &*watches.len().to_string())).await {
                Ok(watch) => watches.push(watch),
                Err(StoreError::Watches(WATCHES)) if watches.len() == WATCHES => break,
                Err(StoreError::Disconnected) if driver.is_connected() => {}
                Err(error) => return Err(error.into()),
            }
        }
        drop(watches);
        // Until then, their places are not free. Of a xenstored that is wedged they never will be.
        if timeout(Duration::from_mins(5), driver.store.settled(at)).await.is_err() {
            return Err(Failed::Cancelled);
        }
        // A guest may not watch this one.
        loop {
            match driver.store.watch(at, "data/../no").await {
                Err(StoreError::Disconnected) if driver.is_connected() => {}
                Err(error) if error.refusal() == Some(XsError::EINVAL) => return Ok(()),
                Err(error) => return Err(error.into()),
                Ok(_) => return Err(Failed::Wrong("a path that cannot be is watched")),
            }
        }
    }
}

/// As many watches as there are places, and no more; all of them go. A refusal is told to whoever asks.
#[test]
fn as_many_as_there_are_places() {
    scenario::<Refused>("many watches", "none", |_| ()).seeds(0..0).boundaries(50).run();
}
