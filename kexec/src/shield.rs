//! Cancellation, where a task has something to finish.
//!
//! An aborted task, a member of a scope that is closed and a task of an executor that is closed are dropped at their
//! next turn. A task that must end in its own way says so:
//!
//! ```
//! use kexec::{Cancelled, shielded, until_cancelled};
//!
//! # async fn connect() {}
//! # async fn run() -> u32 { 0 }
//! # async fn disconnect() {}
//! async fn device() -> Result<u32, Cancelled> {
//!     shielded(async {
//!         connect().await;
//!         let ended = until_cancelled(run()).await;
//!         disconnect().await;
//!         ended
//!     })
//!     .await
//! }
//! ```
#![forbid(unsafe_code)]

use core::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project::{pin_project, pinned_drop};

use crate::{
    task::{body::Cancelled, waker::TaskRef},
    task_table::{Kind, Leaf},
};

/// Runs a future to its end, even if its task is cancelled meanwhile: the cancellation is delivered when the task parks
/// after that. Sections may be nested.
///
/// It begins with the first poll. A task that is cancelled before that is dropped. One that never comes out of a section
/// keeps whoever closes its scope or executor waiting: give what it waits for a deadline.
///
/// Under a combinator that has wakers of its own, it does not know its task, and shields nothing.
///
/// **Cancel-safe:** the task's cancellation does not reach the future; dropped by something else, it is as the future
/// itself.
pub fn shielded<F: Future>(future: F) -> Shielded<F> {
    Shielded { future, task: None }
}

/// The future of [`shielded`].
#[pin_project(PinnedDrop)]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Shielded<F> {
    #[pin]
    future: F,
    /// The task that is shielded.
    task: Option<TaskRef>,
}

impl<F: Future> Future for Shielded<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let current = TaskRef::current(cx);
        if *this.task != current {
            shift(this.task, current);
        }
        let polled = this.future.poll(cx);
        if polled.is_ready() {
            shift(this.task, None);
        }
        polled
    }
}

/// Moves the shield from one task to another.
fn shift(shielded: &mut Option<TaskRef>, next: Option<TaskRef>) {
    if let Some(task) = shielded.take() {
        task.unshield();
    }
    if let Some(task) = next {
        task.shield();
    }
    *shielded = next;
}

#[pinned_drop]
impl<F> PinnedDrop for Shielded<F> {
    fn drop(self: Pin<&mut Self>) {
        shift(self.project().task, None);
    }
}

static CANCELLED: Kind = Kind::new("cancellation");

/// Waits until the task is asked to end. Of use in a [shielded] section, as elsewhere the task is dropped
/// instead.
///
/// **Cancel-safe:** there is nothing to lose; a task that was asked stays asked.
#[track_caller]
pub fn cancelled() -> UntilAsked {
    UntilAsked { leaf: Leaf::new(&CANCELLED) }
}

/// The future of [`cancelled`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct UntilAsked {
    leaf: Leaf,
}

impl Future for UntilAsked {
    type Output = ();

    /// Who asks gives the task a turn, so that there is nothing to register.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if TaskRef::current(cx).is_some_and(TaskRef::is_cancelled) {
            return Poll::Ready(());
        }
        self.leaf.park(cx);
        Poll::Pending
    }
}

/// Runs a future until it is ready, or its task is asked to end: then the future is dropped, and the task goes on in its
/// [shielded] section.
///
/// A future that is ready at the same moment wins.
///
/// **Cancel-safe:** as the future itself.
///
/// # Errors
///
/// [`Cancelled`].
pub fn until_cancelled<F: Future>(future: F) -> UntilCancelled<F> {
    UntilCancelled { future }
}

/// The future of [`until_cancelled`].
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct UntilCancelled<F> {
    #[pin]
    future: F,
}

impl<F: Future> Future for UntilCancelled<F> {
    type Output = Result<F::Output, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        if TaskRef::current(cx).is_some_and(TaskRef::is_cancelled) {
            return Poll::Ready(Err(Cancelled));
        }
        Poll::Pending
    }
}
