//! A device that the toolstack wants back, while somebody uses it.
#![forbid(unsafe_code)]

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use echo::{Echo, Told};
use kexec::{Scope, irql::Dispatch, platform::mock::keep, sync::ManualEvent, time::sleep};
use xen_abi::io::xenbus::XenbusState;
use xen_harness::{BusDriver, Player};
use xen_sim::echo::Echo as Backend;
use xenbus::{
    bus::Bus,
    frontend::{Device, End, Failed, Frontend, Leave, News, Why, complain, serve},
    store::{StoreError, Xenstore},
};

use crate::world::{LIMIT, rig};

/// A frontend that stays, and says that it was asked to go.
struct Stays<F> {
    inner: F,
    asked: &'static ManualEvent,
}

impl<F: Frontend> Frontend for Stays<F> {
    type Bus = F::Bus;
    type Connection = F::Connection;
    type Error = F::Error;

    /// Both connect at once, as network devices do.
    const PUBLISHED: XenbusState = XenbusState::Connected;

    async fn negotiate(
        &mut self,
        at: &Dispatch,
        bus: &F::Bus,
        device: &Device<'_>,
    ) -> Result<F::Connection, Failed<F::Error>> {
        self.inner.negotiate(at, bus, device).await
    }

    async fn publish<T: Xenstore>(
        &self,
        connection: &F::Connection,
        at: &Dispatch,
        store: &T,
        device: &Device<'_>,
    ) -> Result<(), StoreError> {
        self.inner.publish(connection, at, store, device).await
    }

    async fn run(
        &mut self,
        connection: &mut F::Connection,
        at: &Dispatch,
        bus: &F::Bus,
        device: &Device<'_>,
    ) -> Failed<F::Error> {
        self.inner.run(connection, at, bus, device).await
    }

    fn disconnected(&mut self, at: &Dispatch, connection: F::Connection, why: Why) {
        self.inner.disconnected(at, connection, why);
    }

    fn wanted_back(&mut self) -> Leave {
        assert!(!self.asked.is_set(), "it is asked once");
        self.asked.set();
        Leave::WhenStopped
    }

    fn told(&mut self, news: News<F::Error>) {
        self.inner.told(news);
    }
}

/// What is known of the driver.
struct Driver {
    bus: &'static BusDriver,
    asked: &'static ManualEvent,
    complemented: AtomicU64,
}

async fn device(at: &mut Dispatch, driver: &'static Driver) -> End {
    let inner = Echo::new(0..u64::MAX, |told| {
        driver.complemented.fetch_add(u64::from(matches!(told, Told::Complemented(_))), Relaxed);
    });
    serve(at, &driver.bus.bus(), "device/echo/0", &mut Stays { inner, asked: driver.asked }).await
}

/// The driver's life: at the end, how the device's has ended, and how many numbers were complemented when it was
/// wanted back, and in all.
async fn live(at: &mut Dispatch, driver: &'static Driver) -> (End, u64, u64) {
    let at = &*at;
    let life = driver.bus.run(at, async |native| {
        let serving = driver.bus.spawn(device, driver).expect("there is room for a task");
        driver.asked.wait().await;
        let before = driver.complemented.load(Relaxed);
        // Whoever uses it does not want to let go.
        complain(at, native.store(), "device/echo/0", "a file is open").await;
        sleep(Duration::from_millis(5)).await;
        // And now does.
        serving.abort();
        let end = serving.await.expect("it comes to its end");
        (end, before, driver.complemented.load(Relaxed))
    });
    life.await.expect("the bus starts and stops")
}

/// Others are asked first: the device works on meanwhile, the toolstack is told why it does not go; and when they
/// have agreed, it goes in good order.
#[test]
fn somebody_uses_it() {
    for seed in 0..10 {
        let mut player = Player::new(seed);
        let (rig, id) = rig(&mut player, Backend::new());
        let bus = BusDriver::new(&rig, &mut player, keep(Scope::new("guest")), true);
        let asked = keep(ManualEvent::new(false));
        let driver: &Driver = keep(Driver { bus, asked, complemented: AtomicU64::new(0) });
        let toolstack = rig.machine().toolstack();
        let home = format!("/local/domain/{}", rig.guest().domain());
        let task = bus.spawn(live, driver).expect("there is room for a task");

        while driver.complemented.load(Relaxed) == 0 && player.step(LIMIT) {}
        toolstack.detach(id);
        while !task.is_finished() && player.step(LIMIT) {}
        let (end, before, all) = task.try_take().expect("it has ended").expect("nobody cancels it");
        assert_eq!(end, End::Stopped);
        assert!(before + 16 < all, "it works on: {before} of {all}");
        let complaint = toolstack.read(&format!("{home}/error/device/echo/0/error"));
        assert_eq!(complaint.as_deref(), Some("a file is open"));
        while player.step(player.time() + Duration::from_secs(1)) {}
        assert!(!toolstack.has(id), "seed {seed}: both halves have closed");
        player.close().expect("all tasks end");
        let audit = rig.machine().audit(rig.guest());
        assert!(audit.is_clean(), "seed {seed}: {audit}");
    }
}
