//! A guest that does what a test says, once.
#![forbid(unsafe_code)]

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use kexec::irql::Dispatch;
use xen_harness::Rig;
use xen_sim::{Guest, Suspend as Fate};
use xenbus::{
    control::{Control, Distribution, Features, News, Owner, Words},
    store::Store,
};

use crate::{bus::Bus, once};

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
    once::play(async move |at, rig, bus| script(&Scene { at, rig, bus }).await)
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
