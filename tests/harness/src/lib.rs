//! kexec's testing kit on a simulated Xen: whole drivers, run deterministically, with any fault at any poll boundary.
//!
//! A [`Rig`] is a [`Machine`](xen_sim::Machine) with one guest, whose code runs on executors of kexec. The machine's
//! own actors (the store, the backends, interrupts on their way) go on as tasks of a further executor, so that
//! whoever chooses which executor goes on next chooses among all of it: the kit, from a
//! [`Scenario`](kexec::testing::Scenario)'s seed, or a [`Player`].
//!
//! - [`Executors`] is where executors come from: the kit's [`Sim`](kexec::testing::Sim), or a [`Player`];
//! - [`Player`] runs a world once, as fast as it goes, and lets others look on;
//! - [`Rig`] ties a machine to them;
//! - [`BusDriver`] is the bus under the drivers of its devices;
//! - [`Alone`] is who suspends a guest of which nobody else runs;
//! - [`WithFaults`] has a scenario enumerate the machine's faults, too;
//! - [`page`] has pages for tests of what needs no machine but somebody who writes to the same bytes.
//!
//! # An example
//!
//! A driver asks Xen for its version. Whatever goes wrong, and whenever, it comes to an end and leaves nothing behind:
//!
//! ```
//! use kexec::{irql::Dispatch, testing::{Joined, Scenario}};
//! use xen_harness::{Rig, WithFaults};
//! use xen_sim::{Guest, GuestConfig};
//! use xenbus::{Errno, Version, version};
//!
//! struct World {
//!     rig: Rig,
//!     found: Joined<Result<Version, Errno>>,
//! }
//!
//! impl AsRef<Rig> for World {
//!     fn as_ref(&self) -> &Rig {
//!         &self.rig
//!     }
//! }
//!
//! async fn ask(_: &mut Dispatch, guest: Guest) -> Result<Version, Errno> {
//!     version(&guest).await
//! }
//!
//! let report = Scenario::new("version", |sim| {
//!     let rig = Rig::new(sim, GuestConfig::default());
//!     let driver = rig.driver(sim, "guest");
//!     let slots = rig.pool::<1024, 1>(sim);
//!     let asks = driver.spawn(slots, ask, rig.guest().clone()).expect("a slot is free");
//!     World { rig, found: sim.must_end("ask", asks) }
//! })
//! .machine_faults()
//! .check(|world, case| {
//!     let audit = world.rig.machine().audit(world.rig.guest());
//!     assert!(audit.is_clean(), "{audit}");
//!     if case.fault().is_none() {
//!         assert_eq!(world.found.outcome(), Some(Ok(Ok(Version { major: 4, minor: 17 }))));
//!     }
//! })
//! // What may not become less.
//! .boundaries(1)
//! .run();
//! assert!(report.to_string().contains("migrate"));
//! ```
#![deny(unsafe_code)]

mod alone;
mod bus;
mod executors;
mod faults;
pub mod page;
mod player;
mod rig;

pub use self::{
    alone::Alone,
    bus::{BusDriver, BusError},
    executors::Executors,
    faults::WithFaults,
    player::Player,
    rig::Rig,
};
