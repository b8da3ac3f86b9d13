//! A channel: one end of it, as its owner has it.
//!
//! ```text
//!           arm                   event: masked, and told
//!  masked ────────▶ armed ───────────────────────────────▶ masked
//!     │                                                      ▲
//!     └── arm finds an event: taken, without an interrupt ───┘
//! ```
//!
//! The port stays masked while its owner works ("late end of interrupt"), so that whoever sends without end costs an
//! upcall for each time that the owner asks for more, and that is put off if there was nothing to do.
#![forbid(unsafe_code)]

use core::{
    fmt,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use kexec::{irql::Dispatch, time::timeout, yield_now};
use xen_abi::event_channel::{
    EvtchnPort,
    fifo::{EVTCHN_FIFO_PRIORITY_DEFAULT, EVTCHN_FIFO_PRIORITY_MAX, EVTCHN_FIFO_PRIORITY_MIN},
};

use super::{
    Events, Upcalls,
    error::{ChannelError, Disconnected},
    life::Started,
    port::{Armed, Port},
    slot::Slot,
};
use crate::{cell::Loan, epoch::Epoch, hypercall::event_channel, page::Seam};

/// One end of an event channel. Dropping it closes the port; one that the toolstack has made is only masked.
///
/// It is to be used and dropped at `DISPATCH_LEVEL`, as a task's values are: no suspend may come in between. One that
/// is of before a suspend answers [`Disconnected`], and is dropped without a word to Xen.
pub struct Channel<P: Seam> {
    events: &'static Events<P>,
    started: Loan<'static, Started<P>>,
    slot: &'static Slot,
    port: EvtchnPort,
    epoch: Epoch,
    is_fixed: bool,
}

/// What the last event has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worked {
    /// There was something to do.
    Something,
    /// There was nothing to do: the other end has sent for nothing.
    Nothing,
}

/// The queue of a channel, with the FIFO ABI: the first is looked at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priority(u32);

/// What was counted at a channel, modulo 2³².
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelCounts {
    /// Events.
    pub events: u32,
    /// Events for [`Nothing`](Worked::Nothing).
    pub fruitless: u32,
    /// How often the next event was put off for that.
    pub pauses: u32,
}

/// How long the next event is put off after the second in a row for nothing. After each further one it is twice as
/// long,
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl Priority {
    /// The first to be looked at.
    pub const HIGHEST: Self = Self(EVTCHN_FIFO_PRIORITY_MAX);
    /// That of a new channel.
    pub const DEFAULT: Self = Self(EVTCHN_FIFO_PRIORITY_DEFAULT);
    /// The last to be looked at.
    pub const LOWEST: Self = Self(EVTCHN_FIFO_PRIORITY_MIN);

    /// From 0, the highest, to 15.
    #[must_use]
    pub const fn new(priority: u32) -> Option<Self> {
        if priority <= EVTCHN_FIFO_PRIORITY_MIN { Some(Self(priority)) } else { None }
    }
}

impl<P: Seam> Channel<P> {
    pub(super) fn new(
        events: &'static Events<P>,
        started: Loan<'static, Started<P>>,
        slot: &'static Slot,
        port: EvtchnPort,
        is_fixed: bool,
    ) -> Self {
        Self { events, started, slot, port, epoch: events.epoch(), is_fixed }
    }

    /// Its number: what the other end is told in xenstore.
    #[must_use]
    pub fn port(&self) -> EvtchnPort {
        self.port
    }

    /// The epoch that it is of.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether it is of the domain that the guest is now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.slot.is_open()
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> ChannelCounts {
        let Slot { events, fruitless, pauses, .. } = self.slot;
        let count = |count: &AtomicU32| count.load(Relaxed);
        ChannelCounts { events: count(events), fruitless: count(fruitless), pauses: count(pauses) }
    }

    /// Says whether the last event has brought something, and waits for the next: what an owner calls in its loop.
    ///
    /// ```
    /// # use kexec::irql::Dispatch;
    /// # use xenbus::{event::{Channel, Disconnected, Worked}, page::Seam};
    /// # struct Ring; impl Ring { fn drain(&self, _: &Dispatch) -> u32 { 0 } }
    /// async fn serve<P: Seam>(at: &Dispatch, channel: &Channel<P>, ring: &Ring) -> Result<(), Disconnected> {
    ///     let mut worked = Worked::Something;
    ///     loop {
    ///         channel.next(at, worked).await?;
    ///         worked = if ring.drain(at) == 0 { Worked::Nothing } else { Worked::Something };
    ///     }
    /// }
    /// ```
    ///
    /// One event for nothing may be: the work was done already. After the second in a row the next is put off for a
    /// millisecond, and after each further one for twice as long as before, up to a second. An event that brings
    /// something ends that. The other end can neither see nor change it; its events wait in the page meanwhile.
    ///
    /// **Cancel-safe:** no event is lost. A pause begins anew with the next call, which says for itself what the last
    /// event has brought.
    ///
    /// # Errors
    ///
    /// The guest was suspended, and is another domain now; also if that happens while it waits.
    pub async fn next(&self, at: &Dispatch, worked: Worked) -> Result<(), Disconnected> {
        if let Some(pause) = self.pause(worked) {
            // Nothing is told meanwhile, for the port is masked, but that it is the end.
            if timeout(pause, self.slot.told.wait()).await.is_ok() {
                return self.told();
            }
        }
        self.wait(at).await
    }

