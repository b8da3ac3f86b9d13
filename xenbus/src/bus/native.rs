//! The bus inside of the bus driver.
#![forbid(unsafe_code)]

use core::{
    fmt,
    future::Future,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use futures_util::future::{join, join3};
use kexec::{irql::Dispatch, sync::SpinLock, time::sleep};
use xen_abi::{event_channel::EvtchnPort, seam::Processor};

use crate::{
    clock::{self, ClockError, SystemTime, WallTime, Zone},
    console::{self, Console},
    epoch::Epochs,
    event::{self, Config, Events, StopError},
    grant::Grants,
    page::Seam,
    store::{self, Store},
    suspend::{Captured, Full, Listener, Registration, ResumeError, Suspend},
};

/// The services of the bus, which know nothing of each other, as one.
///
/// ```text
///  start           events · the store's connection · the console's, if there is one
///  suspend: early  events: channels are dead, the shared page and the queues are put back
///                  grants: the table is mapped again
///           late   events: interrupts come
///                  the store: a new connection, with the watches of before · the console: likewise
///           then   who waits for the epoch: frontends
///  stop            the console · the store · events
/// ```
///
/// There is one in a guest, in a `static` or the memory of a device. Its task is [`serve`](Self::serve).
#[derive(Debug)]
pub struct Native<P: Seam> {
    platform: P,
    suspend: &'static Suspend,
    registration: SpinLock<Option<Registration<'static>>>,
    pub(super) events: &'static Events<P>,
    pub(super) grants: &'static Grants<P>,
    pub(super) store: &'static Store<P>,
    store_port: Port,
    console: Option<&'static Console<P>>,
    console_port: Port,
}

/// The port that a service of the toolstack's has in this epoch; zero, if there is no connection.
#[derive(Debug)]
struct Port(AtomicU32);

/// Why the bus does not start. Nothing has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// Event channels.
    Events(event::StartError),
    /// Xenstore.
    Store(store::ConnectError),
    /// The console.
    Console(console::ConnectError),
    /// There are too many who listen for suspends.
    Listeners(Full),
}

/// How long it is waited before a channel of the toolstack's is opened again.
const RETRY: Duration = Duration::from_secs(1);

impl<P: Seam> Native<P> {
    /// Not started.
    #[must_use]
    pub const fn new(
        platform: P,
        suspend: &'static Suspend,
        events: &'static Events<P>,
        grants: &'static Grants<P>,
        store: &'static Store<P>,
    ) -> Self {
        let (store_port, console_port) = (Port::none(), Port::none());
        let registration = SpinLock::new(None);
        Self {
            platform,
            suspend,
            registration,
            events,
            grants,
            store,
            store_port,
            console: None,
            console_port,
        }
    }

    /// The same, with the guest's console.
    #[must_use]
    pub fn with_console(self, console: &'static Console<P>) -> Self {
        Self { console: Some(console), ..self }
    }

    /// Starts the services. From now on, interrupts are to call [`Events::upcall`], and [`serve`](Self::serve) is to
    /// run. It ends with [`stop`](Self::stop).
    ///
    /// A guest need not have a console: that the toolstack has made none is no error.
    ///
    /// At `DISPATCH_LEVEL`.
    ///
    /// # Errors
    ///
    /// Nothing has started.
    pub fn start(&'static self, at: &Dispatch, config: Config<'_>) -> Result<(), StartError> {
        let registration = self.suspend.register(at, self).map_err(StartError::Listeners)?;
        self.events.start(at, self.platform.clone(), config).map_err(StartError::Events)?;
        let connected = self.connect_store(at).map_err(StartError::Store);
        let connected = connected.and_then(|()| self.connect_console(at).map_err(StartError::Console));
        if let Err(error) = connected {
            self.disconnect(at);
            // Nobody has had a channel yet.
            let _ = self.events.stop(at);
            return Err(error);
        }
        *self.registration.lock(at) = Some(registration);
        Ok(())
    }

    /// Moves what the services move: messages of the store, bytes of the console, and pages that others have not let go
    /// of when they were to. For ever.
    ///
    /// **Cancel-safe:** called again, it goes on where it was.
    pub async fn serve(&'static self, at: &Dispatch) {
        let store = self.listen(at, &self.store_port, || self.store.notify());
        let console = self.listen(at, &self.console_port, || {
            if let Some(console) = self.console {
                console.notify();
            }
        });
        join3(self.store.serve(at), self.grants.serve(at), join(store, console)).await;
    }

    /// Waits until nothing is left to be done for those who have gone: watches to be removed, transactions to be ended.
    /// It takes [`serve`](Self::serve) to do it; without a connection there is nothing to do.
    ///
    /// **Cancel-safe:** loses nothing.
    pub fn settled(&self, at: &Dispatch) -> impl Future<Output = ()> {
        self.store.settled(at)
    }

