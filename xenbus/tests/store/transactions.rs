//! Several things at once.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use futures_util::future::join;
use kexec::irql::Dispatch;
use xenbus::store::{Root, StoreError, TransactionError, Xenstore, optional};

use crate::world::{Driver, Failed, Work, locked, scenario};

struct Counting;

/// How often each of two counts.
const TIMES: u32 = 2;

const COUNT: &str = "data/count";
const TWIN: &str = "data/count/twin";

/// What is known of the count.
#[derive(Default)]
struct Known {
    /// It was counted so often,
    done: AtomicU32,
    /// and so often perhaps.
    perhaps: AtomicU32,
}

/// Adds one to the number in a node, several times. It takes two nodes, which are the same whoever looks.
async fn count(at: &Dispatch, driver: &Driver, known: &Known) -> Result<(), Failed> {
    for _ in 0..TIMES {
        let mut tries = 0;
        let counted = driver.store.transaction(at, async |tx| {
            tries += 1;
            let count = optional(tx.read_number::<u32>(at, COUNT).await)?.unwrap_or(0) + 1;
            tx.print(at, COUNT, count).await?;
            tx.print(at, TWIN, count).await?;
            Ok::<(), Failed>(())
        });
        let counted = counted.await;
        driver.counted.fetch_add(u64::from(u32::saturating_sub(tries, 1)), Relaxed);
        match counted {
            Ok(()) => _ = known.done.fetch_add(1, Relaxed),
            Err(TransactionError::Unknown(StoreError::Disconnected)) if driver.is_connected() => {
                known.perhaps.fetch_add(1, Relaxed);
            }
            Err(
                TransactionError::Store(StoreError::Disconnected)
                | TransactionError::Aborted(Failed::Store(StoreError::Disconnected)),
            ) if driver.is_connected() => {}
            Err(TransactionError::Unknown(error)) => {
                known.perhaps.fetch_add(1, Relaxed);
                return Err(error.into());
            }
            Err(TransactionError::Aborted(failed)) => return Err(failed),
            Err(TransactionError::Store(error)) => return Err(error.into()),
            Err(TransactionError::Conflicts(_)) => return Err(Failed::Wrong("there are only two who count")),
        }
    }
    Ok(())
}

impl Work for Counting {
    async fn work(at: &Dispatch, driver: &Driver) -> Result<(), Failed> {
        let known = Known::default();
        let (one, two) = join(count(at, driver, &known), count(at, driver, &known)).await;
        let counted = optional(driver.store.read_number::<u32>(at, COUNT).await);
        let twin = optional(driver.store.read_number::<u32>(at, TWIN).await);
        let (done, perhaps) = (known.done.load(Relaxed), known.perhaps.load(Relaxed));
        // In another domain, it begins with nothing.
        if let (Ok(counted), Ok(twin)) = (counted, twin)
            && !*locked(&driver.has_moved)
            && (counted != twin || !(done..=done + perhaps).contains(&counted.unwrap_or(0)))
        {
            return Err(Failed::Wrong("what was counted is not what is there"));
        }
        one.and(two)
    }
}

/// Two count in the same node, each in its own transactions, and come in between each other. Whatever happens,
/// nothing is half done, what was done is there, what was not is not; only of what is unknown it is not known; and no
/// transaction is left.
#[test]
fn two_count() {
    scenario::<Counting>("transactions", "conflicts", |_| ())
        .seeds(0..0)
        .boundaries(50)
        .floor("conflicts", 500)
        .run();
}

struct Aborting;

impl Work for Aborting {
    async fn work(at: &Dispatch, driver: &Driver) -> Result<(), Failed> {
        // More than xenstored allows at a time, if they were not ended.
        for round in 0..10_u32 {
            let outcome: Result<(), TransactionError<u32>> = driver
                .store
                .transaction(at, async |tx| {
                    if round == 0 {
                        // Whether this comes about does not matter.
                        let _ = tx.write(at, "data/never", b"").await;
                    }
                    Err(round)
                })
                .await;
            match outcome {
                Err(TransactionError::Aborted(number)) if number == round => {}
                Err(TransactionError::Store(StoreError::Disconnected)) if driver.is_connected() => {}
                Err(TransactionError::Store(error)) => return Err(error.into()),
                _ => return Err(Failed::Wrong("the error is the closure's own")),
            }
        }
        let mut room = [0; 1];
        let there = optional(driver.store.read(at, "data/never", &mut room).await);
        match there {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(Failed::Wrong("nothing of it has happened")),
            Err(StoreError::Disconnected) if driver.is_connected() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A transaction whose closure fails has not happened, and is ended: so many of them would be too many at a time.
#[test]
fn what_fails_has_not_happened() {
    scenario::<Aborting>("aborted transactions", "none", |_| ()).seeds(0..0).boundaries(50).run();
}
