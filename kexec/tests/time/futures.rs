//! What each future of `kexec::time` does, in each situation in which it may find itself.

use std::{
    future::{pending, poll_fn, ready},
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use futures_util::Stream;
use kexec::{
    Budget, Cancelled, Executor, Pool,
    platform::polling::Polling,
    time::{Behind, Elapsed, Instant, Sleep, Tick, interval, now, sleep, sleep_until, timeout, timeout_at},
    yield_now,
};

use super::{Event, Exec, MS, at, calm, output, slots, task};

/// Zero: the others have their turns first, and the sleep is over in the same run, with nothing armed.
#[test]
fn a_sleep_of_nothing_gives_way() {
    let executor = calm();
    let slots = slots();
    task(executor, slots, move || async move {
        for _ in 0..3 {
            executor.platform().note("zero");
            sleep(Duration::ZERO).await;
        }
    })
    .detach();
    task(executor, slots, move || async move { executor.platform().note("other") }).detach();
    executor.settle();
    let trace = ["ring wake", "run cpu0", "zero", "other", "zero", "zero", "parked after 5"];
    assert_eq!(executor.platform().take_trace(), trace);
}

/// What is over is over at the first poll, whether it was long ago or is this very nanosecond.
#[test]
fn a_deadline_in_the_past() {
    let executor = calm();
    executor.platform().pass(MS * 5);
    let handle = task(executor, slots(), || async {
        for deadline in [Instant::START, at(3), at(5)] {
            let mut sleep = pin!(sleep_until(deadline));
            let mut polls = 0;
            poll_fn(|cx| {
                polls += 1;
                sleep.as_mut().poll(cx)
            })
            .await;
            assert_eq!(polls, 1, "until {deadline:?}");
            assert_eq!(timeout_at(deadline, pending::<()>()).await, Err(Elapsed::Deadline(deadline)));
            assert_eq!(timeout_at(deadline, ready(1)).await, Ok(1));
        }
        now().await
    });
    executor.settle();
    assert_eq!(output(handle), at(5));
    assert_eq!(executor.platform().counts().arms, 0);
}

/// Never is for ever, costs no timer, and ends when the task is cancelled.
#[test]
fn a_deadline_that_never_comes() {
    let executor = calm();
    let sleeps = task(executor, slots(), || sleep_until(Instant::NEVER));
    let waits = task(executor, slots(), || timeout_at(Instant::NEVER, pending::<()>()));
    executor.settle();
    executor.advance(Duration::from_hours(1_000_000));
    assert_eq!((executor.live(), executor.platform().counts().arms), (2, 0));
    assert!(sleeps.abort() && waits.abort());
    executor.settle();
    assert_eq!(sleeps.try_take().expect("it has ended"), Err(Cancelled));
}

/// A sleep counts from its first poll, not from where it was made.
#[test]
fn a_sleep_begins_when_it_is_polled() {
    let executor = calm();
    let handle = task(executor, slots(), move || async move {
        let mut sleep = pin!(sleep(MS));
        assert_eq!(sleep.deadline(), None);
        executor.platform().pass(MS * 5);
        poll_once(sleep.as_mut()).await;
        assert_eq!(sleep.deadline(), Some(at(6)));
        sleep.as_mut().await;
        // Polled again after its end, it is still over.
        sleep.await;
        now().await
    });
    executor.advance(MS * 10);
    assert_eq!(output(handle), at(6));
}

/// Polled more often than its timer fires, a sleep stays what it is, and does not arm again.
#[test]
fn a_sleep_that_is_polled_for_nothing() {
    let executor = calm();
    let handle = task(executor, slots(), || sleep(MS * 10));
    for _ in 0..9 {
        handle.task().wake();
        executor.settle();
        executor.advance(MS);
    }
    assert_eq!((handle.is_finished(), executor.platform().counts().arms), (false, 1));
    executor.advance(MS);
    assert!(handle.is_finished());
}

/// A sleep that has given out of its task: dropped in each state that it can be in, by whoever has it.
#[test]
fn dropped_in_every_state() {
    let executor = calm();
    let (unpolled, set, fired) = (boxed(executor, 0), boxed(executor, 1), boxed(executor, 1));
    executor.advance(MS * 2);
    let again = boxed(executor, 1);
    let sleeps = task(executor, slots(), || sleep(MS * 3));
    executor.settle();
    let other = thread::spawn(move || drop((unpolled, set, fired)));
    other.join().expect("a drop does not panic");
    drop(again);
    executor.advance(MS * 3);
    assert!(sleeps.is_finished());
}

/// A sleep of a millisecond in a box, polled so many times by a task that is gone.
#[expect(clippy::async_yields_async, reason = "the task gives the sleep away")]
fn boxed(executor: Exec, polls: u32) -> Pin<Box<Sleep>> {
    let handle = task(executor, slots(), move || async move {
        let mut sleep = Box::pin(sleep(MS));
        for _ in 0..polls {
            poll_once(sleep.as_mut()).await;
        }
        sleep
    });
    executor.settle();
    output(handle)
}

async fn poll_once(mut sleep: Pin<&mut Sleep>) {
    poll_fn(|cx| {
        assert!(sleep.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}

/// A box that is leaked with its sleep stays in the heap, fires for nobody, and disturbs nobody.
#[test]
fn a_sleep_that_is_forgotten() {
    let executor = calm();
    for _ in 0..10 {
        Box::leak(Box::new(boxed(executor, 1)));
    }
    let sleeps = task(executor, slots(), || sleep(MS * 2));
    executor.advance(MS * 2);
    assert!(sleeps.is_finished());
    assert_eq!(executor.stats().stale, 10, "whom it woke was gone");
}

/// A sleep that one task began and another goes on with wakes the other.
#[test]
fn a_sleep_that_changes_hands() {
    let executor = calm();
    let sleep = boxed(executor, 1);
    let handle = task(executor, slots(), || sleep);
    executor.settle();
    executor.advance(MS);
    assert!(handle.is_finished());
    assert_eq!(executor.platform().counts().arms, 1);
}

/// The same between two executors: the timer goes over to the other's clock, alarm and heap.
#[test]
fn a_sleep_that_changes_executors() {
    let (first, second) = (calm(), calm());
    let sleep = boxed(first, 1);
    let handle = task(second, slots(), || sleep);
    second.settle();
    first.advance(MS * 5);
    assert!(!handle.is_finished(), "it is not the first one's any more");
    second.advance(MS);
    assert!(handle.is_finished());
    // And it is dropped there, when the first has long closed.
    let sleep = boxed(first, 1);
    let mut closing = pin!(first.close().expect("nobody else closes it"));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(closing.as_mut().poll(&mut cx).is_pending());
    first.settle();
    assert!(closing.as_mut().poll(&mut cx).is_ready(), "a sleep that was given away keeps nobody open");
    let handle = task(second, slots(), || sleep);
    second.advance(MS * 10);
    assert!(handle.is_finished());
}

/// A sleep that is polled between two runs, with a task's waker: the next run is asked for, and arms the platform.
#[test]
fn a_sleep_that_is_polled_outside_of_a_run() {
    let (executor, wakers) = (calm(), Arc::new(Mutex::new(Vec::new())));
    let into = wakers.clone();
    task(executor, slots(), move || {
        poll_fn(move |cx| {
            into.lock().expect("nobody panicked").push(cx.waker().clone());
            Poll::<()>::Pending
        })
    })
    .detach();
    executor.settle();
    let waker = wakers.lock().expect("nobody panicked").pop().expect("it was polled");
    let mut sleep = pin!(sleep(MS));
    assert!(sleep.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    executor.advance(MS);
    assert!(sleep.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
    assert_eq!(wakers.lock().expect("nobody panicked").len(), 2, "once to arm, once when it is over");
}

/// The future that is ready at the moment of the deadline wins; the timeout's own future is dropped by it, not before.
#[test]
fn a_timeout_at_the_last_moment() {
    let executor = calm();
    let (event, dropped) = (Event::default(), Arc::new(()));
    let (waits, held) = (event.clone(), dropped.clone());
    let handle = task(executor, slots(), move || async move {
        timeout(MS, async move {
            waits.wait().await;
            drop(held);
        })
        .await
    });
    executor.settle();
    executor.platform().pass(MS);
    event.set();
    executor.settle();
    assert_eq!(output(handle), Ok(()));
    assert_eq!(Arc::strong_count(&dropped), 1);
}

/// A timeout says which deadline has passed, in words for whoever reads a log.
#[test]
fn what_elapsed_says() {
    let executor = calm();
    let handle = task(executor, slots(), || timeout(MS * 5, pending::<()>()));
    executor.advance(MS * 7);
    let elapsed = output(handle).expect_err("it never ends");
    assert_eq!(elapsed, Elapsed::Deadline(at(5)));
    assert_eq!(
        elapsed.to_string(),
        "not ready at its deadline, +5ms; try again, or give up what it waits for"
    );
}

/// A timeout of nothing polls its future once, and does not wait.
#[test]
fn a_timeout_of_nothing() {
    let executor = calm();
    let polls = Arc::new(Mutex::new(0));
    let seen = polls.clone();
    let handle = task(executor, slots(), move || async move {
        let counts = poll_fn(|_| {
            *seen.lock().expect("nobody panicked") += 1;
            Poll::<()>::Pending
        });
        timeout(Duration::ZERO, counts).await
    });
    executor.settle();
    assert_eq!(output(handle), Err(Elapsed::Deadline(Instant::START)));
    assert_eq!(*polls.lock().expect("nobody panicked"), 1);
}

/// Collects ticks, each of which is followed by so many milliseconds of work.
fn ticks(behind: Behind, work: &'static [u64]) -> Vec<(Tick, Instant)> {
    let executor = calm();
    let handle = task(executor, slots(), move || async move {
        let mut every = interval(MS * 10).when_behind(behind);
        let mut ticks = Vec::new();
        for millis in work {
            let tick = every.tick().await;
            ticks.push((tick, now().await));
            executor.platform().pass(MS * u32::try_from(*millis).expect("it is small"));
        }
        ticks
    });
    executor.advance(Duration::from_secs(1));
    output(handle)
}

/// In time, the two policies are one: a tick each period, the first after one.
#[test]
fn an_interval_in_time() {
    for behind in [Behind::Skip, Behind::Delay] {
        let expected = [10, 20, 30, 40].map(|millis| (Tick { at: at(millis), missed: 0 }, at(millis)));
        assert_eq!(ticks(behind, &[0, 3, 9, 0]), expected);
    }
}

/// Late by 25 and by exactly one period: the schedule stands, and what was missed is left out and told.
#[test]
fn an_interval_that_skips() {
    let expected = [(10, 0, 10), (20, 2, 45), (50, 0, 50), (60, 1, 70), (80, 0, 80)];
    let expected = expected.map(|(due, missed, came)| (Tick { at: at(due), missed }, at(came)));
    assert_eq!(ticks(Behind::Skip, &[35, 0, 20, 0, 0]), expected);
}

/// The same with the schedule moved.
#[test]
fn an_interval_that_is_delayed() {
    let expected = [(10, 0, 10), (20, 2, 45), (55, 0, 55), (65, 1, 75), (85, 0, 85)];
    let expected = expected.map(|(due, missed, came)| (Tick { at: at(due), missed }, at(came)));
    assert_eq!(ticks(Behind::Delay, &[35, 0, 20, 0, 0]), expected);
}

/// A tick that nobody waits for to the end is not lost, and does not begin the schedule anew.
#[test]
fn a_tick_that_is_given_up() {
    let executor = calm();
    let handle = task(executor, slots(), || async {
        let mut every = interval(MS * 10);
        for _ in 0..3 {
            assert!(timeout(MS * 3, every.tick()).await.is_err());
        }
        (every.tick().await, now().await)
    });
    executor.advance(MS * 50);
    assert_eq!(output(handle), (Tick { at: at(10), missed: 0 }, at(10)));
}

/// A task that is behind for ever, and one whose period is nothing, do not keep another from its turn.
#[test]
fn ticks_that_are_always_late_give_way() {
    for (period, work) in [(Duration::ZERO, MS), (Duration::ZERO, Duration::ZERO), (MS, MS * 3)] {
        let executor = calm();
        let stop = Event::default();
        let seen = stop.clone();
        let slots = slots();
        let restless = task(executor, slots, move || async move {
            let mut every = interval(period);
            let mut turns = 0;
            while timeout(Duration::ZERO, seen.wait()).await.is_err() {
                turns += 1;
                assert!(turns < 1000, "period {period:?}: the other task starves");
                let ticked = every.tick().await;
                assert!(ticked.at <= now().await);
                executor.platform().pass(work);
            }
        });
        task(executor, slots, move || async move {
            for _ in 0..10 {
                yield_now().await;
            }
            stop.set();
        })
        .detach();
        executor.advance(Duration::from_secs(1));
        assert!(restless.is_finished(), "period {period:?}");
    }
}

/// As a stream, an interval gives the same ticks, and keeps its timer from one to the next.
#[test]
fn an_interval_as_a_stream() {
    let executor = calm();
    let handle = task(executor, slots(), move || async move {
        let mut stream = pin!(interval(MS * 10).into_stream());
        let mut seen = Vec::new();
        for work in [0, 25, 0, 0] {
            let tick = poll_fn(|cx| stream.as_mut().poll_next(cx)).await.expect("it has no end");
            seen.push((tick.at, tick.missed));
            executor.platform().pass(MS * work);
        }
        seen
    });
    executor.advance(MS * 100);
    assert_eq!(output(handle), [(at(10), 0), (at(20), 0), (at(30), 1), (at(50), 0)]);
}

/// Intervals whose next tick cannot be told wait for ever; a schedule that long does not wrap.
#[test]
fn an_interval_of_all_time() {
    let executor = calm();
    for period in [Duration::MAX, Duration::from_nanos(u64::MAX)] {
        let handle = task(executor, slots(), move || async move { interval(period).tick().await });
        executor.advance(Duration::from_hours(1_000_000));
        assert!(!handle.is_finished());
    }
}

/// Where nothing tells the time, a timeout says so, at once; what is ready is ready all the same.
#[test]
fn a_timeout_without_a_clock() {
    let elapsed = pollster::block_on(timeout(MS, pending::<()>())).expect_err("nobody watches the time");
    assert_eq!(elapsed, Elapsed::NoClock);
    let says = "a timeout without a clock; await it in a task, with the task's own waker";
    assert_eq!(elapsed.to_string(), says);
    assert_eq!(pollster::block_on(timeout(MS, ready(1))), Ok(1));
}

/// A sleep there shows itself in a test, by a panic that says what to do.
#[test]
#[should_panic(expected = "polled with a waker that is no task's; spawn the future that awaits it")]
fn a_sleep_without_a_clock() {
    pollster::block_on(sleep(MS));
}

/// And so does an interval, between which and its task somebody put a waker of his own.
#[test]
#[should_panic(expected = "there is no clock")]
fn an_interval_behind_another_waker() {
    let executor = calm();
    task(executor, slots(), || async {
        let mut cx = Context::from_waker(Waker::noop());
        pin!(interval(MS).tick()).as_mut().poll(&mut cx).is_ready()
    })
    .detach();
    executor.settle();
}

/// On a platform without a clock time stands still: nothing sleeps to its end, and nothing is late.
#[test]
fn a_platform_without_a_clock() {
    static POOL: Pool<512, 4> = Pool::new();
    static EXECUTOR: Executor<Polling> = Executor::new(Polling::new(), Budget::DEFAULT);
    let run = || {
        while EXECUTOR.platform().is_rung() {
            EXECUTOR.try_run(&mut ());
        }
    };
    let zero = EXECUTOR.spawn_with(&POOL, || sleep(Duration::ZERO)).expect("a slot is free");
    let sleeps = EXECUTOR.spawn_with(&POOL, || sleep(Duration::from_nanos(1))).expect("a slot is free");
    let waits = EXECUTOR.spawn_with(&POOL, || timeout(MS, yield_now())).expect("a slot is free");
    run();
    assert!(zero.is_finished() && waits.is_finished() && !sleeps.is_finished());
    assert!(sleeps.abort());
    run();
    assert!(sleeps.is_finished());
}
