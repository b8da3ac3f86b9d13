//! The world of a crash dump: one CPU, at `HIGH_LEVEL`; no interrupts, no DPCs, no threads, no pool.
//!
//! A driver's image is loaded a second time for it, and entered with null arguments. What runs there is an
//! executor that is polled, in a `static` of that image; its futures are those of the other worlds.
#![expect(unsafe_code, reason = "a token for the level at which a dump is written")]

use core::{fmt, time::Duration};

use kexec::{
    Cancelled, Executor, JoinHandle,
    crash::Patience,
    irql::{Dispatch, Level},
    platform::polling::{Confined, Polling},
};
use nt_sys::ntddk;

use crate::clock;

/// The platform of an executor for the dump.
pub type DumpPlatform = Polling<Dispatch, Confined>;

/// A platform for a `static`, with the performance counter for its clock.
#[must_use]
pub const fn platform() -> DumpPlatform {
    // SAFETY: an image for the kernel has no thread-locals.
    unsafe { DumpPlatform::confined() }.with_clock(clock::now)
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

    /// Polls the executor until the task has ended, for so long: by the performance counter, and if that stands still, by
    /// as many stalls of a microsecond. See [`Executor::block_on`].
    ///
    /// # Errors
    ///
    /// It has not ended. The handle comes back: it may be waited for again, or dropped.
    pub fn wait<T>(
        &mut self,
        executor: &'static Executor<DumpPlatform>,
        task: JoinHandle<T>,
        limit: Duration,
    ) -> Result<Result<T, Cancelled>, JoinHandle<T>> {
        let pauses = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        executor.block_on(&mut self.level, task, Patience { time: limit, pauses }, |_| {
            // SAFETY: callable at any level.
            unsafe { ntddk::KeStallExecutionProcessor(1) };
        })
    }
}

impl fmt::Debug for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Crash")
    }
}
