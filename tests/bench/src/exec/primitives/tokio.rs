//! tokio's own primitives, on its `current_thread` runtime.
//!
//! The root only waits for the tasks to end, so that there is nothing to subtract. A task has to yield after 128 waits
//! that were ready, which is in the figures.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{Mutex, MutexGuard, Semaphore};
use tokio::time::Sleep;

use super::work::{self, Channel, Lock, Permits, Runs, Time};
use super::{Case, Library};
use crate::exec::cases::TaskFuture;
use crate::exec::peers::tokio::{CurrentThread, runtime};

pub(super) const LIBRARY: Library = Library {
    name: "tokio",
    cases: &[
        (Case::Acquire, work::acquire::<CurrentThread, Semaphore>),
        (Case::SemaphoreHop, work::semaphore_hop::<CurrentThread, Semaphore>),
        (Case::MutexHop, work::mutex_hop::<CurrentThread, Mutex<()>>),
        (Case::Channel, work::channel::<CurrentThread, Values>),
        (Case::Select, work::select_ready::<CurrentThread, Semaphore>),
        (Case::SelectHop, work::select_hop::<CurrentThread, Semaphore>),
        (Case::TimerSet, work::timer_set::<Paused, Timers>),
        (Case::TimerCancel, work::timer_cancel::<Paused, Timers>),
        (Case::TimerFire, work::timer_fire::<Paused, Timers>),
    ],
};

impl Runs for CurrentThread {
    fn both(one: impl TaskFuture, other: impl TaskFuture) {
        runtime().block_on(async {
            let tasks = [tokio::spawn(one), tokio::spawn(other)];
            for task in tasks {
                task.await.expect("the task does not panic");
            }
        });
    }

    fn all<F: TaskFuture>(tasks: impl Iterator<Item = F>) {
        end_all(&runtime(), tasks);
    }
}

/// With a clock that stands still, and jumps to the next timer when there is nothing else to do.
struct Paused;

impl Runs for Paused {
    fn both(one: impl TaskFuture, other: impl TaskFuture) {
        CurrentThread::both(one, other);
    }

    /// The runtime is leaked with the timers that a case has: it would take them all out.
    fn all<F: TaskFuture>(tasks: impl Iterator<Item = F>) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        end_all(Box::leak(Box::new(runtime.expect("time asks nothing of the system"))), tasks);
    }
}

fn end_all<F: TaskFuture>(runtime: &Runtime, tasks: impl Iterator<Item = F>) {
    runtime.block_on(async {
        let tasks: Vec<_> = tasks.map(tokio::spawn).collect();
        for task in tasks {
            task.await.expect("the task does not panic");
        }
    });
}

impl Permits for Semaphore {
    fn new(permits: u32) -> Self {
        Self::new(permits as usize)
    }

    async fn pass(&'static self) {
        drop(self.acquire().await);
    }

    async fn take(&'static self) {
        self.acquire().await.expect("nobody closes it").forget();
    }

    fn put(&'static self) {
        self.add_permits(1);
    }
}

impl Lock for Mutex<()> {
    type Guard = MutexGuard<'static, ()>;

    fn new() -> Self {
        Self::new(())
    }

    fn lock(&'static self) -> impl Future<Output = Self::Guard> + Send {
        self.lock()
    }
}

struct Values;

impl Channel for Values {
    type Sender = Sender<u64>;
    type Receiver = Receiver<u64>;

    fn new() -> (Self::Sender, Self::Receiver) {
        mpsc::channel(16)
    }

    async fn send(sender: &mut Self::Sender, value: u64) {
        Sender::send(sender, value).await.expect("the receiver is there");
    }

    async fn receive(receiver: &mut Self::Receiver) -> u64 {
        receiver.recv().await.expect("the sender is there")
    }
}

struct Timers;

impl Time for Timers {
    type Sleep = Sleep;

    fn sleep(duration: Duration) -> Sleep {
        tokio::time::sleep(duration)
    }
}
