//! Slots: who is told of a port's events.
//!
//! ```text
//!           open                      suspend
//!   Free ─────────▶ Open(port) ─────────────────▶ Dead
//!    ▲                 │ drop                       │ drop
//!    └─────────────────┴────────────────────────────┘
//! ```
//!
//! The slots are the table of ports as well: that of a port's number says which slot serves the port. As a rule that is
//! the same one. It is another, while a channel of before a suspend has that slot still.
#![forbid(unsafe_code)]

use core::sync::atomic::{
    AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

use kexec::sync::AutoEvent;
use xen_abi::event_channel::EvtchnPort;

/// A place for a channel, and an entry of the table of ports.
///
/// An upcall touches one or two cache lines of it.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Slot {
    /// The number of the slot that serves the port of this slot's number, counted from one; zero, if there is no
    /// channel.
    server: AtomicU32,
    /// [`FREE`], [`OPEN`] or [`DEAD`].
    state: AtomicU32,
    /// See [`ChannelCounts`](super::ChannelCounts).
    pub(super) events: AtomicU32,
    pub(super) fruitless: AtomicU32,
    pub(super) pauses: AtomicU32,
    /// Fruitless events in a row.
    pub(super) in_a_row: AtomicU32,
    /// An event has come, or the channel is dead.
    pub(super) told: AutoEvent,
}

const FREE: u32 = 0;
const OPEN: u32 = 1;
const DEAD: u32 = 2;

impl Slot {
    /// A free slot.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            server: AtomicU32::new(0),
            state: AtomicU32::new(FREE),
            events: AtomicU32::new(0),
            fruitless: AtomicU32::new(0),
            pauses: AtomicU32::new(0),
            in_a_row: AtomicU32::new(0),
            told: AutoEvent::new(false),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.state.load(Acquire) == OPEN
    }

    pub(super) fn is_free(&self) -> bool {
        self.state.load(Acquire) == FREE
    }

    /// Acquire: the channel before has done with it.
    fn claim(&self) -> bool {
        let claimed = self.state.compare_exchange(FREE, OPEN, Acquire, Relaxed).is_ok();
        if claimed {
            self.told.reset();
            for count in [&self.events, &self.fruitless, &self.pauses, &self.in_a_row] {
                count.store(0, Relaxed);
            }
        }
        claimed
    }

    /// The channel lets go of it.
    pub(super) fn free(&self) {
        self.state.store(FREE, Release);
    }

    /// An event has come.
    pub(super) fn tell(&self) {
        self.count_event();
        self.told.set();
    }

    /// One more, by the upcall or by the owner: the port is masked while either is at it, so that they take turns.
    pub(super) fn count_event(&self) {
        self.events.store(self.events.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// The guest is another domain.
    fn bury(&self) {
        self.server.store(0, Relaxed);
        if self.state.compare_exchange(OPEN, DEAD, AcqRel, Relaxed).is_ok() {
            self.told.set();
        }
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::new()
    }
}

/// All slots.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slots(pub(super) &'static [Slot]);

/// Why a port has no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoSlot {
    /// It lies beyond the table.
    Beyond,
    /// It has a channel.
    InUse,
    /// Channels of before a suspend have all of them.
    Full,
}

impl Slots {
    /// Finds a slot for a port: its own, or any other.
    pub(super) fn open(self, EvtchnPort(port): EvtchnPort) -> Result<&'static Slot, NoSlot> {
        let own = usize::try_from(port).ok().and_then(|port| self.0.get(port)).ok_or(NoSlot::Beyond)?;
        let mut candidates = (port..).zip([own]).chain((0..).zip(self.0));
        let (number, slot) = candidates.find(|(_, slot)| slot.claim()).ok_or(NoSlot::Full)?;
        // Release: who finds it finds it as it was claimed.
        if own.server.compare_exchange(0, number.wrapping_add(1), Release, Relaxed).is_err() {
            slot.free();
            return Err(NoSlot::InUse);
        }
        Ok(slot)
    }

    /// Nobody is told of a port any more.
    pub(super) fn close(self, EvtchnPort(port): EvtchnPort) {
        if let Some(own) = usize::try_from(port).ok().and_then(|port| self.0.get(port)) {
            own.server.store(0, Release);
        }
    }

    /// The slot that serves a port, if there is one. It may be another port's by the time that it is used: that is told
    /// once too often.
    #[inline]
    pub(super) fn serving(self, EvtchnPort(port): EvtchnPort) -> Option<&'static Slot> {
        let server = self.0.get(usize::try_from(port).ok()?)?.server.load(Acquire);
        self.0.get(usize::try_from(server.checked_sub(1)?).ok()?)
    }

    /// The guest is another domain: nobody has a port.
    pub(super) fn bury(self) {
        self.0.iter().for_each(Slot::bury);
    }
}
