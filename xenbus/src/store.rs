//! Xenstore: `docs/misc/xenstore.txt` and `xenstore-ring.txt`.
//!
//! A [`Store`] is the domain's connection. Its [`serve`](Store::serve) moves bytes to and from xenstored, for as long
//! as the driver runs; everything else is futures, many at the same time:
//!
//! - the nodes: [`Xenstore`], which a [transaction](Root::transaction) of the store is as well, so that whoever
//!   publishes or reads keys need not know which of the two it has;
//! - what goes beyond a single question: [`Root`].
//!
//! ```
//! use kexec::irql::Dispatch;
//! use xenbus::store::{Root, StoreError, WatchEvent, Watching, Xenstore};
//!
//! /// Waits until a backend is in some state.
//! async fn until(at: &Dispatch, store: &impl Root, backend: &str, state: u32) -> Result<(), StoreError> {
//!     let mut watch = store.watch(at, (backend, "state")).await?;
//!     loop {
//!         // The first event comes by itself, and so does one after the guest was moved to another machine.
//!         let _why: WatchEvent = watch.next().await?;
//!         if store.read_number::<u32>(at, (backend, "state")).await? == state {
//!             return Ok(());
//!         }
//!     }
//! }
//! ```
//!
//! # What holds
//!
//! - A question has a deadline: [`PATIENCE`], or [another](Root::within).
//! - A request whose future is dropped is sent to its last byte if it was begun, and its reply is thrown away: messages
//!   have no end that could be found again otherwise.
//! - What was begun is ended: a watch that is dropped is removed, a transaction that is dropped is thrown away, also
//!   one whose number was not known yet when it was dropped.
//! - Whatever xenstored does, an answer is one that was looked at, or an error that names the key and the value; the
//!   work for a message is bounded, and so is the memory.
//! - After a suspend, the guest connects again: what was on its way is [`Disconnected`](StoreError::Disconnected),
//!   transactions are gone, and watches are set again.
//! - A xenstored that has broken the protocol, or says that it has ended the connection, is asked to begin it anew,
//!   if it offers that.
//!
//! # In reading order
//!
//! - `path`, `permission`, `request`, `answer`, `error`: what is asked, and what is said;
//! - `xenstore`: the interfaces;
//! - `framing`, `ring`, `link`: the indices, the bytes in the page, the messages and the requests that wait for a
//!   reply;
//! - this file, and `client`: who waits, and for how long;
//! - `transaction`, `watch`, and `serve`, which looks after both;
//! - `crash`: another client of the same ring, when this one does not go on.
#![forbid(unsafe_code)]

mod answer;
mod client;
mod crash;
mod error;
mod framing;
mod link;
mod path;
mod permission;
mod request;
mod ring;
mod serve;
#[cfg(test)]
mod tests;
mod transaction;
mod watch;
mod xenstore;

use kexec::{
    irql::Dispatch,
    sync::{AutoEvent, ManualEvent, Semaphore, SpinLock},
};
use xen_abi::{
    event_channel::EvtchnPort,
    hvm::params::{HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN},
    io::xs_wire::MessageType,
    seam::{Gfn, NoMemory},
};

pub use self::{
    answer::{Names, Number},
    client::{PATIENCE, Within},
    crash::CrashStore,
    error::{Asked, ConnectError, Excerpt, StoreError, optional},
    framing::Framing,
    path::{Cut, PARTS, Path, Text, ToPath},
    permission::{Access, Permission},
    ring::Violation,
    transaction::{TRANSACTION_ATTEMPTS, Transaction, TransactionError},
    watch::{WATCHED, Watch, WatchEvent},
    xenstore::{LIST_ATTEMPTS, PRINTED, Root, Watching, Xenstore},
};
use self::{
    link::{Link, NotBegun, Pumped, TRANSACTIONS, Tx},
    request::Request,
    serve::Greeting,
    watch::Watches,
};
use crate::{
    hypercall::{event_channel, hvm},
    page::{Page, Seam},
};

