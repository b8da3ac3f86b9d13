//! Event channels, as async services.
//!
//! An event channel is Xen's interrupt between domains. [`Events`] has those of this domain: its interrupt handlers
//! call [`upcall`](Events::upcall), and each event wakes the one task that waits at its [`Channel`].
//!
//! - [`Events`], [`Config`]: from start to stop, and through suspends; what is lent to it: [`Slot`], [`Vcpu`];
//! - [`Channel`]: [opened](Events::unbound), [waited for](Channel::next), [notified](Channel::notify), dropped;
//! - `fifo` and `two_level`, the two ways in which Xen tells a guest of events, `port` for both; `slot`, who is told;
//!   `vcpu`, the upcalls of a virtual CPU; `reset`, all channels closed at once.
//!
//! # Cost
//!
//! Of an event, from the interrupt to the task; with the bitmaps in brackets, where that is something else:
//!
//! | | read-modify-writes | cache lines | hypercalls |
//! |---|---|---|---|
//! | an upcall | 6 | the virtual CPU's place, its `vcpu_info`, its control block | 0 |
//! | each event of it: masked, acknowledged, told | 2 (1, and 2 for up to 64 ports) | the port's word, its slot | 0 |
//! | its task is woken | a wake's | the task | 0 |
//! | the owner asks for the next: armed | 1, and a wait's 5 | the port's word, its slot | 0 |
//! | it is there already: taken | 1, and a turn of the executor | the port's word, its slot | 0 |
//! | [`notify`](Channel::notify) | 0 | | 1 |
//!
//! An upcall takes no lock. It tells a slot by [`AutoEvent::set`](kexec::sync::AutoEvent::set): one read-modify-write,
//! which reaches the task that waits by its address. A cell that a waker is taken out of would cost the owner three
//! less and the interrupt one more; but it holds no signal for who is not waiting yet, and one waiter only.
//!
//! Source: `xen/include/public/event_channel.h`, `xen.h`; `xen/common/event_{channel,fifo,2l}.c`.
#![forbid(unsafe_code)]

mod channel;
mod error;
mod fifo;
mod life;
#[cfg(test)]
mod model;
mod port;
mod reset;
mod slot;
mod two_level;
mod vcpu;

use core::sync::atomic::{
    AtomicU32, AtomicUsize,
    Ordering::{Acquire, Relaxed},
};

use kexec::irql::Dispatch;
use xen_abi::{
    Errno,
    domid::DomId,
    event_channel::{EVTCHN_2L_NR_CHANNELS, EvtchnPort},
    shared_info::VcpuInfos,
};

pub use self::{
    channel::{Channel, ChannelCounts, Priority, Worked},
    error::{AttachError, ChannelError, Disconnected, OpenError, ResetError, StartError, StopError},
    life::Config,
    slot::Slot,
    vcpu::Vcpu,
};
use self::{
    fifo::{NoWord, Oddity},
    life::Started,
    port::Port,
    slot::{NoSlot, Slots},
    two_level::Bits,
};
use crate::{
    cell::{Lent, Loan},
    epoch::Epoch,
    hypercall::event_channel,
    page::Seam,
};

/// The event channels of this domain.
#[derive(Debug)]
pub struct Events<P: Seam> {
    slots: Slots,
    vcpus: &'static [Vcpu<P>],
    /// Places that have a virtual CPU.
    count: AtomicUsize,
    started: Lent<Started<P>>,
    epoch: AtomicU32,
    strays: AtomicU32,
    oddities: Oddities,
}

/// What became of an upcall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "there may be more to do"]
pub enum Upcall {
    /// None was due: an interrupt of a line that is shared is another device's. What had been left was worked off.
    None,
    /// All that was there has been told.
    Done,
    /// The budget is used up, and there may be more: call again, from a DPC for instance.
    More,
}

/// Who has the upcalls that a virtual CPU was to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upcalls {
    /// It has them.
    Own,
    /// Virtual CPU 0 has them: the other has no interrupt vector, or is not attached.
    OfFirst,
}

/// What upcalls have found that nobody waits for, modulo 2³².
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events of ports without a channel.
    pub strays: u32,
    /// Queues that went on with a port beyond the event array. Xen makes none.
    pub beyond: u32,
    /// Queues that went on with a port that was in none. Xen makes none.
    pub not_linked: u32,
    /// Ports whose word did not stand still. Xen makes none.
    pub restless: u32,
}