    /// Ends the services, after all that has used them, and [`serve`](Self::serve).
    ///
    /// At `DISPATCH_LEVEL`. It may be called again after an error.
    ///
    /// # Errors
    ///
    /// Somebody uses a channel still, or Xen refuses.
    pub fn stop(&self, at: &Dispatch) -> Result<(), StopError> {
        self.registration.lock(at).take();
        self.disconnect(at);
        self.events.stop(at)
    }

    /// The system time, on the virtual CPU at this place of the list of [`start`](Self::start), by the processor that
    /// this is called on. See [`clock`].
    ///
    /// At `DISPATCH_LEVEL` or above.
    ///
    /// # Errors
    ///
    /// There is no such clock in this epoch, or it does not settle.
    pub fn system_time(
        &self,
        at: &Dispatch,
        processor: &impl Processor,
        place: usize,
    ) -> Result<SystemTime, ClockError> {
        let time = self
            .events
            .with_info(place, |_, page, infos, index| clock::system_time(at, processor, page, infos, index));
        time.unwrap_or(Err(ClockError::NoVcpu(place)))
    }

    /// What the wall clock shows, likewise; the toolstack says whether that is UTC.
    ///
    /// At `DISPATCH_LEVEL` or above.
    ///
    /// # Errors
    ///
    /// As above, or Xen has not set the wall clock.
    pub fn wall_time(
        &self,
        at: &Dispatch,
        processor: &impl Processor,
        place: usize,
        zone: Zone,
    ) -> Result<WallTime, ClockError> {
        let time = self.events.with_info(place, |shared, page, infos, index| {
            let since_start = clock::system_time(at, processor, page, infos, index)?;
            Ok(clock::wall_clock(at, shared)?.at(since_start, zone))
        });
        time.unwrap_or(Err(ClockError::NoVcpu(place)))
    }

    pub(super) fn epochs(&self) -> &'static Epochs {
        self.suspend.epochs()
    }

    /// Tells a service of its events.
    async fn listen(&'static self, at: &Dispatch, port: &Port, notify: impl Fn()) {
        loop {
            let epoch = self.epochs().now();
            // Without a connection there is nothing to hear, in this epoch; without a channel there may be one soon.
            let Some(port) = port.get() else {
                self.epochs().after(at, epoch).await;
                continue;
            };
            let Ok(channel) = self.events.fixed(at, port) else {
                sleep(RETRY).await;
                continue;
            };
            // Something may have come before anybody listened.
            notify();
            while channel.wait(at).await.is_ok() {
                notify();
            }
            drop(channel);
            self.epochs().after(at, epoch).await;
        }
    }

    fn connect_store(&self, at: &Dispatch) -> Result<(), store::ConnectError> {
        self.store_port.set(None);
        let port = self.store.connect(at, &self.platform)?;
        self.store_port.set(Some(port));
        Ok(())
    }

    fn connect_console(&self, at: &Dispatch) -> Result<(), console::ConnectError> {
        let Some(console) = self.console else { return Ok(()) };
        self.console_port.set(None);
        match console.connect(at, &self.platform) {
            Ok(port) => self.console_port.set(Some(port)),
            Err(console::ConnectError::NoConsole { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn disconnect(&self, at: &Dispatch) {
        if let Some(console) = self.console {
            console.disconnect(at);
        }
        self.store.disconnect(at);
        self.console_port.set(None);
        self.store_port.set(None);
    }
}

impl<P: Seam> Listener for Native<P> {
    fn name(&self) -> &'static str {
        "bus"
    }

    fn early(&self, captured: &Captured<'_>) -> Result<(), ResumeError> {
        let events = self.events.resumed(self.epochs().now());
        let grants = self.grants.early(captured);
        events.map_err(|_| ResumeError::Other("event channels do not come up"))?;
        grants
    }

    fn late(&self, at: &Dispatch) -> Result<(), ResumeError> {
        let events = self.events.restart(at);
        // Each of them does without the others.
        let store = self.connect_store(at).map_err(ResumeError::Store);
        let console = self.connect_console(at).map_err(ResumeError::Console);
        store.and(console)?;
        events.map_err(|_| ResumeError::Other("some virtual CPUs have no upcalls of their own"))
    }
}

impl Port {
    const fn none() -> Self {
        Self(AtomicU32::new(0))
    }

    fn get(&self) -> Option<EvtchnPort> {
        Some(EvtchnPort(self.0.load(Relaxed))).filter(|port| port.0 != 0)
    }

    fn set(&self, port: Option<EvtchnPort>) {
        self.0.store(port.map_or(0, |port| port.0), Relaxed);
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Events(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Console(error) => error.fmt(f),
            Self::Listeners(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for StartError {}
