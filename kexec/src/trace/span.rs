//! Stretches with a name: of a future, from its first poll to its end, and of a function.
#![forbid(unsafe_code)]

use core::{
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project::pin_project;

use super::{Level, Site, reaches, tracer};
use crate::{TaskRef, home::Home, time::Instant};

/// A stretch that may be shown: what [`span!`](crate::span) makes.
#[derive(Clone, Copy, Debug)]
pub struct Span(Option<&'static Site>);

/// Names the stretches of a task.
pub trait InSpan: Future + Sized {
    /// Shows the future as a stretch of the task that polls it: from the first poll until it is ready, or dropped before
    /// that. Spans within spans are nested.
    ///
    /// **Cancel-safe:** as the future itself.
    fn in_span(self, span: Span) -> Spanned<Self> {
        Spanned { future: self, span, running: None }
    }
}

impl<F: Future> InSpan for F {}

/// The future of [`InSpan::in_span`].
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Spanned<F> {
    /// Dropped before the span ends.
    #[pin]
    future: F,
    span: Span,
    running: Option<Stretch>,
}

/// A stretch of the calling function, until this is dropped.
///
/// It must not live across an await, where another task goes on: clippy's `await_holding_invalid_type` is told so. A
/// future has [`in_span`](InSpan::in_span).
#[derive(Debug)]
#[must_use = "the span ends as soon as this is dropped"]
pub struct Entered {
    _running: Option<Stretch>,
    _here: PhantomData<*mut ()>,
}

/// Which of all spans of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(u64);

/// A span begins or ends.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    site: &'static Site,
    id: SpanId,
    task: Option<TaskRef>,
    time: Option<Instant>,
    stage: Stage,
}

/// What becomes of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It begins.
    Began,
    /// The future is ready; the function has left the stretch.
    Completed,
    /// The future was dropped before it was ready.
    Dropped,
}

/// A span that has begun.
#[derive(Debug)]
struct Stretch {
    site: &'static Site,
    id: SpanId,
    task: Option<TaskRef>,
    /// Whose clock it is measured by; without one, the output's.
    home: Home,
    /// How it would end now.
    end: Stage,
}

impl Span {
    /// Nothing: a span that is not compiled in.
    pub const NONE: Self = Self(None);

    /// For the macro.
    #[doc(hidden)]
    #[must_use]
    pub const fn at(site: &'static Site) -> Self {
        Self(Some(site))
    }

    /// Begins a stretch of the calling function. Callable at any level.
    #[inline]
    pub fn enter(self) -> Entered {
        Entered { _running: self.begin(None, Home::NONE, Stage::Completed), _here: PhantomData }
    }

    #[inline]
    fn begin(self, task: Option<TaskRef>, home: Home, end: Stage) -> Option<Stretch> {
        let site = self.0?;
        if reaches(site.level()) { Stretch::begin(site, task, home, end) } else { None }
    }
}

impl Stretch {
    #[cold]
    fn begin(site: &'static Site, task: Option<TaskRef>, home: Home, end: Stage) -> Option<Self> {
        if !site.is_on() {
            return None;
        }
        let stretch = Self { site, id: SpanId(tracer()?.next_span()), task, home, end };
        stretch.tell(Stage::Began);
        Some(stretch)
    }

    fn tell(&self, stage: Stage) {
        let Some(tracer) = tracer() else { return };
        tracer.tell(|output| {
            let Self { site, id, task, home, .. } = *self;
            let time = home.now().or_else(|| output.time());
            output.sink.span(&Change { site, id, task, time, stage });
        });
    }
}

impl Drop for Stretch {
    fn drop(&mut self) {
        self.tell(self.end);
    }
}

impl<F: Future> Future for Spanned<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        // What begins is told once, even if it was off then.
        let span = core::mem::replace(this.span, Span::NONE);
        if span.0.is_some() {
            *this.running = span.begin(TaskRef::current(cx), Home::of(cx), Stage::Dropped);
        }
        let polled = this.future.poll(cx);
        if polled.is_ready()
            && let Some(mut running) = this.running.take()
        {
            running.end = Stage::Completed;
        }
        polled
    }
}

impl Change {
    /// The place of its `span!`.
    #[must_use]
    pub fn site(&self) -> &'static Site {
        self.site
    }

    /// How much it matters.
    #[must_use]
    pub fn level(&self) -> Level {
        self.site.level()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.site.name()
    }

    /// Which of all spans it is.
    #[must_use]
    pub fn id(&self) -> SpanId {
        self.id
    }

    /// The task that polled the future first. None for a stretch of a function: it is part of whatever runs there.
    #[must_use]
    pub fn task(&self) -> Option<TaskRef> {
        self.task
    }

    /// When, by the clock of the task's executor or else of the output.
    #[must_use]
    pub fn time(&self) -> Option<Instant> {
        self.time
    }

    /// What becomes of it.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }
}
