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
    /// innermost is shown.
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
        Labelled { future: self, label }
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
    label: &'static str,
}

impl<F: Future> Future for Labelled<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let polled = this.future.poll(cx);
        #[cfg(feature = "table")]
        if polled.is_pending()
            && let Some(task) = Task::of(cx.waker())
        {
            task.header().record.label(this.label);
        }
        #[cfg(not(feature = "table"))]
        let _unseen = this.label;
        polled
    }
}
