//! What a guest does in the scenarios of the lab: its [`Part`]s.
//!
//! They are written for no machine: a [`Body`] has one for them, on a real Xen or on a simulated one, and they see of
//! it what `xenbus` makes of a Xen. A part says what it has found, line by line, and tells the toolstack how far it
//! is; the toolstack's side of the same scenario is in `../scenarios`.
//!
//! - [`order`]: which part it is, and how it is said in xenstore;
//! - `teller`: what is found, and told;
//! - `store`: the conformance suite of xenstore, through the bus and on the ring itself;
//! - `events`, `grants`, `time`: what each of the bus's services claims; `cpus`: what crosses virtual CPUs;
//! - `traffic`: talk with xenstore and events, through whatever the toolstack does with the guest.
#![no_std]
#![forbid(unsafe_code)]
#![expect(
    clippy::large_futures,
    reason = "a task has all that it ever needs in its slot: nothing is allocated"
)]
#![expect(clippy::result_large_err, reason = "what is wrong is told in words, and there is no heap for them")]

mod cpus;
mod events;
mod grants;
pub mod order;
mod store;
mod teller;
mod time;
mod traffic;

use core::{fmt, future::Future, time::Duration};

use kexec::irql::Dispatch;
use xen_abi::seam::{Access, Processor};
use xenbus::{
    bus::Native,
    epoch::Epochs,
    event::{Config, Events},
    grant::Grants,
    page::Seam,
    store::Store,
    suspend::{SuspendError, Suspended},
};

use self::teller::Teller;
pub use self::{
    order::{Order, Part},
    teller::Tally,
};

/// A guest's machine, and the bus on it: what a part plays on.
pub trait Body {
    /// Its Xen, and its memory.
    type Platform: Seam;
    /// Its processors.
    type Processor: Processor;
    /// The page of the ring that is shared with xenstored.
    type Ring: Access;
    /// What is counted of what has crossed from one virtual CPU to another.
    type Crossed: fmt::Display;
    /// What was lost on the way.
    type Lost: fmt::Display;

    /// Its Xen, and its memory.
    fn platform(&self) -> &Self::Platform;

    /// The processor that this is called on.
    fn processor(&self) -> &Self::Processor;

    /// The bus.
    fn bus(&self) -> &'static Native<Self::Platform>;

    /// Xenstore.
    fn store(&self) -> &'static Store<Self::Platform>;

    /// Which epoch it is.
    fn epochs(&self) -> &'static Epochs;

    /// The bus's event channels.
    fn events(&self) -> &'static Events<Self::Platform>;

    /// The bus's grants.
    fn grants(&self) -> &'static Grants<Self::Platform>;

    /// How its event channels are started, with the FIFO ABI or without, for [`on_the_wire`].
    fn config(&self, fifo: bool) -> Config<'static>;

    /// The page of the ring of xenstore, for who takes the part of the bus.
    fn store_ring(&self, at: &Dispatch) -> Option<Self::Ring>;

    /// Upcalls that the virtual CPU at this place has had, modulo 2³².
    fn upcalls(&self, place: usize) -> u32;

    /// Virtual CPUs that have places.
    fn cpus(&self) -> usize;

    /// Has wake-ups and events go round all virtual CPUs, so many times, with a timer on each of them or without: then
    /// nothing ends a wait by chance. One game at a time.
    fn cross_cpus(
        &self,
        rounds: u32,
        tick: Option<Duration>,
    ) -> impl Future<Output = Result<Self::Crossed, Self::Lost>>;

    /// Says a line to whoever looks on.
    fn say(&self, at: &Dispatch, what: fmt::Arguments<'_>) -> impl Future<Output = ()>;

    /// Suspends the guest, and says what has become of it.
    fn suspend(&self, at: &Dispatch) -> impl Future<Output = Result<Suspended, SuspendError>>;
}

/// How the guest is to end after a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It switches itself off.
    PowerOff,
    /// It wants to begin anew.
    Reboot,
    /// It crashes.
    Crash,
}

/// Room for whatever is long: the suite's.
pub type Room = [u8; xenstore_suite::ROOM];

/// Plays a part while the bus runs, and is served.
///
/// [`Part::Wire`] is not played there: it is [`on_the_wire`].
pub async fn perform<B: Body>(
    at: &Dispatch,
    body: &B,
    order: &Order,
    room: &mut Room,
    tally: &mut Tally,
) -> End {
    let mut teller = Teller::new(at, body, tally);
    match order.part {
        Part::Store => store::through_the_bus(&mut teller, order, room).await,
        Part::Wire => {}
        Part::Events => events::play(&mut teller, order).await,
        Part::Grants => grants::play(&mut teller).await,
        Part::Echo => grants::echo(&mut teller).await,
        Part::Storm => grants::storm(&mut teller).await,
        Part::Cpus => cpus::play(&mut teller).await,
        Part::Time => time::play(&mut teller).await,
        Part::Traffic => return traffic::play(&mut teller).await,
        Part::Crash => return End::Crash,
    }
    End::PowerOff
}

/// Plays [`Part::Wire`], while nobody else uses the ring of xenstore: the bus does not run.
pub async fn on_the_wire<B: Body>(
    at: &Dispatch,
    body: &B,
    order: &Order,
    room: &mut Room,
    tally: &mut Tally,
) {
    store::on_the_wire(&mut Teller::new(at, body, tally), order, room).await;
}
