//! The life of a frontend: the same for every class of device.
//!
//! Two halves of a device find each other through the store. Each has a directory there, says in `state` how far it has
//! come, and watches the other's:
//!
//! ```text
//!  frontend                              backend
//!  Initialising ───────────────────────▶ InitWait        it offers its features
//!  negotiates: rings, event channels
//!  publishes, Initialised ─────────────▶ Connected       it has mapped the rings
//!  reads what it needs to know
//!  Connected
//!      ··· requests and responses ···
//!  Closing ◀───────────────────────────▶ Closing         whoever wants to end begins
//!  Closed ─────────────────────────────▶ Closed          it has let go of the rings
//! ```
//!
//! [`serve`] goes that way, again and again, until the device goes or its driver does. Whatever happens, at whatever
//! await, it tears down what there is, and goes round or ends: the backend closes, vanishes, hangs, begins anew or
//! breaks the protocol; a driver was here before; the guest is suspended and wakes up with another backend; the
//! driver is stopped. What differs from class to class is a [`Frontend`].
//!
//! - [`Frontend`]: what a class of device adds;
//! - [`Failed`]: what it cannot go on for, and whether that is the backend's fault;
//! - [`step`](step()): what a frontend does next, by what the backend says;
//! - [`Device`]: both directories;
//! - `life`: the way.
//!
//! # A device
//!
//! A whole frontend, in a file (`examples/echo/src/frontend.rs`) and in a guest on a simulated Xen: its device is
//! there, has a thousand numbers complemented although the guest is moved to another host meanwhile, and leaves
//! nothing behind.
//!
//! ```
//! mod echo {
#![doc = include_str!("../../examples/echo/src/frontend.rs")]
//! }
//!
//! use echo::{Echo, Told};
//! use kexec::{Scope, irql::Dispatch, platform::mock::keep, sync::ManualEvent};
//! use xen_harness::{BusDriver, Player, Rig};
//! use xen_sim::{DeviceConfig, GuestConfig, Suspend, echo::Echo as Backend};
//! use xenbus::frontend;
//!
//! const NUMBERS: u64 = 1000;
//!
//! /// The driver of the device, on a bus.
//! async fn drive(at: &mut Dispatch, driver: &'static BusDriver) -> u64 {
//!     let at = &*at;
//!     let done: &ManualEvent = keep(ManualEvent::new(false));
//!     let serve = async |at: &mut Dispatch, driver: &'static BusDriver| {
//!         let mut complemented = 0;
//!         let mut echo = Echo::new(0..NUMBERS, |told| {
//!             complemented += u64::from(matches!(told, Told::Complemented(_)));
//!             if complemented == NUMBERS {
//!                 done.set();
//!             }
//!         });
//!         frontend::serve(at, &driver.bus(), "device/echo/0", &mut echo).await;
//!         complemented
//!     };
//!     let life = driver.run(at, async |_| {
//!         let device = driver.spawn(serve, driver).expect("there is room for a task");
//!         done.wait().await;
//!         // In good order: the backend is told, and lets go.
//!         device.abort();
//!         device.await.expect("it comes to its end")
//!     });
//!     life.await.expect("the bus starts and stops")
//! }
//!
//! let mut player = Player::new(1);
//! let rig = Rig::new(&mut player, GuestConfig::default());
//! let device =
//!     DeviceConfig { index: 0, frontend: vec![], backend: vec![], protocol: Box::new(Backend::new()) };
//! rig.machine().toolstack().attach(rig.guest(), device);
//! let driver = BusDriver::new(&rig, &mut player, keep(Scope::new("guest")), true);
//! let task = driver.spawn(drive, driver).expect("there is room for a task");
//!
//! // Some of the numbers are under way.
//! for _ in 0..600 {
//!     player.step(player.time() + HOUR);
//! }
//! rig.machine().toolstack().expect_suspend(rig.guest(), Suspend::Migrated);
//! rig.suspend();
//! while !task.is_finished() && player.step(player.time() + HOUR) {}
//!
//! assert_eq!(rig.guest().domain(), 2, "it has moved");
//! assert_eq!(task.try_take().expect("it has ended"), Ok(NUMBERS));
//! player.close().expect("all tasks end");
//! let audit = rig.machine().audit(rig.guest());
//! assert!(audit.is_clean(), "{audit}");
//!
//! const HOUR: std::time::Duration = std::time::Duration::from_hours(1);
//! ```
#![forbid(unsafe_code)]

mod device;
mod failed;
mod life;
mod step;

use core::{fmt, future::Future, time::Duration};

use kexec::irql::Dispatch;
use xen_abi::io::xenbus::XenbusState;

pub use self::{
    device::{Device, complain},
    failed::{Failed, Fault},
    life::{End, serve},
    step::{Backend, Phase, Step, step},
};
use crate::{
    bus::Bus,
    store::{StoreError, TransactionError, Xenstore},
};

/// What a class of device adds to the life that all have.
///
/// Its futures are dropped at any await, when the connection ends under them. What is not to be lost then belongs
/// into the frontend or into the connection, which [`disconnected`](Self::disconnected) gives back.
pub trait Frontend {
    /// What it has of Xen.
    type Bus: Bus;

