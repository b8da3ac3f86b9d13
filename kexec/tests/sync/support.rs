//! Executors, tasks that note when they are through, and wakers that count.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use kexec::{
    Budget, Executor, Pool, Table, TaskRef,
    irql::Dispatch,
    platform::mock::{Mock, Plan, keep},
};

pub(crate) type Exec = &'static Executor<Mock<Dispatch>>;
pub(crate) type Slots = &'static Table<512>;

pub(crate) fn executor(plan: Plan) -> Exec {
    Executor::leak(Mock::new(plan), Budget::new(64, Duration::MAX))
}

pub(crate) fn calm() -> Exec {
    executor(Plan::CALM)
}

pub(crate) fn slots() -> Slots {
    keep(Pool::<512, 16>::new())
}

/// A task that is not waited for.
pub(crate) fn spawn(
    executor: Exec,
    slots: Slots,
    task: impl Future<Output = ()> + Send + 'static,
) -> TaskRef {
    executor.spawn_with(slots, move || task).expect("a slot is free").detach()
}

/// Who is through, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u32>>>);

impl Log {
    pub(crate) fn note(&self, who: u32) {
        self.0.lock().unwrap().push(who);
    }

    /// What was noted since it was last taken.
    pub(crate) fn take(&self) -> Vec<u32> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// A task that notes itself when its wait is over, and drops what it got.
    pub(crate) fn after<F>(&self, executor: Exec, slots: Slots, who: u32, wait: F) -> TaskRef
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let log = self.clone();
        spawn(executor, slots, async move {
            let _got = wait.await;
            log.note(who);
        })
    }
}

/// A waker of no executor, which counts how often it is called.
#[derive(Default)]
pub(crate) struct Calls(AtomicU32);

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl Calls {
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let calls = Arc::<Self>::default();
        (calls.clone(), Waker::from(calls))
    }

    /// Whether it was called since that was last taken.
    #[cfg(not(miri))]
    pub(crate) fn is_called(&self) -> bool {
        self.0.load(Relaxed) != 0
    }

    /// How often it was called since this was last asked.
    pub(crate) fn take(&self) -> u32 {
        self.0.swap(0, Relaxed)
    }
}

/// Polls once, with a waker that does nothing.
pub(crate) fn poll<F: Future + ?Sized>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A value that counts how often it is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Arc<AtomicU32>);

impl Counted {
    pub(crate) fn new() -> (Self, Arc<AtomicU32>) {
        let drops = Arc::<AtomicU32>::default();
        (Self(drops.clone()), drops)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}
