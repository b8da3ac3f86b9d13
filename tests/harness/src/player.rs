//! A world that is run once.
#![forbid(unsafe_code)]

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use kexec::{
    Budget, Executor, Pool, Table,
    platform::{
        mock::{Mock, Plan, keep},
        thread::passive,
    },
    time::Instant,
};
use xen_sim::Dice;

use crate::Executors;

/// A poll ends every run, so that something else may happen between any two.
const ONE_POLL: Budget = Budget::new(1, Duration::MAX);

/// Runs a world once, from a seed: one poll of one executor at a time, under virtual time.
#[derive(Debug)]
pub struct Player {
    seed: u64,
    is_wild: bool,
    dice: Dice,
    executors: Vec<&'static Executor<Mock>>,
    now: Instant,
}

impl Player {
    /// For a world whose every chance comes from this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, is_wild: false, dice: Dice::new(seed), executors: Vec::new(), now: Instant::START }
    }

    /// The same, under a [wild plan](Plan::wild) from this seed: doorbells are late, come twice, or are answered in
    /// the middle of a wake.
    #[must_use]
    pub fn wild(seed: u64) -> Self {
        Self { is_wild: true, ..Self::new(seed) }
    }

    /// The virtual time since the beginning.
    #[must_use]
    pub fn time(&self) -> Duration {
        self.now.since(Instant::START)
    }

    /// Lets the next thing happen: the executor that is due goes on, whichever the seed says if there are several.
    /// False if nothing is on its way before `until`.
    pub fn step(&mut self, until: Duration) -> bool {
        let due = self.executors.iter().filter_map(|executor| executor.platform().due()).min();
        let Some(due) = due.filter(|due| due.since(Instant::START) <= until) else { return false };
        self.now = self.now.max(due);
        for executor in &self.executors {
            let mock = executor.platform();
            mock.pass(self.now.since(mock.time()));
        }
        let is_ready = |executor: &&&'static Executor<Mock>| {
            executor.platform().due().is_some_and(|due| due <= self.now)
        };
        let ready: Vec<_> = self.executors.iter().filter(is_ready).copied().collect();
        if let Some(executor) = self.dice.choose(&ready) {
            executor.step();
            self.now = self.now.max(executor.platform().time());
        }
        true
    }

    /// Closes the executors, the newest first: their tasks are cancelled and waited for.
    ///
    /// # Errors
    ///
    /// The name of one whose tasks do not end.
    pub fn close(&mut self) -> Result<(), &'static str> {
        for executor in self.executors.clone().into_iter().rev() {
            let mut close = pin!(executor.close().map_err(|_| executor.name())?);
            let closed = loop {
                match close.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(closed) => break closed,
                    Poll::Pending if self.step(Duration::MAX) => {}
                    Poll::Pending => return Err(executor.name()),
                }
            };
            passive(|passive| closed.silence(passive));
        }
        Ok(())
    }

    fn executor(&mut self, name: &'static str) -> &'static Executor<Mock> {
        let plan = if self.is_wild {
            // To each its own chances.
            Plan::wild(self.seed.wrapping_add((self.executors.len() as u64) << 32))
        } else {
            Plan::CALM
        };
        let executor: &'static Executor<Mock> = keep(Executor::named(name, Mock::new(plan), ONE_POLL));
        executor.platform().forget_trace();
        self.executors.push(executor);
        executor
    }
}

impl Executors for Player {
    fn driver(&mut self, name: &'static str) -> &'static Executor<Mock> {
        self.executor(name)
    }

    fn device(&mut self, name: &'static str) -> &'static Executor<Mock> {
        self.executor(name)
    }

    fn pool<const S: usize, const N: usize>(&mut self) -> &'static Table<S> {
        keep(Pool::<S, N>::new())
    }

    fn seed(&self) -> u64 {
        self.seed
    }
}
