//! A guest with a bus driver and one device, on a simulated Xen.
#![forbid(unsafe_code)]

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use echo::{Echo, Error, Told};
use kexec::{
    JoinHandle, Scope, irql::Dispatch, platform::mock::keep, sync::ManualEvent, time::timeout,
    until_cancelled,
};
use xen_harness::{BusDriver, BusError, Executors, Rig};
use xen_sim::{DeviceConfig, DeviceId, GuestConfig, Protocol};
use xenbus::frontend::{End, News, serve};

/// How long a driver waits for its device before it gives up: longer than all that it waits for in between.
pub(crate) const LIMIT: Duration = Duration::from_mins(20);

/// The driver of the device, and its bus.
pub(crate) struct Driver {
    bus: &'static BusDriver,
    /// Numbers to be complemented.
    numbers: u64,
    /// All of them were, or the device is gone.
    ready: ManualEvent,
    told: Mutex<Vec<Told>>,
    ends: Mutex<Vec<End>>,
}

impl Driver {
    pub(crate) fn new(
        rig: &Rig,
        executors: &mut impl Executors,
        scope: &'static Scope,
        numbers: u64,
        fifo: bool,
    ) -> &'static Self {
        keep(Self {
            bus: BusDriver::new(rig, executors, scope, fifo),
            numbers,
            ready: ManualEvent::new(false),
            told: Mutex::default(),
            ends: Mutex::default(),
        })
    }

    /// How it went.
    pub(crate) fn news(&self) -> Vec<News<Error>> {
        let of = |told: &Told| if let Told::News(news) = told { Some(*news) } else { None };
        locked(&self.told).iter().filter_map(of).collect()
    }

    /// How often there was a connection.
    pub(crate) fn connections(&self) -> usize {
        self.news().iter().filter(|news| matches!(news, News::Connected)).count()
    }

    /// The numbers that were complemented.
    pub(crate) fn complemented(&self) -> Vec<u64> {
        let of = |told: &Told| if let Told::Complemented(number) = told { Some(*number) } else { None };
        locked(&self.told).iter().filter_map(of).collect()
    }

    /// How the device's life has ended, each time.
    pub(crate) fn ends(&self) -> Vec<End> {
        locked(&self.ends).clone()
    }

    /// Runs the driver's life as a task, which says in the end how many numbers were complemented.
    pub(crate) fn spawn(&'static self) -> JoinHandle<Result<usize, BusError>> {
        self.bus.spawn(live, self).expect("it begins")
    }

    fn tell(&self, told: Told) {
        locked(&self.told).push(told);
        if self.complemented().len() as u64 == self.numbers {
            self.ready.set();
        }
    }
}

/// From start to stop: the device is served until it is done, or gone; or whoever ends this task ends the device
/// first, and the bus after it.
async fn live(at: &mut Dispatch, driver: &'static Driver) -> Result<usize, BusError> {
    let at = &*at;
    let work = async |_: &_| {
        let device = driver.bus.spawn(device, driver)?;
        let _ = until_cancelled(timeout(LIMIT, driver.ready.wait())).await;
        device.abort();
        let _ = device.await;
        Ok(driver.complemented().len())
    };
    driver.bus.run(at, work).await?
}

async fn device(at: &mut Dispatch, driver: &'static Driver) {
    let mut echo = Echo::new(0..driver.numbers, |told| driver.tell(told));
    let end = serve(at, &driver.bus.bus(), "device/echo/0", &mut echo).await;
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
