//! A guest of which nobody runs but who suspends it.
#![forbid(unsafe_code)]

use kexec::irql::Dispatch;
use xen_sim::Guest;
use xenbus::suspend::Rendezvous;

/// There is nobody to be captured: the guest has one virtual CPU, and whoever calls runs on it, with nothing of the
/// guest's code on its way. A [`Rig`](crate::Rig) sees to that when it [suspends](crate::Rig::suspend) its guest.
#[derive(Debug)]
pub struct Alone<'a>(
    /// The guest.
    pub &'a Guest,
);

impl Rendezvous for Alone<'_> {
    fn hold<T>(&self, _: &Dispatch, work: impl FnOnce() -> T) -> T {
        work()
    }

    fn silence<T>(&self, _: &Dispatch, work: impl FnOnce() -> T) -> T {
        work()
    }

    fn on_each_cpu(&self, work: &(dyn Fn(u32) + Sync)) {
        self.0.on(0, || work(0));
    }
}
