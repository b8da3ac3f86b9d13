//! What the platform is told of timers, and when: little, and never too late.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use kexec::{
    Budget, Executor,
    platform::{
        Alarm,
        mock::{Mock, Plan, Seat},
        thread::passive,
    },
    time::{sleep, sleep_until, timeout},
    yield_now,
};

use super::{Event, Exec, MS, POLLS, at, calm, crowd, sleeper, slots, task};

#[track_caller]
fn assert_trace(executor: Exec, expected: &[&str]) {
    assert_eq!(executor.platform().take_trace(), expected);
}

/// The whole of a sleep: armed when the run parks, run when the alarm goes off, and nothing armed after.
#[test]
fn one_sleep() {
    let executor = calm();
    sleeper(executor, slots(), "a", MS).detach();
    executor.settle();
    assert_trace(executor, &["ring wake", "run cpu0", "arm +1ms to +1ms", "parked after 1"]);
    assert!(executor.advance_to_next_alarm());
    assert_trace(executor, &["alarm", "run cpu0", "a at +1ms", "parked after 1"]);
    assert!(!executor.advance_to_next_alarm(), "nothing is armed any more");
}

/// However many tasks sleep, and however long: one alarm, for the first.
#[test]
fn one_alarm_for_all() {
    let executor = calm();
    let slots = slots();
    for n in (1..=50).rev() {
        sleeper(executor, slots, "x", MS * n).detach();
    }
    executor.settle();
    assert_eq!(executor.platform().counts().arms, 1, "they all slept within one run");
    assert_eq!(executor.platform().alarm(), Some(Alarm { at: at(1), by: at(1) }));
    executor.advance(MS * 10);
    assert_eq!((executor.live(), executor.platform().counts().arms), (40, 11), "one for each that was armed");
    // Later ones do not change it.
    for _ in 0..10 {
        sleeper(executor, slots, "x", MS * 100).detach();
        executor.settle();
    }
    assert_eq!(executor.platform().counts().arms, 11);
    // An earlier one does.
    sleeper(executor, slots, "x", MS / 2).detach();
    executor.settle();
    assert_eq!(executor.platform().counts().arms, 12);
}

/// Timers that tolerate some time fire with others: one alarm serves all whose windows overlap.
#[test]
fn windows_that_overlap_share_an_alarm() {
    let (executor, slots) = (calm(), slots());
    for n in 0..50 {
        let sleep = move || sleep(MS * (100 + n)).tolerance(MS * 100);
        task(executor, slots, sleep).detach();
    }
    executor.settle();
    assert_eq!(executor.platform().alarm(), Some(Alarm { at: at(100), by: at(200) }));
    executor.advance(MS * 250);
    let arms = executor.platform().counts().arms;
    assert!(executor.live() == 0 && arms <= 10, "{arms} alarms for 50 timers");
}

/// A timeout that never elapses is not told to the platform; the alarm of the first one goes off for nothing, once.
#[test]
fn timeouts_that_never_elapse() {
    let (executor, event) = (calm(), Event::default());
    let answers = event.clone();
    task(executor, slots(), move || async move {
        for _ in 0..1000 {
            timeout(MS * 100, answers.wait()).await.expect("it is answered at once");
        }
    })
    .detach();
    executor.settle();
    for _ in 0..999 {
        event.set();
        executor.settle();
        executor.platform().pass(Duration::from_micros(1));
    }
    assert_eq!(executor.platform().counts().arms, 1);
    executor.platform().take_trace();
    executor.advance_to_next_alarm();
    assert_trace(executor, &["alarm", "run cpu0", "arm +100.998ms to +100.998ms", "parked after 0"]);
    event.set();
    executor.settle();
    executor.platform().take_trace();
    // The last one's alarm finds no timer at all.
    executor.advance_to_next_alarm();
    assert_trace(executor, &["alarm", "run cpu0", "parked after 0"]);
    assert_eq!((executor.live(), executor.platform().counts().arms), (0, 2));
}

