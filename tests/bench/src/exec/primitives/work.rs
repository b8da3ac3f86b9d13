//! The cases, generic over who runs the tasks and what these wait for.
//!
//! Each case ends: its tasks count down, and whoever runs them returns when nothing is left to do. A case checks that
//! all its tasks have ended, so that no figure is of work that was not done.

use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{FutureExt, select_biased};

use crate::exec::cases::{Executor, TaskFuture};
use crate::exec::futures::Yields;

/// How many timers are pending.
pub const TIMERS: usize = 1000;

/// Runs tasks until they have ended.
pub trait Runs {
    /// Two tasks.
    fn both(one: impl TaskFuture, other: impl TaskFuture);
    /// Any number.
    fn all<F: TaskFuture>(tasks: impl Iterator<Item = F>);
}

impl<E: Executor> Runs for E {
    fn both(one: impl TaskFuture, other: impl TaskFuture) {
        let (pool, other_pool) = (E::pool(), E::pool());
        let mut executor = E::new();
        executor.spawn(&pool, one);
        executor.spawn(&other_pool, other);
        executor.run();
    }

    fn all<F: TaskFuture>(tasks: impl Iterator<Item = F>) {
        let pool = E::pool();
        let mut executor = E::new();
        tasks.for_each(|task| executor.spawn(&pool, task));
        executor.run();
    }
}

/// A semaphore. It is a `static`, as the tasks want it.
pub trait Permits: Send + Sync + Sized + 'static {
    /// With so many permits.
    fn new(permits: u32) -> Self;
    /// Waits for a permit, and gives it back.
    fn pass(&'static self) -> impl Future<Output = ()> + Send;
    /// Waits for a permit, and keeps it.
    fn take(&'static self) -> impl Future<Output = ()> + Send;
    /// Makes a permit of one that was kept.
    fn put(&'static self);
}

/// A mutex, which is a `static`, too.
pub trait Lock: Send + Sync + Sized + 'static {
    /// Unlocks the mutex when it is dropped.
    type Guard: Send;
    /// Unlocked.
    fn new() -> Self;
    /// Waits for it.
    fn lock(&'static self) -> impl Future<Output = Self::Guard> + Send;
}

/// A channel with room for 16 values.
pub trait Channel: 'static {
    /// Its way in.
    type Sender: Send + 'static;
    /// Its way out.
    type Receiver: Send + 'static;
    /// An empty one.
    fn new() -> (Self::Sender, Self::Receiver);
    /// Waits for room.
    fn send(sender: &mut Self::Sender, value: u64) -> impl Future<Output = ()> + Send;
    /// Waits for a value.
    fn receive(receiver: &mut Self::Receiver) -> impl Future<Output = u64> + Send;
}

/// A way to wait for a time.
pub trait Time: 'static {
    /// The wait. It begins at the first poll, or when it is made.
    type Sleep: Future<Output = ()> + Send + 'static;
    /// For so long.
    fn sleep(duration: Duration) -> Self::Sleep;
}

/// How many tasks have ended.
static ENDED: AtomicU64 = AtomicU64::new(0);

async fn counted(task: impl Future<Output = ()>) {
    task.await;
    ENDED.store(ENDED.load(Relaxed) + 1, Relaxed);
}

fn both<R: Runs>(one: impl TaskFuture, other: impl TaskFuture) {
    let before = ENDED.load(Relaxed);
    R::both(counted(one), counted(other));
    assert_eq!(ENDED.load(Relaxed) - before, 2, "tasks have ended");
}

/// Runs `count` tasks of one kind.
///
/// # Panics
///
/// If one of them does not end.
pub fn all<R: Runs, F: TaskFuture>(count: usize, task: impl Fn(usize) -> F) {
    let before = ENDED.load(Relaxed);
    R::all((0..count).map(|index| counted(task(index))));
    assert_eq!(ENDED.load(Relaxed) - before, count as u64, "tasks have ended");
}

fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// See [`Case::Acquire`](super::Case::Acquire).
pub fn acquire<R: Runs, P: Permits>(n: u64) {
    let semaphore = leak(P::new(1));
    all::<R, _>(1, move |_| async move {
        for _ in 0..n {
            black_box(semaphore).pass().await;
        }
    });
}

