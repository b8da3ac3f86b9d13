//! The cases, and what an executor must offer to be measured in them.
//!
//! Most executors are driven from outside: `run` polls whatever was woken and returns when nothing is
//! left. For these the cases are written once, generic over [`Executor`], so that all do the same work.
//! An executor that must be inside a root future to run at all implements [`Peer`] itself and is
//! measured net of that root (see [`Peer::root_yields`]).

use std::future::Future;
use std::hint::black_box;
use std::marker::PhantomData;

use super::futures::{Berth, Park, Trivial, Yields, polls};

/// How many tasks `fan-in-64` wakes in an operation.
pub const FAN: usize = 64;

/// What is measured. The operation of a case is repeated `n` times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// A parked task is woken from outside, then the executor runs until idle: it polls the task once,
    /// and the task parks again.
    WakePoll,
    /// A task that is queued already is woken again.
    RedundantWake,
    /// 64 parked tasks are woken, each once, then one run polls them all.
    FanIn,
    /// A task wakes itself and is pending.
    Yield,
    /// A task with a trivial ready future is spawned, runs, ends, and what it took is free again.
    SpawnRun,
    /// The root future yields, with no task about: what [`Peer::root_yields`] subtracts.
    RootYield,
}

impl Case {
    /// The cases that are reported.
    pub const REPORTED: [Self; 5] =
        [Self::WakePoll, Self::RedundantWake, Self::FanIn, Self::Yield, Self::SpawnRun];

    /// The name in arguments, table and file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WakePoll => "wake+poll",
            Self::RedundantWake => "redundant-wake",
            Self::FanIn => "fan-in-64",
            Self::Yield => "yield",
            Self::SpawnRun => "spawn+run",
            Self::RootYield => "root-yield",
        }
    }

    /// The case of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::REPORTED.into_iter().chain([Self::RootYield]).find(|case| case.name() == name)
    }

    /// Performs the case's operation `n` times on `peer`.
    ///
    /// # Panics
    ///
    /// If the tasks were not polled as often as the operation says.
    pub fn perform(self, peer: &dyn Peer, n: u64) {
        let before = polls();
        match self {
            Self::WakePoll => peer.wake_poll(n),
            Self::RedundantWake => peer.redundant_wake(n),
            Self::FanIn => peer.fan_in(n),
            Self::Yield => peer.yields(n),
            Self::SpawnRun => peer.spawn_run(n),
            Self::RootYield => peer.root_yield(n),
        }
        assert_eq!(polls() - before, self.polls_expected(n), "polls of {} in {}", peer.name(), self.name());
    }

    /// The first poll of each parked or yielding task comes on top of the operations'.
    const fn polls_expected(self, n: u64) -> u64 {
        match self {
            Self::WakePoll | Self::Yield => n + 1,
            Self::RedundantWake => 2,
            Self::FanIn => FAN as u64 * (n + 1),
            Self::SpawnRun => n,
            Self::RootYield => 0,
        }
    }
}

/// An executor as the bench sees it.
pub trait Peer {
    /// The name of its crate.
    fn name(&self) -> &'static str;
    /// [`Case::WakePoll`], `n` times.
    fn wake_poll(&self, n: u64);
    /// [`Case::RedundantWake`], `n` times.
    fn redundant_wake(&self, n: u64);
    /// [`Case::FanIn`], `n` times.
    fn fan_in(&self, n: u64);
    /// [`Case::Yield`], `n` times.
    fn yields(&self, n: u64);
    /// [`Case::SpawnRun`], `n` times.
    fn spawn_run(&self, n: u64);
    /// The bytes of one task with a [`Trivial`] future: static storage or heap, headers included.
    fn task_bytes(&self) -> u64;

    /// How often the executor has asked to be run; `None` if it has no doorbell.
    fn doorbells(&self) -> Option<u64> {
        None
    }

    /// How many yields of the root future each operation of `case` contains. Their cost is measured
    /// apart and subtracted: it is the price of being called from a root, not of the operation.
    fn root_yields(&self, _case: Case) -> u32 {
        0
    }

    /// [`Case::RootYield`], `n` times; only for a peer that has a root.
    fn root_yield(&self, _n: u64) {}
}

/// What a task's future must be for all peers to take it.
pub trait TaskFuture: Future<Output = ()> + Send + 'static {}
impl<F: Future<Output = ()> + Send + 'static> TaskFuture for F {}

/// An executor that is driven from outside.
pub trait Executor {
    /// The name of its crate.
    const NAME: &'static str;
    /// Where tasks live if the executor does not allocate them: room for [`FAN`] of them.
    type Pool<F: TaskFuture>;

    /// An executor without tasks.
    fn new() -> Self;
    /// Room for tasks.
    fn pool<F: TaskFuture>() -> Self::Pool<F>;
    /// Starts a task and lets go of it.
    fn spawn<F: TaskFuture>(&mut self, pool: &Self::Pool<F>, future: F);
    /// Polls tasks until none is queued.
    fn run(&mut self);
    /// As [`Peer::task_bytes`].
    fn task_bytes() -> u64;
    /// As [`Peer::doorbells`].
    #[must_use]
    fn doorbells() -> Option<u64> {
        None
    }
}

/// An [`Executor`] as a [`Peer`].
#[derive(Debug)]
pub struct Driven<E>(PhantomData<fn() -> E>);

impl<E> Driven<E> {
    /// The peer.
    pub const PEER: Self = Self(PhantomData);
}

impl<E: Executor> Peer for Driven<E> {
    fn name(&self) -> &'static str {
        E::NAME
    }

    fn wake_poll(&self, n: u64) {
        let (berth, pool) = (Berth::leak(), E::pool());
        let mut executor = E::new();
        executor.spawn(&pool, Park::at(berth));
        executor.run();
        let waker = berth.waker();
        for _ in 0..n {
            black_box(&waker).wake_by_ref();
            executor.run();
        }
    }

    fn redundant_wake(&self, n: u64) {
        let (berth, pool) = (Berth::leak(), E::pool());
        let mut executor = E::new();
        executor.spawn(&pool, Park::at(berth));
        executor.run();
        let waker = berth.waker();
        waker.wake_by_ref();
        for _ in 0..n {
            black_box(&waker).wake_by_ref();
        }
        executor.run();
    }

    fn fan_in(&self, n: u64) {
        let (berths, pool) = ([(); FAN].map(|()| Berth::leak()), E::pool());
        let mut executor = E::new();
        for berth in berths {
            executor.spawn(&pool, Park::at(berth));
        }
        executor.run();
        let wakers = berths.map(Berth::waker);
        for _ in 0..n {
            for waker in black_box(&wakers) {
                waker.wake_by_ref();
            }
            executor.run();
        }
    }

    fn yields(&self, n: u64) {
        let pool = E::pool();
        let mut executor = E::new();
        executor.spawn(&pool, Yields::new(black_box(n)));
        executor.run();
    }

    fn spawn_run(&self, n: u64) {
        let pool = E::pool();
        let mut executor = E::new();
        for _ in 0..n {
            executor.spawn(black_box(&pool), Trivial::default());
            executor.run();
        }
    }

    fn task_bytes(&self) -> u64 {
        E::task_bytes()
    }

    fn doorbells(&self) -> Option<u64> {
        E::doorbells()
    }
}
