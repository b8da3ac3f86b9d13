//! What every platform's executor must do: one suite, run by each platform's tests.
//!
//! A platform brings a [`Rig`], three lines or so, and
//!
//! ```text
//! kexec::conformance_tests!(MyRig::default());
//! ```
//!
//! makes one `#[test]` of each check below. They use `Send` futures only, so that they fit any platform, and
//! assert what holds whatever the schedule is, and of time only that nothing comes too soon; exact sequences of doorbells and polls are for the
//! [mock](super::mock)'s own tests.
#![forbid(unsafe_code)]
#![expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a check fails by panicking"
)]

use core::{
    future::{Future, pending, poll_fn},
    pin::pin,
    sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    task::{Context, Poll, Waker},
    time::Duration,
};
use std::{
    sync::{Arc, Mutex},
    task::Wake,
    thread,
    vec::Vec,
};

use super::Platform;
use crate::{
    Cancelled, Executor, JoinHandle, Pool, SpawnError, TaskRef,
    platform::{mock::keep, thread::passive},
    time::{Elapsed, Instant, interval, now, sleep, sleep_until, timeout},
    yield_now,
};

/// A platform with a clock, for the suite.
pub trait Rig {
    /// The platform.
    type Platform: Platform;

    /// An executor, with a budget of a few polls a run, that runs when `until` or the platform says so.
    fn executor(&self) -> &'static Executor<Self::Platform>;

    /// Goes on until `done` says so. Panics if that takes for ever.
    fn until(&self, done: &mut dyn FnMut() -> bool);
}

/// Makes a test of each check of [`conformance`](self), for the rig that the expression makes.
#[macro_export]
macro_rules! conformance_tests {
    ($rig:expr) => {
        $crate::conformance_tests! { $rig;
            joins_a_task
            drops_what_nobody_joins
            is_woken_from_another_thread
            keeps_the_order_of_wakes
            yields_to_others
            aborts_once
            calls_the_epilogue_once
            gives_back_what_does_not_fit
            ignores_stale_names
            joins_across_executors
            sleeps
            sleeps_side_by_side
            times_out
            ticks
            forgets_a_sleep
            closes
            closes_with_timers
            closes_with_an_output_unread
        }
    };
    ($rig:expr; $($check:ident)*) => {
        $(
            #[test]
            fn $check() {
                $crate::platform::conformance::$check(&$rig);
            }
        )*
    };
}

/// Counts the drops of what it is kept in.
#[derive(Clone, Default)]
struct Drops(Arc<AtomicU32>);

impl Drops {
    fn guard(&self) -> Guard {
        Guard(self.0.clone())
    }

    fn count(&self) -> u32 {
        self.0.load(SeqCst)
    }
}

struct Guard(Arc<AtomicU32>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// A waker of no executor, which remembers that it was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

type Slots = Pool<512, 4>;

fn slots() -> &'static Slots {
    keep(Slots::new())
}

/// A task's output reaches its handle, which says once that it is there.
pub fn joins_a_task<R: Rig>(rig: &R) {
    let executor = rig.executor();
    let mut handle = executor.spawn_with(slots(), || async { 6 * 7 }).expect("a slot is free");
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut cx = Context::from_waker(&waker);
    if pin!(&mut handle).poll(&mut cx).is_pending() {
        rig.until(&mut || woken.0.load(SeqCst));
        assert_eq!(pin!(&mut handle).poll(&mut cx), Poll::Ready(Ok(42)));
    }
    assert_eq!(pin!(&mut handle).poll(&mut cx), Poll::Ready(Err(Cancelled)), "there is one output");
    assert_eq!(executor.live(), 0);
}

