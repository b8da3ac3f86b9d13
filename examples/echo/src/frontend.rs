//! The frontend of the smallest device there is: its backend answers each number with the number's complement.
//!
//! The backend offers `feature-echo` = 1. The frontend publishes `ring-ref`, the reference of a page with a ring of
//! [`Slot`]s, and `event-channel`.
//!
//! What is here is all that such a device adds to [the life of a frontend](xenbus::frontend). Nothing of it knows of
//! suspends, of backends that vanish, or of drivers that were here before.
#![forbid(unsafe_code)]

use core::{fmt, future::pending, marker::PhantomData, ops::Range};

use heapless::Vec;
use kexec::irql::Dispatch;
use xenbus::{
    bus::{Bus, Channel, SharedPage},
    event::Worked,
    frontend::{Device, Failed, Fault, Frontend, News, Why},
    grant::Rights,
    ring::{Front, Pending},
    store::{StoreError, Xenstore},
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A request, and its response.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
pub struct Slot {
    /// Which request it is.
    pub id: u64,
    /// A number; in the response, its complement.
    pub value: u64,
}

/// A driver that has numbers complemented, and then waits for its end.
#[derive(Debug)]
pub struct Echo<B, F> {
    numbers: Range<u64>,
    /// Those that were under way when a connection ended.
    again: Vec<u64, WINDOW>,
    tell: F,
    bus: PhantomData<B>,
}

/// As many numbers are under way at a time.
const WINDOW: usize = 16;

/// What is told of an [`Echo`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// How the device goes.
    News(News<Error>),
    /// The backend has complemented this number. Each comes once, in whatever order.
    Complemented(u64),
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// What can with any device.
    Fault(Fault),
    /// The backend's `feature-echo` is this.
    NoEcho(u32),
    /// This is no complement.
    Wrong {
        /// What was asked,
        asked: u64,
        /// and the answer.
        answered: u64,
    },
}

/// All that a connection is made of.
#[derive(Debug)]
pub struct Connection<B: Bus> {
    ring: Front<B::Shared, Slot, Slot>,
    channel: B::Channel,
    pending: Pending<u64, WINDOW>,
}

impl<B: Bus, F: FnMut(Told)> Echo<B, F> {
    /// A driver that has these numbers complemented, and tells of it.
    pub const fn new(numbers: Range<u64>, tell: F) -> Self {
        Self { numbers, again: Vec::new(), tell, bus: PhantomData }
    }

    /// Has numbers complemented, until none is left.
    async fn complement(
        &mut self,
        Connection { ring, channel, pending }: &mut Connection<B>,
        at: &Dispatch,
    ) -> Result<(), Failed<Error>> {
        let mut worked = Worked::Something;
        loop {
            while pending.len() < WINDOW
                && let Some(number) = self.again.pop().or_else(|| self.numbers.next())
            {
                let id = pending.insert(number).expect("there is room");
                ring.put(at, &Slot { id, value: number });
            }
            if pending.is_empty() {
                return Ok(());
            }
            if ring.publish(at) {
                channel.notify(at)?;
            }
            let under_way = pending.len();
            while let Some(Slot { id, value: answered }) = ring.take(at)? {
                let asked = pending.take(id)?;
                if answered != !asked {
                    return Err(Failed::Broken(Error::Wrong { asked, answered }));
                }
                (self.tell)(Told::Complemented(asked));
                worked = Worked::Something;
            }
            if pending.len() == under_way && !ring.rest(at)? {
                channel.next(at, worked).await?;
                worked = Worked::Nothing;
            }
        }
    }
}

impl<B: Bus, F: FnMut(Told)> Frontend for Echo<B, F> {
    type Bus = B;
    type Connection = Connection<B>;
    type Error = Error;

    async fn negotiate(
        &mut self,
        at: &Dispatch,
        bus: &B,
        device: &Device<'_>,
    ) -> Result<Connection<B>, Failed<Error>> {
        match bus.store().read_number(at, device.backend("feature-echo")).await? {
            1 => {}
            other => return Err(Failed::Now(Error::NoEcho(other))),
        }
        let page = bus.share(at, device.peer(), Rights::Write)?;
        Ok(Connection {
            ring: Front::new([page]).expect("a page has room for 128"),
            channel: bus.open(at, device.domain())?,
            pending: Pending::new(),
        })
    }

    async fn publish<T: Xenstore>(
        &self,
        Connection { ring, channel, .. }: &Connection<B>,
        at: &Dispatch,
        store: &T,
        device: &Device<'_>,
    ) -> Result<(), StoreError> {
        store.print(at, device.own("ring-ref"), ring.pages()[0].reference()).await?;
        store.print(at, device.own("event-channel"), channel.port()).await
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
        self.again.extend(connection.pending.drain());
    }

    fn told(&mut self, news: News<Error>) {
        (self.tell)(Told::News(news));
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::NoEcho(value) => write!(f, "feature-echo is {value} instead of 1; use another backend"),
            Self::Wrong { asked, answered } => write!(f, "{asked:#x} was answered with {answered:#x}"),
        }
    }
}
