//! Waiting for a time, and telling it.
#![forbid(unsafe_code)]

use core::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project::pin_project;

use super::Instant;
use crate::{
    executor::timers::Timer,
    home::Home,
    platform::Alarm,
    task_table::{Kind, Leaf},
};

/// Waits for so long, counted from the first poll: see [the module](super) for how exactly.
///
/// A duration of zero lets the other tasks have their turns, as [`yield_now`](crate::yield_now()) does.
///
/// **Cancel-safe:** there is nothing to lose.
#[track_caller]
pub fn sleep(duration: Duration) -> Sleep {
    Sleep::new(Due::In(duration), Leaf::new(&SLEEP))
}

/// Waits until then. Ready at the first poll if that is now or has been; never ready at [`Instant::NEVER`].
///
/// **Cancel-safe:** there is nothing to lose.
#[track_caller]
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep::new(Due::At(deadline), Leaf::new(&SLEEP))
}

static SLEEP: Kind = Kind::new("sleep");

/// The future of [`sleep`] and [`sleep_until`].
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct Sleep {
    due: Due,
    tolerance: Duration,
    leaf: Leaf,
    #[pin]
    timer: Timer,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    /// So long after the first poll.
    In(Duration),
    At(Instant),
}

/// Nothing that has a clock polls the future.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoClock;

impl Sleep {
    pub(super) fn new(due: Due, leaf: Leaf) -> Self {
        Self { due, tolerance: Duration::ZERO, leaf, timer: Timer::new() }
    }

    /// Lets it be so much later, so that the platform can wake the CPU once for several timers.
    pub fn tolerance(self, tolerance: Duration) -> Self {
        Self { tolerance, ..self }
    }

    /// When it ends. None before the first poll of a [`sleep`].
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.due {
            Due::In(_) => None,
            Due::At(deadline) => Some(deadline),
        }
    }

    /// Waits as a part of another future: without a word to the task table. Ready with the time at which it was.
    pub(super) fn poll_time(self: Pin<&mut Self>, cx: &Context<'_>) -> Poll<Result<Instant, NoClock>> {
        let mut this = self.project();
        let home = Home::of(cx);
        // The first time the clock is read; then what the run has read will do.
        let now = if this.timer.is_set() { home.core().map(|core| core.timers.now()) } else { home.now() };
        let Some(now) = now else { return Poll::Ready(Err(NoClock)) };
        let at = match *this.due {
            Due::At(at) => at,
            Due::In(duration) => {
                let at = now.after(duration);
                *this.due = Due::At(at);
                at
            }
        };
        if at == Instant::NEVER {
            return Poll::Pending;
        }
        if now >= at {
            this.timer.as_mut().clear();
            return Poll::Ready(Ok(now));
        }
        this.timer.set(cx, Alarm { at, by: at.after(*this.tolerance) });
        Poll::Pending
    }

    pub(super) fn park(self: Pin<&mut Self>, cx: &Context<'_>) {
        self.project().leaf.park(cx);
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let gives_way = matches!(self.due, Due::In(Duration::ZERO));
        match self.as_mut().poll_time(cx) {
            Poll::Ready(Ok(_)) if !gives_way => return Poll::Ready(()),
            Poll::Ready(Ok(_)) => cx.waker().wake_by_ref(),
            Poll::Ready(Err(NoClock)) => no_clock(),
            Poll::Pending => {}
        }
        self.park(cx);
        Poll::Pending
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep")
            .field("due", &self.due)
            .field("tolerance", &self.tolerance)
            .finish_non_exhaustive()
    }
}

/// A wait for a time that nobody tells. A test shows it by a panic; in a kernel, the wait has no end.
#[cold]
pub(super) fn no_clock() {
    #[cfg(feature = "std")]
    #[expect(clippy::panic, reason = "in a program of a host, a panic is a message")]
    {
        panic!(
            "there is no clock: a future of `kexec::time` was polled with a waker that is no task's; \
             spawn the future that awaits it, or give it a timeout and see `Elapsed::NoClock`"
        );
    }
}

/// Tells the time: never earlier than it was told before, in this task or at the beginning of a run.
///
/// **Cancel-safe:** it does not park.
pub fn now() -> Now {
    Now { _made_by: () }
}

/// The future of [`now()`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Now {
    _made_by: (),
}

impl Future for Now {
    type Output = Instant;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Instant> {
        let now = Home::of(cx).now();
        if now.is_none() {
            no_clock();
        }
        now.map_or(Poll::Pending, Poll::Ready)
    }
}
