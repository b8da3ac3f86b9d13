//! A control domain that sends without end.
#![forbid(unsafe_code)]

use std::time::Duration;

use kexec::{irql::Dispatch, platform::mock::keep, time::sleep};
use xen_abi::domid::DomId;
use xen_harness::{Executors, Player, Rig};
use xen_sim::{Dom0, Guest, GuestConfig};
use xenbus::event::{Channel, ChannelCounts, Worked};

use crate::support::{Driver, dispatch};

/// How long the storm lasts,
const LASTS: Duration = Duration::from_mins(1);
/// and how often it sends.
const EACH: Duration = Duration::from_millis(1);

async fn storm(_: &mut Dispatch, (dom0, port): (Dom0, u32)) {
    for _ in 0..LASTS.as_millis() / EACH.as_millis() {
        dom0.send(port).expect("it is connected");
        sleep(EACH).await;
    }
}

/// Says what each event has brought, for as long as the storm lasts.
async fn endure(at: &mut Dispatch, (channel, work): (&'static Channel<Guest>, fn(u32) -> Worked)) {
    let mut worked = Worked::Something;
    loop {
        channel.next(at, worked).await.expect("nobody suspends the guest");
        worked = work(channel.counts().events);
    }
}

/// A storm, and what was counted; and the upcalls that it has cost.
fn counted(fifo: bool, work: fn(u32) -> Worked) -> (ChannelCounts, u64) {
    let mut player = Player::new(3);
    let rig = Rig::new(&mut player, GuestConfig::default());
    let executor = rig.driver(&mut player, "guest");
    let slots = rig.pool::<1024, 1>(&mut player);
    let driver = Driver::new(rig.guest(), &[0], 64, fifo);
    driver.handle(64);
    let (guest, dom0) = (rig.guest(), rig.machine().dom0());
    let channel: &'static Channel<Guest> = dispatch(|at| {
        driver.start(at).expect("there is room");
        keep(driver.events.unbound(at, DomId(0)).expect("there is one"))
    });
    let port = dom0.bind_interdomain(guest, channel.port().0).expect("it waits for it");
    let endures = executor.spawn(slots, endure, (channel, work)).expect("a slot is free");
    let (device, slots) = (player.device("dom0"), player.pool::<512, 1>());
    let storm = device.spawn(slots, storm, (dom0, port)).expect("a slot is free");
    while !storm.is_finished() && player.step(Duration::MAX) {}
    endures.detach();
    (channel.counts(), rig.machine().counts()["interrupts"])
}

/// Events that bring nothing are put off, up to a second: sixty thousand of them cost an upcall a second.
#[test]
fn for_nothing() {
    for fifo in [true, false] {
        let (counts, upcalls) = counted(fifo, |_| Worked::Nothing);
        assert!((55..=90).contains(&counts.events), "{counts:?}");
        assert!(upcalls <= u64::from(counts.events), "{upcalls}");
        assert_eq!(counts.pauses + 1, counts.fruitless, "one event for nothing may be: {counts:?}");
    }
}

/// Those that bring something are not: the storm is one.
#[test]
fn for_something() {
    let (counts, _) = counted(true, |_| Worked::Something);
    assert!(counts.events > 30_000, "{counts:?}");
    assert_eq!((counts.fruitless, counts.pauses), (0, 0));
}

/// One that brings something ends the pauses: with one in two, there are none.
#[test]
fn now_and_then() {
    let (counts, _) =
        counted(true, |events| if events.is_multiple_of(2) { Worked::Something } else { Worked::Nothing });
    assert!(counts.events > 30_000, "{counts:?}");
    assert_eq!(counts.pauses, 0, "{counts:?}");
}
