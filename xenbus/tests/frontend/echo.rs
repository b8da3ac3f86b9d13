//! The frontend of the smallest device there is: its backend answers each number with the number's complement.
//!
//! The backend offers `feature-echo` = 1. The frontend publishes `ring-ref`, the reference of a page with a ring of
//! [`Slot`]s, and `event-channel`.
#![forbid(unsafe_code)]

use core::{fmt, future::pending, marker::PhantomData, ops::Deref};

use kexec::irql::Dispatch;
use xen_abi::grant_table::GrantRef;
use xenbus::{
    bus::{Bus, Channel, SharedPage},
    event::{ChannelError, Disconnected, OpenError, Worked},
    frontend::{Device, Failed, Frontend, News, Why},
    grant::{Peer, Rights, ShareError},
    ring::{Front, NotPending, Overrun, Pending},
    store::{StoreError, Xenstore},
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A request, and its response.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
pub(crate) struct Slot {
    /// Which request it is.
    pub(crate) id: u64,
    /// A number; in the response, its complement.
    pub(crate) value: u64,
}

/// A driver that has so many numbers complemented, and then waits for the end.
pub(crate) struct Echo<B, F, G> {
    bus: PhantomData<B>,
    /// The number that is asked next, and that which is not asked any more.
    next: u64,
    end: u64,
    /// How many were complemented.
    done: u64,
    /// Is told of that.
    progress: F,
    /// Is told how it goes.
    news: G,
}

/// What there is of a connection.
pub(crate) struct Connection<B: Bus> {
    ring: Front<Page<B>, Slot, Slot>,
    reference: GrantRef,
    channel: B::Channel,
    pending: Pending<u64, 16>,
}

/// The ring's page.
pub(crate) struct Page<B: Bus>(B::Shared);

impl<B: Bus> Deref for Page<B> {
    type Target = <B::Shared as SharedPage>::Page;

    fn deref(&self) -> &Self::Target {
        self.0.page()
    }
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    NoEcho,
    Store(StoreError),
    Open(OpenError),
    Share(ShareError),
    Channel(ChannelError),
    Overrun(Overrun),
    NotPending(NotPending),
    Wrong { asked: u64, answered: u64 },
}

impl<B, F: FnMut(u64), G: FnMut(News<Error>)> Echo<B, F, G> {
    pub(crate) fn new(_: B, numbers: u64, progress: F, news: G) -> Self {
        Self { bus: PhantomData, next: 0, end: numbers, done: 0, progress, news }
    }
}

impl<B: Bus, F: FnMut(u64), G: FnMut(News<Error>)> Frontend for Echo<B, F, G> {
    type Bus = B;
    type Connection = Connection<B>;
    type Error = Error;

    async fn negotiate(
        &mut self,
        at: &Dispatch,
        bus: &B,
        device: &Device<'_>,
    ) -> Result<Connection<B>, Failed<Error>> {
        if bus.store().read_number::<u32>(at, device.backend("feature-echo")).await? != 1 {
            return Err(Failed::Now(Error::NoEcho));
        }
        let backend = Peer::untrusted(device.domain());
        let page = bus.share(at, backend, Rights::Write).map_err(Error::Share)?;
        let channel = bus.open(at, device.domain()).map_err(Error::Open)?;
        let reference = page.reference();
        let mut pages = heapless::Vec::new();
        pages.push(Page(page)).ok();
        let ring = Front::new(pages).expect("a page has room for 128");
        Ok(Connection { ring, reference, channel, pending: Pending::new() })
    }

    async fn publish<T: Xenstore>(
        &self,
        connection: &Connection<B>,
        at: &Dispatch,
        store: &T,
        device: &Device<'_>,
    ) -> Result<(), StoreError> {
        store.print(at, device.own("ring-ref"), connection.reference).await?;
        store.print(at, device.own("event-channel"), connection.channel.port()).await
    }

    async fn run(
        &mut self,
        connection: &mut Connection<B>,
        at: &Dispatch,
        _: &B,
        _: &Device<'_>,
    ) -> Failed<Error> {
        match self.complement(connection, at).await {
            Ok(()) => pending().await,
            Err(failed) => failed,
        }
    }

    fn disconnected(&mut self, _: &Dispatch, mut connection: Connection<B>, _: Why) {
        // What was not answered is asked again.
        self.next = connection.pending.drain().min().unwrap_or(self.next);
    }

    fn told(&mut self, news: News<Error>) {
        (self.news)(news);
    }
}

impl<B: Bus, F: FnMut(u64), G: FnMut(News<Error>)> Echo<B, F, G> {
    async fn complement(
        &mut self,
        Connection { ring, channel, pending, .. }: &mut Connection<B>,
        at: &Dispatch,
    ) -> Result<(), Failed<Error>> {
        let mut worked = Worked::Something;
        while self.next < self.end || !pending.is_empty() {
            while self.next < self.end
                && ring.free() > 0
                && let Ok(id) = pending.insert(self.next)
            {
                ring.put(at, &Slot { id, value: self.next });
                self.next += 1;
            }
            if ring.publish(at) {
                channel.notify(at).map_err(Error::Channel)?;
            }
            let before = self.done;
            while let Some(Slot { id, value }) =
                ring.take(at).map_err(Error::Overrun).map_err(Failed::Broken)?
            {
                let asked = pending.take(id).map_err(Error::NotPending).map_err(Failed::Broken)?;
                if value != !asked {
                    return Err(Failed::Broken(Error::Wrong { asked, answered: value }));
                }
                self.done += 1;
                (self.progress)(self.done);
            }
            if self.done > before {
                // There is room for more of them.
                worked = Worked::Something;
            } else if !ring.rest(at).map_err(Error::Overrun).map_err(Failed::Broken)? {
                channel
                    .next(at, worked)
                    .await
                    .map_err(|Disconnected| Error::Channel(ChannelError::Disconnected))?;
                worked = Worked::Nothing;
            }
        }
        Ok(())
    }
}

impl From<Error> for Failed<Error> {
    fn from(error: Error) -> Self {
        Self::Now(error)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEcho => f.write_str("the backend has no echo"),
            Self::Store(error) => error.fmt(f),
            Self::Open(error) => error.fmt(f),
            Self::Share(error) => error.fmt(f),
            Self::Channel(error) => error.fmt(f),
            Self::Overrun(error) => error.fmt(f),
            Self::NotPending(error) => error.fmt(f),
            Self::Wrong { asked, answered } => write!(f, "{asked:#x} was answered with {answered:#x}"),
        }
    }
}