/// See [`Case::SemaphoreHop`](super::Case::SemaphoreHop).
pub fn semaphore_hop<R: Runs, P: Permits>(n: u64) {
    let [left, right] = [0; 2].map(|permits| leak(P::new(permits)));
    let player = |mine: &'static P, theirs: &'static P| async move {
        for _ in 0..n / 2 {
            theirs.put();
            mine.take().await;
        }
    };
    both::<R>(player(left, right), player(right, left));
}

/// See [`Case::SelectHop`](super::Case::SelectHop).
pub fn select_hop<R: Runs, P: Permits>(n: u64) {
    let [left, right, never] = [0; 3].map(|permits| leak(P::new(permits)));
    let player = |mine: &'static P, theirs: &'static P| async move {
        for _ in 0..n / 2 {
            theirs.put();
            select(never, mine).await;
        }
    };
    both::<R>(player(left, right), player(right, left));
}

/// See [`Case::Select`](super::Case::Select).
pub fn select_ready<R: Runs, P: Permits>(n: u64) {
    let [never, ready] = [0, 1].map(|permits| leak(P::new(permits)));
    all::<R, _>(1, move |_| async move {
        for _ in 0..n {
            select(never, black_box(ready)).await;
            ready.put();
        }
    });
}

/// Takes a permit of whichever has one. Nobody makes any for `never`.
async fn select<P: Permits>(never: &'static P, some: &'static P) {
    let (mut first, mut second) = (pin!(never.take().fuse()), pin!(some.take().fuse()));
    select_biased! {
        () = first => unreachable!("there is no permit"),
        () = second => {}
    }
}

/// See [`Case::MutexHop`](super::Case::MutexHop).
pub fn mutex_hop<R: Runs, L: Lock>(n: u64) {
    let mutex = leak(L::new());
    let player = || async move {
        for _ in 0..n / 2 {
            let guard = mutex.lock().await;
            Yields::new(1).await;
            drop(guard);
        }
    };
    both::<R>(player(), player());
}

/// See [`Case::Channel`](super::Case::Channel).
///
/// # Panics
///
/// If values do not come out as they went in.
pub fn channel<R: Runs, C: Channel>(n: u64) {
    let (mut sender, mut receiver) = C::new();
    let produce = async move {
        for value in 0..n {
            C::send(&mut sender, value).await;
        }
    };
    let consume = async move {
        for value in 0..n {
            assert_eq!(C::receive(&mut receiver).await, value);
        }
    };
    both::<R>(produce, consume);
}

/// One of 64 durations, in no order: whole milliseconds, the grain of the coarsest clock.
fn duration(index: u64) -> Duration {
    Duration::from_millis(1 + (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58))
}

/// A wait that begins, and does not end.
fn begin(timer: Pin<&mut impl Future<Output = ()>>, cx: &mut Context<'_>) {
    assert!(timer.poll(cx).is_pending(), "time stands still");
}

/// Begins waits whose memory is never given back.
async fn set<T: Time>(count: usize) {
    let timers: Vec<T::Sleep> = (0..count as u64).map(|index| T::sleep(duration(index))).collect();
    let mut timers = timers.leak().iter_mut().map(Pin::static_mut);
    poll_fn(|cx| {
        timers.by_ref().for_each(|timer| begin(timer, cx));
        Poll::Ready(())
    })
    .await;
}

/// See [`Case::TimerSet`](super::Case::TimerSet). They stay, so that there are more and more of them.
///
/// # Panics
///
/// If they are more than fit into memory.
pub fn timer_set<R: Runs, T: Time>(n: u64) {
    let count = usize::try_from(n).expect("they fit into memory");
    all::<R, _>(1, move |_| set::<T>(TIMERS + count));
}

/// See [`Case::TimerCancel`](super::Case::TimerCancel).
pub fn timer_cancel<R: Runs, T: Time>(n: u64) {
    all::<R, _>(1, move |_| async move {
        set::<T>(TIMERS).await;
        for index in 0..n {
            let mut timer = pin!(T::sleep(duration(index)));
            poll_fn(|cx| {
                begin(timer.as_mut(), cx);
                Poll::Ready(())
            })
            .await;
        }
    });
}

/// See [`Case::TimerFire`](super::Case::TimerFire).
pub fn timer_fire<R: Runs, T: Time>(n: u64) {
    let rounds = n / TIMERS as u64;
    all::<R, _>(TIMERS, move |index| async move {
        for _ in 0..rounds {
            T::sleep(duration(index as u64)).await;
        }
    });
}
