//! The bus driver of a rig's guest, for tests of what sits on a bus.
#![forbid(unsafe_code)]

use std::{
    fmt,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures_util::future::select;
use kexec::{
    Executor, JoinHandle, Scope, SpawnError, Table,
    irql::Dispatch,
    platform::mock::{Mock, keep},
    shielded,
    sync::ManualEvent,
    time::timeout,
    yield_now,
};
use xen_abi::hvm::params::CallbackVia;
use xen_sim::Guest;
use xenbus::{
    bus::{Native, StartError},
    console::{Console, LineEnds},
    event::{Config, Events, Slot, StopError, Upcall, Vcpu},
    grant::{Frame, Grants},
    store::{PATIENCE, Store},
    suspend::{Suspend, SuspendError, Suspended},
};

use crate::{Alone, Executors, Rig};

/// The services of `xenbus`, as a driver ties them together for its guest: interrupts reach the event channels, a
/// [suspend](Rig::suspend) of the rig's goes through all of them, and [`run`](Self::run) is from their start to their
/// stop.
///
/// The guest's upcalls come by one virtual CPU, on a line that other devices might have, too.
pub struct BusDriver {
    native: &'static Native<Guest>,
    events: &'static Events<Guest>,
    grants: &'static Grants<Guest>,
    console: &'static Console<Guest>,
    suspend: &'static Suspend,
    guest: Guest,
    fifo: bool,
    executor: &'static Executor<Mock>,
    slots: &'static Table<SLOT>,
    scope: &'static Scope,
    /// The services are not needed any more.
    over: ManualEvent,
    suspends: Mutex<Vec<Result<Suspended, SuspendError>>>,
}

/// The largest task, in bytes.
const SLOT: usize = 16384;

/// As many tasks as there can be.
const TASKS: usize = 8;

/// Why the bus has ended before its time, or not well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusError {
    /// It did not start.
    Start(StartError),
    /// It does not stop.
    Stop(StopError),
    /// There are so many tasks.
    Full(usize),
    /// Its scope takes no more tasks.
    Closing,
}

