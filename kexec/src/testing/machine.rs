//! An executor in a run, whatever its level: answered one poll at a time, and closed from outside.
#![forbid(unsafe_code)]

use core::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    ptr,
    task::{Context, Poll, Waker},
    time::Duration,
};
use std::{boxed::Box, string::String, vec::Vec};

use crate::{
    Close, Executor, TaskRef,
    irql::Level,
    platform::{mock::Mock, thread::passive},
    time::Instant,
};

/// Whose tasks the executor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Those that are tested: faults happen to them.
    Driver,
    /// Those that play the rest of the world.
    Device,
}

/// An executor on a mock.
pub(super) trait Machine {
    fn name(&self) -> &'static str;
    fn side(&self) -> Side;
    /// How rows of the task table refer to it.
    fn address(&self) -> u64;
    /// When something will happen here next.
    fn due(&self) -> Option<Instant>;
    fn time(&self) -> Instant;
    /// Lets time pass, if it is earlier here.
    fn catch_up(&self, now: Instant);
    /// Answers the next doorbell: one poll at most, unless another CPU comes in between.
    fn step(&self);
    fn polls(&self) -> u64;
    /// Tasks that hold a slot.
    fn live(&self) -> u32;
    fn suspend(&self, time: Duration);
    /// Lets the plan wake a task for nothing.
    fn haunt(&self, task: TaskRef);
    fn has_timers(&self) -> bool;
    /// A hash of all that has happened here.
    fn digest(&self) -> u64;
    fn trace(&self) -> Vec<String>;
    /// Begins to close, or goes on; whether that is done. Once it is, no doorbell is on its way.
    fn close(&self) -> bool;
}

/// How far the close of an executor has come.
enum Ending<L: Level> {
    Open,
    Closing(Pin<Box<Close<Mock<L>>>>),
    Closed,
}

pub(super) struct MockMachine<L: Level> {
    executor: &'static Executor<Mock<L>>,
    side: Side,
    ending: RefCell<Ending<L>>,
}

impl<L: Level> MockMachine<L> {
    pub(super) fn new(executor: &'static Executor<Mock<L>>, side: Side) -> Self {
        Self { executor, side, ending: RefCell::new(Ending::Open) }
    }
}

impl<L: Level> Machine for MockMachine<L> {
    fn name(&self) -> &'static str {
        self.executor.name()
    }

    fn side(&self) -> Side {
        self.side
    }

    fn address(&self) -> u64 {
        ptr::from_ref(self.executor).addr() as u64
    }

    fn due(&self) -> Option<Instant> {
        self.executor.platform().due()
    }

    fn time(&self) -> Instant {
        self.executor.platform().time()
    }

    fn catch_up(&self, now: Instant) {
        let mock = self.executor.platform();
        mock.pass(now.since(mock.time()));
    }

    fn step(&self) {
        self.executor.step();
    }

    fn polls(&self) -> u64 {
        self.executor.stats().polls
    }

    fn live(&self) -> u32 {
        self.executor.live()
    }

    fn suspend(&self, time: Duration) {
        self.executor.platform().suspend(time);
    }

    fn haunt(&self, task: TaskRef) {
        self.executor.platform().haunt(task);
    }

    fn has_timers(&self) -> bool {
        self.executor.has_timers()
    }

    fn digest(&self) -> u64 {
        self.executor.platform().digest()
    }

    fn trace(&self) -> Vec<String> {
        self.executor.platform().take_trace()
    }

    fn close(&self) -> bool {
        let mut ending = self.ending.borrow_mut();
        if let Ending::Open = *ending
            && let Ok(close) = self.executor.close()
        {
            *ending = Ending::Closing(Box::pin(close));
        }
        if let Ending::Closing(close) = &mut *ending
            && let Poll::Ready(closed) = close.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        {
            passive(|passive| closed.silence(passive));
            *ending = Ending::Closed;
        }
        matches!(*ending, Ending::Closed)
    }
}