/// An output that nobody wants is dropped, whether the handle goes before the task has ended or after.
pub fn drops_what_nobody_joins<R: Rig>(rig: &R) {
    let (executor, drops) = (rig.executor(), Drops::default());
    let guard = drops.guard();
    executor.spawn_with(slots(), || async { guard }).expect("a slot is free").detach();
    rig.until(&mut || executor.live() == 0);
    assert_eq!(drops.count(), 1);
    let guard = drops.guard();
    let handle = executor.spawn_with(slots(), || async { guard }).expect("a slot is free");
    rig.until(&mut || handle.is_finished());
    assert_eq!((drops.count(), executor.live()), (1, 1), "the output is kept");
    drop(handle);
    // The run that made the output may still be letting go of the slot.
    rig.until(&mut || executor.live() == 0);
    assert_eq!(drops.count(), 2);
}

/// A parked task is woken by a thread that knows nothing of the platform.
pub fn is_woken_from_another_thread<R: Rig>(rig: &R) {
    let executor = rig.executor();
    let (up, name) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(None::<Waker>)));
    let (seen, cell) = (up.clone(), name.clone());
    let handle = executor
        .spawn_with(slots(), move || {
            poll_fn(move |cx| {
                *cell.lock().expect("nobody panicked") = Some(cx.waker().clone());
                if seen.load(SeqCst) == 100 { Poll::Ready(()) } else { Poll::Pending }
            })
        })
        .expect("a slot is free");
    rig.until(&mut || name.lock().expect("nobody panicked").is_some());
    let other = thread::spawn(move || {
        for _ in 0..100 {
            up.fetch_add(1, SeqCst);
            name.lock().expect("nobody panicked").as_ref().expect("it was polled").wake_by_ref();
        }
    });
    rig.until(&mut || handle.is_finished());
    other.join().expect("it does not panic");
}

/// Tasks have their turns in the order in which they became ready.
pub fn keeps_the_order_of_wakes<R: Rig>(rig: &R) {
    let (executor, order) = (rig.executor(), Arc::new(Mutex::new(Vec::new())));
    for n in 0..4 {
        let order = order.clone();
        let task = async move {
            for _ in 0..10 {
                order.lock().expect("nobody panicked").push(n);
                yield_now().await;
            }
        };
        executor.spawn_with(slots(), || task).map(drop).ok();
    }
    let table = slots();
    for n in 0..4 {
        let order = order.clone();
        let first = async move { order.lock().expect("nobody panicked").push(10 + n) };
        executor.spawn_with(table, || first).expect("a slot is free").detach();
    }
    rig.until(&mut || executor.live() == 0);
    let order = order.lock().expect("nobody panicked");
    let later: Vec<_> = order.iter().filter(|n| **n >= 10).collect();
    assert_eq!(later, [&10, &11, &12, &13]);
}

/// A task that is always ready does not keep another from its turn.
pub fn yields_to_others<R: Rig>(rig: &R) {
    let (executor, stop) = (rig.executor(), Arc::new(AtomicBool::new(false)));
    let seen = stop.clone();
    let table = slots();
    let restless = executor
        .spawn_with(table, || async move {
            while !seen.load(SeqCst) {
                yield_now().await;
            }
        })
        .expect("a slot is free");
    executor.spawn_with(table, || async move { stop.store(true, SeqCst) }).expect("a slot is free").detach();
    rig.until(&mut || restless.is_finished());
}

/// An aborted task is dropped once, where it is polled, and its handle says so.
pub fn aborts_once<R: Rig>(rig: &R) {
    let (executor, drops) = (rig.executor(), Drops::default());
    let guard = drops.guard();
    let mut handle = executor
        .spawn_with(slots(), || async move {
            let _guard = guard;
            pending::<()>().await;
        })
        .expect("a slot is free");
    let task = handle.task();
    assert!(handle.abort());
    rig.until(&mut || handle.is_finished());
    assert!(!handle.abort(), "it has ended");
    assert!(!task.is_live());
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(pin!(&mut handle).poll(&mut cx), Poll::Ready(Err(Cancelled)));
    assert_eq!(drops.count(), 1);
}

