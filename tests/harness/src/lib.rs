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
//! - [`WithFaults`] has a scenario enumerate the machine's faults, too.

#![forbid(unsafe_code)]

mod executors;
mod faults;

mod player;
mod rig;

pub use self::{executors::Executors, faults::WithFaults, player::Player, rig::Rig};
