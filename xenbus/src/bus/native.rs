//! The bus inside of the bus driver.
#![forbid(unsafe_code)]

use core::{
    fmt,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use futures_util::future::join3;
use kexec::{irql::Dispatch, time::sleep};
use xen_abi::{domid::DomId, event_channel::EvtchnPort, grant_table::GrantRef};

use super::{Bus, Channel, SharedPage};
use crate::{
    epoch::Epochs,
    event::{self, ChannelError, Config, Disconnected, Events, OpenError, StopError, Worked},
    grant::{GrantCache, Grants, Peer, Rights, ShareError, Shared},
    page::{Ram, Seam},
    store::{ConnectError, Store},
    suspend::{Captured, Full, Listener, Registration, ResumeError, Suspend},
};

/// The services of the bus, which know nothing of each other, as one.
///
/// ```text
///  start    events    store's connection    its channel (serve)
///  suspend: early     events: channels are dead, the shared page and the queues are put back; grants: the table is mapped again
///           late      events: interrupts come; store: a new connection, with the watches of before
///           then      who waits for the epoch: frontends
///  stop     store     events
/// ```
///
/// There is one in a guest, in a `static` or the memory of a device. Its tasks are [`serve`](Self::serve).
#[derive(Debug)]
pub struct Native<P: Seam> {
    platform: P,
    suspend: &'static Suspend,
    events: &'static Events<P>,
    grants: &'static Grants<P>,
    store: &'static Store<P>,
    /// The store's port in this epoch; zero, if there is no connection.
    port: AtomicU32,
}

/// Why the bus does not start. Nothing has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// Event channels.
    Events(event::StartError),
    /// Xenstore.
    Store(ConnectError),
    /// There are too many who listen for suspends.
    Listeners(Full),
}

/// How long it is waited before the store's channel is opened again.
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
        Self { platform, suspend, events, grants, store, port: AtomicU32::new(0) }
    }

    /// Starts the services. From now on, interrupts are to call [`Events::upcall`], and [`serve`](Self::serve) is to run. It ends with
    /// [`stop`](Self::stop).
    ///
    /// At `DISPATCH_LEVEL`.
    ///
    /// # Errors
    ///
    /// Nothing has started.
    pub fn start(
        &'static self,
        at: &Dispatch,
        config: Config<'_>,
    ) -> Result<Registration<'static>, StartError> {
        let registration = self.suspend.register(at, self).map_err(StartError::Listeners)?;
        self.events.start(at, self.platform.clone(), config).map_err(StartError::Events)?;
        if let Err(error) = self.connect(at) {
            // Nobody has had a channel yet.
            let _ = self.events.stop(at);
            return Err(StartError::Store(error));
        }
        Ok(registration)
    }

    /// Moves what the services move: the store's messages, and pages that others have not let go of when they were to. For ever.
    ///
    /// **Cancel-safe:** called again, it goes on where it was.
    pub async fn serve(&'static self, at: &Dispatch) {
        join3(self.store.serve(at), self.listen(at), self.grants.serve(at)).await;
    }

    /// Waits until nothing is left to be done for those who have gone: watches to be removed, transactions to be ended. It takes
    /// [`serve`](Self::serve) to do it; without a connection there is nothing to do.
    ///
    /// **Cancel-safe:** loses nothing.
    pub async fn settled(&self, at: &Dispatch) {
        self.store.settled(at).await;
    }

    /// Ends the services, after all that has used them, and [`serve`](Self::serve).
    ///
    /// At `DISPATCH_LEVEL`. It may be called again after an error.
    ///
    /// # Errors
    ///
    /// Somebody uses a channel still, or Xen refuses.
    pub fn stop(&self, at: &Dispatch, registration: Registration<'static>) -> Result<(), StopError> {
        drop(registration);
        self.store.disconnect(at);
        self.port.store(0, Relaxed);
        self.events.stop(at)
    }

    /// Tells the store of its events.
    async fn listen(&'static self, at: &Dispatch) {
        loop {
            let epoch = self.epochs().now();
            let port = EvtchnPort(self.port.load(Relaxed));
            // Without a connection there is nothing to hear, in this epoch; without a channel there may be one soon.
            if port.0 == 0 {
                self.epochs().after(at, epoch).await;
                continue;
            }
            let Ok(channel) = self.events.fixed(at, port) else {
                sleep(RETRY).await;
                continue;
            };
            // Something may have come before anybody listened.
            self.store.notify();
            while channel.wait(at).await.is_ok() {
                self.store.notify();
            }
            drop(channel);
            self.epochs().after(at, epoch).await;
        }
    }

    fn epochs(&self) -> &'static Epochs {
        self.suspend.epochs()
    }

    fn connect(&self, at: &Dispatch) -> Result<(), ConnectError> {
        self.port.store(0, Relaxed);
        let port = self.store.connect(at, &self.platform)?;
        self.port.store(port.0, Relaxed);
        Ok(())
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
        self.connect(at).map_err(ResumeError::Store)?;
        events.map_err(|_| ResumeError::Other("some virtual CPUs have no upcalls of their own"))
    }
}

impl<P: Seam> Bus for &'static Native<P> {
    type Store = Store<P>;
    type Channel = event::Channel<P>;
    type Shared = Shared<P>;

    fn store(&self) -> &Store<P> {
        self.store
    }

    fn epochs(&self) -> &Epochs {
        self.suspend.epochs()
    }

    fn open(&self, at: &Dispatch, remote: DomId) -> Result<event::Channel<P>, OpenError> {
        self.events.unbound(at, remote)
    }

    fn share(&self, at: &Dispatch, with: Peer, rights: Rights) -> Result<Shared<P>, ShareError> {
        let page = Ram::allocate(&self.platform).map_err(|_| ShareError::NoMemory)?;
        let mut cache = GrantCache::<P, 1>::new(self.grants);
        Shared::new(&mut cache, at, with, page, rights).map_err(|unshared| unshared.error)
    }
}

impl<P: Seam> Channel for event::Channel<P> {
    fn port(&self) -> EvtchnPort {
        self.port()
    }

    fn next(&self, at: &Dispatch, worked: Worked) -> impl Future<Output = Result<(), Disconnected>> {
        self.next(at, worked)
    }

    fn notify(&self, at: &Dispatch) -> Result<(), ChannelError> {
        self.notify(at)
    }

    fn bind(&self, at: &Dispatch, place: usize) -> Result<(), ChannelError> {
        self.bind(at, place).map(drop)
    }
}

impl<P: Seam> SharedPage for Shared<P> {
    type Page = P::Frame;

    fn reference(&self) -> GrantRef {
        self.reference()
    }

    fn page(&self) -> &P::Frame {
        self.page()
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Events(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Listeners(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for StartError {}
