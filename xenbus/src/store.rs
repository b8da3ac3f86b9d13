//! Xenstore: `docs/misc/xenstore.txt` and `xenstore-ring.txt`.
//!
//! A [`Store`] is the domain's connection. Its [`serve`](Store::serve) moves bytes to and from xenstored, for as long
//! as the driver runs; requests are futures, many at the same time, each of which gets the reply that has its number,
//! in whatever order and pieces replies come.
//!
//! A request whose future is dropped is sent to its last byte if it was begun, and its reply is thrown away: messages
//! have no end that could be found again otherwise.
//!
//! - `ring`, the indices and bytes in the page;
//! - `link`, messages and the requests that wait for a reply;
//! - this file: who waits, and for how long.
#![forbid(unsafe_code)]

mod link;
mod ring;
#[cfg(test)]
mod tests;

use core::{fmt, time::Duration};

use kexec::{
    irql::Dispatch,
    sync::{AutoEvent, Semaphore, SpinLock},
    time::timeout,
    yield_now,
};
use xen_abi::{
    Errno,
    event_channel::EvtchnPort,
    hvm::params::{HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN},
    io::xs_wire::{MessageType, XENSTORE_ABS_PATH_MAX, XENSTORE_REL_PATH_MAX, XsError},
    seam::{Gfn, NoMemory},
};

use self::link::{Link, Pumped};
pub use self::ring::Violation;
use crate::{
    hypercall::{event_channel, hvm},
    page::{Page, Seam},
};

/// How long a request waits for its turn and its reply, if nothing else is said.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// Xenstored refused it.
    Refused(XsError),
    /// Xenstored refused it, and says why in words of its own.
    Unknown,
    /// There is no connection: it was never made, the guest was suspended, or the driver goes.
    Disconnected,
    /// Xenstored has broken the protocol; nothing more is asked before the next connection.
    Violation(Violation),
    /// The reply is one to something else.
    Type {
        /// What was asked.
        asked: MessageType,
        /// The type of the reply.
        answered: u32,
    },
    /// No reply came for so long.
    TimedOut(Duration),
    /// The path is empty, has a nul, or is longer than paths may be: so many bytes.
    Path(usize),
    /// The request has so many bytes, and 4096 are the most.
    TooLong(usize),
    /// The value has so many bytes, which is more than there is room for.
    NoRoom(usize),
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// Xen did not tell where it is.
    Xen(Errno),
    /// There is no xenstore: the parameter that tells its port or its page says so little.
    NoStore {
        /// `HVM_PARAM_STORE_PFN`
        gfn: u64,
        /// `HVM_PARAM_STORE_EVTCHN`
        port: u64,
    },
    /// The page cannot be mapped.
    NoMemory,
}

/// A domain's connection to xenstored, with `N` requests at a time.
///
/// It has the room for their replies in itself, about 4 KiB each: it belongs into a `static`, or the memory of a
/// device.
#[derive(Debug)]
pub struct Store<P: Seam, const N: usize = 8> {
    link: SpinLock<Connection<P, N>>,
    /// Permits for the calls of the link.
    calls: Semaphore,
    /// The one permit to begin a message: given back when it is written.
    turn: Semaphore,
    /// Something has moved: xenstored's event, or a message of ours.
    bell: AutoEvent,
    answered: [AutoEvent; N],
}

#[derive(Debug)]
struct Connection<P: Seam, const N: usize> {
    link: Link<Page<P>, N>,
    to: Option<(P, EvtchnPort)>,
}

impl<P: Seam, const N: usize> Store<P, N> {
    /// Not connected.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "32 at most")]
    pub const fn new() -> Self {
        Self {
            link: SpinLock::new(Connection { link: Link::new(), to: None }),
            calls: Semaphore::new(N as u32),
            turn: Semaphore::new(1),
            bell: AutoEvent::new(false),
            answered: [const { AutoEvent::new(false) }; N],
        }
    }

