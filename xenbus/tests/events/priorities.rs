//! What is more urgent comes first.
#![forbid(unsafe_code)]

use xen_sim::{Guest, GuestConfig};
use xenbus::{
    Errno,
    event::{Channel, ChannelError, Priority, Upcall},
};

use crate::support::{Bench, comes, dispatch};

/// The order in which channels are told, one at a time.
fn order(bench: &Bench, channels: &[Channel<Guest>]) -> Vec<usize> {
    let mut order = Vec::new();
    let mut before: Vec<_> = channels.iter().map(Channel::counts).collect();
    loop {
        let outcome = bench.events().upcall(0, 1);
        for (number, channel) in channels.iter().enumerate() {
            if channel.counts() != before[number] {
                before[number] = channel.counts();
                order.push(number);
            }
        }
        if outcome != Upcall::More || order.len() == channels.len() {
            return order;
        }
    }
}

/// A guest that handles its interrupts by hand, and channels that are armed.
fn bench(fifo: bool, count: usize) -> (Bench, Vec<Channel<Guest>>) {
    let bench = Bench::new(GuestConfig { has_store: false, ..GuestConfig::default() }, 64, fifo);
    let channels: Vec<_> =
        (0..count).map(|_| dispatch(|at| bench.events().ipi(at, 0)).expect("there is one")).collect();
    assert!(!channels.iter().any(comes));
    (bench, channels)
}

/// The highest first, whatever was sent first; and within one, in the order in which they were sent.
#[test]
fn the_highest_first() {
    let (bench, channels) = bench(true, 6);
    let priorities = [Priority::LOWEST, Priority::DEFAULT, Priority::HIGHEST];
    for (number, channel) in channels.iter().enumerate() {
        dispatch(|at| channel.set_priority(at, priorities[number % 3])).expect("the queues have priorities");
    }
    for number in [3, 0, 1, 4, 5, 2] {
        dispatch(|at| channels[number].notify(at)).expect("it is its own other end");
    }
    assert_eq!(order(&bench, &channels), [5, 2, 1, 4, 3, 0]);
    drop(channels);
    bench.end();
}

/// What comes meanwhile goes ahead of what waits.
#[test]
fn the_more_urgent_overtakes() {
    let (bench, channels) = bench(true, 3);
    let urgent = Priority::new(3).expect("one of sixteen");
    dispatch(|at| channels[2].set_priority(at, urgent)).expect("the queues have priorities");
    for channel in &channels[..2] {
        dispatch(|at| channel.notify(at)).expect("it is its own other end");
    }
    assert_eq!(bench.events().upcall(0, 1), Upcall::More);
    dispatch(|at| channels[2].notify(at)).expect("it is its own other end");
    assert_eq!(order(&bench, &channels), [2, 1], "the first was told before");
    drop(channels);
    bench.end();
}

/// There are sixteen; and the bitmaps have none, which is an answer.
#[test]
fn where_there_are_none() {
    assert_eq!(Priority::new(16), None);
    assert_eq!(Priority::new(7), Some(Priority::DEFAULT));
    let (bench, channels) = bench(false, 1);
    let outcome = dispatch(|at| channels[0].set_priority(at, Priority::HIGHEST));
    assert_eq!(outcome, Err(ChannelError::Xen(Errno::ENOSYS)));
    drop(channels);
    bench.end();
}

/// With the bitmaps, a small budget is used by turns: no word waits for ever behind one that is busy.
#[test]
fn each_word_has_its_turn() {
    let config = GuestConfig { has_store: false, ..GuestConfig::default() };
    let bench = Bench::new(config, 200, false);
    let channels: Vec<_> =
        (1..200).map(|_| dispatch(|at| bench.events().ipi(at, 0)).expect("there is one")).collect();
    let (busy, patient) = (&channels[..4], &channels[150]);
    let send = |channel: &Channel<Guest>| {
        while comes(channel) {}
        dispatch(|at| channel.notify(at)).expect("it is its own other end");
    };
    send(patient);
    for round in 0.. {
        busy.iter().for_each(send);
        let _ = bench.events().upcall(0, 2);
        if patient.counts().events == 1 {
            break;
        }
        assert!(round < 4, "it has its turn");
    }
    drop(channels);
    bench.end();
}
