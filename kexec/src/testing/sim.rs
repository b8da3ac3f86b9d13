//! What a scenario builds its world from.
#![forbid(unsafe_code)]

use core::{any::Any, fmt, time::Duration};
use std::{
    boxed::Box,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    vec::Vec,
};

use super::{
    books::{Books, Counter, Ledger},
    machine::{Machine, MockMachine, Side},
};
use crate::{
    Budget, Cancelled, Executor, JoinHandle, Lane, Pool, Scope, Table, TaskRef,
    irql::{Dispatch, Level, Passive},
    platform::mock::{Mock, Plan, keep},
    task_table::{Row, State},
};

/// A poll ends every run, so that there is a boundary after each.
const ONE_POLL: Budget = Budget::new(1, Duration::MAX);

/// What a scenario's world is built from: executors whose every poll is a step of the run, stores, scopes, and what is
/// counted. Made by the kit, once for each run.
pub struct Sim {
    seed: Option<u64>,
    pub(super) machines: Vec<Rc<dyn Machine>>,
    pub(super) stores: Vec<Box<dyn Slots>>,
    pub(super) scopes: Vec<&'static Scope>,
    pub(super) ends: Vec<Box<dyn Ends>>,
    spared: Vec<TaskRef>,
    pub(super) books: Books,
    shelf: Shelf,
    taken: Vec<Pooled>,
    traced: bool,
}

/// A task, as the kit finds it in a store.
pub(super) struct Found<'s> {
    pub(super) task: TaskRef,
    pub(super) row: Row<'static>,
    pub(super) machine: &'s dyn Machine,
    /// Whether it is to be aborted.
    pub(super) is_spared: bool,
}

impl Sim {
    pub(super) fn new(seed: Option<u64>, shelf: Shelf, traced: bool) -> Self {
        Self {
            seed,
            machines: Vec::new(),
            stores: Vec::new(),
            scopes: Vec::new(),
            ends: Vec::new(),
            spared: Vec::new(),
            books: Books::default(),
            shelf,
            taken: Vec::new(),
            traced,
        }
    }

    /// An executor of the driver, at `DISPATCH_LEVEL`: faults happen to its tasks. When the run is over the executors are
    /// closed, the one that was made last first.
    ///
    /// # Panics
    ///
    /// There is one of that name.
    pub fn executor(&mut self, name: &'static str) -> &'static Executor<Mock> {
        self.machine::<Dispatch>(name, Side::Driver)
    }

    /// An executor of the driver at `PASSIVE_LEVEL`, such as one that does its passive work.
    ///
    /// # Panics
    ///
    /// There is one of that name.
    pub fn worker(&mut self, name: &'static str) -> &'static Executor<Mock<Passive>> {
        self.machine::<Passive>(name, Side::Driver)
    }

    /// An executor whose tasks play what the driver talks to: nothing happens to them but what the author's own faults
    /// do. It is closed after those of the driver.
    ///
    /// # Panics
    ///
    /// There is one of that name.
    pub fn device(&mut self, name: &'static str) -> &'static Executor<Mock> {
        self.machine::<Dispatch>(name, Side::Device)
    }

    fn machine<L: Level>(&mut self, name: &'static str, side: Side) -> &'static Executor<Mock<L>> {
        assert!(!self.machines.iter().any(|one| one.name() == name), "two executors are called `{name}`");
        let plan = self.seed.map_or(Plan::CALM, |seed| {
            // Each machine has its own luck.
            Plan::wild(seed.wrapping_add((self.machines.len() as u64) << 32))
        });
        let executor = keep(Executor::named(name, Mock::new(plan), ONE_POLL));
        if !self.traced {
            executor.platform().forget_trace();
        }
        self.machines.push(Rc::new(MockMachine::new(executor, side)));
        executor
    }

    /// A store of data tasks, for this run.
    pub fn pool<const S: usize, const N: usize>(&mut self) -> &'static Table<S> {
        self.pool_in::<S, N>(Lane::Data)
    }

    /// A store of control tasks, for this run.
    pub fn control_pool<const S: usize, const N: usize>(&mut self) -> &'static Table<S> {
        self.pool_in::<S, N>(Lane::Control)
    }

    fn pool_in<const S: usize, const N: usize>(&mut self, lane: Lane) -> &'static Table<S> {
        let of_a_run_before = |(at, pool): &Pooled| *at == lane && pool.is::<&'static Pool<S, N>>();
        let pooled = self.shelf.0.iter().position(of_a_run_before).map(|at| self.shelf.0.remove(at).1);
        let pooled = pooled.and_then(|pool| pool.downcast().ok());
        let pool: &'static Pool<S, N> = pooled.map_or_else(|| keep(Pool::in_lane(lane)), |pool| *pool);
        self.taken.push((lane, Box::new(pool)));
        self.store(pool);
        pool
    }

    /// Makes a store known that the scenario has from elsewhere, a `static` of a driver: no task is in it yet, and nobody
    /// else uses it while the scenario runs.
    pub fn store<const S: usize>(&mut self, store: &'static Table<S>) {
        self.stores.push(Box::new(store));
    }

    /// A scope of the driver: to close it is one of the faults.
    ///
    /// # Panics
    ///
    /// There is one of that name.
    pub fn scope(&mut self, name: &'static str) -> &'static Scope {
        assert!(!self.scopes.iter().any(|one| one.name() == name), "two scopes are called `{name}`");
        let scope = keep(Scope::new(name));
        self.scopes.push(scope);
        scope
    }

    /// A task that must have ended when nothing is left to do: its wait, and with it the run, has an end whatever happens.
    pub fn must_end<T: Send + 'static>(&mut self, name: &'static str, task: JoinHandle<T>) -> Joined<T> {
        let joined = Joined(Arc::default());
        self.ends.push(Box::new(Awaited { name, handle: Some(task), joined: Joined(joined.0.clone()) }));
        joined
    }

    /// A task that is not aborted alone: nobody in the driver does that either, or knows its name.
    pub fn spare(&mut self, task: TaskRef) {
        self.spared.push(task);
    }

    /// Something that is counted: see [`Counter`].
    pub fn counter(&mut self, name: &'static str) -> Counter {
        self.books.counter(name)
    }

    /// Something that must come out even: see [`Ledger`].
    pub fn ledger(&mut self, name: &'static str) -> Ledger {
        self.books.ledger(name)
    }

    /// The seed of this run, for what the world does by chance; zero in the calm one.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed.unwrap_or(0)
    }