impl BusDriver {
    /// The driver of a rig's guest, on an executor `guest`, whose tasks are all in the scope: with the FIFO ABI for
    /// events, if Xen has it, or with bitmaps.
    ///
    /// # Panics
    ///
    /// There is an executor that is called `guest`.
    pub fn new(
        rig: &Rig,
        executors: &mut impl Executors,
        scope: &'static Scope,
        fifo: bool,
    ) -> &'static Self {
        let guest = rig.guest();
        let suspend: &'static Suspend = keep(Suspend::new());
        let slots: &'static [Slot] = Vec::leak((0..64).map(|_| Slot::new()).collect());
        let vcpus: &'static [Vcpu<Guest>] = Vec::leak(vec![Vcpu::new()]);
        let frames: &'static [Frame<Guest>] = Vec::leak((0..2).map(|_| Frame::new()).collect());
        let events: &'static Events<Guest> = keep(Events::new(slots, vcpus));
        let grants = Grants::new(guest.clone(), suspend.epochs(), frames).expect("Xen tells how large it is");
        let grants: &'static Grants<Guest> = keep(grants);
        let console: &'static Console<Guest> = keep(Console::new(LineEnds::CrLf));
        let native = Native::new(guest.clone(), suspend, events, grants, keep(Store::new()));
        let driver: &'static Self = keep(Self {
            native: keep(native.with_console(console)),
            events,
            grants,
            console,
            suspend,
            guest: guest.clone(),
            fifo,
            executor: rig.driver(executors, "guest"),
            slots: rig.pool::<SLOT, TASKS>(executors),
            scope,
            over: ManualEvent::new(false),
            suspends: Mutex::default(),
        });
        guest.on_upcall(|vcpu, _| {
            let place = usize::try_from(vcpu).expect("there are few");
            while driver.events.upcall(place, 64) == Upcall::More {}
        });
        rig.on_suspend(|at| {
            let outcome = driver.suspend.suspend(at, &driver.guest, &Alone(&driver.guest));
            locked(&driver.suspends).push(outcome);
        });
        driver
    }

    /// The bus.
    #[must_use]
    pub fn bus(&self) -> &'static Native<Guest> {
        self.native
    }

    /// Its event channels.
    #[must_use]
    pub fn events(&self) -> &'static Events<Guest> {
        self.events
    }

    /// Its grants.
    #[must_use]
    pub fn grants(&self) -> &'static Grants<Guest> {
        self.grants
    }

    /// The guest's console.
    #[must_use]
    pub fn console(&self) -> &'static Console<Guest> {
        self.console
    }

    /// What brings the guest up again.
    #[must_use]
    pub fn suspend(&self) -> &'static Suspend {
        self.suspend
    }

    /// What the guest's code runs on.
    #[must_use]
    pub fn executor(&self) -> &'static Executor<Mock> {
        self.executor
    }

    /// How each suspend has ended.
    #[must_use]
    pub fn suspends(&self) -> Vec<Result<Suspended, SuspendError>> {
        locked(&self.suspends).clone()
    }

    /// Spawns a task of the guest's.
    ///
    /// # Errors
    ///
    /// There are as many tasks as there can be, or the guest is coming to its end.
    pub fn spawn<A, T, F>(&'static self, task: F, argument: A) -> Result<JoinHandle<T>, BusError>
    where
        A: Send + 'static,
        T: Send + 'static,
        F: AsyncFnOnce(&mut Dispatch, A) -> T + Send + 'static,
    {
        let spawned = self.executor.within(self.scope).spawn(self.slots, task, argument);
        spawned.map_err(|refused| match refused {
            SpawnError::Full(_) => BusError::Full(TASKS),
            SpawnError::Closed(_) => BusError::Closing,
        })
    }

    /// Runs the bus for as long as the work takes, which is not cancelled with the task: it ends itself then, in order.
    /// After that it can be run again.
    ///
    /// # Errors
    ///
    /// There is no bus for it, or the bus does not stop after it.
    pub async fn run<T>(
        &'static self,
        at: &Dispatch,
        work: impl AsyncFnOnce(&'static Native<Guest>) -> T,
    ) -> Result<T, BusError> {
        let epoch = self.suspend.epochs().now();
        let config = Config { vcpus: &[0], callback: CallbackVia::Gsi(28), fifo: self.fifo, epoch };
        self.native.start(at, config).map_err(BusError::Start)?;
        self.over.reset();
        let services = self.spawn(services, self);
        shielded(async {
            let outcome = match services {
                Ok(services) => {
                    let outcome = work(self.native).await;
                    let _ = timeout(PATIENCE, self.native.settled(at)).await;
                    self.over.set();
                    let _ = services.await;
                    Ok(outcome)
                }
                Err(error) => Err(error),
            };
            loop {
                match self.native.stop(at) {
                    Ok(()) => break,
                    // It may be what this task was woken from.
                    Err(StopError::Upcall(_) | StopError::InUse) => yield_now().await,
                    Err(error) => return Err(BusError::Stop(error)),
                }
            }
            // It stays if somebody has a page of the guest's still, which the auditor tells.
            let _ = self.grants.close(at);
            outcome
        })
        .await
    }
}

async fn services(at: &mut Dispatch, driver: &'static BusDriver) {
    shielded(select(pin!(driver.native.serve(at)), pin!(driver.over.wait()))).await;
}

impl fmt::Debug for BusDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusDriver").field("guest", &self.guest).finish_non_exhaustive()
    }
}

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => error.fmt(f),
            Self::Stop(error) => error.fmt(f),
            Self::Full(tasks) => write!(f, "there are {tasks} tasks already; make room for more"),
            Self::Closing => f.write_str("the guest is coming to its end"),
        }
    }
}

impl std::error::Error for BusError {}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
