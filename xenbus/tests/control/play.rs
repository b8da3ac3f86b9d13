//! A guest that does what a test says, once.
#![forbid(unsafe_code)]

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use futures_util::future::{Either, select};
use kexec::irql::Dispatch;
use xen_harness::{Player, Rig};
use xen_sim::{Guest, GuestConfig, Suspend as Fate};
use xenbus::{
    control::{Control, Distribution, Features, News, Owner, Words},
    store::Store,
};

use crate::bus::{Bus, Up};

pub(crate) type Part<'a> = Control<'a, Store<Guest>>;

/// The guest, its toolstack, and its driver, which is up.
pub(crate) struct Scene<'a> {
    pub(crate) at: &'a Dispatch,
    pub(crate) rig: Rig,
    pub(crate) bus: &'static Bus,
}

/// Plays it, with the store being served meanwhile; after that nothing is left.
pub(crate) fn play<T: Send + 'static>(
    script: impl for<'a> AsyncFnOnce(&'a Scene<'a>) -> T + Send + 'static,
) -> T {
    let mut player = Player::new(1);
    let rig = Rig::new(&mut player, GuestConfig::default());
    let driver = rig.driver(&mut player, "guest");
    let slots = rig.pool::<32768, 1>(&mut player);
    let bus = Bus::new(&rig);
    let act = async move |at: &mut Dispatch, rig: Rig| {
        let up = Up::new(bus, at).expect("there is a store");
        let scene = Scene { at: up.at, rig, bus };
        match select(pin!(script(&scene)), pin!(bus.store.serve(up.at))).await {
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

impl<'a> Scene<'a> {
    /// An owner's part.
    pub(crate) fn part(&'a self, owner: Owner) -> Part<'a> {
        Control::new(self.at, &self.bus.store, self.bus.suspend.epochs(), owner)
    }

    /// One that has been published.
    pub(crate) async fn published(&'a self, owner: Owner) -> Part<'a> {
        let mut part = self.part(owner);
        let news = part.next().await;
        assert!(matches!(news, News::Published { .. }), "{news}");
        part
    }

    /// A key, as the toolstack sees it.
    pub(crate) fn key(&self, key: &str) -> Option<String> {
        self.rig.machine().toolstack().read(&self.path(key))
    }

    /// The toolstack writes a key.
    pub(crate) fn write(&self, key: &str, value: &str) {
        self.rig.machine().toolstack().write(&self.path(key), value);
    }

    /// The toolstack removes a key.
    pub(crate) fn rm(&self, key: &str) {
        self.rig.machine().toolstack().rm(&self.path(key));
    }

    /// The toolstack makes a key the guest's.
    pub(crate) fn give(&self, key: &str) {
        self.rig.machine().toolstack().give(self.rig.guest(), &self.path(key));
    }

    fn path(&self, key: &str) -> String {
        format!("/local/domain/{}/{key}", self.rig.guest().domain())
    }

    /// The guest is suspended.
    pub(crate) fn suspend(&self, fate: Fate) {
        self.rig.machine().toolstack().expect_suspend(self.rig.guest(), fate);
        self.rig.suspend();
    }
}

/// Polls a future so often, and no more.
pub(crate) async fn polled<F: Future>(mut polls: u32, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(move |cx| {
        let polled = future.as_mut().poll(cx).map(Some);
        polls -= 1;
        if polls == 0 && polled.is_pending() { Poll::Ready(None) } else { polled }
    })
    .await
}

/// A driver's name.
pub(crate) fn driver(name: &'static str) -> Distribution {
    Distribution::new("Xen_Project", name, [9, 1, 0, 42]).expect("these are names")
}

/// Who listens for this, and publishes it.
pub(crate) fn owner(name: &'static str, features: Features, words: Words) -> Owner {
    Owner { features, words, driver: driver(name) }
}
