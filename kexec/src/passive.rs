//! Work at `PASSIVE_LEVEL`, for tasks that are polled above it.
#![forbid(unsafe_code)]

use core::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project::{pin_project, pinned_drop};

use crate::{
    Cancelled, Executor, JoinHandle, SpawnError, Table, Vacancy,
    irql::Passive,
    platform::AnyFuture,
    task_size,
    task_table::{Kind, Leaf},
};

/// A way to `PASSIVE_LEVEL` and back: an executor that polls there, and slots for what is to be done.
///
/// A task of a DPC may not open a file, touch paged memory, or wait for a thread. What needs that is a closure that is run
/// elsewhere, while the task is parked:
///
/// ```
/// use kexec::{
///     Budget, Executor, PassiveWork, Pool,
///     irql::{Dispatch, Passive},
///     platform::thread::{Thread, passive},
///     task_size,
/// };
///
/// static WORKER: Executor<Thread<Passive>> = Executor::new(Thread::new(), Budget::DEFAULT);
/// static SLOTS: Pool<256, 2> = Pool::new();
/// static PASSIVE: PassiveWork<Thread<Passive>, 256> = PassiveWork::new(&WORKER, &SLOTS);
///
/// async fn read_parameter(_at: &mut Dispatch, name: &'static str) -> Option<usize> {
///     let opened = PASSIVE.run(async move |_at: &mut Passive| name.len()).await;
///     // Back at `DISPATCH_LEVEL`.
///     opened.ok()
/// }
///
/// static DPC: Executor<Thread<Dispatch>> = Executor::new(Thread::new(), Budget::DEFAULT);
/// static READS: Pool<{ task_size(&read_parameter) }, 1> = Pool::new();
///
/// WORKER.start().expect("this is the first start");
/// DPC.start().expect("this is the first start");
/// let read = DPC.spawn(&READS, read_parameter, "RxQueues").expect("a slot is free");
/// assert_eq!(pollster::block_on(read), Ok(Some(8)));
/// ```
#[derive(Debug)]
pub struct PassiveWork<P: AnyFuture<Level = Passive>, const S: usize> {
    executor: &'static Executor<P>,
    slots: &'static Table<S>,
}

impl<P: AnyFuture<Level = Passive>, const S: usize> PassiveWork<P, S> {
    /// Work for this executor, as much at a time as there are slots, each of up to `S` bytes: see
    /// [`passive_size`]. The slots should be of no other use.
    #[must_use]
    pub const fn new(executor: &'static Executor<P>, slots: &'static Table<S>) -> Self {
        Self { executor, slots }
    }

    /// Runs `work` at `PASSIVE_LEVEL`: waits for a slot if none is free, then for the outcome. To be called and polled
    /// up to `DISPATCH_LEVEL`; work that does not fit into a slot does not compile.
    ///
    /// What the work needs is moved into it, since it may outlive the future.
    ///
    /// **Cancel-safe:** *may have happened*. Dropping the future asks the work to end at its next park, without waiting for
    /// that: what it has done by then is done. Work that may not be torn is awaited in a [`shielded`](crate::shielded) section.
    ///
    /// # Errors
    ///
    /// [`Cancelled`]: the executor was closed, or the work has panicked on a host.
    #[track_caller]
    pub fn run<T, F>(&self, work: F) -> RunPassive<P, S, T, F>
    where
        T: Send + 'static,
        F: AsyncFnOnce(&mut Passive) -> T + Send + 'static,
    {
        RunPassive {
            executor: self.executor,
            slots: self.slots,
            stage: Stage::Waits(Some(work), None),
            leaf: Leaf::new(&PASSIVE),
        }
    }
}

/// The size in bytes of a slot for [work](PassiveWork::run) of this kind.
#[must_use]
pub const fn passive_size<T, F>(_work: &F) -> usize
where
    F: AsyncFnOnce(&mut Passive) -> T,
{
    task_size(&call::<T, F>)
}

async fn call<T, F: AsyncFnOnce(&mut Passive) -> T>(at: &mut Passive, work: F) -> T {
    work(at).await
}

static PASSIVE: Kind = Kind::new("passive work");

/// The future of [`PassiveWork::run`].
#[pin_project(PinnedDrop)]
#[must_use = "nothing is run before the first poll"]
pub struct RunPassive<P: AnyFuture<Level = Passive>, const S: usize, T, F> {
    executor: &'static Executor<P>,
    slots: &'static Table<S>,
    #[pin]
    stage: Stage<T, F>,
    leaf: Leaf,
}

#[pin_project(project = StageProject)]
enum Stage<T, F> {
    /// To be spawned, when a slot is free.
    Waits(Option<F>, #[pin] Option<Vacancy>),
    /// Spawned.
    Runs(JoinHandle<T>),
}

impl<P, const S: usize, T, F> Future for RunPassive<P, S, T, F>
where
    P: AnyFuture<Level = Passive>,
    T: Send + 'static,
    F: AsyncFnOnce(&mut Passive) -> T + Send + 'static,
{
    type Output = Result<T, Cancelled>;

    /// Polled again after it was ready, it says [`Cancelled`].
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Cancelled>> {
        let mut this = self.project();
        if let StageProject::Waits(work, vacancy) = this.stage.as_mut().project() {
            if let Some(vacancy) = vacancy.as_pin_mut()
                && vacancy.poll(cx).is_pending()
            {
                this.leaf.park(cx);
                return Poll::Pending;
            }
            let Some(work) = work.take() else { return Poll::Ready(Err(Cancelled)) };
            match this.executor.spawn(this.slots, call::<T, F>, work) {
                Ok(handle) => this.stage.set(Stage::Runs(handle)),
                Err(SpawnError::Closed(_)) => return Poll::Ready(Err(Cancelled)),
                Err(SpawnError::Full((_, work))) => {
                    this.stage.set(Stage::Waits(Some(work), Some(this.slots.vacancy())));
                    // In another turn: whoever has the slots may need this CPU.
                    cx.waker().wake_by_ref();
                }
            }
        }
        if let StageProject::Runs(handle) = this.stage.project()
            && let Poll::Ready(outcome) = Pin::new(handle).poll(cx)
        {
            return Poll::Ready(outcome);
        }
        this.leaf.park(cx);
        Poll::Pending
    }
}

#[pinned_drop]
impl<P: AnyFuture<Level = Passive>, const S: usize, T, F> PinnedDrop for RunPassive<P, S, T, F> {
    fn drop(self: Pin<&mut Self>) {
        if let StageProject::Runs(handle) = self.project().stage.project() {
            handle.abort();
        }
    }
}

impl<P: AnyFuture<Level = Passive>, const S: usize, T, F> fmt::Debug for RunPassive<P, S, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match &self.stage {
            Stage::Waits(..) => "waits for a slot",
            Stage::Runs(_) => "runs",
        };
        f.debug_struct("RunPassive").field("stage", &stage).finish_non_exhaustive()
    }
}
