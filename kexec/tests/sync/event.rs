//! What a set and a reset mean.

use std::{pin::pin, task::Poll};

use kexec::{
    platform::mock::keep,
    sync::{AutoEvent, ManualEvent},
};

use crate::support::{Log, calm, poll, slots};

/// A set releases one waiter, the first to have come.
#[test]
fn a_set_releases_one() {
    let (executor, slots, log) = (calm(), slots(), Log::default());
    let event = keep(AutoEvent::new(false));
    for who in 0..3 {
        log.after(executor, slots, who, event.wait());
    }
    executor.settle();
    assert_eq!(log.take(), []);
    for who in 0..3 {
        event.set();
        executor.settle();
        assert_eq!(log.take(), [who]);
        assert!(!event.is_set(), "the signal was taken");
    }
}

/// What nobody waits for stays, once however often it was set, until it is taken or reset.
#[test]
fn a_set_without_a_waiter_stays() {
    let event = AutoEvent::new(true);
    event.set();
    event.set();
    assert_eq!(poll(pin!(event.wait())), Poll::Ready(()));
    assert_eq!(poll(pin!(event.wait())), Poll::Pending, "two sets are one");
    event.set();
    assert!(event.is_set());
    assert!(event.reset());
    assert!(!event.reset(), "it was reset");
    assert_eq!(poll(pin!(event.wait())), Poll::Pending);
}

/// A reset between a set and the waiter's turn: whoever comes first has the signal.
#[test]
fn a_reset_takes_what_no_waiter_has_taken() {
    let (executor, log) = (calm(), Log::default());
    let event = keep(AutoEvent::new(false));
    log.after(executor, slots(), 0, event.wait());
    executor.settle();
    event.set();
    assert!(event.reset());
    executor.settle();
    assert_eq!(log.take(), [], "it waits on");
    event.set();
    executor.settle();
    assert_eq!(log.take(), [0]);
    assert!(!event.reset());
}

/// A manual event lets everybody through, those who come later too.
#[test]
fn a_manual_event_stays_set() {
    let (executor, slots, log) = (calm(), slots(), Log::default());
    let event = keep(ManualEvent::new(false));
    for who in 0..3 {
        log.after(executor, slots, who, event.wait());
    }
    executor.settle();
    event.set();
    event.set();
    executor.settle();
    assert_eq!(log.take(), [0, 1, 2]);
    assert!(event.is_set());
    assert_eq!(poll(pin!(event.wait())), Poll::Ready(()));
    assert!(event.reset());
    assert!(!event.is_set());
    assert!(!event.reset(), "it was reset");
    assert_eq!(poll(pin!(event.wait())), Poll::Pending);
}

/// Whoever waited at a set is released, whatever comes before its turn; whoever comes after the reset is not.
#[test]
fn a_pulse_releases_who_waited() {
    let (executor, slots, log) = (calm(), slots(), Log::default());
    let event = keep(ManualEvent::new(false));
    for who in 0..2 {
        log.after(executor, slots, who, event.wait());
    }
    executor.settle();
    for _ in 0..3 {
        event.set();
        event.reset();
    }
    log.after(executor, slots, 2, event.wait());
    executor.settle();
    assert_eq!(log.take(), [0, 1]);
    event.set();
    executor.settle();
    assert_eq!(log.take(), [2]);
}

/// A wait counts from the call, so that nothing is missed between a look and the first poll.
#[test]
fn a_wait_begins_with_the_call() {
    let event = ManualEvent::new(false);
    let early = event.wait();
    event.set();
    event.reset();
    let late = event.wait();
    assert_eq!(poll(pin!(early)), Poll::Ready(()));
    assert_eq!(poll(pin!(late)), Poll::Pending);
}

/// Signals that nobody waits for, before anybody ever has and after.
#[test]
fn signals_without_waiters() {
    let (auto, manual) = (AutoEvent::new(false), ManualEvent::new(true));
    for _ in 0..3 {
        auto.set();
        manual.set();
        drop((auto.wait(), manual.wait()));
    }
    assert!(auto.is_set() && manual.is_set(), "a wait that is not polled takes nothing");
    assert_eq!(poll(pin!(auto.wait())), Poll::Ready(()));
    assert_eq!(poll(pin!(manual.wait())), Poll::Ready(()));
}