/// An alarm that goes off before its time is armed again, whatever else the run that answers it has to do.
#[test]
fn an_early_alarm_is_armed_again() {
    let executor = calm();
    sleeper(executor, slots(), "a", MS).detach();
    executor.settle();
    for busy in [false, true] {
        executor.platform().take_trace();
        executor.platform().suspend(MS * 10);
        if busy {
            task(executor, slots(), yield_now).detach();
        }
        executor.settle();
        let trace = executor.platform().take_trace();
        assert!(trace.contains(&"arm +1ms to +1ms".to_owned()), "{trace:?}");
    }
    executor.advance(MS);
    assert_trace(executor, &["alarm", "run cpu0", "a at +1ms", "parked after 1"]);
}

/// What became due while a run was at work is rung for: an alarm may take a tick of the system.
#[test]
fn a_timer_that_is_due_when_the_run_parks() {
    let executor = calm();
    sleeper(executor, slots(), "a", MS).detach();
    task(executor, slots(), move || async move { executor.platform().pass(MS) }).detach();
    executor.settle();
    let first = ["ring wake", "run cpu0", "ring again 1", "timers due after 2"];
    assert_trace(executor, &[&first[..], &["run cpu0", "a at +1ms", "parked after 1"]].concat());
}

/// A run that hands its role back arms nothing: a doorbell is on its way.
#[test]
fn nothing_is_armed_while_a_doorbell_is_on_its_way() {
    let executor: Exec = Executor::leak(Mock::new(Plan::CALM), Budget::new(1, Duration::MAX));
    sleeper(executor, slots(), "a", MS).detach();
    task(executor, slots(), yield_now).detach();
    executor.settle();
    let trace = executor.platform().take_trace();
    let arms = trace.iter().position(|line| line.starts_with("arm")).expect("the last run arms");
    let rings = trace.iter().rposition(|line| line.starts_with("ring again")).expect("there were overruns");
    assert!(arms > rings && executor.platform().counts().arms == 1, "{trace:?}");
}

/// A wake between arming and parking: the run goes on, and what is armed stays so.
#[test]
fn a_park_that_fails_after_arming() {
    let executor: Exec = Executor::leak(Mock::new(Plan { interrupts: 1, ..Plan::CALM }), POLLS);
    let (event, slots) = (Event::default(), slots());
    let (waits, sets) = (event.clone(), Arc::new(AtomicBool::new(true)));
    task(executor, slots, move || async move {
        waits.wait().await;
        executor.platform().note("woken");
    })
    .detach();
    sleeper(executor, slots, "a", MS).detach();
    executor.platform().on_interrupt(move || {
        if executor.platform().alarm().is_some() && sets.swap(false, SeqCst) {
            event.set();
        }
    });
    executor.settle();
    assert_trace(executor, &["ring wake", "run cpu0", "arm +1ms to +1ms", "woken", "parked after 3"]);
    executor.advance(MS);
    assert_eq!((executor.live(), executor.platform().counts().arms), (0, 1));
}

/// An alarm that goes off between arming and parking, and is answered by another CPU, which finds a consumer: that
/// consumer must not park as if the alarm were still to come.
#[test]
fn an_alarm_that_finds_a_consumer() {
    let plan = Plan { interrupts: 1, spurious_runs: 1, ..Plan::CALM };
    let executor: Exec = Executor::leak(Mock::new(plan), POLLS);
    let passes = AtomicBool::new(true);
    executor.platform().on_interrupt(move || {
        if executor.platform().alarm().is_some() && passes.swap(false, SeqCst) {
            executor.platform().pass(MS);
        }
    });
    sleeper(executor, slots(), "a", MS).detach();
    executor.settle();
    let trace = executor.platform().take_trace();
    let alarm = trace.iter().position(|line| line == "alarm").expect("it has gone off");
    assert_eq!(trace.get(alarm + 1..alarm + 3), Some(&["run cpu0".to_owned(), "busy".to_owned()][..]));
    assert_eq!(executor.live(), 0, "the alarm was lost: {trace:?}");
}