/// A domain's connection to xenstored, with `N` requests at a time and `W` watches.
///
/// All memory that it ever needs is in it: about 4 KiB for each request, and as much for the message that is being
/// sent and for the one that is being received; about 400 bytes for each watch. It belongs into a `static`, or the
/// memory of a device.
///
/// Its methods take a lock for as long as a message is copied, and no longer: nobody who uses it waits for xenstored
/// by spinning.
#[derive(Debug)]
pub struct Store<P: Seam, const N: usize = 8, const W: usize = 32> {
    framing: Framing,
    line: SpinLock<Line<P, N, W>>,
    /// Permits for the calls of the link.
    calls: Semaphore,
    /// The one permit to begin a message: given back when it is written.
    turn: Semaphore,
    /// Permits for transactions: given back when xenstored has been told of their end.
    transactions: Semaphore,
    /// Something has moved: xenstored's event, or a message of ours.
    bell: AutoEvent,
    /// There is something to say that nobody else is there to say.
    chores: AutoEvent,
    /// The connection has become different.
    changed: ManualEvent,
    answered: [AutoEvent; N],
    noticed: [AutoEvent; W],
}

/// What is behind the lock.
#[derive(Debug)]
struct Line<P: Seam, const N: usize, const W: usize> {
    link: Link<Page<P>, N>,
    watches: Watches<W>,
    greeting: Greeting,
    to: Option<(P, EvtchnPort)>,
}

impl<P: Seam, const N: usize, const W: usize> Store<P, N, W> {
    /// Not connected.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "32 at most")]
    pub const fn new() -> Self {
        Self {
            framing: Framing::new(),
            line: SpinLock::new(Line {
                link: Link::new(),
                watches: Watches::new(),
                greeting: Greeting::Unsaid,
                to: None,
            }),
            calls: Semaphore::new(N as u32),
            turn: Semaphore::new(1),
            transactions: Semaphore::new(TRANSACTIONS as u32),
            bell: AutoEvent::new(false),
            chores: AutoEvent::new(false),
            changed: ManualEvent::new(false),
            answered: [const { AutoEvent::new(false) }; N],
            noticed: [const { AutoEvent::new(false) }; W],
        }
    }

    /// Finds the ring that the toolstack has made for this domain, and begins to use it. The port is what
    /// [`notify`](Self::notify) is to be called for.
    ///
    /// Also after the guest was suspended: then the ring is another, and what was on its way is
    /// [`Disconnected`](StoreError::Disconnected). In the same domain, a message of which a part was sent is sent to
    /// its end first.
    ///
    /// At `DISPATCH_LEVEL`.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be used. The connection is cut then.
    pub fn connect(&self, at: &Dispatch, platform: &P) -> Result<EvtchnPort, ConnectError> {
        self.disconnect(at);
        let (page, port) = find(platform)?;
        let mut line = self.line.lock(at);
        line.link.connect(&self.framing, page, None);
        line.watches.connected();
        // Xenstored may know of what this client has had before, in the same domain.
        let is_first = line.link.connection() == 1;
        line.greeting = if is_first { Greeting::Unsaid } else { Greeting::Wanted };
        line.to = Some((platform.clone(), port));
        drop(line);
        // Xenstored may have written before anybody listened.
        self.bell.set();
        self.chores.set();
        self.pulse();
        Ok(port)
    }

    /// Cuts the connection: who waits for a reply learns that there will be none. At `DISPATCH_LEVEL`.
    pub fn disconnect(&self, at: &Dispatch) {
        let mut line = self.line.lock(at);
        line.to = None;
        let (page, pumped) = line.link.disconnect(&self.framing, StoreError::Disconnected);
        line.watches.lose(StoreError::Disconnected);
        drop(line);
        drop(page);
        self.tell(pumped);
        self.notice(u64::MAX);
    }

