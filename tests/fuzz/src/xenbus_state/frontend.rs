//! The frontend of a device without requests: all that it has is a life.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
};

use kexec::irql::Dispatch;
use xen_abi::grant_table::GrantRef;
use xen_sim::Guest;
use xenbus::{
    bus::{Bus as _, Native},
    event::{Channel, Disconnected, Worked},
    frontend::{Device, Failed, Failure, Fault, Frontend, Leave, News, Phase, Why},
    grant::{Rights, Shared},
    store::{StoreError, Xenstore, optional},
};

/// How far a connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// There is none.
    #[default]
    None,
    /// It has rings and channels, and perhaps keys.
    Made,
    /// The backend is connected with it.
    Connected,
    /// It moves requests.
    Runs,
    /// The same, although the device is wanted back.
    Stays,
    /// It has taken the last responses.
    Finished,
}

/// What was told to a frontend.
#[derive(Debug, Default)]
pub(super) struct Books {
    met: Mutex<(Stage, BTreeSet<&'static str>)>,
    failures: AtomicU32,
    /// It stays when it is wanted back.
    pub(super) stays: AtomicBool,
    /// Its driver has stopped it.
    pub(super) is_stopped: AtomicBool,
}

impl Books {
    fn open(&self) -> MutexGuard<'_, (Stage, BTreeSet<&'static str>)> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stage(&self) -> Stage {
        self.open().0
    }

    /// What was met since it was asked for the last time.
    pub(super) fn take_met(&self) -> BTreeSet<&'static str> {
        std::mem::take(&mut self.open().1)
    }

    /// How often it was said that it does not go on, since it was asked for the last time, or was connected.
    pub(super) fn take_failures(&self) -> u32 {
        self.failures.swap(0, Relaxed)
    }

    pub(super) fn meet(&self, what: &'static str) {
        self.open().1.insert(what);
    }

    /// The next stage comes after one of these, and no other.
    fn go(&self, from: &[Stage], to: Stage) {
        let stage = &mut self.open().0;
        assert!(from.contains(stage), "from {stage:?} to {to:?}");
        *stage = to;
    }
}

pub(super) struct Plain(pub(super) &'static Books);

pub(super) struct Connection {
    reference: GrantRef,
    channel: Channel<Guest>,
    _page: Shared<Guest>,
}

impl Frontend for Plain {
    type Bus = &'static Native<Guest>;
    type Connection = Connection;
    type Error = Fault;

    async fn negotiate(
        &mut self,
        at: &Dispatch,
        bus: &Self::Bus,
        device: &Device<'_>,
    ) -> Result<Connection, Failed<Fault>> {
        let page = bus.share(at, device.peer(), Rights::Write)?;
        let channel = bus.open(at, device.domain())?;
        self.0.go(&[Stage::None], Stage::Made);
        Ok(Connection { reference: page.reference(), channel, _page: page })
    }

    async fn publish<T: Xenstore>(
        &self,
        connection: &Connection,
        at: &Dispatch,
        store: &T,
        device: &Device<'_>,
    ) -> Result<(), StoreError> {
        store.print(at, device.own("ring-ref"), connection.reference).await?;
        store.print(at, device.own("event-channel"), connection.channel.port()).await
    }

    async fn connected(
        &mut self,
        _: &mut Connection,
        at: &Dispatch,
        bus: &Self::Bus,
        device: &Device<'_>,
    ) -> Result<(), Failed<Fault>> {
        self.0.go(&[Stage::Made], Stage::Connected);
        let sectors = bus.store().read_number::<u64>(at, device.backend("sectors")).await;
        match optional(sectors) {
            Err(error @ StoreError::Value { .. }) => Err(Failed::Broken(error.into())),
            other => Ok(other.map(drop)?),
        }
    }

    async fn run(
        &mut self,
        Connection { channel, .. }: &mut Connection,
        at: &Dispatch,
        _: &Self::Bus,
        _: &Device<'_>,
    ) -> Failed<Fault> {
        // Who stays is asked to run again.
        let stays = self.0.stage() == Stage::Stays;
        self.0.go(&[Stage::Connected, Stage::Stays], if stays { Stage::Stays } else { Stage::Runs });
        while channel.next(at, Worked::Nothing).await.is_ok() {}
        Disconnected.into()
    }

    async fn finish(&mut self, _: &mut Connection, _: &Dispatch, _: &Self::Bus, _: &Device<'_>) {
        let is_stopped = self.0.is_stopped.load(Relaxed);
        match self.0.stage() {
            Stage::Stays if !is_stopped => self.0.meet("did not stay"),
            Stage::Finished if is_stopped => self.0.meet("stopped while it closed"),
            _ => {}
        }
        let mut from = vec![Stage::Made, Stage::Connected, Stage::Runs, Stage::Stays];
        if is_stopped {
            // Who is stopped takes what is still to come, whatever was under way.
            from.push(Stage::Finished);
        }
        self.0.go(&from, Stage::Finished);
        self.0.meet("finished");
    }

    fn disconnected(&mut self, _: &Dispatch, _: Connection, why: Why) {
        if matches!(self.0.stage(), Stage::Runs | Stage::Stays) && why == Why::Closed {
            self.0.meet("never finished");
        }
        let any = [Stage::Made, Stage::Connected, Stage::Runs, Stage::Stays, Stage::Finished];
        self.0.go(&any, Stage::None);
        self.0.meet(match why {
            Why::Closed => "closed",
            Why::Lost => "lost",
            Why::Suspended => "ended by a suspend",
        });
    }

    fn wanted_back(&mut self) -> Leave {
        if !self.0.stays.load(Relaxed) {
            return Leave::AtOnce;
        }
        // It is asked once.
        self.0.go(&[Stage::Runs], Stage::Stays);
        self.0.meet("stays");
        Leave::WhenStopped
    }

    fn told(&mut self, news: News<Fault>) {
        match news {
            News::Connected => _ = self.0.take_failures(),
            News::Failed(_) => _ = self.0.failures.fetch_add(1, Relaxed),
            News::Waits | News::Disconnected(_) => {}
        }
        self.0.meet(match news {
            News::Waits => "waits",
            News::Connected => "connected",
            News::Disconnected(_) => return,
            News::Failed(failure) if failure.is_broken() => "broken",
            News::Failed(Failure::Store(_)) => "no store",
            News::Failed(Failure::Publish(_)) => "not published",
            News::Failed(Failure::Silent(Phase::Offers, _)) => "never connected",
            News::Failed(Failure::Silent(..)) => "never closed",
            News::Failed(Failure::Frontend(_)) => "failed",
        });
    }
}
