//! Waiting again and again.
#![forbid(unsafe_code)]

use core::{
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::Stream;
use pin_project::pin_project;

use super::{
    Instant,
    sleep::{Due, NoClock, Sleep, no_clock},
};
use crate::task_table::{Kind, Leaf};

/// Ticks once a period. The first tick is one period after its first poll.
///
/// Ticks never come in a burst: see [`Behind`]. One that is late by the time it is asked for lets the other tasks have
/// their turns first, so that a task that is always behind does not keep them waiting; a period of zero is taken for a
/// nanosecond, and is such a task.
#[must_use]
pub fn interval(period: Duration) -> Interval {
    Interval {
        period: Duration::max(period, SHORTEST),
        tolerance: Duration::ZERO,
        behind: Behind::Skip,
        next: None,
    }
}

const SHORTEST: Duration = Duration::from_nanos(1);

static INTERVAL: Kind = Kind::new("interval");

/// What becomes of the schedule when a tick comes more than a period late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behind {
    /// The schedule stands: the ticks that were missed are left out, and the next one is at the next multiple of the
    /// period.
    #[default]
    Skip,
    /// The schedule moves: the next tick is a full period after the late one.
    Delay,
}

/// One tick of an [`Interval`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// When it was to come. It came then or later.
    pub at: Instant,
    /// Whole periods by which it was late: as many ticks have been left out.
    pub missed: u64,
}

/// A schedule of ticks: see [`interval`].
#[derive(Clone, Debug)]
pub struct Interval {
    period: Duration,
    tolerance: Duration,
    behind: Behind,
    /// The next tick, once the first one has been waited for.
    next: Option<Instant>,
}

impl Interval {
    /// Lets each tick be so much later: see [`Sleep::tolerance`]. The schedule stays.
    #[must_use]
    pub fn tolerance(self, tolerance: Duration) -> Self {
        Self { tolerance, ..self }
    }

    /// Chooses what becomes of the schedule when a tick comes late.
    #[must_use]
    pub fn when_behind(self, behind: Behind) -> Self {
        Self { behind, ..self }
    }

    /// Waits for the next tick.
    ///
    /// **Cancel-safe:** the tick is not lost, and comes when it was to come.
    #[track_caller]
    pub fn tick(&mut self) -> Ticking<'_> {
        let sleep = self.sleep(Leaf::new(&INTERVAL));
        Ticking { interval: self, sleep, gave_way: false }
    }

    /// The ticks as a stream, which has no end.
    #[track_caller]
    pub fn into_stream(self) -> Ticks {
        let leaf = Leaf::new(&INTERVAL);
        Ticks { sleep: self.sleep(leaf), interval: self, leaf, gave_way: false }
    }

    fn sleep(&self, leaf: Leaf) -> Sleep {
        let due = self.next.map_or(Due::In(self.period), Due::At);
        Sleep::new(due, leaf).tolerance(self.tolerance)
    }

    /// Waits for the next tick with the sleep that was made for it.
    fn poll_tick(&mut self, mut sleep: Pin<&mut Sleep>, gave_way: &mut bool, cx: &Context<'_>) -> Poll<Tick> {
        let first = !mem::replace(gave_way, true);
        let polled = sleep.as_mut().poll_time(cx);
        self.next = sleep.deadline();
        match polled {
            Poll::Ready(Ok(_)) if first => cx.waker().wake_by_ref(),
            Poll::Ready(Ok(now)) => return Poll::Ready(self.advance(now)),
            Poll::Ready(Err(NoClock)) => no_clock(),
            Poll::Pending => {}
        }
        sleep.park(cx);
        Poll::Pending
    }

    /// Goes on to the next tick. The one that is due.
    fn advance(&mut self, now: Instant) -> Tick {
        let at = self.next.unwrap_or(now);
        let period = Instant::START.after(self.period).as_nanos();
        // The period is not zero.
        let missed = now.as_nanos().saturating_sub(at.as_nanos()).checked_div(period).unwrap_or(0);
        self.next = Some(match self.behind {
            Behind::Skip => at.after_nanos(missed.saturating_add(1).saturating_mul(period)),
            Behind::Delay if missed == 0 => at.after_nanos(period),
            Behind::Delay => now.after_nanos(period),
        });
        Tick { at, missed }
    }
}

/// The future of [`Interval::tick`].
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Ticking<'i> {
    interval: &'i mut Interval,
    #[pin]
    sleep: Sleep,
    /// It is not the first poll.
    gave_way: bool,
}

impl Future for Ticking<'_> {
    type Output = Tick;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Tick> {
        let this = self.project();
        this.interval.poll_tick(this.sleep, this.gave_way, cx)
    }
}

/// The stream of [`Interval::into_stream`].
///
/// **Cancel-safe:** a tick that was not waited for to its end is not lost.
#[pin_project]
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Ticks {
    interval: Interval,
    #[pin]
    sleep: Sleep,
    leaf: Leaf,
    /// It is not the first poll for this tick.
    gave_way: bool,
}

impl Stream for Ticks {
    type Item = Tick;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Tick>> {
        let mut this = self.project();
        let polled = this.interval.poll_tick(this.sleep.as_mut(), this.gave_way, cx);
        if polled.is_ready() {
            this.sleep.set(this.interval.sleep(*this.leaf));
            *this.gave_way = false;
        }
        polled.map(Some)
    }
}