/// Done or cancelled, an epilogue is called once, when the future is gone and while the task still counts.
pub fn calls_the_epilogue_once<R: Rig>(rig: &R) {
    let executor = rig.executor();
    for cancelled in [false, true] {
        let (drops, outcomes) = (Drops::default(), Arc::new(Mutex::new(Vec::new())));
        let (guard, gone, noted) = (drops.guard(), drops.clone(), outcomes.clone());
        let task = executor
            .submit_with(
                slots(),
                move || async move {
                    let _guard = guard;
                    yield_now().await;
                    if cancelled {
                        pending::<()>().await;
                    }
                    7
                },
                move |_, outcome| {
                    let counted = executor.live() == 1;
                    noted.lock().expect("nobody panicked").push((outcome, gone.count(), counted));
                },
            )
            .expect("a slot is free");
        if cancelled {
            task.abort();
        }
        rig.until(&mut || executor.live() == 0);
        let outcome = if cancelled { Err(Cancelled) } else { Ok(7) };
        assert_eq!(*outcomes.lock().expect("nobody panicked"), [(outcome, 1, true)]);
        assert_eq!(drops.count(), 1);
    }
}

/// A store that is full gives the task back, whole; a slot that is free again takes it.
pub fn gives_back_what_does_not_fit<R: Rig>(rig: &R) {
    let (executor, table) = (rig.executor(), slots());
    let parked: Vec<_> =
        (0..4).map(|_| executor.spawn_with(table, pending::<()>).expect("a slot is free")).collect();
    let value = std::string::String::from("kept");
    let error = executor.spawn_with(table, move || async move { value }).expect_err("all slots are taken");
    assert!(matches!(error, SpawnError::Full(_)), "{error}");
    for task in &parked {
        task.abort();
    }
    rig.until(&mut || parked.iter().all(JoinHandle::is_finished));
    drop(parked);
    rig.until(&mut || executor.live() == 0);
    let again = executor.spawn_with(table, error.into_inner()).expect("all slots are free");
    rig.until(&mut || again.is_finished());
    assert_eq!(again.try_take().expect("it has ended"), Ok("kept".into()));
}

/// A name that has outlived its task wakes nobody to harm, aborts nobody, and costs no slot.
pub fn ignores_stale_names<R: Rig>(rig: &R) {
    let (executor, table) = (rig.executor(), slots());
    let mut stale: Vec<TaskRef> = Vec::new();
    for round in 0..20_u32 {
        let handle = executor
            .spawn_with(table, move || async move {
                yield_now().await;
                round
            })
            .expect("a slot is free");
        for name in &stale {
            name.wake();
            assert!(!name.abort());
        }
        rig.until(&mut || handle.is_finished());
        stale.push(handle.task());
        assert_eq!(handle.try_take().expect("it has ended"), Ok(round));
        rig.until(&mut || executor.live() == 0);
        for name in &stale {
            name.wake();
        }
    }
}

/// A task of one executor waits for one of another.
pub fn joins_across_executors<R: Rig>(rig: &R) {
    let (one, other) = (rig.executor(), rig.executor());
    let inner = one
        .spawn_with(slots(), || async {
            for _ in 0..10 {
                yield_now().await;
            }
            5
        })
        .expect("a slot is free");
    let outer =
        other.spawn_with(slots(), || async move { inner.await.map(|n| n + 1) }).expect("a slot is free");
    rig.until(&mut || outer.is_finished());
    assert_eq!(outer.try_take().expect("it has ended"), Ok(Ok(6)));
}

/// Any time that a platform can tell from none, and that nobody minds to wait for.
const SOME_TIME: Duration = Duration::from_millis(2);