#[derive(Debug)]
struct Oddities {
    beyond: AtomicU32,
    not_linked: AtomicU32,
    restless: AtomicU32,
}

impl<P: Seam> Events<P> {
    /// Not started. Ports below the number of slots can have channels, and as many virtual CPUs as there are places can
    /// have upcalls.
    ///
    /// Xen hands out the lowest free port: a slot for each channel that there will be at a time, for the toolstack's,
    /// and for as many more as others in the domain have.
    #[must_use]
    pub const fn new(slots: &'static [Slot], vcpus: &'static [Vcpu<P>]) -> Self {
        Self {
            slots: Slots(slots),
            vcpus,
            count: AtomicUsize::new(0),
            started: Lent::new(),
            epoch: AtomicU32::new(0),
            strays: AtomicU32::new(0),
            oddities: Oddities {
                beyond: AtomicU32::new(0),
                not_linked: AtomicU32::new(0),
                restless: AtomicU32::new(0),
            },
        }
    }

    /// Works off an upcall of the virtual CPU at this place: each port that has an event is masked, acknowledged, and
    /// told of, up to so many (one at least). At [`Upcall::More`] it is to be called again.
    ///
    /// Callable at any level: by the interrupt's handler, on any processor, whatever else it interrupts. It takes no
    /// lock and makes no hypercall.
    pub fn upcall(&self, place: usize, budget: u32) -> Upcall {
        let Some(vcpu) = self.vcpus.get(place) else { return Upcall::None };
        vcpu.upcall(budget, |found| {
            let count = match found {
                Ok(port) => match self.slots.serving(port) {
                    Some(slot) => return slot.tell(),
                    None => &self.strays,
                },
                Err(Oddity::Beyond) => &self.oddities.beyond,
                Err(Oddity::NotLinked) => &self.oddities.not_linked,
                Err(Oddity::Restless) => &self.oddities.restless,
            };
            count.fetch_add(1, Relaxed);
        })
    }

    /// A new port, with which that domain can connect. See [`OpenError`].
    ///
    /// # Errors
    ///
    /// There is no channel.
    pub fn unbound(&'static self, at: &Dispatch, remote: DomId) -> Result<Channel<P>, OpenError> {
        self.open(at, |platform| event_channel::alloc_unbound(platform, remote))
    }

    /// A new port, connected with that of another domain. It has an event at once, for the other may have sent before.
    ///
    /// # Errors
    ///
    /// There is no channel: see [`OpenError`]. `EINVAL`, if that port does not wait for this domain.
    pub fn interdomain(
        &'static self,
        at: &Dispatch,
        remote: DomId,
        port: EvtchnPort,
    ) -> Result<Channel<P>, OpenError> {
        self.open(at, |platform| event_channel::bind_interdomain(platform, remote, port))
    }

    /// A new port for a virtual interrupt (`VIRQ_*`) of the virtual CPU at this place; for a global one, that is the
    /// first.
    ///
    /// # Errors
    ///
    /// There is no channel: see [`OpenError`]. `EEXIST`, if the interrupt has one.
    pub fn virq(&'static self, at: &Dispatch, virq: u32, place: usize) -> Result<Channel<P>, OpenError> {
        let vcpu = self.with_upcalls(place)?;
        self.open(at, |platform| event_channel::bind_virq(platform, virq, vcpu))
    }

    /// A new port that this domain sends to itself, with its upcalls at the virtual CPU at this place, for good.
    ///
    /// # Errors
    ///
    /// There is no channel: see [`OpenError`].
    pub fn ipi(&'static self, at: &Dispatch, place: usize) -> Result<Channel<P>, OpenError> {
        let vcpu = self.with_upcalls(place)?;
        self.open(at, |platform| event_channel::bind_ipi(platform, vcpu))
    }

