//! Who polls a leaf future: the run of an executor, with its platform's clock and level, or something else.
#![expect(unsafe_code, reason = "an executor is reached by the pointer that its tasks have")]

use core::{
    ptr::NonNull,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Waker},
};

use crate::{executor::Core, task::Task, time::Instant};

/// The executor whose task a future is polled in; none if something else polls it, such as a host's `block_on`.
///
/// It may be kept for as long as the future, and used wherever that is dropped: an executor outlives the futures
/// that its tasks have polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Home(Option<NonNull<Core>>);

// SAFETY: what is reached by it is shared by all CPUs.
unsafe impl Send for Home {}
// SAFETY: as above.
unsafe impl Sync for Home {}

impl Home {
    /// Nothing polls the future yet.
    pub(crate) const NONE: Self = Self(None);

    /// That executor.
    ///
    /// # Safety
    ///
    /// The pointer is an executor's, with provenance over all of it.
    #[inline]
    pub(crate) unsafe fn new(core: NonNull<Core>) -> Self {
        Self(Some(core))
    }

    /// The executor of the task that is polled with this context.
    #[inline]
    pub(crate) fn of(cx: &Context<'_>) -> Self {
        Self::of_waker(cx.waker())
    }

    /// The executor of the task that this waker is of.
    #[inline]
    pub(crate) fn of_waker(waker: &Waker) -> Self {
        Self(Task::of(waker).and_then(|task| NonNull::new(task.header().home.load(Relaxed))))
    }

    /// What the executor has of its own.
    #[inline]
    pub(crate) fn core(self) -> Option<&'static Core> {
        // SAFETY: an executor outlives the futures that its tasks have polled.
        self.0.map(|core| unsafe { core.as_ref() })
    }

    /// Calls `f` at `DISPATCH_LEVEL`, if there is such a thing where the future is polled.
    ///
    /// Even if that is where its tasks are polled: a future may be dropped by a thread that can be preempted.
    #[inline]
    pub(crate) fn raised<R>(self, f: impl FnOnce() -> R) -> R {
        let Some(core) = self.0 else { return f() };
        // SAFETY: an executor outlives the futures that its tasks have polled.
        let raised = unsafe { core.as_ref() }.raised;
        let (mut f, mut result) = (Some(f), None);
        // SAFETY: the pointer and the function are of one executor.
        unsafe { raised(core, &mut || result = f.take().map(|f| f())) };
        // SAFETY: an executor's `raised` calls what it is given, and the first call calls `f`.
        unsafe { result.unwrap_unchecked() }
    }

    /// The time now, and never before the last run began. None where there is no clock.
    #[inline]
    pub(crate) fn now(self) -> Option<Instant> {
        let core = self.0?;
        // SAFETY: an executor outlives the futures that its tasks have polled.
        let Core { clock, timers, .. } = unsafe { core.as_ref() };
        // SAFETY: the pointer and the function are of one executor.
        Some(unsafe { clock(core) }.max(timers.now()))
    }
}
