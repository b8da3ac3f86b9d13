//! A machine and its guest on executors.
#![forbid(unsafe_code)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use kexec::{irql::Dispatch, time::sleep, yield_now};
use xen_abi::{sched::SHUTDOWN_SUSPEND, seam::Memory};
use xen_harness::{Player, Rig};
use xen_sim::{Fault, Guest, GuestConfig, Mistake, Plan, Suspend};
use xenbus::hypercall::sched;

async fn yields(_: &mut Dispatch, times: u32) {
    for _ in 0..times {
        yield_now().await;
    }
}

async fn naps(_: &mut Dispatch, (): ()) {
    sleep(Duration::from_hours(1)).await;
}

fn rig(player: &mut Player) -> Rig {
    Rig::new(player, GuestConfig::default())
}

/// What the auditor counts is what all of the guest's executors have polled, and not what the machine's own tasks have.
#[test]
fn boundaries_of_all_drivers() {
    let mut player = Player::new(1);
    let rig = rig(&mut player);
    for (name, times) in [("one", 4), ("two", 6)] {
        let (slots, driver) = (rig.pool::<512, 1>(&mut player), rig.driver(&mut player, name));
        driver.spawn(slots, yields, times).expect("a slot is free").detach();
    }
    while player.step(Duration::MAX) {}
    let audit = rig.machine().audit(rig.guest());
    assert!(audit.is_clean(), "{audit}");
    let counted = audit.tallies().iter().find(|tally| tally.of[0] == "poll boundary");
    assert_eq!(counted.map(|tally| tally.count), Some(5 + 7));
    assert_eq!(player.close(), Ok(()));
}

/// A world in which no code of the guest's was run shows nothing.
#[test]
fn nothing_was_tested() {
    let mut player = Player::new(1);
    let rig = rig(&mut player);
    while player.step(Duration::MAX) {}
    assert_eq!(player.close(), Ok(()));
    let audit = rig.machine().audit(rig.guest());
    assert!(audit.findings().iter().any(|finding| finding.mistake == Mistake::NothingTested), "{audit}");
}

/// A task that has not ended is found by its name and the place where it waits, and the timer that it has armed.
#[test]
fn a_task_and_a_timer_are_left() {
    let mut player = Player::new(1);
    let rig = rig(&mut player);
    let (slots, driver) = (rig.pool::<512, 1>(&mut player), rig.driver(&mut player, "guest"));
    driver.spawn(slots, naps, ()).expect("a slot is free").detach();
    while player.step(Duration::from_mins(1)) {}
    let audit = rig.machine().audit(rig.guest());
    let found: Vec<_> = audit.findings().iter().map(|finding| finding.mistake).collect();
    assert_eq!(found, [Mistake::TaskLeft, Mistake::TimerLeft], "{audit}");
    assert!(audit.findings()[0].facts.contains("naps"), "{audit}");
    assert!(audit.findings()[0].facts.contains("rig.rs"), "{audit}");
    assert_eq!(player.close(), Ok(()));
    assert!(rig.machine().audit(rig.guest()).is_clean(), "closing ends both");
}

async fn allocates(_: &mut Dispatch, (guest, missed): (Guest, Arc<AtomicU64>)) {
    for number in 0..6 {
        // Pages that are not given back are another test's.
        if guest.allocate().is_err() {
            missed.store(number, Relaxed);
        }
        yield_now().await;
    }
}

/// A plan is followed by whoever says where the boundaries are.
#[test]
fn a_plan() {
    let mut player = Player::new(1);
    let rig = rig(&mut player);
    let (slots, driver) = (rig.pool::<512, 1>(&mut player), rig.driver(&mut player, "guest"));
    let missed = Arc::new(AtomicU64::new(u64::MAX));
    driver.spawn(slots, allocates, (rig.guest().clone(), missed.clone())).expect("a slot is free").detach();
    rig.machine().plan(rig.guest(), Plan::of([(4, Fault::FailAllocation(1))]));
    while player.step(Duration::MAX) {
        rig.boundary();
    }
    assert_eq!(missed.load(Relaxed), 4, "the fifth, after four polls");
    assert_eq!(player.close(), Ok(()));
}

/// The guest suspends itself by its own code, in which the machine may become another; without such code it cannot.
#[test]
fn a_suspend() {
    let mut player = Player::new(1);
    let rig = rig(&mut player);
    rig.machine().toolstack().expect_suspend(rig.guest(), Suspend::Migrated);
    rig.suspend();
    assert_eq!(rig.guest().domain(), 1);
    let guest = rig.guest().clone();
    rig.on_suspend(move |_| assert_eq!(sched::shutdown(&guest, SHUTDOWN_SUSPEND), Ok(false)));
    rig.suspend();
    assert_eq!(rig.guest().domain(), 2);
    assert_eq!(player.close(), Ok(()));
}
