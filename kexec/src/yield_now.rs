//! Giving way to the other tasks.
#![forbid(unsafe_code)]

use core::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use crate::task_table::{Kind, Leaf};

/// Lets every task that is ready have its turn before this one goes on.
///
/// No doorbell is rung: the run that polls this task finds it again.
///
/// **Cancel-safe:** there is nothing to lose.
#[track_caller]
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false, leaf: Leaf::new(&YIELD) }
}

static YIELD: Kind = Kind::new("yield");

/// The future of [`yield_now`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct YieldNow {
    yielded: bool,
    leaf: Leaf,
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        cx.waker().wake_by_ref();
        self.leaf.park(cx);
        Poll::Pending
    }
}