    /// Finds the ring that the toolstack has made for this domain, and begins to use it. The port is what [`notify`](Self::notify) is to be
    /// called for.
    ///
    /// Also after the guest was suspended: then the ring is another, and what was on its way is [`Disconnected`](StoreError::Disconnected).
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be used. The connection is cut then.
    pub fn connect(&self, at: &Dispatch, platform: &P) -> Result<EvtchnPort, ConnectError> {
        self.disconnect(at);
        let gfn = hvm::get_param(platform, HVM_PARAM_STORE_PFN).map_err(ConnectError::Xen)?;
        let port = hvm::get_param(platform, HVM_PARAM_STORE_EVTCHN).map_err(ConnectError::Xen)?;
        let there = u32::try_from(port).ok().filter(|port| *port != 0 && gfn != 0);
        let there = there.ok_or(ConnectError::NoStore { gfn, port })?;
        let page = Page::of_the_toolstack(platform, Gfn(gfn)).map_err(|NoMemory| ConnectError::NoMemory)?;
        let mut connection = self.link.lock(at);
        connection.link.connect(page);
        connection.to = Some((platform.clone(), EvtchnPort(there)));
        drop(connection);
        // Xenstored may have written before anybody listened.
        self.bell.set();
        Ok(EvtchnPort(there))
    }

    /// Cuts the connection: who waits for a reply learns that there will be none.
    pub fn disconnect(&self, at: &Dispatch) {
        let mut connection = self.link.lock(at);
        connection.to = None;
        let (page, pumped) = connection.link.disconnect(StoreError::Disconnected);
        drop(connection);
        drop(page);
        self.tell(pumped);
    }

    /// Xenstored's event has come. Callable at any level.
    pub fn notify(&self) {
        self.bell.set();
    }

    /// How many replies there were to nothing that is waited for. Xenstored sends none.
    pub fn strays(&self, at: &Dispatch) -> u32 {
        self.link.lock(at).link.strays()
    }

    /// Moves bytes, for ever: a task of the driver's does nothing else.
    ///
    /// **Cancel-safe:** another call goes on where this one was.
    pub async fn serve(&self, at: &Dispatch) {
        loop {
            self.bell.wait().await;
            while self.pump(at) {
                yield_now().await;
            }
        }
    }

    /// Reads the value of a node into `into`, and returns that part of it.
    ///
    /// **Cancel-safe:** nothing is lost but the answer.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] with `ENOENT`, if there is no such node, or `EACCES`; [`StoreError::NoRoom`] if the value is longer than
    /// `into`; and what happens to every request.
    pub async fn read<'b>(
        &self,
        at: &Dispatch,
        path: &str,
        into: &'b mut [u8],
    ) -> Result<&'b [u8], StoreError> {
        let path = checked(path)?;
        let copy = |value: &[u8]| {
            let room = into.get_mut(..value.len()).ok_or(StoreError::NoRoom(value.len()))?;
            room.copy_from_slice(value);
            Ok(value.len())
        };
        let length = self.ask(at, MessageType::Read, &[path, &[0]], copy).await?;
        Ok(into.get(..length).unwrap_or(&[]))
    }

    /// Asks, and does something with the answer.
    async fn ask<T>(
        &self,
        at: &Dispatch,
        kind: MessageType,
        parts: &[&[u8]],
        with: impl FnOnce(&[u8]) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        timeout(PATIENCE, self.call(at, kind, parts, with))
            .await
            .unwrap_or(Err(StoreError::TimedOut(PATIENCE)))
    }

    async fn call<T>(
        &self,
        at: &Dispatch,
        kind: MessageType,
        parts: &[&[u8]],
        with: impl FnOnce(&[u8]) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let free = self.calls.acquire(1).await.map_err(|_| StoreError::Disconnected)?;
        let turn = self.turn.acquire(1).await.map_err(|_| StoreError::Disconnected)?;
        let number = self.link.lock(at).link.begin(kind, 0, parts)?;
        // Both come back when they are due, whoever waits then: see `tell` and `Call`.
        turn.forget();
        free.forget();
        let _call = Call { store: self, at, number };
        self.bell.set();
        let Some(answered) = self.answered.get(number) else { return Err(StoreError::Disconnected) };
        loop {
            answered.wait().await;
            // It may have been set for the call before.
            if let Some(reply) = self.link.lock(at).link.reply(number) {
                return reply.and_then(with);
            }
        }
    }

    /// Moves bytes once; whether there may be more.
    fn pump(&self, at: &Dispatch) -> bool {
        let mut connection = self.link.lock(at);
        let pumped = connection.link.pump();
        let to = connection.to.clone().filter(|_| pumped.moved);
        drop(connection);
        if let Some((platform, port)) = to {
            // Xenstored looks by itself, or never again: there is nobody to tell if this fails.
            let _ = event_channel::send(&platform, port);
        }
        self.tell(pumped);
        pumped.again
    }

    /// Says to those who wait what has come.
    fn tell(&self, pumped: Pumped) {
        if pumped.written {
            give_back(&self.turn, 1);
        }
        for (number, answered) in self.answered.iter().enumerate() {
            if pumped.answered & (1 << (number % 32)) != 0 {
                answered.set();
            }
        }
        give_back(&self.calls, pumped.freed.count_ones());
    }
}

