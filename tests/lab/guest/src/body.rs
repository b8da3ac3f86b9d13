//! What the parts of scenarios play on: this machine, and the bus on it.
#![forbid(unsafe_code)]

use core::{
    fmt,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use kexec::irql::Dispatch;
use lab_parts::Body;
use xenbus::{
    bus::Native,
    console::Console,
    epoch::Epochs,
    event::{Config, Events},
    grant::Grants,
    seam::Mapped,
    store::Store,
    suspend::{Suspend, SuspendError, Suspended},
    x86,
};

use crate::{
    cpus::{self, Game, Lost, Tallies},
    life, rendezvous, report,
    seam::Guest,
    smp::{self, MOST},
};

/// The guest, as a whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    pub(crate) guest: Guest,
    pub(crate) bus: &'static Native<Guest>,
    pub(crate) events: &'static Events<Guest>,
    pub(crate) grants: &'static Grants<Guest>,
    pub(crate) store: &'static Store<Guest>,
    pub(crate) console: &'static Console<Guest>,
    pub(crate) suspend: &'static Suspend,
    /// Upcalls of each virtual CPU.
    pub(crate) upcalls: &'static [AtomicU32; MOST],
}

impl Body for Machine {
    type Platform = Guest;
    type Processor = x86::Native;
    type Ring = Mapped;
    type Crossed = Tallies;
    type Lost = Lost;

    fn platform(&self) -> &Guest {
        &self.guest
    }

    fn processor(&self) -> &x86::Native {
        &x86::Native
    }

    fn bus(&self) -> &'static Native<Guest> {
        self.bus
    }

    fn store(&self) -> &'static Store<Guest> {
        self.store
    }

    fn epochs(&self) -> &'static Epochs {
        self.suspend.epochs()
    }

    fn events(&self) -> &'static Events<Guest> {
        self.events
    }

    fn grants(&self) -> &'static Grants<Guest> {
        self.grants
    }

    fn config(&self, fifo: bool) -> Config<'static> {
        life::config(fifo)
    }

    fn store_ring(&self, _: &Dispatch) -> Option<Mapped> {
        self.guest.store_ring()
    }

    fn upcalls(&self, place: usize) -> u32 {
        self.upcalls[place].load(Relaxed)
    }

    fn cpus(&self) -> usize {
        smp::running().len()
    }

    async fn cross_cpus(&self, rounds: u32, tick: Option<Duration>) -> Result<Tallies, Lost> {
        let Self { guest, events, .. } = *self;
        cpus::play_on_all(Game { guest, events, epochs: self.epochs(), rounds, tick }).await
    }

    async fn say(&self, at: &Dispatch, what: fmt::Arguments<'_>) {
        report::say(at, self.console, what).await;
    }

    async fn suspend(&self, at: &Dispatch) -> Result<Suspended, SuspendError> {
        rendezvous::suspended(at).await
    }
}
