//! A guest with a bus driver and one device, on a simulated Xen.
#![forbid(unsafe_code)]

use std::{
    pin::pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::select;
use kexec::{
    Executor, Scope, Table,
    irql::Dispatch,
    platform::mock::{Mock, keep},
    shielded,
    sync::ManualEvent,
    time::timeout,
    until_cancelled,
};
use xen_abi::hvm::params::CallbackVia;
use xen_harness::{Executors, Rig};
use xen_sim::{DeviceConfig, DeviceId, Guest, GuestConfig, Protocol};
use xenbus::{
    bus::{Native, StartError},
    event::{Config, Events, Slot, Upcall, Vcpu},
    frontend::{End, News, serve},
    grant::{Frame, Grants},
    store::{PATIENCE, Store},
    suspend::{Rendezvous, Suspend, SuspendError, Suspended},
};

use crate::echo::{Echo, Error};

/// How long a driver waits for its device before it gives up: longer than all that it waits for in between.
pub(crate) const LIMIT: Duration = Duration::from_mins(20);

/// The bus driver, and the driver of the device.
pub(crate) struct Driver {
    pub(crate) native: &'static Native<Guest>,
    pub(crate) events: &'static Events<Guest>,
    pub(crate) grants: &'static Grants<Guest>,
    suspend: &'static Suspend,
    guest: Guest,
    executor: &'static Executor<Mock>,
    slots: &'static Table<16384>,
    scope: &'static Scope,
    /// Numbers to be complemented.
    numbers: u64,
    fifo: bool,
    /// Numbers that were.
    pub(crate) done: AtomicU64,
    /// All of them were, or the device is gone.
    ready: ManualEvent,
    /// The services are not needed any more.
    over: ManualEvent,
    news: Mutex<Vec<News<Error>>>,
    ends: Mutex<Vec<End>>,
    pub(crate) suspends: Mutex<Vec<Result<Suspended, SuspendError>>>,
}

/// Why the driver has ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    Start(StartError),
    Stop(xenbus::event::StopError),
    Closing,
}

/// The harness has captured everybody.
struct Harness<'a>(&'a Guest);

impl Rendezvous for Harness<'_> {
    fn hold<T>(&self, _: &Dispatch, work: impl FnOnce() -> T) -> T {
        work()
    }

    fn silence<T>(&self, _: &Dispatch, work: impl FnOnce() -> T) -> T {
        work()
    }

    fn on_each_cpu(&self, work: &(dyn Fn(u32) + Sync)) {
        self.0.on(0, || work(0));
    }
}

impl Driver {
    pub(crate) fn new(
        rig: &Rig,
        executors: &mut impl Executors,
        scope: &'static Scope,
        numbers: u64,
        fifo: bool,
    ) -> &'static Self {
        let guest = rig.guest();
        let suspend: &'static Suspend = keep(Suspend::new());
        let slots: &'static [Slot] = Vec::leak((0..64).map(|_| Slot::new()).collect());
        let vcpus: &'static [Vcpu<Guest>] = Vec::leak((0..1).map(|_| Vcpu::new()).collect());
        let frames: &'static [Frame<Guest>] = Vec::leak((0..2).map(|_| Frame::new()).collect());
        let events: &'static Events<Guest> = keep(Events::new(slots, vcpus));
        let grants = Grants::new(guest.clone(), suspend.epochs(), frames).expect("Xen tells how large it is");
        let grants: &'static Grants<Guest> = keep(grants);
        let store: &'static Store<Guest> = keep(Store::new());
        let native: &'static Native<Guest> = keep(Native::new(guest.clone(), suspend, events, grants, store));
        let driver: &'static Self = keep(Self {
            native,
            events,
            grants,
            suspend,
            guest: guest.clone(),
            executor: rig.driver(executors, "guest"),
            slots: rig.pool::<16384, 4>(executors),
            scope,
            numbers,
            fifo,
            done: AtomicU64::new(0),
            ready: ManualEvent::new(false),
            over: ManualEvent::new(false),
            news: Mutex::default(),
            ends: Mutex::default(),
            suspends: Mutex::default(),
        });
        guest.on_upcall(|vcpu, _| {
            let place = usize::try_from(vcpu).expect("there are few");
            while driver.events.upcall(place, 64) == Upcall::More {}
        });
        rig.on_suspend(|at| {
            let outcome = driver.suspend.suspend(at, &driver.guest, &Harness(&driver.guest));
            locked(&driver.suspends).push(outcome);
        });
        driver
    }

    /// How it went.
    pub(crate) fn news(&self) -> Vec<News<Error>> {
        locked(&self.news).clone()
    }

    /// How the device's life has ended, each time.
    pub(crate) fn ends(&self) -> Vec<End> {
        locked(&self.ends).clone()
    }

    /// Runs the driver's life as a task.
    pub(crate) fn spawn(&'static self) -> kexec::JoinHandle<Result<u64, Stopped>> {
        self.executor.spawn(self.slots, live, self).expect("a slot is free")
    }
}

/// From start to stop.
async fn live(at: &mut Dispatch, driver: &'static Driver) -> Result<u64, Stopped> {
    let Driver { native, executor, slots, scope, .. } = *driver;
    let config = Config {
        vcpus: &[0],
        callback: CallbackVia::Gsi(28),
        fifo: driver.fifo,
        epoch: driver.suspend.epochs().now(),
    };
    let registration = native.start(at, config).map_err(Stopped::Start)?;
    let served = executor.within(scope).spawn(slots, services, driver);
    let device = executor.within(scope).spawn(slots, device, driver);
    let spawned = served.is_ok() && device.is_ok();
    // Whoever ends this task ends the device first, and the bus after it.
    shielded(async {
        if let Ok(device) = device {
            let _ = until_cancelled(timeout(LIMIT, driver.ready.wait())).await;
            device.abort();
            let _ = device.await;
            let _ = timeout(PATIENCE, native.settled(at)).await;
        }
        driver.over.set();
        if let Ok(served) = served {
            let _ = served.await;
        }
        native.stop(at, registration).map_err(Stopped::Stop)
    })
    .await?;
    let _ = driver.grants.close(at);
    if spawned { Ok(driver.done.load(Relaxed)) } else { Err(Stopped::Closing) }
}

async fn services(at: &mut Dispatch, driver: &'static Driver) {
    shielded(select(pin!(driver.native.serve(at)), pin!(driver.over.wait()))).await;
}

async fn device(at: &mut Dispatch, driver: &'static Driver) {
    let mut echo = Echo::new(
        driver.native,
        driver.numbers,
        |done| {
            driver.done.store(done, Relaxed);
            if done == driver.numbers {
                driver.ready.set();
            }
        },
        |news| locked(&driver.news).push(news),
    );
    let end = serve(at, &driver.native, "device/echo/0", &mut echo).await;
    locked(&driver.ends).push(end);
    driver.ready.set();
}

/// A rig with an echo device.
pub(crate) fn rig(executors: &mut impl Executors, protocol: impl Protocol + 'static) -> (Rig, DeviceId) {
    let rig = Rig::new(executors, GuestConfig::default());
    let config =
        DeviceConfig { index: 0, frontend: Vec::new(), backend: Vec::new(), protocol: Box::new(protocol) };
    let device = rig.machine().toolstack().attach(rig.guest(), config);
    (rig, device)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
