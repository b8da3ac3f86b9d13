//! What an executor asks of the system it runs on.
//!
//! The executor never schedules itself. It says [`ring`](Platform::ring), and the platform sees to it
//! that someone calls [`Executor::try_run`](crate::Executor::try_run): a KDPC, a worker thread, a flag in
//! a loop. A platform is a small file; the ones here are
//!
//! - [`Polling`](polling::Polling): a loop that asks, no interrupts, no threads;
//! - `thread::Thread`: one OS thread of a host (feature `std`);
//! - `mock::Mock`: several CPUs, virtual time and every disturbance, from a seed (feature `std`).
//!
//! A new one passes the suite in `conformance`, the same as these.
#![expect(unsafe_code, reason = "what a platform promises is what task memory and tokens rest on")]

use crate::{
    irql::{Level, Passive, Raise},
    time::Instant,
};

#[cfg(feature = "std")]
pub mod conformance;
#[cfg(feature = "std")]
pub mod mock;
pub mod polling;
#[cfg(feature = "std")]
pub mod thread;

/// Why the executor wants to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// It was parked, and a task became ready.
    Wake,
    /// A run ended at its budget with work left.
    Again {
        /// How many runs in a row ended so, this one included. A platform may answer a high count by
        /// handing the consumer role to a worker that can be preempted; the count starts again from
        /// one after the executor has parked, which is when the role goes back.
        overruns: u32,
    },
}

/// When the executor wants to be run for its timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Before this there is nothing to do.
    pub at: Instant,
    /// After this the first timer is late.
    pub by: Instant,
}

/// A system that runs one executor.
///
/// # Safety
///
/// **Implementation safety.**
/// - After [`silence`](Self::silence) has returned, no call of `try_run` that a doorbell or an alarm caused is in
///   progress or will begin.
pub unsafe trait Platform: Raise + Sync + 'static {
    /// The level at which tasks are polled; `try_run` takes its token.
    type Level: Level;

    /// Asks for one call of `try_run`, soon, from anywhere. The caller may be at any level, hold any lock
    /// and be in the middle of a run; so it does not wait, and does not run the executor itself.
    ///
    /// Doorbells may be merged while they are on their way, duplicated and reordered. One that was rung
    /// after `try_run` began must be followed by another `try_run`.
    fn ring(&self, why: Ring);

    /// Asks for one call of `try_run` between the alarm's two instants, in place of the alarm that was armed before;
    /// with None, for none. Called by a run, at its level.
    ///
    /// One that goes off early, or twice, does no harm, and a late one makes a timer late. Time in which the guest did
    /// not run may make it go off early, never late: see [`Instant`]. A platform without a clock has nothing to do here.
    fn arm(&self, alarm: Option<Alarm>);

    /// Whether the alarm that was armed last has still to go off. Asked by a run, after `arm(Some(..))`.
    ///
    /// Once it has gone off, early or not, the answer is no, and the `try_run` that it asks for comes after that. To
    /// say no is always safe: the alarm is then armed again, which costs what it costs.
    fn is_armed(&self) -> bool;

    /// Guest-running time. Read once at the start of each run, and where the time of a timer begins. A reading that
    /// is earlier than the last one is taken for the last one.
    fn now(&self) -> Instant;

    /// Whether the run has lasted long enough: asked between polls, never for the first one.
    ///
    /// This is a glance, not a reading: a time-stamp counter, a tick count in shared memory,
    /// `KeShouldYieldProcessor`. It may be coarse; a run that outlives `deadline` by a tick does no harm.
    fn past(&self, deadline: Instant) -> bool;

    /// Whether the calling thread may be the consumer: see [`AnyFuture`].
    fn may_run(&self) -> bool;

    /// Withdraws the doorbells that are on their way, an alarm that has gone off too, and waits for the runs that
    /// they began.
    ///
    /// Called once the executor is closed, when it does not ring any more, and nothing is armed.
    fn silence(&self, passive: &mut Passive);
}

/// A platform whose tasks cannot tell one OS thread from another, so that their futures need not be `Send`.
///
/// Elsewhere the consumer may be another thread each time, and a future that is not `Send` would be unsound there:
/// an `Rc` that it took from a thread-local would be counted by two threads at once. It does not compile:
///
/// ```compile_fail
/// use kexec::{Budget, Executor, Pool, platform::polling::Polling, yield_now};
/// use std::rc::Rc;
///
/// thread_local!(static SHARED: Rc<u8> = Rc::new(0));
/// static POOL: Pool<64, 1> = Pool::new();
/// static EXECUTOR: Executor<Polling> = Executor::new(Polling::new(), Budget::DEFAULT);
///
/// EXECUTOR.spawn_with(&POOL, || async {
///     let shared = SHARED.with(Rc::clone);
///     yield_now().await; // may resume on another thread
///     drop(shared);
/// });
/// ```
///
/// # Safety
///
/// **Implementation safety.** Either no thread-local can be reached by a task (a driver image), or
/// [`may_run`](Platform::may_run) answers true to one OS thread only.
#[diagnostic::on_unimplemented(
    message = "the tasks of `{Self}` may be polled by one OS thread after another",
    label = "this platform polls `Send` futures only",
    note = "a `Send` future can be spawned with `spawn_with` or `submit_with`"
)]
pub unsafe trait AnyFuture: Platform {}