/// A sleep ends, and not before its time; neither does one that has been moved after it was made.
pub fn sleeps<R: Rig>(rig: &R) {
    let executor = rig.executor();
    let handle = executor
        .spawn_with(slots(), || async {
            let begin = now().await;
            sleep(SOME_TIME).await;
            let middle = now().await;
            sleep_until(middle.after(SOME_TIME)).tolerance(SOME_TIME).await;
            // What has been is ready.
            sleep_until(begin).await;
            (begin, middle, now().await)
        })
        .expect("a slot is free");
    rig.until(&mut || handle.is_finished());
    let (begin, middle, end) = handle.try_take().expect("it has ended").expect("nobody cancels it");
    assert!(middle >= begin.after(SOME_TIME), "early: {begin:?} to {middle:?}");
    assert!(end >= middle.after(SOME_TIME), "early: {middle:?} to {end:?}");
}

/// Several tasks sleep at once, the longest first: each has its own end.
pub fn sleeps_side_by_side<R: Rig>(rig: &R) {
    let (executor, table) = (rig.executor(), slots());
    let sleeper = |n: u32| async move {
        let begin = now().await;
        sleep(SOME_TIME * n).await;
        now().await.since(begin) >= SOME_TIME * n
    };
    let handles =
        [4, 1, 3, 2].map(|n| executor.spawn_with(table, move || sleeper(n)).expect("a slot is free"));
    rig.until(&mut || handles.iter().all(JoinHandle::is_finished));
    let late_enough = handles.map(|handle| handle.try_take().expect("it has ended"));
    assert_eq!(late_enough, [Ok(true); 4]);
}

/// What is ready wins against no time at all; what is not is given up at its deadline, and can be waited for again.
pub fn times_out<R: Rig>(rig: &R) {
    let executor = rig.executor();
    let handle = executor
        .spawn_with(slots(), || async {
            assert_eq!(timeout(Duration::ZERO, async { 1 }).await, Ok(1));
            assert_eq!(timeout(Duration::MAX, sleep(SOME_TIME)).await, Ok(()));
            let begin = now().await;
            let mut long = pin!(sleep(SOME_TIME * 3));
            let mut attempts = 1;
            while let Err(elapsed) = timeout(SOME_TIME, long.as_mut()).await {
                let end = now().await;
                assert!(matches!(elapsed, Elapsed::Deadline(at) if at <= end), "{elapsed:?} at {end:?}");
                attempts += 1;
            }
            (begin, now().await, attempts)
        })
        .expect("a slot is free");
    rig.until(&mut || handle.is_finished());
    let (begin, end, attempts) = handle.try_take().expect("it has ended").expect("nobody cancels it");
    assert!(end >= begin.after(SOME_TIME * 3), "early: {begin:?} to {end:?}");
    assert!((1..=4).contains(&attempts), "{attempts} attempts");
}

/// An interval ticks on schedule, and tells how many ticks it left out.
pub fn ticks<R: Rig>(rig: &R) {
    let executor = rig.executor();
    let handle = executor
        .spawn_with(slots(), || async {
            let mut every = interval(SOME_TIME);
            let mut expected = None::<Instant>;
            for _ in 0..4 {
                let (tick, now) = (every.tick().await, now().await);
                assert!(tick.at <= now, "early: {tick:?} at {now:?}");
                assert_eq!(tick.at, expected.unwrap_or(tick.at));
                let skipped = u32::try_from(tick.missed + 1).expect("a few");
                expected = Some(tick.at.after(SOME_TIME * skipped));
            }
        })
        .expect("a slot is free");
    rig.until(&mut || handle.is_finished());
    assert_eq!(handle.try_take().expect("it has ended"), Ok(()));
}

/// A sleep that nobody waits for any more harms nobody: one that is dropped, one that another task goes on with,
/// and one that is dropped by another thread.
pub fn forgets_a_sleep<R: Rig>(rig: &R) {
    let (executor, table) = (rig.executor(), slots());
    let hands = Arc::new(Mutex::new(Vec::new()));
    let into = hands.clone();
    let begins = executor
        .spawn_with(table, || async move {
            for _ in 0..3 {
                let mut long = std::boxed::Box::pin(sleep(SOME_TIME * 2));
                assert!(timeout(Duration::ZERO, long.as_mut()).await.is_err());
                into.lock().expect("nobody panicked").push(long);
            }
        })
        .expect("a slot is free");
    rig.until(&mut || begins.is_finished());
    let mut sleeps = core::mem::take(&mut *hands.lock().expect("nobody panicked")).into_iter();
    drop(sleeps.next());
    let elsewhere = sleeps.next();
    thread::spawn(move || drop(elsewhere)).join().expect("it does not panic");
    let last = sleeps.next().expect("there were three");
    let goes_on = executor.spawn_with(table, || last).expect("a slot is free");
    rig.until(&mut || goes_on.is_finished());
}