    /// The machines of one side, the oldest first.
    pub(super) fn machines_of(&self, side: Side) -> impl DoubleEndedIterator<Item = &Rc<dyn Machine>> {
        self.machines.iter().filter(move |machine| machine.side() == side)
    }

    /// What is in the slots of all stores, with the store's number, in the order of the stores and the slots.
    pub(super) fn rows(&self) -> impl Iterator<Item = (usize, Row<'static>)> {
        let stores = self.stores.iter().enumerate();
        stores.flat_map(|(number, store)| store.rows().into_iter().map(move |row| (number, row)))
    }

    /// The tasks that have not ended.
    pub(super) fn tasks(&self) -> impl Iterator<Item = Found<'_>> {
        let live = self.rows().filter(|(_, row)| row.is_task() && !matches!(row.state, State::Ended { .. }));
        live.filter_map(|(store, row)| {
            let machine = self.machines.iter().find(|machine| machine.address() == row.executor.address)?;
            let task = self.stores.get(store)?.name_of(&row)?;
            Some(Found { task, row, machine: &**machine, is_spared: self.spared.contains(&task) })
        })
    }

    /// Those of them that faults can happen to.
    pub(super) fn targets(&self) -> impl Iterator<Item = Found<'_>> {
        self.tasks().filter(|found| found.machine.side() == Side::Driver)
    }

    /// Puts the pools back, which are free again, for the next run.
    pub(super) fn into_shelf(self) -> Shelf {
        let Self { mut shelf, taken, .. } = self;
        shelf.0.extend(taken);
        shelf
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim").field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// A pool, and the lane that it is in.
type Pooled = (Lane, Box<dyn Any>);

/// Pools of the runs before, to be used again: slots never die, and thousands of runs should not take thousands of them.
#[derive(Default)]
pub(super) struct Shelf(Vec<Pooled>);

/// A store of slots of any size.
pub(super) trait Slots {
    fn rows(&self) -> Vec<Row<'static>>;
    fn name_of(&self, row: &Row<'static>) -> Option<TaskRef>;
    /// See [`Table::tidy`].
    fn tidy(&self) -> u32;
}

impl<const S: usize> Slots for &'static Table<S> {
    fn rows(&self) -> Vec<Row<'static>> {
        self.tasks().collect()
    }

    fn name_of(&self, row: &Row<'static>) -> Option<TaskRef> {
        Table::name_of(self, row)
    }

    fn tidy(&self) -> u32 {
        Table::tidy(self)
    }
}

/// The outcome of a task that [must end](Sim::must_end), for the checks.
#[derive(Debug)]
pub struct Joined<T>(Arc<Mutex<Option<Result<T, Cancelled>>>>);

impl<T: Clone> Joined<T> {
    /// The outcome; none as long as the task has not ended.
    #[must_use]
    pub fn outcome(&self) -> Option<Result<T, Cancelled>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A task that must end, whatever its output is.
pub(super) trait Ends {
    /// Takes the outcome if there is one; the name of a task that has none yet.
    fn collect(&mut self) -> Option<&'static str>;
}

struct Awaited<T> {
    name: &'static str,
    handle: Option<JoinHandle<T>>,
    joined: Joined<T>,
}

impl<T> Ends for Awaited<T> {
    fn collect(&mut self) -> Option<&'static str> {
        match self.handle.take()?.try_take() {
            Ok(outcome) => {
                *self.joined.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
                None
            }
            Err(handle) => {
                self.handle = Some(handle);
                Some(self.name)
            }
        }
    }
}
