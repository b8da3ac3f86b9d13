//! A name for a step.
#![forbid(unsafe_code)]

use core::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project::pin_project;

#[cfg(feature = "table")]
use crate::task::Task;

/// Names the steps of a task.
pub trait Label: Future + Sized {
    /// Says in the task table what the task waits for while it is parked in this future. Of labels within labels the
    /// outermost is shown: kind and place tell the innermost step anyway. Of futures side by side it is that of the one that
    /// parked last; but a foreign one without a label, which has no [`Leaf`](super::Leaf), leaves its neighbour's. The
    /// text has to be in the image, as a literal is; another is not shown.
    ///
    /// **Cancel-safe:** as the future itself.
    ///
    /// ```
    /// use kexec::task_table::Label;
    ///
    /// async fn handshake() {
    ///     kexec::yield_now().label("backend to be InitWait").await;
    /// }
    /// ```
    fn label(self, label: &'static str) -> Labelled<Self> {
        Labelled { future: self, label: Word::new(label) }
    }
}

impl<F: Future> Label for F {}

/// The future of [`Label::label`].
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Labelled<F> {
    #[pin]
    future: F,
    label: Word,
}

/// A label, as the record keeps it.
#[derive(Clone, Copy, Debug)]
struct Word {
    #[cfg(feature = "table")]
    word: u64,
}

impl Word {
    fn new(label: &'static str) -> Self {
        #[cfg(feature = "table")]
        return Self { word: super::anchor::text_word(label) };
        #[cfg(not(feature = "table"))]
        {
            let _ = label;
            Self {}
        }
    }

    /// The task parks in a future with this label.
    #[inline]
    fn park(self, cx: &Context<'_>) {
        #[cfg(feature = "table")]
        if let Some(task) = Task::of(cx.waker()) {
            task.header().record.label(self.word);
        }
        #[cfg(not(feature = "table"))]
        let _ = (self, cx);
    }
}

impl<F: Future> Future for Labelled<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let polled = this.future.poll(cx);
        if polled.is_pending() {
            this.label.park(cx);
        }
        polled
    }
}
