//! Clocks that Xen writes while a guest reads.
#![forbid(unsafe_code)]

use std::{sync::Mutex, time::Duration};

use xen_abi::{
    seam::Access,
    shared_info::{WC_NSEC, WC_SEC, WC_VERSION},
};
use xen_sim::{Actor, Clock, Dice, GuestConfig, Machine, Runtime};

use crate::support::{INFO, Lab};

/// Time goes on by up to 300 ms at each look at the clock.
struct Rush(Mutex<(Duration, Dice)>);

impl Runtime for Rush {
    fn now(&self) -> Duration {
        let (now, dice) = &mut *self.0.lock().unwrap();
        *now += Duration::from_millis(dice.below(300));
        *now
    }

    fn ready(&self, _: Actor) {}

    fn boundaries(&self) -> u64 {
        0
    }

    fn tasks(&self) -> Vec<String> {
        Vec::new()
    }

    fn timers(&self) -> usize {
        0
    }
}

/// A reader that heeds the version reads a counter and a time that go together. One that does not will find a pair that
/// does not: this is what a driver's seqlock is tested against.
#[test]
fn a_clock_is_torn_for_those_who_do_not_heed_its_version() {
    let machine = Machine::new(0);
    machine.attach(Rush(Mutex::new((Duration::ZERO, Dice::new(1)))));
    let frequency = 2_400_000_000;
    let clock = Clock { frequency, ..Clock::default() };
    let guest = machine.create(GuestConfig { clock, ..GuestConfig::default() });
    let info = crate::support::move_info_of(&guest);
    let fields = || {
        let place = INFO.time.get(0).unwrap().offset();
        let mut at = [0; 8];
        info.read_bytes(place + 8, &mut at).unwrap();
        let counter = u64::from_le_bytes(at);
        info.read_bytes(place + 16, &mut at).unwrap();
        (counter, u64::from_le_bytes(at))
    };
    let version = || info.load(INFO.time_version.get(0).unwrap());
    let goes_together = |counter: u64, time: u64| {
        u128::from(counter) == u128::from(time) * u128::from(frequency) / 1_000_000_000
    };
    let (mut odd, mut torn, mut good) = (0, 0, 0);
    for _ in 0..2_000 {
        let before = version();
        let (counter, time) = fields();
        torn += u32::from(!goes_together(counter, time));
        if before.is_multiple_of(2) && version() == before {
            assert!(goes_together(counter, time), "{counter} ticks, {time} ns");
            good += 1;
        }
        // Even in one piece: Xen has stopped in the middle.
        let whole = info.read(INFO.time.get(0).unwrap());
        if !whole.version.is_multiple_of(2) {
            assert!(!goes_together(whole.tsc_timestamp, whole.system_time), "{whole:?}");
            odd += 1;
        }
    }
    assert!(odd > 100 && torn > 100 && good > 100, "odd {odd}, torn {torn}, good {good}");
}

/// The wall clock is there from the start, and is that of when system time was zero.
#[test]
fn the_wall_clock() {
    let vm = Lab::new().guest(1);
    let shared = vm.shared_info();
    let seconds = shared.load(WC_SEC);
    assert_eq!((shared.load(WC_VERSION) % 2, shared.load(WC_NSEC)), (0, 0));
    // Midnight, a day before the machine was switched on, since its Xen has run for a day.
    assert_eq!(seconds, 1_767_225_600 - 86_400);
}
