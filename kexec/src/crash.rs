//! A world in which nothing comes by itself: no interrupts, no threads, no doorbells that anyone answers.
//!
//! A crash dump is written by one CPU, at `HIGH_LEVEL`; so is the first output of a guest whose interrupts are not up
//! yet. The same futures run there, on an executor that is [polled](crate::platform::polling), and the one who waits
//! for them does everything: runs the executor, looks for what an interrupt would have told, watches the time.
//!
//! Nothing here is shared with another executor, and nothing is allocated.
#![forbid(unsafe_code)]

use core::time::Duration;

use crate::{
    Executor, JoinHandle,
    irql::Level,
    platform::{Platform, polling::Polling},
    task::body::Cancelled,
};

/// How long to wait: until either limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// By the platform's clock, if it has one that moves.
    pub time: Duration,
    /// Pauses: a limit that needs no clock.
    pub pauses: u64,
}

impl<L: Level, W: 'static> Executor<Polling<L, W>> {
    /// Runs the executor until the task has ended, or the patience. Callable at any level, by the only one who polls.
    ///
    /// Between two runs, each of which has its budget, `pause` is called: it looks for what interrupts would have told
    /// and makes it known by wakes, and lets some time pass, such as a microsecond's stall. So a task that is always
    /// ready is given up like one that waits for ever. Timers work, if the platform has [a clock](Polling::with_clock).
    ///
    /// # Errors
    ///
    /// It has not ended. The handle comes back: it may be waited for again, aborted, or dropped.
    ///
    /// ```
    /// use core::time::Duration;
    /// use kexec::{Budget, Executor, Pool, crash::Patience, platform::polling::Polling};
    ///
    /// static POOL: Pool<64, 4> = Pool::new();
    /// static EXECUTOR: Executor<Polling> = Executor::new(Polling::new(), Budget::DEFAULT);
    ///
    /// let patience = Patience { time: Duration::from_secs(1), pauses: 1_000_000 };
    /// let written = EXECUTOR.spawn_with(&POOL, || async { 512 }).expect("the pool has room");
    /// let outcome = EXECUTOR.block_on(&mut (), written, patience, |_| core::hint::spin_loop());
    /// assert_eq!(outcome.expect("it does not wait"), Ok(512));
    /// ```
    pub fn block_on<T>(
        &'static self,
        level: &mut L,
        mut task: JoinHandle<T>,
        patience: Patience,
        mut pause: impl FnMut(&mut L),
    ) -> Result<Result<T, Cancelled>, JoinHandle<T>> {
        let platform = self.platform();
        let deadline = platform.now().after(patience.time);
        let mut pauses = patience.pauses;
        loop {
            // One run: a task that wakes itself rings for the next one, and would never let this look at the limits.
            if platform.is_rung() {
                self.try_run(level);
            }
            task = match task.try_take() {
                Ok(outcome) => return Ok(outcome),
                Err(task) => task,
            };
            if platform.past(deadline) {
                return Err(task);
            }
            let Some(left) = pauses.checked_sub(1) else { return Err(task) };
            pauses = left;
            pause(level);
        }
    }
}
