//! A guest whose driver is up, once, for what is no enumeration.
#![forbid(unsafe_code)]

use std::{pin::pin, time::Duration};

use futures_util::future::{Either, select};
use kexec::irql::Dispatch;
use xen_harness::{Player, Rig};
use xen_sim::GuestConfig;

use crate::bus::{Bus, Up};

/// Does something in a guest whose driver is up, once, with the store being served meanwhile. After that nothing is left.
pub(crate) fn play<T: Send + 'static>(
    script: impl AsyncFnOnce(&Dispatch, Rig, &'static Bus) -> T + Send + 'static,
) -> T {
    let mut player = Player::new(1);
    let rig = Rig::new(&mut player, GuestConfig::default());
    let driver = rig.driver(&mut player, "guest");
    let slots = rig.pool::<32768, 1>(&mut player);
    let bus = Bus::new(&rig);
    let act = async move |at: &mut Dispatch, rig: Rig| {
        let up = Up::new(bus, at).expect("there is a store");
        match select(pin!(script(up.at, rig, bus)), pin!(bus.store.serve(up.at))).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(_) => unreachable!("it is served for ever"),
        }
    };
    let task = driver.spawn(slots, act, rig.clone()).expect("a slot is free");
    while !task.is_finished() && player.step(Duration::from_hours(1)) {}
    let outcome = task.try_take().expect("it comes to its end").expect("nobody cancels it");
    assert_eq!(player.close(), Ok(()));
    let audit = rig.machine().audit(rig.guest());
    assert!(audit.is_clean(), "{audit}");
    outcome
}
