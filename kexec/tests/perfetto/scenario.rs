//! A small day of a driver, for a picture: everything that can be on a track is.
//!
//! The picture has the lines of this file in it. Whoever changes them looks at the new picture and blesses it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::{Either, join, select};
use kexec::{
    Budget, Executor, Pool, TaskRef,
    irql::Dispatch,
    platform::mock::{Mock, Plan, keep},
    span,
    task_table::{Kind, Label, Leaf},
    trace::InSpan,
    yield_now,
};

pub(crate) type Exec = &'static Executor<Mock>;

/// Waits until it has been woken so many times.
pub(crate) struct Woken {
    times: u32,
    leaf: Leaf,
}

/// A leaf that waits for so many wakes.
#[track_caller]
pub(crate) fn woken(times: u32) -> Woken {
    static WAKE: Kind = Kind::new("wake");
    Woken { times, leaf: Leaf::new(&WAKE) }
}

impl Future for Woken {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.times == 0 {
            return Poll::Ready(());
        }
        self.times -= 1;
        self.leaf.park(cx);
        Poll::Pending
    }
}

fn work(executor: Exec, micros: u64) {
    executor.platform().pass(Duration::from_micros(micros));
}

/// Connects: a span over several polls, with one inside it that is given up.
async fn connect(_: &mut Dispatch, executor: Exec) {
    work(executor, 3);
    async {
        work(executor, 2);
        let never = woken(u32::MAX).label("second answer").in_span(span!("second"));
        let first = woken(1).label("first \"answer\"");
        if let Either::Right(((), never)) = select(never, first).await {
            work(executor, 1);
            drop(never);
        }
        work(executor, 4);
    }
    .in_span(span!("handshake"))
    .await;
    kexec::info!("connected to {:?}", "vbd\t51712");
}

/// Two spans that overlap without one being in the other.
async fn two_at_once(_: &mut Dispatch, executor: Exec) {
    let short = async {
        yield_now().await;
        work(executor, 1);
    };
    let long = async {
        work(executor, 1);
        woken(2).label("the long one").await;
        work(executor, 1);
    };
    join(short.in_span(span!("short")), long.in_span(span!("long"))).await;
}

/// Wakes the others, one after the other; its work has no awaits in it.
async fn interrupts(_: &mut Dispatch, (executor, tasks): (Exec, Vec<TaskRef>)) {
    for task in tasks {
        {
            let _upcall = span!("upcall").enter();
            work(executor, 5);
            task.wake();
        }
        kexec::debug!("not shown");
        yield_now().await;
    }
}

/// Runs it, on an executor that is traced from the beginning.
pub(crate) fn run() {
    let slots = keep(Pool::<640, 8>::new());
    let executor = Executor::leak(Mock::new(Plan::CALM), Budget::DEFAULT);
    executor.trace_tasks(true);
    let spawned = [
        executor.spawn(slots, connect, executor).expect("a slot is free").detach(),
        executor.spawn(slots, two_at_once, executor).expect("a slot is free").detach(),
    ];
    let parked =
        executor.spawn(slots, async |_: &mut Dispatch, ()| woken(9).await, ()).expect("a slot is free");
    executor.settle();
    kexec::warn!("three tasks are parked");
    executor.platform().pass(Duration::from_micros(10));
    executor.spawn(slots, interrupts, (executor, spawned.to_vec())).expect("a slot is free").detach();
    parked.abort();
    executor.settle();
}