    /// Waits for an event. One that has come already, or while nobody waited, is taken at once.
    ///
    /// The port is unmasked while somebody waits, and masked from the event to the next call. Of several who wait, one
    /// gets an event, and the others wait until somebody asks for the next. Nobody makes a hypercall for this, unless
    /// Xen is just at work on the port's word.
    ///
    /// **Cancel-safe:** no event is lost. If the port was unmasked it stays so, and the next call finds what has come.
    ///
    /// # Errors
    ///
    /// As for [`next`](Self::next).
    pub async fn wait(&self, _at: &Dispatch) -> Result<(), Disconnected> {
        loop {
            if self.slot.told.reset() || !self.is_connected() {
                return self.told();
            }
            match self.here()?.arm() {
                Armed::Yes => break,
                // Others come first: who sends without end is no reason not to let them.
                Armed::Pending => yield_now().await,
                Armed::Busy => {
                    // It is refused for no port that is one.
                    let _ = event_channel::unmask(&self.started.platform, self.port);
                    break;
                }
            }
            if self.is_connected() && self.here()?.take() {
                self.slot.count_event();
                return Ok(());
            }
        }
        self.slot.told.wait().await;
        self.told()
    }

    /// Makes the other end pending. Nothing happens if nobody is there.
    ///
    /// # Errors
    ///
    /// The channel is of before a suspend, or Xen refuses: a virtual interrupt has no other end (`EINVAL`).
    pub fn notify(&self, _at: &Dispatch) -> Result<(), ChannelError> {
        self.connected()?;
        event_channel::send(&self.started.platform, self.port).map_err(ChannelError::Xen)
    }

    /// Lets the virtual CPU at this place have the upcalls; virtual CPU 0, if it has none of its own. Who has them now
    /// is the answer.
    ///
    /// # Errors
    ///
    /// The channel is of before a suspend, or cannot be moved (`EINVAL`): that of an IPI, or of a virtual CPU's own
    /// interrupt.
    pub fn bind(&self, _at: &Dispatch, place: usize) -> Result<Upcalls, ChannelError> {
        self.connected()?;
        let vcpu = self.events.vcpu(place).ok_or(ChannelError::NoSuchPlace(place))?;
        let (to, upcalls) = if vcpu.delivers() { (vcpu.id(), Upcalls::Own) } else { (0, Upcalls::OfFirst) };
        event_channel::bind_vcpu(&self.started.platform, self.port, to).map_err(ChannelError::Xen)?;
        Ok(upcalls)
    }

    /// Chooses the queue of its next events.
    ///
    /// # Errors
    ///
    /// The channel is of before a suspend, or there are no queues (`ENOSYS`): the bitmaps have none.
    pub fn set_priority(&self, _at: &Dispatch, Priority(priority): Priority) -> Result<(), ChannelError> {
        self.connected()?;
        event_channel::set_priority(&self.started.platform, self.port, priority).map_err(ChannelError::Xen)
    }

    /// Masks the port, whatever there was of it before.
    pub(super) fn mask(&self) {
        if let Ok(port) = self.here() {
            port.mask();
        }
    }

    fn connected(&self) -> Result<(), Disconnected> {
        if self.is_connected() { Ok(()) } else { Err(Disconnected) }
    }

    /// Where the port is, of a channel that is connected.
    fn here(&self) -> Result<Port<'_, P::Frame>, Disconnected> {
        self.started.port(self.port).ok_or(Disconnected)
    }

    /// Something was told: an event, or the end, which is for everybody who waits.
    fn told(&self) -> Result<(), Disconnected> {
        self.connected().inspect_err(|Disconnected| self.slot.told.set())
    }

    /// How long to put the next event off.
    fn pause(&self, worked: Worked) -> Option<Duration> {
        let Slot { in_a_row, fruitless, pauses, .. } = self.slot;
        if worked == Worked::Something {
            in_a_row.store(0, Relaxed);
            return None;
        }
        fruitless.fetch_add(1, Relaxed);
        let before = in_a_row.fetch_add(1, Relaxed);
        let doublings = before.checked_sub(1)?;
        pauses.fetch_add(1, Relaxed);
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        Some(FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE))
    }
}

impl<P: Seam> Drop for Channel<P> {
    fn drop(&mut self) {
        let is_connected = self.is_connected();
        if is_connected {
            self.mask();
            self.events.slots.close(self.port);
        }
        self.slot.free();
        // After that: the next one with its number is to find its slot free.
        if is_connected && !self.is_fixed {
            // If there is no such port, so much the better.
            let _ = event_channel::close(&self.started.platform, self.port);
        }
    }
}

impl<P: Seam> fmt::Debug for Channel<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("port", &self.port)
            .field("epoch", &self.epoch)
            .field("slot", self.slot)
            .finish_non_exhaustive()
    }
}
