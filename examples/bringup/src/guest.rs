//! The guest: what a bus driver does from its load to its end.

use std::{
    fmt,
    pin::pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use futures_util::future::{join3, select};
use kexec::{
    Executor, Scope, Table,
    irql::Dispatch,
    platform::{
        mock::{Mock, keep},
        thread::passive,
    },
};
use xen_abi::{
    event_channel::EvtchnPort,
    hvm::params::CallbackVia,
    io::xs_wire::XsError,
    sched::{SHUTDOWN_POWEROFF, SHUTDOWN_SUSPEND},
};
use xen_sim::{Guest as Platform, GuestFrame};
use xenbus::{
    Errno, NotXen, Version,
    epoch::Epochs,
    event::{Config, Events, Slot, StartError, Upcall, Vcpu},
    hypercall::sched,
    store::{ConnectError, Store, StoreError, Xenstore},
    version, x86,
};

use crate::timeline::Timeline;

/// The interrupt line by which upcalls come.
const LINE: u8 = 28;

/// What is read, by three readers at the same time.
const KEYS: [&[&str]; 3] = [
    &["name", "domid", "vm"],
    &["memory/target", "memory/static-max", "device"],
    &["control/shutdown", "control/platform-feature-xs_reset_watches", "no/such/key"],
];

/// The longest value that is expected of these.
const LONGEST: usize = 256;

/// The driver, and what it has of Xen.
pub(crate) struct Driver {
    pub(crate) platform: Platform,
    pub(crate) executor: &'static Executor<Mock>,
    pub(crate) slots: &'static Table<8192>,
    pub(crate) scope: &'static Scope,
    pub(crate) store: Store<Platform>,
    pub(crate) timeline: Timeline,
    pub(crate) events: Events<Platform>,
    epochs: Epochs,
    /// The store's port, while the driver is up.
    port: Mutex<Option<EvtchnPort>>,
    /// Questions that were asked again, because a suspend had lost the answer.
    pub(crate) repeats: AtomicU64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) version: Version,
    /// Each key, and its value; none if there is no such key.
    pub(crate) values: Vec<(&'static str, Option<String>)>,
}

/// Why the driver has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    NotXen(NotXen),
    Xen(Errno),
    Events(StartError),
    Connect(ConnectError),
    Read(&'static str, StoreError),
    Closing,
}

impl Driver {
    pub(crate) fn new(
        platform: Platform,
        executor: &'static Executor<Mock>,
        slots: &'static Table<8192>,
        scope: &'static Scope,
        timeline: Timeline,
    ) -> Self {
        let store = Store::new();
        Self {
            platform,
            executor,
            slots,
            scope,
            store,
            timeline,
            events: Events::new(keep([const { Slot::new() }; 8]), keep([Vcpu::new()])),
            epochs: Epochs::new(),
            port: Mutex::default(),
            repeats: AtomicU64::new(0),
        }
    }

    /// An interrupt: says to whoever waits for it what has come.
    pub(crate) fn upcall(&self, vcpu: u32) {
        while vcpu == 0 && self.events.upcall(0, 8) == Upcall::More {}
    }

    /// Gives back what interrupts need, when none comes any more.
    pub(crate) fn stop(&self) {
        let stopped = passive(|level| level.raised(self.executor.platform(), |at| self.events.stop(at)));
        if let Err(error) = stopped {
            self.timeline.say("guest", error);
        }
    }

    /// Suspends the guest, and goes on in what may be another domain on another machine.
    pub(crate) fn suspend(&'static self, at: &Dispatch) {
        let outcome = sched::shutdown(&self.platform, SHUTDOWN_SUSPEND);
        self.timeline.say(
            "guest",
            format_args!(
                "suspended: {}",
                match outcome {
                    Ok(false) => "and resumed in another domain",
                    Ok(true) => "cancelled, nothing has changed",
                    Err(_) => "Xen refused",
                }
            ),
        );
        // If it cannot be connected again, nobody believes that it is.
        let was_up = outcome == Ok(false) && locked(&self.port).take().is_some();
        if was_up {
            match self.plug_in_again(at) {
                Ok(port) => self.timeline.say("guest", format_args!("connected again, port {port}")),
                Err(stopped) => self.timeline.say("guest", format_args!("not connected again: {stopped}")),
            }
        }
    }

    /// Makes what a driver needs of a domain: event channels, and the connection to the store.
    fn plug_in(&'static self, at: &Dispatch) -> Result<EvtchnPort, Stopped> {
        let epoch = self.epochs.now();
        let config = Config { vcpus: &[0], callback: CallbackVia::Gsi(LINE), fifo: true, epoch };
        self.events.start(at, self.platform.clone(), config).map_err(Stopped::Events)?;
        self.connect(at)
    }

    /// Makes it again, in a domain that is new.
    fn plug_in_again(&'static self, at: &Dispatch) -> Result<EvtchnPort, Stopped> {
        let renewed = self.events.resumed(self.epochs.begin());
        renewed.and_then(|()| self.events.restart(at)).map_err(Stopped::Events)?;
        self.connect(at)
    }

    fn connect(&self, at: &Dispatch) -> Result<EvtchnPort, Stopped> {
        let port = self.store.connect(at, &self.platform).map_err(Stopped::Connect)?;
        *locked(&self.port) = Some(port);
        Ok(port)
    }

    /// Tells the store of its events, whichever port it has.
    async fn listen(&'static self, at: &Dispatch) {
        loop {
            let Some(port) = *locked(&self.port) else { return };
            let Ok(channel) = self.events.fixed(at, port) else { return };
            while channel.wait(at).await.is_ok() {
                self.store.notify();
            }
        }
    }

    async fn read_all(
        &self,
        at: &Dispatch,
        keys: &[&'static str],
    ) -> Result<Vec<(&'static str, Option<String>)>, Stopped> {
        let mut values = Vec::new();
        for &key in keys {
            let value = self.read(at, key).await?;
            match &value {
                Some(value) => self.timeline.say("guest", format_args!("{key} = `{value}`")),
                None => self.timeline.say("guest", format_args!("{key}: there is none")),
            }
            values.push((key, value));
        }
        Ok(values)
    }

    async fn read(&self, at: &Dispatch, key: &'static str) -> Result<Option<String>, Stopped> {
        let mut room = [0; LONGEST];
        loop {
            match self.store.read(at, key, &mut room).await {
                Ok(value) => return Ok(Some(String::from_utf8_lossy(value).into_owned())),
                Err(StoreError::Refused { error: XsError::ENOENT, .. }) => return Ok(None),
                // The guest was suspended, and is connected again by now: the answer was lost, not the question.
                Err(StoreError::Disconnected) if locked(&self.port).is_some() => {
                    self.repeats.fetch_add(1, Relaxed);
                    self.timeline.say("guest", format_args!("{key}: asked again"));
                }
                Err(error) => return Err(Stopped::Read(key, error)),
            }
        }
    }
}

/// The driver's life: it comes up, looks around, and switches the guest off.
pub(crate) async fn live(at: &mut Dispatch, driver: &'static Driver) -> Result<Found, Stopped> {
    // Everybody knows the maker of its processor: there is no page to be lent.
    let found = x86::Found::on(&driver.platform, || None::<GuestFrame>).map_err(Stopped::NotXen)?;
    driver.timeline.say("guest", format_args!("found {found}"));
    let version = version(&driver.platform).await.map_err(Stopped::Xen)?;
    driver.timeline.say("guest", format_args!("on Xen {version}, as domain {}", driver.platform.domain()));
    let up = Up { driver, at };
    let port = driver.plug_in(up.at)?;
    driver.timeline.say("guest", format_args!("connected to xenstore, port {port}"));
    let server = driver.executor.within(driver.scope).spawn(driver.slots, serve, driver);
    // It is being closed, if it takes no more.
    server.map_err(|_| Stopped::Closing)?.detach();
    let [one, two, three] = KEYS.map(|keys| driver.read_all(up.at, keys));
    let (one, two, three) = join3(one, two, three).await;
    let values = [one?, two?, three?].concat();
    if let Ok(close) = driver.scope.close() {
        close.await;
    }
    drop(up);
    driver.timeline.say("guest", "switches itself off");
    sched::shutdown(&driver.platform, SHUTDOWN_POWEROFF).map_err(Stopped::Xen)?;
    Ok(Found { version, values })
}

/// Moves the store's bytes.
async fn serve(at: &mut Dispatch, driver: &'static Driver) {
    select(pin!(driver.store.serve(at)), pin!(driver.listen(at))).await;
}

/// The driver is up; whatever ends that, it lets go of what is Xen's.
struct Up<'a> {
    driver: &'a Driver,
    at: &'a Dispatch,
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        *locked(&self.driver.port) = None;
        self.driver.store.disconnect(self.at);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotXen(error) => error.fmt(f),
            Self::Xen(errno) => write!(f, "Xen answered {errno}"),
            Self::Events(error) => error.fmt(f),
            Self::Connect(error) => error.fmt(f),
            Self::Read(key, error) => write!(f, "{key}: {error}"),
            Self::Closing => f.write_str("the driver is being removed"),
        }
    }
}
