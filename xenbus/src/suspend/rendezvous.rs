//! Being the only CPU that does anything.
#![forbid(unsafe_code)]

use core::fmt;

use kexec::irql::Dispatch;

/// How all CPUs of a guest meet: a driver's, a test's.
///
/// What it promises is what listeners and frontends are written on. To break it is wrong, and not unsafe: whatever
/// they share is shared as if nobody were captured, and no page is given back by the epoch alone.
pub trait Rendezvous {
    /// Does `work` while every other CPU is captured: at `DISPATCH_LEVEL`, from where it was at a lower one, so that
    /// nobody has a [`SpinLock`](kexec::sync::SpinLock) and no task is in the middle of a poll. This CPU runs no DPC
    /// meanwhile.
    fn hold<T>(&self, at: &Dispatch, work: impl FnOnce() -> T) -> T;

    /// Does `work` while interrupts are off at every CPU, between whichever instructions they were when these were
    /// turned off. Called in the work of [`hold`](Self::hold).
    ///
    /// A CPU that waits for an answer of another's would not come to that: who cannot get them all turns them on
    /// again for a moment.
    fn silence<T>(&self, at: &Dispatch, work: impl FnOnce() -> T) -> T;

    /// Has every virtual CPU, the calling one too, do `work` with its own number, and comes back when all have.
    /// Called in the work of [`silence`](Self::silence).
    fn on_each_cpu(&self, work: &(dyn Fn(u32) + Sync));
}

/// The right to do what nobody must come in between of: all other CPUs are captured, and interrupts are off everywhere.
///
/// Only what is callable at any level may be called.
pub struct Captured<'a> {
    at: &'a Dispatch,
    on_each_cpu: &'a dyn OnEachCpu,
}

/// That part of a [`Rendezvous`] which a listener needs.
trait OnEachCpu {
    fn on_each_cpu(&self, work: &(dyn Fn(u32) + Sync));
}

impl<R: Rendezvous> OnEachCpu for R {
    fn on_each_cpu(&self, work: &(dyn Fn(u32) + Sync)) {
        Rendezvous::on_each_cpu(self, work);
    }
}

impl<'a> Captured<'a> {
    pub(super) fn new(at: &'a Dispatch, rendezvous: &'a impl Rendezvous) -> Self {
        Self { at, on_each_cpu: rendezvous }
    }

    /// The level, for locks: nobody has one. It is no leave to do what is done *up to* `DISPATCH_LEVEL`, such as to
    /// map a page.
    #[must_use]
    pub fn at(&self) -> &'a Dispatch {
        self.at
    }

    /// Has every virtual CPU do something, with its number: what Xen takes from that CPU only, as
    /// [`VcpuInfoPage::renew`](crate::page::VcpuInfoPage::renew) does.
    pub fn on_each_cpu(&self, work: impl Fn(u32) + Sync) {
        self.on_each_cpu.on_each_cpu(&work);
    }
}

impl fmt::Debug for Captured<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Captured")
    }
}
