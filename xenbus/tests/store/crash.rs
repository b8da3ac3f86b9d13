//! Who comes after a store that has stopped: the client of a crash dump, or a driver that is loaded anew.
#![forbid(unsafe_code)]

use std::{pin::pin, time::Duration};

use futures_util::future::select;
use kexec::{
    Budget, Executor, Pool,
    irql::Dispatch,
    platform::mock::{Mock, Plan, keep},
};
use xen_sim::{Fault, Guest, GuestConfig, Machine, Mistake, Peer};
use xenbus::store::{CrashStore, Framing, Root, Store, StoreError, TransactionError, Xenstore};

const ONE_POLL: Budget = Budget::new(1, Duration::MAX);

type Found = Result<(Vec<u8>, Vec<u8>), StoreError>;

struct System {
    guest: Guest,
    store: Store<Guest>,
}

/// What the system does that crashes: everything that has messages on their way.
async fn live(at: &mut Dispatch, system: &'static System) {
    let (at, store) = (&*at, &system.store);
    store.connect(at, &system.guest).expect("there is a store");
    let work = async {
        let watch = store.watch(at, "data").await;
        let value = [b'v'; 1500];
        store.write(at, "data/long", &value).await?;
        let counted = store.transaction(at, async |tx| tx.print(at, "data/count", 1).await);
        counted.await.expect("nobody comes in between");
        let mut room = [0; 2000];
        assert_eq!(store.read(at, "data/long", &mut room).await?, value);
        drop(watch);
        store.settled(at).await;
        Ok::<(), StoreError>(())
    };
    select(pin!(store.serve(at)), pin!(work)).await;
}

/// What the dump does: it writes a node, and reads that and another.
async fn dump(at: &mut Dispatch, (guest, framing): (Guest, &'static Framing)) -> Found {
    let mut store = CrashStore::within(Duration::from_secs(5));
    store.connect(&guest, Some(framing)).expect("there is a store");
    store.write(at, "data/dump", b"begun").await?;
    let (mut name, mut dump) = ([0; 32], [0; 32]);
    let dump = store.read(at, "data/dump", &mut dump).await?.to_vec();
    Ok((store.read(at, "name", &mut name).await?.to_vec(), dump))
}

fn executor() -> &'static Executor<Mock> {
    Executor::leak(Mock::new(Plan::CALM), ONE_POLL)
}

/// Lets a system live for so many polls, and dumps it. What the dump has found, and whether the system had come to
/// its end.
fn crash_after(polls: u32, fault: Option<Fault>) -> (Found, bool) {
    let machine = Machine::new(polls.into());
    let guest = machine.create(GuestConfig::default());
    let system: &'static System = keep(System { guest: guest.clone(), store: Store::new() });
    let driver = executor();
    let slots: &'static Pool<16384, 1> = keep(Pool::new());
    let life = driver.spawn(slots, live, system).expect("a slot is free");
    for _ in 0..polls {
        driver.step();
        machine.run(1);
        // For want of interrupts.
        system.store.notify();
    }
    if let Some(fault) = fault {
        machine.inject(&guest, fault);
    }
    let (dumper, slots): (_, &'static Pool<32768, 1>) = (executor(), keep(Pool::new()));
    let task = dumper.spawn(slots, dump, (guest, system.store.framing())).expect("a slot is free");
    for _ in 0..20_000 {
        dumper.step();
        dumper.platform().pass(Duration::from_millis(1));
        machine.run(1);
        if task.is_finished() {
            let found = task.try_take().expect("it has ended").expect("nobody cancels it");
            return (found, life.is_finished());
        }
    }
    panic!("the dump does not end");
}

/// Wherever the system was, in whatever it had asked: the dump's client finds its way, without a lock, an interrupt
/// or an allocation.
#[test]
fn a_dump_at_every_poll() {
    let right = Ok((b"guest".to_vec(), b"begun".to_vec()));
    for polls in 0.. {
        let (found, is_over) = crash_after(polls, None);
        assert_eq!(found, right, "after {polls} polls");
        if is_over {
            assert!(polls > 30, "it has lived for {polls} polls only");
            break;
        }
    }
}

/// A dump does not wait for ever, whoever is gone.
#[test]
fn a_dump_without_xenstored() {
    for fault in [Fault::Wedge(Peer::Xenstored), Fault::Kill(Peer::Xenstored)] {
        let (found, _) = crash_after(9, Some(fault));
        assert!(
            matches!(found, Err(StoreError::TimedOut { .. } | StoreError::Ended(_))),
            "{fault}: {found:?}"
        );
    }
}

/// What a driver leaves behind that is unloaded without a word, and what the next one does.
async fn two_lives(at: &mut Dispatch, guest: Guest) {
    let at = &*at;
    {
        let store: Box<Store<Guest>> = Box::default();
        store.connect(at, &guest).expect("there is a store");
        let life = async {
            let _watch = store.watch(at, "data").await.expect("there is a place");
            let begun: Result<(), TransactionError<()>> = store
                .transaction(at, async |tx| {
                    tx.write(at, "data/never", b"").await.map_err(drop)?;
                    Err(())
                })
                .await;
            assert_eq!(begun, Err(TransactionError::Aborted(())));
        };
        select(pin!(polled(&store, at)), pin!(life)).await;
    }
    let store: Box<Store<Guest>> = Box::default();
    store.connect(at, &guest).expect("there is a store");
    let life = async {
        store.watch(at, "data").await.expect("there is a place");
        store.settled(at).await;
    };
    select(pin!(polled(&store, at)), pin!(life)).await;
    store.disconnect(at);
}

/// Serves a connection without interrupts.
async fn polled(store: &Store<Guest>, at: &Dispatch) {
    let looks = async {
        loop {
            store.notify();
            kexec::yield_now().await;
        }
    };
    select(pin!(store.serve(at)), pin!(looks)).await;
}

/// Watches and transactions of a driver that is no more go when the next one has some of its own.
#[test]
fn a_driver_after_another() {
    let machine = Machine::new(1);
    let guest = machine.create(GuestConfig::default());
    let (driver, slots): (_, &'static Pool<16384, 1>) = (executor(), keep(Pool::new()));
    let task = driver.spawn(slots, two_lives, guest.clone()).expect("a slot is free");
    for _ in 0..20_000 {
        if task.is_finished() {
            task.try_take().expect("it has ended").expect("nobody cancels it");
            let audit = machine.audit(&guest);
            let left = |mistake| matches!(mistake, Mistake::WatchLeft | Mistake::TransactionLeft);
            assert!(!audit.findings().iter().any(|finding| left(finding.mistake)), "{audit}");
            return;
        }
        driver.step();
        machine.run(1);
    }
    panic!("the drivers do not come to their end");
}
