//! Waiting for a future, but not for longer.
#![forbid(unsafe_code)]

use core::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project::pin_project;

use super::{
    Instant,
    sleep::{NoClock, Sleep, sleep, sleep_until},
};

/// Waits for the future, for no longer than so much time, counted from the first poll.
///
/// The future is polled first: one that is ready wins, even with a duration of zero, which is one poll and no wait. In the
/// task table the task is shown to wait for what the future waits for.
///
/// **Cancel-safe:** as the future, which is dropped with this. When the time is over it is dropped as well, unless it
/// was given by reference: `timeout(limit, &mut reply)` can be repeated.
///
/// ```
/// use core::time::Duration;
/// use kexec::time::{Elapsed, timeout};
///
/// async fn state(answer: impl Future<Output = u32>) -> Result<u32, Elapsed> {
///     timeout(Duration::from_secs(5), answer).await
/// }
/// ```
#[track_caller]
pub fn timeout<F: IntoFuture>(limit: Duration, future: F) -> Timeout<F::IntoFuture> {
    Timeout { future: future.into_future(), sleep: sleep(limit) }
}

/// Waits for the future until then: see [`timeout`]. With [`Instant::NEVER`] there is no limit.
///
/// **Cancel-safe:** as for [`timeout`].
#[track_caller]
pub fn timeout_at<F: IntoFuture>(deadline: Instant, future: F) -> Timeout<F::IntoFuture> {
    Timeout { future: future.into_future(), sleep: sleep_until(deadline) }
}

/// The time was over before the future was ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elapsed {
    /// This was the deadline.
    Deadline(Instant),
    /// There is no clock to tell: the timeout is not awaited in a task, or something in between has a waker of its
    /// own. Said as soon as the future is not ready.
    NoClock,
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline(at) => {
                write!(f, "not ready at its deadline, {at:?}; try again, or give up what it waits for")
            }
            Self::NoClock => {
                f.write_str("a timeout without a clock; await it in a task, with the task's own waker")
            }
        }
    }
}

impl core::error::Error for Elapsed {}

/// The future of [`timeout`] and [`timeout_at`].
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Timeout<F> {
    #[pin]
    future: F,
    #[pin]
    sleep: Sleep,
}

impl<F> Timeout<F> {
    /// Lets the time be over so much later: see [`Sleep::tolerance`].
    pub fn tolerance(self, tolerance: Duration) -> Self {
        Self { sleep: self.sleep.tolerance(tolerance), ..self }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        match this.sleep.as_mut().poll_time(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(NoClock)) => Poll::Ready(Err(Elapsed::NoClock)),
            Poll::Ready(Ok(now)) => Poll::Ready(Err(Elapsed::Deadline(this.sleep.deadline().unwrap_or(now)))),
        }
    }
}
