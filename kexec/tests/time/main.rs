//! Time: when a timer fires, how often the platform is asked for an alarm, and what a strange clock or caller gets.
//!
//! In reading order: [`alarms`], what the platform is told, line by line; [`windows`], that nothing fires early or
//! late, whatever goes wrong; [`futures`], what each of `kexec::time` does in each situation; [`crash`], waiting where
//! nothing comes by itself.

use std::{
    future::{Future, poll_fn},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Poll, Waker},
    time::Duration,
};

use kexec::{
    Budget, Executor, JoinHandle, Pool, Table,
    irql::Dispatch,
    platform::mock::{Mock, Plan, keep},
    time::Instant,
};

mod alarms;
mod crash;
mod futures;
mod windows;

type Exec = &'static Executor<Mock>;
type Slots = &'static Table<512>;

const MS: Duration = Duration::from_millis(1);
/// No run ends by time.
const POLLS: Budget = Budget::new(64, Duration::MAX);

fn calm() -> Exec {
    Executor::leak(Mock::new(Plan::CALM), POLLS)
}

fn slots() -> Slots {
    keep(Pool::<512, 64>::new())
}

/// Room for thousands of tasks.
fn crowd() -> Vec<Slots> {
    (0..40).map(|_| slots()).collect()
}

/// So many milliseconds after the start.
fn at(millis: u64) -> Instant {
    Instant::START.after(Duration::from_millis(millis))
}

/// A task of any future.
#[track_caller]
fn task<T: Send + 'static, F: Future<Output = T> + 'static>(
    executor: Exec,
    slots: Slots,
    build: impl FnOnce() -> F + Send + 'static,
) -> JoinHandle<T> {
    let run = async move |_: &mut Dispatch, ()| build().await;
    executor.spawn(slots, run, ()).expect("a slot is free")
}

/// A task that notes when its sleep is over.
fn sleeper(executor: Exec, slots: Slots, name: &'static str, time: Duration) -> JoinHandle<()> {
    task(executor, slots, move || async move {
        kexec::time::sleep(time).await;
        executor.platform().note(format_args!("{name} at {:?}", executor.platform().time()));
    })
}

#[track_caller]
fn output<T>(handle: JoinHandle<T>) -> T {
    handle.try_take().unwrap_or_else(|_| panic!("it has not ended")).expect("nobody cancels it")
}

/// What a test lets happen.
#[derive(Clone, Default)]
struct Event(Arc<(AtomicBool, std::sync::Mutex<Option<Waker>>)>);

impl Event {
    fn set(&self) {
        self.0.0.store(true, SeqCst);
        if let Some(waker) = self.0.1.lock().expect("nobody panicked").take() {
            waker.wake();
        }
    }

    /// Waits for it, and takes it.
    async fn wait(&self) {
        poll_fn(|cx| {
            if self.0.0.swap(false, SeqCst) {
                return Poll::Ready(());
            }
            *self.0.1.lock().expect("nobody panicked") = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
