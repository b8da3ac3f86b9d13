//! The channel against a queue of the standard library, and a line of people in front of it.
//!
//! What is generated: sends at once, sends that wait, are polled and are given up, receives of both kinds, a close,
//! and ends that come and go. After each step, whoever could go on has been called.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, Waker},
};

use kexec::sync::channel::{Channel, Closed, Receiver, Sender, Sending, TryRecvError, TrySendError};
use proptest::{prelude::*, test_runner::RngSeed};

use crate::support::{Calls, Counted};

const WAITS: usize = 4;
const ROOM: usize = 2;

#[derive(Clone, Copy, Debug)]
enum Step {
    TrySend,
    Begin(usize),
    Poll(usize),
    GiveUp(usize),
    TryRecv,
    Recv,
    Close,
    DropReceiver,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::TrySend),
        6 => (0..WAITS).prop_map(Step::Begin),
        8 => (0..WAITS).prop_map(Step::Poll),
        3 => (0..WAITS).prop_map(Step::GiveUp),
        5 => Just(Step::TryRecv),
        8 => Just(Step::Recv),
        1 => Just(Step::Close),
        1 => Just(Step::DropReceiver),
    ]
}

type Value = (u32, Counted);
type Ends<'a> = (Sender<'a, Value, ROOM>, Receiver<'a, Value, ROOM>);

/// A send that has begun.
struct Begun<'a> {
    send: Pin<Box<Sending<'a, Value, ROOM>>>,
    number: u32,
    calls: Arc<Calls>,
    waker: Waker,
    over: bool,
}

/// What the documentation says, and nothing else.
#[derive(Default)]
struct Reference {
    values: VecDeque<u32>,
    /// The numbers of those who have been polled and wait, in that order.
    line: VecDeque<u32>,
    closed: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Sent,
    Waits,
    Closed,
}

impl Reference {
    fn try_send(&mut self, number: u32) -> Fate {
        if self.closed {
            return Fate::Closed;
        }
        if !self.line.is_empty() || self.values.len() == ROOM {
            return Fate::Waits;
        }
        self.values.push_back(number);
        Fate::Sent
    }

    fn poll(&mut self, number: u32) -> Fate {
        if self.line.front() == Some(&number) {
            self.line.pop_front();
            let line = std::mem::take(&mut self.line);
            let fate = self.try_send(number);
            self.line = line;
            if fate == Fate::Waits {
                self.line.push_front(number);
            }
            return fate;
        }
        if self.line.contains(&number) {
            return Fate::Waits;
        }
        let fate = self.try_send(number);
        if fate == Fate::Waits {
            self.line.push_back(number);
        }
        fate
    }

    /// Who can go on.
    fn next(&self) -> Option<u32> {
        self.line.front().copied().filter(|_| self.closed || self.values.len() < ROOM)
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn behaves_as_a_line_in_front_of_a_queue(steps in prop::collection::vec(step(), 0..80)) {
        let channel = Channel::<Value, ROOM>::new();
        let (sender, receiver): Ends<'_> = channel.claim().expect("it has no ends");
        let mut receiver = Some(receiver);
        let mut reference = Reference::default();
        let mut begun: [Option<Begun<'_>>; WAITS] = Default::default();
        let mut drops = Vec::new();
        let mut numbers = 0..;
        let mut new = |drops: &mut Vec<_>| {
            let (value, dropped) = Counted::new();
            drops.push(dropped);
            (numbers.next().expect("it does not end"), value)
        };
        let (receiver_calls, waker) = Calls::new();
        let mut receiver_waits = false;

        for step in steps {
            match step {
                Step::TrySend => {
                    let value = new(&mut drops);
                    let number = value.0;
                    let fate = match sender.try_send(value) {
                        Ok(()) => Fate::Sent,
                        Err(TrySendError::Full((back, _))) => { prop_assert_eq!(back, number); Fate::Waits }
                        Err(TrySendError::Closed((back, _))) => { prop_assert_eq!(back, number); Fate::Closed }
                    };
                    prop_assert_eq!(fate, reference.try_send(number));
                }
                Step::Begin(place) if begun[place].is_none() => {
                    let value = new(&mut drops);
                    let (number, (calls, waker)) = (value.0, Calls::new());
                    begun[place] =
                        Some(Begun { send: Box::pin(sender.send(value)), number, calls, waker, over: false });
                }
                Step::Poll(place) => {
                    let Some(begun) = begun[place].as_mut().filter(|begun| !begun.over) else { continue };
                    begun.calls.take();
                    let fate = match begun.send.as_mut().poll(&mut Context::from_waker(&begun.waker)) {
                        Poll::Pending => Fate::Waits,
                        Poll::Ready(Ok(())) => Fate::Sent,
                        Poll::Ready(Err(Closed((back, _)))) => { prop_assert_eq!(back, begun.number); Fate::Closed }
                    };
                    begun.over = fate != Fate::Waits;
                    prop_assert_eq!(fate, reference.poll(begun.number));
                }
                Step::GiveUp(place) => {
                    if let Some(begun) = begun[place].take() {
                        reference.line.retain(|number| *number != begun.number);
                    }
                }
                Step::TryRecv => {
                    let Some(receiver) = &mut receiver else { continue };
                    match receiver.try_recv() {
                        Ok((number, _)) => {
                            prop_assert_eq!(Some(number), reference.values.pop_front());
                            receiver_waits = false;
                        }
                        Err(error) => {
                            prop_assert!(reference.values.is_empty());
                            prop_assert_eq!(error == TryRecvError::Closed, reference.closed);
                        }
                    }
                }
                Step::Recv => {
                    let Some(receiver) = &mut receiver else { continue };
                    receiver_calls.take();
                    // As a stream, which keeps its waker between polls.
                    let polled = futures_util::StreamExt::poll_next_unpin(receiver, &mut Context::from_waker(&waker));
                    receiver_waits = polled.is_pending();
                    match polled {
                        Poll::Ready(Some((number, _))) =>
                            prop_assert_eq!(Some(number), reference.values.pop_front()),
                        Poll::Ready(None) => prop_assert!(reference.closed && reference.values.is_empty()),
                        Poll::Pending => prop_assert!(!reference.closed && reference.values.is_empty()),
                    }
                }
                Step::Close => {
                    let Some(receiver) = &mut receiver else { continue };
                    receiver.close();
                    reference.closed = true;
                    receiver_waits = false;
                }
                Step::DropReceiver => {
                    receiver = None;
                    reference.closed = true;
                    reference.values.clear();
                    receiver_waits = false;
                }
                Step::Begin(_) => {}
            }
            if let Some(next) = reference.next() {
                let next = begun.iter().flatten().find(|begun| begun.number == next);
                prop_assert!(next.is_some_and(|begun| begun.calls.is_called()), "the first one sleeps");
            }
            if receiver_waits && !reference.values.is_empty() {
                prop_assert!(receiver_calls.is_called(), "the receiver sleeps");
            }
        }
        drop((begun, receiver));
        drop(sender);
        prop_assert!(drops.iter().all(|drops| drops.load(Relaxed) == 1));
        prop_assert!(channel.claim().is_some());
    }
}
