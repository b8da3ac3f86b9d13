//! A guest that follows the devices of a class, while a test is its toolstack.
#![forbid(unsafe_code)]

use std::{cell::RefCell, pin::pin, time::Duration};

use futures_util::future::select;
use kexec::{irql::Dispatch, time::sleep};
use xen_harness::Rig;
use xen_sim::{Fault, Suspend as Fate};
use xenbus::bus::children::{Change, Children, Trouble};

use crate::{bus::Bus, once};

/// So many children can be told apart.
pub(crate) const MOST: usize = 4;

/// Bytes of room for their names: for twice as many short ones.
pub(crate) const ROOM: usize = 128;

/// The guest, its toolstack, and what it was told.
pub(crate) struct Scene<'a> {
    pub(crate) at: &'a Dispatch,
    pub(crate) rig: Rig,
    pub(crate) bus: &'static Bus,
    pub(crate) children: Children<'static, MOST>,
    told: RefCell<Vec<Change>>,
}

/// Plays it with the store being served meanwhile, and nothing followed. In the end the guest has left nothing behind.
pub(crate) fn play<T: Send + 'static>(
    always: &'static [&'static str],
    script: impl for<'a> AsyncFnOnce(&'a Scene<'a>) -> T + Send + 'static,
) -> T {
    once::play(async move |at, rig, bus| {
        let children = Children::new("device/vif", always);
        script(&Scene { at, rig, bus, children, told: RefCell::default() }).await
    })
}

/// The same, while the devices are followed.
pub(crate) fn followed(
    always: &'static [&'static str],
    script: impl for<'a> AsyncFnOnce(&'a Scene<'a>) + Send + 'static,
) {
    play(always, async move |scene| {
        select(pin!(script(scene)), pin!(scene.follow())).await;
        scene.bus.store.settled(scene.at).await;
    });
}

impl Scene<'_> {
    /// Follows the devices, and takes note of what is told.
    pub(crate) async fn follow(&self) {
        let mut room = [0; ROOM];
        let tell = async |change| self.told.borrow_mut().push(change);
        self.children.follow(self.at, &self.bus.store, &mut room, tell).await;
    }

    /// What was told since it was asked for the last time, with all that is on its way: `+0` has come, `-0` has gone.
    pub(crate) async fn told(&self) -> String {
        sleep(Duration::from_secs(1)).await;
        let told = self.told.take();
        told.iter().map(in_short).collect::<Vec<_>>().join(" ")
    }

    /// The toolstack makes devices.
    pub(crate) fn attach(&self, devices: &[&str]) {
        for device in devices {
            self.write(&format!("{device}/backend-id"), "0");
        }
    }

    /// The toolstack takes them away.
    pub(crate) fn detach(&self, devices: &[&str]) {
        for device in devices {
            self.rig.machine().toolstack().rm(&self.path(device));
        }
    }

    /// The toolstack takes the whole class away.
    pub(crate) fn detach_all(&self) {
        let domain = self.rig.guest().domain();
        self.rig.machine().toolstack().rm(&format!("/local/domain/{domain}/device/vif"));
    }

    /// The toolstack writes a key below the class.
    pub(crate) fn write(&self, key: &str, value: &str) {
        self.rig.machine().toolstack().write(&self.path(key), value);
    }

    fn path(&self, device: &str) -> String {
        format!("/local/domain/{}/device/vif/{device}", self.rig.guest().domain())
    }

    /// Who serves a device says that it has ended.
    pub(crate) fn ended(&self, device: &str) {
        self.children.ended(self.at, device);
    }

    pub(crate) fn inject(&self, fault: Fault) {
        self.rig.machine().inject(self.rig.guest(), fault);
    }

    /// The guest is suspended.
    pub(crate) fn suspend(&self, fate: Fate) {
        self.rig.machine().toolstack().expect_suspend(self.rig.guest(), fate);
        self.rig.suspend();
    }
}

fn in_short(change: &Change) -> String {
    match change {
        Change::Arrived(name) => format!("+{name}"),
        Change::Departed(name) => format!("-{name}"),
        Change::Trouble(Trouble::Store(_)) => "store!".into(),
        Change::Trouble(Trouble::Name(bytes)) => format!("name-of-{bytes}!"),
        Change::Trouble(Trouble::TooMany(most)) => format!("more-than-{most}!"),
    }
}
