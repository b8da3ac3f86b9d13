//! Where it goes: a sink, and the clock that goes with it.
#![forbid(unsafe_code)]

use core::fmt;

use super::{Activity, Change, Event, Level};
use crate::time::Instant;

/// Takes what is emitted.
///
/// It is called wherever something is emitted: at any level up to interrupt level, by several CPUs at once, in the middle
/// of a wake, with any lock held. So it does not wait, and takes no lock that can be wanted below it. What it emits itself
/// is suppressed. If it panics, on a host, whoever emitted does.
pub trait Sink: Sync {
    /// An event that has passed its level and its limit.
    fn event(&self, event: &Event<'_>);

    /// A span begins or ends. Nothing, unless the sink shows spans.
    fn span(&self, _change: &Change) {}

    /// Something that an executor does which [traces its tasks](crate::Executor::trace_tasks). Nothing, unless the sink
    /// shows tasks.
    ///
    /// In the middle of a run, and as often as tasks are woken and polled: this is where it must be quick.
    fn activity(&self, _activity: &Activity) {}
}

impl<S: Sink + ?Sized> Sink for &S {
    fn event(&self, event: &Event<'_>) {
        (**self).event(event);
    }

    fn span(&self, change: &Change) {
        (**self).span(change);
    }

    fn activity(&self, activity: &Activity) {
        (**self).activity(activity);
    }
}

/// Two sinks, one after the other. For more, a pair in a pair.
#[derive(Clone, Copy, Debug)]
pub struct Both<A, B>(pub A, pub B);

impl<A: Sink, B: Sink> Sink for Both<A, B> {
    fn event(&self, event: &Event<'_>) {
        self.0.event(event);
        self.1.event(event);
    }

    fn span(&self, change: &Change) {
        self.0.span(change);
        self.1.span(change);
    }

    fn activity(&self, activity: &Activity) {
        self.0.activity(activity);
        self.1.activity(activity);
    }
}

/// A sink that is not shown what is less urgent than a level: the hypervisor's log beside a ring that keeps everything.
#[derive(Clone, Copy, Debug)]
pub struct UpTo<S>(pub Level, pub S);

impl<S: Sink> Sink for UpTo<S> {
    fn event(&self, event: &Event<'_>) {
        if event.level() <= self.0 {
            self.1.event(event);
        }
    }

    fn span(&self, change: &Change) {
        if change.level() <= self.0 {
            self.1.span(change);
        }
    }

    fn activity(&self, activity: &Activity) {
        self.1.activity(activity);
    }
}

/// A sink, and the clock by which events are dated and limited: what [`set_output`](super::set_output) takes.
pub struct Output {
    pub(super) sink: &'static dyn Sink,
    clock: Option<fn() -> Instant>,
}

impl Output {
    /// An output without a clock: events have no time, and limits are by number.
    #[must_use]
    pub const fn new(sink: &'static dyn Sink) -> Self {
        Self { sink, clock: None }
    }

    /// The same with a clock, which is callable at any level.
    #[must_use]
    pub const fn with_clock(self, clock: fn() -> Instant) -> Self {
        Self { clock: Some(clock), ..self }
    }

    pub(super) fn time(&self) -> Option<Instant> {
        self.clock.map(|clock| clock())
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("clock", &self.clock).finish_non_exhaustive()
    }
}
