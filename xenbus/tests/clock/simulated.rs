//! A guest that tells the time on a simulated host.
#![forbid(unsafe_code)]

use std::{collections::BTreeSet, time::Duration};

use xen_abi::{sched::SHUTDOWN_SUSPEND, shared_info::VCPU_INFO};
use xen_sim::{Clock, Guest, GuestConfig, Machine, Suspend};
use xenbus::{
    clock::{ClockError, SystemTime, WallTime, Zone, system_time, wall_clock},
    hypercall::sched,
    page::XenPage,
};

use crate::at_dispatch;

/// Ticks are not nanoseconds: what is lost when they are counted whole, of the stamp and of what has gone by since.
const GRAIN: u64 = 2;

/// A machine on which the clocks are written for the first time, and which does it again in a second; its guest, and
/// the page.
fn started(config: GuestConfig) -> (Machine, Guest, XenPage<Guest>) {
    let machine = Machine::new(1);
    let guest = machine.create(config);
    let shared = XenPage::shared_info(&guest).expect("Xen maps it");
    for _begun_and_done in 0..2 {
        machine.pass(Duration::ZERO);
    }
    (machine, guest, shared)
}

fn system(guest: &Guest, shared: &XenPage<Guest>, vcpu: usize) -> Result<SystemTime, ClockError> {
    at_dispatch(|at| system_time(at, guest, &**shared, VCPU_INFO, vcpu))
}

fn wall(guest: &Guest, shared: &XenPage<Guest>) -> Result<WallTime, ClockError> {
    let time = system(guest, shared, 0)?;
    Ok(at_dispatch(|at| wall_clock(at, &**shared))?.at(time, Zone::Utc))
}

/// Whatever the counter's frequency, and however far the clock's last writing is back: it is so late as the host says,
/// on every virtual CPU.
#[test]
fn it_is_as_late_as_the_host_says() {
    for frequency in [1_000_000, 33_333_333, 1_000_000_000, 2_400_000_000, 4_999_999_999, 40_000_000_000] {
        let clock = Clock { frequency, uptime: Duration::from_hours(500) };
        let vcpus = BTreeSet::from([0, 1, 31]);
        let config = GuestConfig { clock, vcpus: vcpus.clone(), ..GuestConfig::default() };
        let (machine, guest, shared) = started(config);
        // A step of the counter, and what of its length the factor cannot say, in all the time since the clock was
        // written.
        let grain = GRAIN + 1_000_000_000 / frequency;
        let mut passed = Duration::ZERO;
        for step in [0, 1, 999, 123_456_789, 400_000_000] {
            machine.pass(Duration::from_nanos(step));
            passed += Duration::from_nanos(step);
            let expected = u64::try_from((clock.uptime + passed).as_nanos()).expect("it fits");
            for vcpu in &vcpus {
                let time = system(&guest, &shared, usize::try_from(*vcpu).unwrap());
                let SystemTime(time) = time.expect("no clock is being written");
                assert!(
                    time.abs_diff(expected) <= grain,
                    "{frequency} Hz, virtual CPU {vcpu}: {time} instead of {expected}"
                );
            }
        }
    }
}

/// Clocks are written once a second, and Xen takes its time for it here: a guest that comes in between is told so,
/// and finds time going on when the clock is done.
#[test]
fn a_clock_that_is_being_written() {
    let (machine, guest, shared) = started(GuestConfig::default());
    let mut last = system(&guest, &shared, 0).expect("it is written");
    let mut unsettled = 0;
    for _ in 0..100 {
        machine.pass(Duration::from_millis(50));
        match system(&guest, &shared, 0) {
            Ok(time) => {
                assert!(time > last, "{time:?} after {last:?}");
                last = time;
            }
            Err(error) => {
                assert!(matches!(error, ClockError::Unsettled(_)), "{error}");
                unsettled += 1;
            }
        }
    }
    assert_eq!(unsettled, 5, "once a second");
}

/// The wall clock is set: the guest sees the new time, and never one that is made of both, not even over the end of 32
/// bits.
#[test]
fn somebody_sets_the_wall_clock() {
    let (machine, guest, shared) = started(GuestConfig::default());
    for seconds in [1_800_000_000, 0x7FFF_FFFF, 0xFFFF_FFFF, 0x1_0000_0000, 0x3_1234_5678] {
        let set = Duration::new(seconds, 999_999_000);
        machine.dom0().set_wall_clock(set);
        assert!(matches!(wall(&guest, &shared), Err(ClockError::Unsettled(_))), "half of it is written");
        machine.pass(Duration::from_millis(1));
        let now = i128::try_from((set + Duration::from_millis(1)).as_nanos()).expect("it fits");
        let wall = wall(&guest, &shared).expect("it is written").unix_nanoseconds();
        assert!((wall - now).unsigned_abs() <= u128::from(GRAIN), "{wall} instead of {now}");
    }
}

/// A guest that goes on as another domain has another page, at the same place as soon as it has asked for it: time goes
/// on there, that while it was away included.
#[test]
fn after_a_migration() {
    let (machine, guest, shared) = started(GuestConfig::default());
    let before = system(&guest, &shared, 0).expect("it is written");
    machine.toolstack().expect_suspend(&guest, Suspend::Migrated);
    assert_eq!(sched::shutdown(&guest, SHUTDOWN_SUSPEND), Ok(false), "a new domain");
    machine.pass(Duration::from_hours(1));
    shared.renew().expect("Xen maps it again");
    // What Xen had begun to write is done.
    machine.pass(Duration::from_nanos(1));
    let away = system(&guest, &shared, 0).expect("it is written").since(before);
    assert!(away >= Duration::from_hours(1), "{away:?}");
    drop(shared);
    let audit = machine.audit(&guest);
    assert!(audit.is_clean(), "{audit}");
}
