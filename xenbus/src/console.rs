//! The guest's console: what it writes is shown by `xl console -t pv`, and what is typed there can be read.
//!
//! It is a page with two rings of bytes. Who writes into one or takes from one notifies the other end.
//!
//! - `ring`, the indices and bytes in the page;
//! - this file: who may use them, and who waits.
//!
//! ```
//! use kexec::irql::Dispatch;
//! use xenbus::{console::{Console, ConsoleError}, page::Seam};
//!
//! async fn greet<P: Seam>(at: &Dispatch, console: &Console<P>) -> Result<(), ConsoleError> {
//!     console.write_all(at, b"What is your name?\n").await?;
//!     let mut name = [0; 64];
//!     let length = console.read(at, &mut name).await?;
//!     console.write_all(at, &name[..length]).await
//! }
//! ```
//!
//! Source: `xen/include/public/io/console.h`; `docs/misc/console.txt`.
#![forbid(unsafe_code)]

mod ring;

use core::fmt;

use kexec::{
    irql::Dispatch,
    sync::{AutoEvent, Mutex, SpinGuard, SpinLock},
};
use xen_abi::{
    Errno,
    event_channel::EvtchnPort,
    hvm::params::{HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN},
    seam::{Gfn, NoMemory},
};

use self::ring::Ring;
pub use self::ring::Violation;
use crate::{
    hypercall::{event_channel, hvm},
    page::{Page, Seam},
};

/// How lines end in what is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineEnds {
    /// As they do.
    #[default]
    AsTheyAre,
    /// With a carriage return before the line feed, as terminals like it. Where there is one already, no other is
    /// added.
    CrLf,
}

/// Why nothing was written or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleError {
    /// Somebody is writing or reading just now, perhaps the one whom the caller has interrupted.
    Busy,
    /// There is no connection, or no longer the one that was waited for: it was never made, the guest was suspended, or
    /// the driver goes.
    Disconnected,
    /// The backend has broken the protocol; nothing more is written or read before the next connection.
    Violation(Violation),
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// Xen did not tell where it is.
    Xen(Errno),
    /// There is no console: the parameter that tells its port or its page says so.
    NoConsole {
        /// `HVM_PARAM_CONSOLE_PFN`
        gfn: u64,
        /// `HVM_PARAM_CONSOLE_EVTCHN`
        port: u64,
    },
    /// The page cannot be mapped.
    NoMemory,
}

/// A domain's console.
///
/// Nobody waits for a lock above `DISPATCH_LEVEL`: there is [`try_write`](Self::try_write), which says so if somebody
/// else has it.
#[derive(Debug)]
pub struct Console<P: Seam> {
    state: SpinLock<State<P>>,
    writers: Queue,
    readers: Queue,
    ends: LineEnds,
}

/// Those who wait at a ring.
#[derive(Debug)]
struct Queue {
    /// One waits for the ring, the others for him: what one writes, or reads, stays in one piece.
    turn: Mutex<()>,
    /// The backend may have moved an index, or the connection has changed.
    moved: AutoEvent,
}

#[derive(Debug)]
struct State<P: Seam> {
    connection: Option<Connection<P>>,
    /// How many there have been.
    connections: u64,
}

#[derive(Debug)]
struct Connection<P: Seam> {
    ring: Ring<Page<P>>,
    platform: P,
    port: EvtchnPort,
    violation: Option<Violation>,
}

impl<P: Seam> Console<P> {
    /// Not connected.
    #[must_use]
    pub const fn new(ends: LineEnds) -> Self {
        Self {
            state: SpinLock::new(State { connection: None, connections: 0 }),
            writers: Queue::new(),
            readers: Queue::new(),
            ends,
        }
    }

    /// Finds the console that the toolstack has made for this domain, and begins to use it. The port is what
    /// [`notify`](Self::notify) is to be called for.
    ///
    /// Also after the guest was suspended: then it is another, and what waits at the one before is
    /// [`Disconnected`](ConsoleError::Disconnected). At `DISPATCH_LEVEL`, or while all CPUs are captured.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be used. The connection is cut then.
    pub fn connect(&self, at: &Dispatch, platform: &P) -> Result<EvtchnPort, ConnectError> {
        self.disconnect(at);
        let gfn = hvm::get_param(platform, HVM_PARAM_CONSOLE_PFN).map_err(ConnectError::Xen)?;
        let port = hvm::get_param(platform, HVM_PARAM_CONSOLE_EVTCHN).map_err(ConnectError::Xen)?;
        let there = u32::try_from(port).ok().filter(|port| *port != 0 && gfn != 0);
        let port = there.map(EvtchnPort).ok_or(ConnectError::NoConsole { gfn, port })?;
        let page = Page::of_the_toolstack(platform, Gfn(gfn)).map_err(|NoMemory| ConnectError::NoMemory)?;
        let connection =
            Connection { ring: Ring::new(page), platform: platform.clone(), port, violation: None };
        let mut state = self.state.lock(at);
        state.connections = state.connections.wrapping_add(1);
        state.connection = Some(connection);
        Ok(port)
    }

    /// Cuts the connection: who waits at it learns that. To be called first of all when the guest goes on as another
    /// domain: its port is somebody else's there. At `DISPATCH_LEVEL`, or while all CPUs are captured.
    pub fn disconnect(&self, at: &Dispatch) {
        let connection = self.state.lock(at).connection.take();
        drop(connection.map(|connection| connection.ring.into_page()));
        self.notify();
    }