    /// Xenstored's event has come. Callable at any level.
    pub fn notify(&self) {
        self.bell.set();
    }

    /// How many messages there were that nobody has asked for: replies to nothing, events of no watch. Xenstored may
    /// send an event of a watch that was just removed, and no others. At `DISPATCH_LEVEL`.
    pub fn strays(&self, at: &Dispatch) -> u32 {
        self.line.lock(at).link.strays()
    }

    /// Where this client is in the streams of bytes, for a [`CrashStore`]. Callable at any level, by anyone, at any
    /// time.
    pub fn framing(&self) -> &Framing {
        &self.framing
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
        give_back(&self.transactions, pumped.over);
        if pumped.orphaned || pumped.renewed {
            self.chores.set();
        }
        if pumped.changed || pumped.freed != 0 {
            self.pulse();
        }
    }

    /// Whoever waits for the connection to be different looks again.
    fn pulse(&self) {
        self.changed.set();
        self.changed.reset();
    }

    /// The owners of these watches look again.
    fn notice(&self, watches: u64) {
        for (number, noticed) in self.noticed.iter().enumerate() {
            if watches & (1 << (number % 64)) != 0 {
                noticed.set();
            }
        }
    }
}

impl<P: Seam, const N: usize, const W: usize> Line<P, N, W> {
    /// See [`Link::begin`].
    fn begin(&mut self, framing: &Framing, request: &Request<'_>, tx: Tx) -> Result<usize, NotBegun> {
        let needs_greeting = request.kind == MessageType::TransactionStart && self.greeting != Greeting::Said;
        if needs_greeting && self.link.is_up() {
            self.greeting = Greeting::Wanted;
            return Err(NotBegun::Ungreeted);
        }
        self.link.begin(framing, request, tx)
    }

    fn add_watch(&mut self, path: Path<'_>) -> Result<usize, StoreError> {
        self.link.down()?;
        self.watches.add(path)
    }

    /// Moves bytes, and says which watches have news, and whom to tell that bytes have moved.
    fn pump(&mut self, framing: &Framing) -> (Pumped, u64, Option<(P, EvtchnPort)>) {
        let Self { link, watches, .. } = self;
        let mut fired = 0;
        let pumped = link.pump(framing, |event| {
            let watch = watches.event(event);
            fired |= watch.map_or(0, |number| 1 << (number % 64));
            watch.is_some()
        });
        if let Some(why) = pumped.lost {
            watches.lose(why);
            fired = u64::MAX;
        }
        (pumped, fired, self.to.clone().filter(|_| pumped.moved))
    }
}

/// The ring that the toolstack has made for this domain, and its port.
fn find<P: Seam>(platform: &P) -> Result<(Page<P>, EvtchnPort), ConnectError> {
    let gfn = hvm::get_param(platform, HVM_PARAM_STORE_PFN).map_err(ConnectError::Xen)?;
    let port = hvm::get_param(platform, HVM_PARAM_STORE_EVTCHN).map_err(ConnectError::Xen)?;
    let there = u32::try_from(port).ok().filter(|port| *port != 0 && gfn != 0);
    let there = there.ok_or(ConnectError::NoStore { gfn, port })?;
    let page = Page::of_the_toolstack(platform, Gfn(gfn)).map_err(|NoMemory| ConnectError::NoMemory)?;
    Ok((page, EvtchnPort(there)))
}

/// Tells xenstored that bytes have moved.
fn ring<P: Seam>(platform: &P, port: EvtchnPort) {
    // Xenstored looks by itself, or never again: there is nobody to tell if this fails.
    let _ = event_channel::send(platform, port);
}

/// Gives back what was forgotten.
fn give_back(semaphore: &Semaphore, permits: u32) {
    let given = semaphore.release(permits);
    debug_assert!(given.is_ok(), "no more are given back than were taken");
}

impl<P: Seam, const N: usize, const W: usize> Default for Store<P, N, W> {
    fn default() -> Self {
        Self::new()
    }
}