    /// Rings, grants, event channels, and what both halves have agreed on: all that a connection is made of.
    type Connection;

    /// What can go wrong besides.
    type Error: Copy + fmt::Debug + fmt::Display + From<Fault>;

    /// What the frontend says when it has published its keys: `Initialised`, and then the backend connects first, as
    /// in blkif; or `Connected`, and both do at once, as in netif.
    const PUBLISHED: XenbusState = XenbusState::Initialised;

    /// Reads what the backend offers, anew for each connection, and makes what the connection needs.
    ///
    /// # Errors
    ///
    /// There is no connection to be had now, or with this backend.
    fn negotiate(
        &mut self,
        at: &Dispatch,
        bus: &Self::Bus,
        device: &Device<'_>,
    ) -> impl Future<Output = Result<Self::Connection, Failed<Self::Error>>>;

    /// Writes the keys that the backend connects by, and removes those of another connection that this one does not
    /// have. All of it is done, or nothing. It may be asked several times.
    ///
    /// # Errors
    ///
    /// The store's.
    fn publish<T: Xenstore>(
        &self,
        connection: &Self::Connection,
        at: &Dispatch,
        store: &T,
        device: &Device<'_>,
    ) -> impl Future<Output = Result<(), StoreError>>;

    /// Both are connected: reads what the backend says only now.
    ///
    /// # Errors
    ///
    /// What it says makes no sense.
    fn connected(
        &mut self,
        connection: &mut Self::Connection,
        at: &Dispatch,
        bus: &Self::Bus,
        device: &Device<'_>,
    ) -> impl Future<Output = Result<(), Failed<Self::Error>>> {
        let _ = (connection, at, bus, device);
        async { Ok(()) }
    }

    /// Moves requests and responses, for as long as the backend keeps to the protocol. If it
    /// [stays](Leave::WhenStopped), it is called again, with the same connection.
    fn run(
        &mut self,
        connection: &mut Self::Connection,
        at: &Dispatch,
        bus: &Self::Bus,
        device: &Device<'_>,
    ) -> impl Future<Output = Failed<Self::Error>>;

    /// The connection is about to be closed, in good order: takes the responses that are still to come. It has
    /// [`HANDSHAKE`] for that. If the driver is stopped meanwhile, or while the connection closes, it is called again.
    fn finish(
        &mut self,
        connection: &mut Self::Connection,
        at: &Dispatch,
        bus: &Self::Bus,
        device: &Device<'_>,
    ) -> impl Future<Output = ()> {
        let _ = (connection, at, bus, device);
        async {}
    }

    /// The connection has ended: takes it apart.
    fn disconnected(&mut self, at: &Dispatch, connection: Self::Connection, why: Why);

    /// The toolstack wants the device back, whose backend says that it is not `online` any more: whether the frontend
    /// lets go of it at once.
    fn wanted_back(&mut self) -> Leave {
        Leave::AtOnce
    }

    /// Is told how it goes: for logs.
    fn told(&mut self, news: News<Self::Error>) {
        let _ = news;
    }
}

/// When a frontend lets go of a device that is wanted back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// At once.
    AtOnce,
    /// When its task is cancelled: others are asked first, such as whoever has files open on a disk. If they do not
    /// want to, that can be [told](complain) to the toolstack.
    WhenStopped,
}

/// Why a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Both halves have closed it: the backend has let go of everything.
    Closed,
    /// The backend does not serve it any more, without a word: what it has still mapped is anybody's guess.
    Lost,
    /// The guest was suspended, and is another domain now: there is nobody who could have anything mapped.
    Suspended,
}

/// How it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News<E> {
    /// It waits for what the backend offers.
    Waits,
    /// Both are connected.
    Connected,
    /// A connection has ended.
    Disconnected(Why),
    /// It does not go on; it tries again, unless the backend is broken.
    Failed(Failure<E>),
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure<E> {
    /// The store did not answer what it was asked.
    Store(StoreError),
    /// The keys could not be published.
    Publish(TransactionError<StoreError>),
    /// The backend has not gone on for so long.
    Silent(Phase, Duration),
    /// The frontend could not go on.
    Frontend(Failed<E>),
}

impl<E> From<StoreError> for Failure<E> {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl<E> Failure<E> {
    /// Whether the backend breaks the protocol.
    #[must_use]
    pub const fn is_broken(&self) -> bool {
        matches!(self, Self::Frontend(failed) if failed.is_broken())
    }
}

/// How long a backend may take to answer with its state: it has nothing to do before but to map the rings.
pub const HANDSHAKE: Duration = Duration::from_secs(30);

impl<E: fmt::Display> fmt::Display for News<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waits => f.write_str("waits for its backend"),
            Self::Connected => f.write_str("connected"),
            Self::Disconnected(why) => write!(f, "disconnected: {why}"),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Publish(error) => write!(f, "the frontend's keys were not published: {error}"),
            Self::Silent(phase, after) => {
                write!(f, "the backend has said nothing for {after:?}, while the frontend {phase}")
            }
            Self::Frontend(failed) => failed.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for Failure<E> {}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "both halves have closed",
            Self::Lost => "the backend serves it no more",
            Self::Suspended => "the guest was suspended",
        })
    }
}
