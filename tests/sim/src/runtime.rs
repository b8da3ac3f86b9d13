//! What the simulation needs to know of whoever runs the guests' code.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::machine::Actor;

/// Whoever runs the guests' code: an executor under test, or a plain loop.
///
/// The simulation starts no thread and lets no time pass. It says what [could go on](Self::ready), and is [asked](crate::Machine::step)
/// to go on; it looks at the [clock](Self::now); and in the end it asks what is [left](Self::tasks) in the guest.
///
/// No method is called while a page, a hypercall or the machine is in use, but for [`now`](Self::now), which must not use the machine.
pub trait Runtime: Send + Sync {
    /// How long the machine has been on. It never goes back.
    fn now(&self) -> Duration;

    /// Somebody of the machine has something to do: [`Machine::step`](crate::Machine::step) is to be called with it, soon, and once.
    fn ready(&self, actor: Actor);

    /// The machine's [next alarm](crate::Machine::next_alarm) has changed: [`Machine::tick`](crate::Machine::tick) is to be called when it comes. One that
    /// lets time pass only step by step can do without.
    fn alarm(&self) {}

    /// How many poll boundaries there were: places at which the guest's code was suspended and something else could happen.
    fn boundaries(&self) -> u64;

    /// The tasks of the guest that have not ended: what each is called, and where it waits.
    fn tasks(&self) -> Vec<String>;

    /// Timers that are armed.
    fn timers(&self) -> usize;
}