/// A consumer that is called again and again in the middle of its run ends that run all the same.
#[test]
fn a_run_that_is_called_without_end() {
    let plan = Plan { interrupts: 1, ..Plan::CALM };
    let executor: Exec = Executor::leak(Mock::new(plan), Budget::new(4, Duration::MAX));
    sleeper(executor, slots(), "a", MS).detach();
    executor.settle();
    // Whenever a run has armed, a suspension sets the alarm off, and another CPU answers it.
    executor.platform().on_interrupt(move || {
        executor.platform().suspend(MS);
        executor.settle();
    });
    executor.platform().suspend(MS);
    assert!(executor.step());
    let trace = executor.platform().take_trace();
    assert_eq!(trace.last().map(String::as_str), Some("out of polls after 4"), "{trace:?}");
    executor.platform().on_interrupt(|| ());
    executor.advance(MS);
    assert_eq!(executor.live(), 0);
}

/// The timers of a crowd that are all due at once: no run takes more of them than it may poll, none is lost, and who
/// comes meanwhile has its turn within a few runs.
#[test]
fn thousands_of_equal_deadlines() {
    let executor = calm();
    executor.platform().forget_trace();
    for slots in crowd() {
        for _ in 0..64 {
            task(executor, slots, || sleep_until(at(1))).detach();
        }
    }
    executor.settle();
    assert_eq!((executor.live(), executor.platform().counts().arms), (2560, 1));
    executor.platform().pass(MS);
    let mut runs = 0;
    let stranger = loop {
        let run = executor.answer(Seat::Cpu(0)).expect("nobody else is the consumer");
        assert!(run.polls <= 64, "{run:?}");
        runs += 1;
        if runs == 3 {
            break task(executor, slots(), yield_now);
        }
    };
    for _ in 0..3 {
        executor.answer(Seat::Cpu(0));
    }
    assert!(stranger.is_finished(), "a task waits for a crowd of timers");
    assert!(executor.live() > 2000, "the crowd was not woken at once");
    executor.settle();
    assert_eq!((executor.live(), executor.platform().counts().arms), (1, 1));
}

/// The same at the finest budget: each run fires one timer and polls one task.
#[test]
fn equal_deadlines_with_the_least_budget() {
    let executor: Exec = Executor::leak(Mock::new(Plan::CALM), Budget::new(0, Duration::ZERO));
    let slots = slots();
    for _ in 0..20 {
        task(executor, slots, || sleep_until(at(1))).detach();
    }
    executor.settle();
    let before = executor.stats().runs;
    executor.advance(MS);
    assert_eq!((executor.live(), executor.stats().runs - before), (0, 20));
}

/// A close cancels who sleeps; the alarm is taken back just before the queue is shut, and not without one.
#[test]
fn a_close_disarms() {
    let armed = ["ring wake", "run cpu0", "arm nothing", "closed after 2"];
    let not_armed = ["ring wake", "run cpu0", "closed after 1"];
    for sleeps in [true, false] {
        let executor = calm();
        if sleeps {
            sleeper(executor, slots(), "a", MS).detach();
            executor.settle();
        }
        executor.platform().take_trace();
        let mut closing = pin!(executor.close().expect("nobody else closes it"));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(closing.as_mut().poll(&mut cx).is_pending());
        executor.settle();
        assert_trace(executor, if sleeps { &armed } else { &not_armed });
        let Poll::Ready(closed) = closing.as_mut().poll(&mut cx) else { panic!("it is closed") };
        passive(|passive| closed.silence(passive));
    }
}

/// A clock that goes back makes nothing early: the time is the latest that was read, and deadlines count from it.
#[test]
fn a_clock_that_goes_back() {
    let executor = calm();
    let slots = slots();
    executor.platform().pass(MS * 10);
    executor.answer(Seat::Cpu(0));
    executor.platform().rewind(MS * 5);
    sleeper(executor, slots, "a", MS).detach();
    executor.settle();
    assert_eq!(executor.platform().alarm(), Some(Alarm { at: at(11), by: at(11) }));
    executor.advance(MS * 5);
    assert_eq!(executor.live(), 1, "it is 10 ms again");
    executor.advance(MS);
    assert_eq!(executor.live(), 0);
    // And with a timer pending.
    sleeper(executor, slots, "b", MS).detach();
    executor.settle();
    executor.platform().rewind(MS * 11);
    executor.advance(MS * 11);
    assert_eq!(executor.live(), 1);
    executor.advance(MS);
    assert_eq!(executor.live(), 0);
}
