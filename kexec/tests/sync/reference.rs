//! The semaphore against a plain model, with everything at random: a queue of batches, and three counts.
//!
//! Who waits is polled when it has been called, and also when it has not. The model says what each poll must find; and
//! whenever the first one's turn has come, it must have been called since it was last polled.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use kexec::sync::{AcquireError, Overfull, Permits, Semaphore, TryAcquireError, Wait};
use proptest::{prelude::*, test_runner::RngSeed};

use crate::support::Calls;

const SIZE: u32 = 4;

/// What is done; an index is of whoever is there.
#[derive(Clone, Copy, Debug)]
enum Step {
    Acquire(u32),
    TryAcquire(u32),
    Poll(usize),
    DropWait(usize),
    DropPermits(usize),
    Forget(usize),
    Release(u32),
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..=SIZE + 1).prop_map(Step::Acquire),
        3 => (0..=SIZE + 1).prop_map(Step::TryAcquire),
        8 => (0..8_usize).prop_map(Step::Poll),
        3 => (0..8_usize).prop_map(Step::DropWait),
        6 => (0..8_usize).prop_map(Step::DropPermits),
        3 => (0..8_usize).prop_map(Step::Forget),
        4 => (0..=3_u32).prop_map(Step::Release),
        1 => Just(Step::Close),
    ]
}

/// A wait that is queued.
struct Waiter<'s> {
    wait: Pin<Box<Wait<'s, Semaphore>>>,
    asked: u32,
    calls: Arc<Calls>,
    waker: Waker,
}

impl<'s> Waiter<'s> {
    fn poll(&mut self) -> Poll<Result<Permits<'s>, AcquireError>> {
        self.calls.take();
        self.wait.as_mut().poll(&mut Context::from_waker(&self.waker))
    }
}

/// The model.
#[derive(Debug)]
struct Counts {
    available: u32,
    forgotten: u32,
    closed: bool,
}

impl Counts {
    /// What somebody finds whose turn it is; None: it waits.
    fn take(&mut self, asked: u32) -> Option<Result<u32, AcquireError>> {
        if self.closed {
            return Some(Err(AcquireError::Closed));
        }
        if asked > SIZE {
            return Some(Err(AcquireError::TooMany { asked, size: SIZE }));
        }
        self.available = self.available.checked_sub(asked)?;
        Some(Ok(asked))
    }

    /// What a newcomer finds.
    fn take_as_newcomer(&mut self, asked: u32, queued: bool) -> Option<Result<u32, AcquireError>> {
        let takes_nothing = self.closed || asked == 0 || asked > SIZE;
        if queued && !takes_nothing { None } else { self.take(asked) }
    }
}

fn run(steps: &[Step]) -> Result<(), TestCaseError> {
    let semaphore = Semaphore::new(SIZE);
    let mut model = Counts { available: SIZE, forgotten: 0, closed: false };
    let mut queue: VecDeque<Waiter<'_>> = VecDeque::new();
    let mut held: Vec<Permits<'_>> = Vec::new();
    for &step in steps {
        match step {
            Step::Acquire(asked) => {
                let (calls, waker) = Calls::new();
                let mut waiter = Waiter { wait: Box::pin(semaphore.acquire(asked)), asked, calls, waker };
                match (waiter.poll(), model.take_as_newcomer(asked, !queue.is_empty())) {
                    (Poll::Pending, None) => queue.push_back(waiter),
                    (Poll::Ready(got), Some(expected)) => {
                        prop_assert_eq!(got.as_ref().map(Permits::count).map_err(|&error| error), expected);
                        held.extend(got);
                    }
                    (polled, expected) => prop_assert!(false, "{:?} instead of {:?}", polled, expected),
                }
            }
            Step::TryAcquire(asked) => {
                let got = semaphore.try_acquire(asked);
                let expected = match model.take_as_newcomer(asked, !queue.is_empty()) {
                    None => Err(TryAcquireError::Unavailable),
                    Some(expected) => expected.map_err(TryAcquireError::Never),
                };
                prop_assert_eq!(got.as_ref().map(Permits::count).map_err(|&error| error), expected);
                held.extend(got);
            }
            Step::Poll(index) if index < queue.len() => {
                let waiter = &mut queue[index];
                let expected = if index == 0 { model.take(waiter.asked) } else { None };
                match (waiter.poll(), expected) {
                    (Poll::Pending, None) => {}
                    (Poll::Ready(got), Some(expected)) => {
                        prop_assert_eq!(got.as_ref().map(Permits::count).map_err(|&error| error), expected);
                        held.extend(got);
                        queue.remove(index);
                    }
                    (polled, expected) => prop_assert!(false, "{:?} instead of {:?}", polled, expected),
                }
            }
            Step::DropWait(index) => drop(queue.remove(index)),
            Step::DropPermits(index) if index < held.len() => {
                let permits = held.swap_remove(index);
                model.available += permits.count();
            }
            Step::Forget(index) if index < held.len() => {
                let permits = held.swap_remove(index);
                model.forgotten += permits.count();
                permits.forget();
            }
            Step::Release(released) => {
                let enough = released <= model.forgotten;
                let expected =
                    if enough { Ok(()) } else { Err(Overfull { released, forgotten: model.forgotten }) };
                prop_assert_eq!(semaphore.release(released), expected);
                if enough {
                    model.forgotten -= released;
                    model.available += released;
                }
            }
            Step::Close => {
                semaphore.close();
                model.closed = true;
            }
            Step::Poll(_) | Step::DropPermits(_) | Step::Forget(_) => {}
        }
        prop_assert_eq!(semaphore.available(), model.available);
        if let Some(first) = queue.front() {
            let its_turn = model.closed || first.asked <= model.available;
            prop_assert!(!its_turn || first.calls.is_called(), "the first was not called: {:?}", model);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// See the module.
    #[test]
    fn as_the_model(steps in prop::collection::vec(step(), 0..60)) {
        run(&steps)?;
    }
}