    /// The backend's event has come. Callable at any level.
    pub fn notify(&self) {
        self.writers.moved.set();
        self.readers.moved.set();
    }

    /// Writes as many of these bytes as there is room for just now, and says how many: perhaps none, and perhaps in the
    /// middle of what [`write_all`](Self::write_all) writes. Waits for nothing; at `DISPATCH_LEVEL` or above.
    ///
    /// # Errors
    ///
    /// Nothing was written: see [`ConsoleError`].
    pub fn try_write(&self, at: &Dispatch, bytes: &[u8]) -> Result<usize, ConsoleError> {
        let state = self.state.try_lock(at).ok_or(ConsoleError::Busy)?;
        self.with(state, |ring| ring.write(bytes, self.ends))
    }

    /// Reads as many bytes as there are just now and fit, and says how many: perhaps none. Waits for nothing; at
    /// `DISPATCH_LEVEL` or above.
    ///
    /// # Errors
    ///
    /// Nothing was read: see [`ConsoleError`].
    pub fn try_read(&self, at: &Dispatch, into: &mut [u8]) -> Result<usize, ConsoleError> {
        let state = self.state.try_lock(at).ok_or(ConsoleError::Busy)?;
        self.with(state, |ring| ring.read(into))
    }

    /// Writes all of these bytes, as soon as there is room. That takes somebody who reads at the other end: whoever
    /// does not want to rely on it puts a [`timeout`](kexec::time::timeout()) around this.
    ///
    /// **Cancel-safe:** it may have written a part.
    ///
    /// # Errors
    ///
    /// [`Disconnected`](ConsoleError::Disconnected) and [`Violation`](ConsoleError::Violation): a part may have been
    /// written.
    pub async fn write_all(&self, at: &Dispatch, bytes: &[u8]) -> Result<(), ConsoleError> {
        let _turn = self.writers.turn.lock().await;
        let connections = self.state.lock(at).connections;
        let mut rest = bytes;
        loop {
            let state = self.of(at, connections)?;
            let taken = self.with(state, |ring| ring.write(rest, self.ends))?;
            rest = rest.get(taken..).unwrap_or(&[]);
            if rest.is_empty() {
                return Ok(());
            }
            self.writers.moved.wait().await;
        }
    }

    /// Reads what there is and fits, as soon as there is something, and says how many bytes. They come in any pieces.
    ///
    /// **Cancel-safe:** nothing is lost.
    ///
    /// # Errors
    ///
    /// [`Disconnected`](ConsoleError::Disconnected) and [`Violation`](ConsoleError::Violation): nothing was read.
    pub async fn read(&self, at: &Dispatch, into: &mut [u8]) -> Result<usize, ConsoleError> {
        let _turn = self.readers.turn.lock().await;
        let connections = self.state.lock(at).connections;
        loop {
            let state = self.of(at, connections)?;
            let read = self.with(state, |ring| ring.read(into))?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            self.readers.moved.wait().await;
        }
    }

    /// The state, if no other connection was made since there were so many.
    fn of<'s>(&'s self, at: &'s Dispatch, connections: u64) -> Result<SpinGuard<'s, State<P>>, ConsoleError> {
        let state = self.state.lock(at);
        if state.connections == connections { Ok(state) } else { Err(ConsoleError::Disconnected) }
    }

    /// Does something with the ring, and tells those whom it concerns.
    fn with(
        &self,
        mut state: SpinGuard<'_, State<P>>,
        work: impl FnOnce(&mut Ring<Page<P>>) -> Result<usize, Violation>,
    ) -> Result<usize, ConsoleError> {
        let connection = state.connection.as_mut().ok_or(ConsoleError::Disconnected)?;
        if let Some(violation) = connection.violation {
            return Err(ConsoleError::Violation(violation));
        }
        let outcome = work(&mut connection.ring);
        connection.violation = outcome.err();
        let to = outcome.is_ok_and(|bytes| bytes > 0).then(|| (connection.platform.clone(), connection.port));
        drop(state);
        if let Some((platform, port)) = to {
            // The backend looks by itself, or never again: there is nobody to tell if this fails.
            let _ = event_channel::send(&platform, port);
        }
        outcome.map_err(|violation| {
            self.notify();
            ConsoleError::Violation(violation)
        })
    }
}

impl Queue {
    const fn new() -> Self {
        Self { turn: Mutex::new(()), moved: AutoEvent::new(false) }
    }
}

impl fmt::Display for ConsoleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("somebody else is at the console just now; ask again"),
            Self::Disconnected => {
                f.write_str("there is no connection to the console; ask again after the next connect")
            }
            Self::Violation(violation) => {
                write!(f, "{violation}; the connection is broken until the next connect")
            }
        }
    }
}

impl core::error::Error for ConsoleError {}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xen(errno) => write!(f, "Xen did not tell where the console is: {errno}"),
            Self::NoConsole { gfn, port } => {
                write!(f, "the toolstack has given this domain no console: page {gfn:#x}, port {port}")
            }
            Self::NoMemory => write!(f, "the page of the console cannot be mapped: {NoMemory}"),
        }
    }
}

impl core::error::Error for ConnectError {}
