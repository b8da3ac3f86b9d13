//! The world of a crash dump: one CPU, at `HIGH_LEVEL`; no interrupts, no DPCs, no threads, no pool.
//!
//! A driver's image is loaded a second time for it, and entered with null arguments. What runs there is an
//! executor that is polled, in a `static` of that image; its futures are those of the other worlds.
#![expect(unsafe_code, reason = "a token for the level at which a dump is written")]

use core::{fmt, time::Duration};

use kexec::{
    Cancelled, Executor, JoinHandle,
    irql::{Dispatch, Level},
    platform::polling::{Confined, Polling},
};
use nt_sys::ntddk;

/// The platform of an executor for the dump.
pub type DumpPlatform = Polling<Dispatch, Confined>;

/// A platform for a `static`.
#[must_use]
pub const fn platform() -> DumpPlatform {
    // SAFETY: an image for the kernel has no thread-locals.
    unsafe { Polling::confined() }
}

/// The CPU that writes the dump. Whoever has one is alone.
pub struct Crash {
    level: Dispatch,
}

impl Crash {
    /// # Safety
    ///
    /// The caller is the dump port's only thread of execution: no other CPU runs, and the IRQL is at least
    /// `DISPATCH_LEVEL` until the value is dropped.
    #[must_use]
    pub unsafe fn assume() -> Self {
        #[cfg(windows)]
        crate::image::identify();
        // SAFETY: passed on.
        Self { level: unsafe { Dispatch::assume() } }
    }

    /// Polls the executor until the task has ended, for about so long: so many microseconds are stalled, between
    /// runs that have their budget. A task that is always ready and never done is given up like one that waits for ever.
    ///
    /// # Errors
    ///
    /// It has not ended. The handle comes back: it may be waited for again, or dropped.
    pub fn wait<T>(
        &mut self,
        executor: &'static Executor<DumpPlatform>,
        mut task: JoinHandle<T>,
        limit: Duration,
    ) -> Result<Result<T, Cancelled>, JoinHandle<T>> {
        let mut microseconds = limit.as_micros();
        loop {
            // One run: a task that wakes itself rings for the next one, and would never let this look at the limit.
            if executor.platform().is_rung() {
                executor.try_run(&mut self.level);
            }
            task = match task.try_take() {
                Ok(outcome) => return Ok(outcome),
                Err(task) => task,
            };
            let Some(left) = microseconds.checked_sub(1) else { return Err(task) };
            microseconds = left;
            // SAFETY: callable at any level.
            unsafe { ntddk::KeStallExecutionProcessor(1) };
        }
    }
}

impl fmt::Debug for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Crash")
    }
}