/// Gives back what was forgotten.
fn give_back(semaphore: &Semaphore, permits: u32) {
    let given = semaphore.release(permits);
    debug_assert!(given.is_ok(), "no more are given back than were taken");
}

/// A call of the link's that somebody waits for.
struct Call<'s, P: Seam, const N: usize> {
    store: &'s Store<P, N>,
    at: &'s Dispatch,
    number: usize,
}

impl<P: Seam, const N: usize> Drop for Call<'_, P, N> {
    fn drop(&mut self) {
        let is_free = self.store.link.lock(self.at).link.abandon(self.number);
        if is_free {
            give_back(&self.store.calls, 1);
        }
    }
}

/// A path as it is sent.
fn checked(path: &str) -> Result<&[u8], StoreError> {
    let most = if path.starts_with('/') { XENSTORE_ABS_PATH_MAX } else { XENSTORE_REL_PATH_MAX };
    let is_one = !path.is_empty() && path.len() <= most && !path.contains('\0');
    if is_one { Ok(path.as_bytes()) } else { Err(StoreError::Path(path.len())) }
}

impl<P: Seam, const N: usize> Default for Store<P, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "xenstored answered {error}"),
            Self::Unknown => f.write_str("xenstored answered with an error that has no name"),
            Self::Disconnected => {
                f.write_str("there is no connection to xenstored; ask again after the next connect")
            }
            Self::Violation(violation) => {
                write!(f, "{violation}; the connection is broken until the next connect")
            }
            Self::Type { asked, answered } => {
                write!(f, "{asked} was answered with a message of type {answered}")
            }
            Self::TimedOut(after) => write!(f, "xenstored did not answer for {after:?}"),
            Self::Path(bytes) => write!(
                f,
                "a path of {bytes} bytes; xenstore takes 1 to 3072 without a nul, 2048 if it is relative"
            ),
            Self::TooLong(bytes) => write!(f, "a request of {bytes} bytes; xenstore takes 4096"),
            Self::NoRoom(bytes) => write!(f, "the value has {bytes} bytes; ask again with as much room"),
        }
    }
}

impl core::error::Error for StoreError {}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xen(errno) => write!(f, "Xen did not tell where xenstore is: {errno}"),
            Self::NoStore { gfn, port } => {
                write!(f, "the toolstack has given this domain no xenstore: page {gfn:#x}, port {port}")
            }
            Self::NoMemory => write!(f, "the page of the xenstore ring cannot be mapped: {NoMemory}"),
        }
    }
}

impl core::error::Error for ConnectError {}
