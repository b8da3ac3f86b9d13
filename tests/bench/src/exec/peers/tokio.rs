//! tokio's `current_thread` runtime.
//!
//! It runs tasks only inside `block_on`, between polls of a root future. So the root does what the
//! harness does for the others from outside: it wakes, and then yields so that the tasks run. A wake
//! from inside `block_on` takes tokio's short path (no injection queue, no unpark), which is to its
//! advantage; and the yields of the root are subtracted.

use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::task::Poll;

use tokio::runtime::{Builder, Runtime};

use super::bytes_of_a_spawn;
use crate::exec::cases::{Case, FAN, Peer, TaskFuture};
use crate::exec::futures::{Berth, Park, Trivial, Yields};

/// The peer; each case makes a runtime of its own.
pub(in crate::exec) struct CurrentThread;

/// A runtime without drivers for I/O and time, which would only cost it something.
pub(in crate::exec) fn runtime() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime without drivers asks nothing of the system")
}

/// Must be called in a runtime.
fn spawn<F: TaskFuture>(future: F) {
    drop(tokio::spawn(future));
}

/// Lets the tasks run.
fn root_yield() -> impl Future<Output = ()> {
    let mut yielded = false;
    poll_fn(move |cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Lets all tasks of `fan-in-64` run. Between two polls of the root tokio runs up to 61 tasks (its event
/// interval), so that 64 take two.
async fn root_yields_for_the_fan() {
    root_yield().await;
    root_yield().await;
}

impl Peer for CurrentThread {
    fn name(&self) -> &'static str {
        "tokio"
    }

    fn wake_poll(&self, n: u64) {
        runtime().block_on(async {
            let berth = Berth::leak();
            spawn(Park::at(berth));
            root_yield().await;
            let waker = berth.waker();
            for _ in 0..n {
                black_box(&waker).wake_by_ref();
                root_yield().await;
            }
        });
    }

    fn redundant_wake(&self, n: u64) {
        runtime().block_on(async {
            let berth = Berth::leak();
            spawn(Park::at(berth));
            root_yield().await;
            let waker = berth.waker();
            waker.wake_by_ref();
            for _ in 0..n {
                black_box(&waker).wake_by_ref();
            }
            root_yield().await;
        });
    }

    fn fan_in(&self, n: u64) {
        runtime().block_on(async {
            let berths = [(); FAN].map(|()| Berth::leak());
            for berth in berths {
                spawn(Park::at(berth));
            }
            root_yields_for_the_fan().await;
            let wakers = berths.map(Berth::waker);
            for _ in 0..n {
                for waker in black_box(&wakers) {
                    waker.wake_by_ref();
                }
                root_yields_for_the_fan().await;
            }
        });
    }

    fn yields(&self, n: u64) {
        // The root waits for the task: it is polled once before the yields and once after them.
        let task = Yields::new(black_box(n));
        runtime().block_on(async { tokio::spawn(task).await }).expect("the task does not panic");
    }

    fn spawn_run(&self, n: u64) {
        runtime().block_on(async {
            for _ in 0..n {
                spawn(black_box(Trivial::default()));
                root_yield().await;
            }
        });
    }

    fn task_bytes(&self) -> u64 {
        let runtime = runtime();
        let _entered = runtime.enter();
        bytes_of_a_spawn(|| spawn(Trivial::default()))
    }

    fn root_yields(&self, case: Case) -> u32 {
        match case {
            Case::WakePoll | Case::SpawnRun => 1,
            Case::FanIn => 2,
            Case::RedundantWake | Case::Yield | Case::RootYield => 0,
        }
    }

    fn root_yield(&self, n: u64) {
        runtime().block_on(async {
            for _ in 0..n {
                root_yield().await;
            }
        });
    }
}