/// Polls a close to its end.
fn close<R: Rig>(rig: &R, executor: &'static Executor<R::Platform>) {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut cx = Context::from_waker(&waker);
    let mut closing = pin!(executor.close().expect("nobody else closes it"));
    assert!(executor.close().is_err(), "it is being closed");
    let closed = loop {
        woken.0.store(false, SeqCst);
        match closing.as_mut().poll(&mut cx) {
            Poll::Ready(closed) => break closed,
            Poll::Pending => rig.until(&mut || woken.0.load(SeqCst)),
        }
    };
    passive(|passive| closed.silence(passive));
}

/// A closed executor has dropped its tasks, lets nobody in, and ignores those who knew it.
pub fn closes<R: Rig>(rig: &R) {
    let (executor, drops, table) = (rig.executor(), Drops::default(), slots());
    let handles: Vec<_> = (0..3)
        .map(|_| {
            let guard = drops.guard();
            executor
                .spawn_with(table, || async move {
                    let _guard = guard;
                    pending::<()>().await;
                })
                .expect("a slot is free")
        })
        .collect();
    let names: Vec<_> = handles.into_iter().map(JoinHandle::detach).collect();
    close(rig, executor);
    assert_eq!((executor.live(), drops.count()), (0, 3));
    let refused = executor.spawn_with(table, || async {});
    assert!(matches!(refused, Err(SpawnError::Closed(_))), "{refused:?}");
    for name in names {
        name.wake();
        assert!(!name.abort());
    }
    // A second close has nothing to do.
    let mut cx = Context::from_waker(Waker::noop());
    assert!(pin!(executor.close().expect("nobody else closes it")).poll(&mut cx).is_ready());
    // And the slots serve another executor.
    let other = rig.executor();
    let handle = other.spawn_with(table, || async { 1 }).expect("a slot is free");
    rig.until(&mut || handle.is_finished());
}

/// A close ends sleeps like anything else, whether the first timer is near or far; nothing is left armed.
pub fn closes_with_timers<R: Rig>(rig: &R) {
    for time in [SOME_TIME, Duration::from_hours(1), Duration::MAX] {
        let (executor, drops) = (rig.executor(), Drops::default());
        for _ in 0..4 {
            let guard = drops.guard();
            let task = async move {
                let _guard = guard;
                sleep(time).await;
            };
            executor.spawn_with(slots(), || task).expect("a slot is free").detach();
        }
        rig.until(&mut || executor.stats().polls >= 4);
        close(rig, executor);
        assert_eq!((executor.live(), drops.count()), (0, 4));
    }
}

/// An output that nobody has taken keeps an executor open.
pub fn closes_with_an_output_unread<R: Rig>(rig: &R) {
    let executor = rig.executor();
    let mut unread = Some(executor.spawn_with(slots(), || async { 1 }).expect("a slot is free"));
    rig.until(&mut || unread.as_ref().is_some_and(JoinHandle::is_finished));
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut cx = Context::from_waker(&waker);
    let mut closing = pin!(executor.close().expect("nobody else closes it"));
    assert!(closing.as_mut().poll(&mut cx).is_pending());
    rig.until(&mut || {
        let _ = woken.0.swap(false, SeqCst);
        if closing.as_mut().poll(&mut cx).is_ready() {
            assert!(unread.is_none(), "closed with an output unread");
            return true;
        }
        unread = None;
        false
    });
}