    /// A port that the toolstack has made, such as the store's. It is not closed when the channel is dropped.
    ///
    /// # Errors
    ///
    /// There is no channel: see [`OpenError`].
    pub fn fixed(&'static self, at: &Dispatch, port: EvtchnPort) -> Result<Channel<P>, OpenError> {
        let started = self.started.lend().ok_or(OpenError::NotStarted)?;
        self.take(at, started, port, true)
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let Oddities { beyond, not_linked, restless } = &self.oddities;
        let [strays, beyond, not_linked, restless] =
            [&self.strays, beyond, not_linked, restless].map(|count| count.load(Relaxed));
        Counts { strays, beyond, not_linked, restless }
    }

    /// Whether Xen tells by the FIFO ABI; none, if nothing has started.
    #[must_use]
    pub fn is_fifo(&self) -> Option<bool> {
        self.started.lend().map(|started| started.is_fifo())
    }

    /// Shows somebody the page that is shared with Xen, and where the `vcpu_info` of the virtual CPU at this place
    /// is; none, if it has none.
    pub(crate) fn with_info<T>(
        &self,
        place: usize,
        show: impl FnOnce(&P::Frame, &P::Frame, VcpuInfos, usize) -> T,
    ) -> Option<T> {
        self.vcpu(place)?.with_info(self.epoch(), show)
    }

    fn open(
        &'static self,
        at: &Dispatch,
        make: impl FnOnce(&P) -> Result<EvtchnPort, Errno>,
    ) -> Result<Channel<P>, OpenError> {
        let started = self.started.lend().ok_or(OpenError::NotStarted)?;
        let platform = started.platform.clone();
        let port = make(&platform).map_err(OpenError::Xen)?;
        self.take(at, started, port, false).inspect_err(|_| {
            // There is such a port: it was made just now.
            let _ = event_channel::close(&platform, port);
        })
    }

    /// Gives a port its word and its slot.
    fn take(
        &'static self,
        at: &Dispatch,
        started: Loan<'static, Started<P>>,
        port: EvtchnPort,
        is_fixed: bool,
    ) -> Result<Channel<P>, OpenError> {
        let size = self.slots.0.len();
        started.reach(at, port)?;
        let slot = self.slots.open(port).map_err(|no_slot| match no_slot {
            NoSlot::Beyond => OpenError::BeyondTable { port, size },
            NoSlot::InUse => OpenError::InUse(port),
            NoSlot::Full => OpenError::NoSlot(size),
        })?;
        let channel = Channel::new(self, started, slot, port, is_fixed);
        channel.mask();
        Ok(channel)
    }

    /// The id of a virtual CPU that has upcalls.
    fn with_upcalls(&self, place: usize) -> Result<u32, OpenError> {
        let vcpu = self.vcpu(place).ok_or(OpenError::NoSuchPlace(place))?;
        if vcpu.delivers() { Ok(vcpu.id()) } else { Err(OpenError::NoUpcalls(place)) }
    }

    fn vcpu(&self, place: usize) -> Option<&'static Vcpu<P>> {
        self.vcpus.get(place).filter(|_| place < self.count.load(Acquire))
    }

    fn epoch(&self) -> Epoch {
        Epoch::from_number(self.epoch.load(Relaxed))
    }

    fn set_epoch(&self, epoch: Epoch) {
        self.epoch.store(epoch.to_number(), Relaxed);
    }
}

impl<P: Seam> Started<P> {
    /// Where a port is.
    fn port(&self, port: EvtchnPort) -> Option<Port<'_, P::Frame>> {
        if self.is_fifo() {
            self.array.word(port).map(Port::Fifo)
        } else {
            Bits::of(&*self.shared, port).map(Port::TwoLevel)
        }
    }

    /// Sees to it that a port is somewhere.
    fn reach(&self, at: &Dispatch, port: EvtchnPort) -> Result<(), OpenError> {
        if self.is_fifo() {
            return self.array.reach(at, &self.platform, port).map_err(|no_word| match no_word {
                NoWord::Beyond(size) => OpenError::BeyondTable { port, size },
                NoWord::NoMemory => OpenError::NoMemory(port),
                NoWord::Xen(errno) => OpenError::NoWord { port, errno },
            });
        }
        let size = EVTCHN_2L_NR_CHANNELS;
        let too_large = || OpenError::BeyondTable { port, size: usize::try_from(size).unwrap_or(usize::MAX) };
        if port.0 < size { Ok(()) } else { Err(too_large()) }
    }
}
