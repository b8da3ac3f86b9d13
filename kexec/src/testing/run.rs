//! One run: the world is built, brought to rest with a fault on the way, closed and checked.
#![forbid(unsafe_code)]

use core::{
    future::Future,
    mem,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Waker},
    time::Duration,
};
use std::{
    any::Any,
    boxed::Box,
    format,
    panic::catch_unwind,
    rc::Rc,
    string::{String, ToString},
    vec::Vec,
};

use super::{
    Problem, Scenario,
    case::{Case, Kind},
    machine::{Machine, Side},
    sim::{Found, Shelf, Sim},
};
use crate::{
    CloseScope, Scope, TaskRef,
    platform::mock::Dice,
    task_table::{Row, State},
    time::Instant,
};

/// How long a guest is suspended.
const DAY: Duration = Duration::from_hours(24);

/// What was found at a boundary of a run without a fault.
#[derive(Debug)]
pub(super) struct Boundary {
    /// Of all that had happened by then: a run with a fault must be the same up to it.
    digest: u64,
    /// The tasks that faults can happen to, by name, and whether one of them is to be spared.
    pub(super) tasks: Vec<(String, bool)>,
}

/// What became of a run.
#[derive(Debug, Default)]
pub(super) struct Ran {
    /// Only of a run without a fault: the beginning, and what is after each poll.
    pub(super) boundaries: Vec<Boundary>,
    pub(super) scopes: Vec<&'static str>,
    pub(super) drivers: Vec<&'static str>,
    pub(super) counts: Vec<(&'static str, u64)>,
    pub(super) problems: Vec<Problem>,
    /// Where the tasks were when the run could not go on.
    pub(super) parked: Vec<String>,
    pub(super) digest: u64,
    /// What happened, in order; empty if nobody wanted to know.
    pub(super) log: Vec<String>,
}

/// How much is kept of what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    Outcome,
    Everything,
}

/// A run on its way.
struct Run<'s, W> {
    scenario: &'s Scenario<W>,
    case: &'s Case,
    /// What the run without a fault had at the fault's boundary.
    expected: Option<&'s Boundary>,
    sim: Sim,
    dice: Dice,
    now: Instant,
    /// When time is up.
    horizon: Instant,
    steps: u64,
    /// Boundaries so far.
    boundaries: u32,
    closing: Vec<(&'static Scope, Option<Pin<Box<CloseScope>>>)>,
    /// The tasks that the plan knows of.
    haunted: Vec<TaskRef>,
    detail: Detail,
    ran: Ran,
}

/// Why a run does not go on.
struct Stopped;

/// Runs a case, with pools from the shelf, which has those that can be used again afterwards.
pub(super) fn run<W>(
    scenario: &Scenario<W>,
    case: &Case,
    expected: Option<&Boundary>,
    shelf: &mut Shelf,
    detail: Detail,
) -> Ran {
    let mut run = Run {
        scenario,
        case,
        expected,
        sim: Sim::new(case.seed, mem::take(shelf), detail == Detail::Everything),
        dice: Dice(case.seed.unwrap_or(0)),
        now: Instant::START,
        horizon: Instant::NEVER,
        steps: 0,
        boundaries: 0,
        closing: Vec::new(),
        haunted: Vec::new(),
        detail,
        ran: Ran::default(),
    };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run.live())) {
        run.log_machines();
        run.ran.problems.push(Problem::Panic(message(&*panic)));
    }
    run.ran.digest = run.digest();
    run.ran.counts = run.sim.books.counts().collect();
    run.ran.scopes = run.sim.scopes.iter().map(|scope| scope.name()).collect();
    run.ran.drivers = run.sim.machines_of(Side::Driver).map(|machine| machine.name()).collect();
    if run.ran.problems.is_empty() {
        *shelf = run.sim.into_shelf();
        return run.ran;
    }
    let ran = mem::take(&mut run.ran);
    // As far as that is possible, for the sake of the scenario's own stores. The pools are left where they are.
    let _ = catch_unwind(AssertUnwindSafe(|| run.close()));
    ran
}

impl<W> Run<'_, W> {
    /// From the first spawn to the last check. Problems are noted; a panic is one.
    fn live(&mut self) {
        let world = (self.scenario.build)(&mut self.sim);
        if self.rest(&world).is_ok() {
            self.scenario.at_rest.iter().for_each(|check| check(&world, self.case));
            if self.close().is_ok() {
                self.settle_books();
                self.scenario.checks.iter().for_each(|check| check(&world, self.case));
            }
        }
    }

    /// Runs until nothing is on its way, with the fault at its boundary.
    fn rest(&mut self, world: &W) -> Result<(), Stopped> {
        self.allow_time();
        self.boundary(world)?;
        while let Some(due) = self.next()? {
            if self.step(due) {
                self.boundary(world)?;
            }
        }
        if self.case.fault.is_some() && self.expected.is_some() {
            return Err(self.stop(Problem::Diverged));
        }
        let closing = self.closing.iter().filter(|(_, close)| close.is_some());
        self.ran.problems.extend(closing.map(|(scope, _)| Problem::OpenScope(scope.name())));
        let waiting = self.sim.ends.iter_mut().filter_map(|end| end.collect());
        self.ran.problems.extend(waiting.map(Problem::Waits));
        if self.ran.problems.is_empty() { Ok(()) } else { Err(self.give_up()) }
    }

    /// Closes the executors one after the other, the newest first and the driver's before the devices'.
    fn close(&mut self) -> Result<(), Stopped> {
        for side in [Side::Driver, Side::Device] {
            let newest_first: Vec<_> = self.sim.machines_of(side).rev().cloned().collect();
            for machine in newest_first {
                self.allow_time();
                while !machine.close() {
                    let Some(due) = self.next()? else {
                        return Err(self.stop(Problem::OpenExecutor(machine.name())));
                    };
                    self.step(due);
                }
            }
        }
        Ok(())
    }

    /// Every executor is closed: what is left was lost.
    fn settle_books(&mut self) {
        let Self { sim, ran, .. } = self;
        for machine in &sim.machines {
            if machine.has_timers() {
                ran.problems.push(Problem::Timer(machine.name()));
            }
        }
        let lost = sim.stores.iter().map(|store| store.tidy()).filter(|lost| *lost != 0);
        ran.problems.extend(lost.map(Problem::Slots));
        let imbalances = sim.books.imbalances().into_iter();
        ran.problems.extend(imbalances.map(|(ledger, entry, how)| Problem::Imbalance { ledger, entry, how }));
    }

    fn allow_time(&mut self) {
        let limits = self.scenario.limits;
        self.horizon = self.now.after(limits.lasting.unwrap_or(limits.time));
    }

    /// When something will happen next; none if nothing is on its way, or time is up that was to last for so long.
    fn next(&mut self) -> Result<Option<Instant>, Stopped> {
        let limits = self.scenario.limits;
        let next = self.sim.machines.iter().filter_map(|machine| machine.due()).min();
        if next.is_some_and(|due| due > self.horizon) {
            return if limits.lasting.is_some() {
                Ok(None)
            } else {
                Err(self.stop(Problem::TooLong(limits.time)))
            };
        }
        if next.is_some() && self.steps == limits.steps {
            return Err(self.stop(Problem::Restless(limits.steps)));
        }
        Ok(next)
    }

    /// Lets one of those machines go on for which it is time, whichever the seed says; whether it has polled a task.
    fn step(&mut self, due: Instant) -> bool {
        self.steps = self.steps.saturating_add(1);
        self.now = self.now.max(due);
        for machine in &self.sim.machines {
            machine.catch_up(self.now);
        }
        let is_ready = |machine: &&Rc<dyn Machine>| machine.due().is_some_and(|due| due <= self.now);
        let ready: Vec<_> = self.sim.machines.iter().filter(is_ready).collect();
        let drawn = usize::try_from(self.dice.below(ready.len() as u64)).unwrap_or(0);
        let Some(&machine) = ready.get(drawn) else { return false };
        let (polls, before) = (machine.polls(), self.detailed_rows());
        machine.step();
        let polled = machine.polls() != polls;
        self.now = self.now.max(machine.time());
        self.log_machines();
        self.log_tasks(&before);
        self.close_scopes();
        for end in &mut self.sim.ends {
            end.collect();
        }
        if self.case.seed.is_some() {
            self.haunt();
        }
        polled
    }

    /// A boundary: the place for a fault. In a run without one, notes what is there.
    fn boundary(&mut self, world: &W) -> Result<(), Stopped> {
        if self.case.fault.is_none() {
            self.know_all_tasks()?;
            let tasks = self.sim.targets().map(|found| (found.row.name.into(), found.is_spared)).collect();
            let digest = self.digest();
            self.ran.boundaries.push(Boundary { digest, tasks });
        }
        let here = self.boundaries;
        self.boundaries = here.saturating_add(1);
        self.log(|| format!("-- boundary {here}"));
        if let Some(fault) = self.case.fault.as_ref().filter(|fault| fault.boundary == here) {
            let expected = self.expected.take();
            if expected.is_some_and(|expected| expected.digest != self.digest()) {
                return Err(self.stop(Problem::Diverged));
            }
            self.log(|| format!("!! {}", fault.describe()));
            self.strike(fault.kind, world)?;
        }
        Ok(())
    }

    /// Makes the fault happen.
    fn strike(&mut self, kind: Kind, world: &W) -> Result<(), Stopped> {
        let task = |at| self.sim.targets().nth(at).map(|found| found.task);
        let happened = match kind {
            Kind::Abort(at) => task(at).is_some_and(TaskRef::abort),
            Kind::Wake(at) => task(at).is_some_and(|task| {
                task.wake();
                true
            }),
            Kind::Suspend => {
                self.sim.machines.iter().for_each(|machine| machine.suspend(DAY));
                true
            }
            Kind::CloseScope(at) => self.sim.scopes.get(at).is_some_and(|scope| {
                // It is being closed by the driver itself, if this is an error.
                self.closing.push((scope, scope.close().ok().map(Box::pin)));
                true
            }),
            Kind::Close(at) => self.sim.machines_of(Side::Driver).nth(at).is_some_and(|machine| {
                // It goes on by itself, and is waited for in the end.
                machine.close();
                true
            }),
            Kind::Own(at) => self.scenario.faults.get(at).is_some_and(|(_, fault)| {
                fault(world);
                true
            }),
        };
        self.close_scopes();
        if happened { Ok(()) } else { Err(self.stop(Problem::Diverged)) }
    }

    /// Goes on closing the scopes that the fault closes.
    fn close_scopes(&mut self) {
        for (_, close) in &mut self.closing {
            let mut cx = Context::from_waker(Waker::noop());
            if close.as_mut().is_some_and(|close| close.as_mut().poll(&mut cx).is_ready()) {
                *close = None;
            }
        }
    }

    /// Has the plan know the tasks that were spawned.
    fn haunt(&mut self) {
        let new: Vec<_> = self.sim.tasks().filter(|found| !self.haunted.contains(&found.task)).collect();
        for Found { task, machine, .. } in new {
            machine.haunt(task);
            self.haunted.push(task);
        }
    }

    /// Those in stores that the kit does not know would be spared every fault, unseen.
    fn know_all_tasks(&mut self) -> Result<(), Stopped> {
        let is_known = |address| {
            self.sim.rows().filter(move |(_, row)| row.is_task() && row.executor.address == address)
        };
        let unknown =
            self.sim.machines.iter().find(|one| is_known(one.address()).count() < one.live() as usize);
        match unknown.map(|machine| machine.name()) {
            Some(name) => Err(self.stop(Problem::UnknownStore(name))),
            None => Ok(()),
        }
    }

    fn digest(&self) -> u64 {
        let digests = self.sim.machines.iter().map(|machine| machine.digest());
        digests.fold(0, |all, one| all.rotate_left(7) ^ one)
    }

    fn stop(&mut self, problem: Problem) -> Stopped {
        self.ran.problems.push(problem);
        self.give_up()
    }

    /// Notes where everything waits.
    fn give_up(&mut self) -> Stopped {
        let tasks = self.sim.rows().map(|(_, row)| row).filter(Row::is_task);
        self.ran.parked =
            tasks.map(|row| format!("{}: {}, {}", row.executor, row.name, row.whereabouts())).collect();
        Stopped
    }

    fn log(&mut self, line: impl FnOnce() -> String) {
        if self.detail == Detail::Everything {
            self.ran.log.push(line());
        }
    }

    fn detailed_rows(&self) -> Vec<(usize, Row<'static>)> {
        match self.detail {
            Detail::Outcome => Vec::new(),
            Detail::Everything => self.sim.rows().collect(),
        }
    }

    /// Adds to the log what the machines have done.
    fn log_machines(&mut self) {
        let Self { sim, ran, now, .. } = self;
        for machine in &sim.machines {
            // Nothing, if nobody wants to know.
            let lines = machine.trace().into_iter();
            ran.log.extend(lines.map(|line| format!("{now:?} {}: {line}", machine.name())));
        }
    }

    /// Adds to the log which tasks were polled, and where they are now.
    fn log_tasks(&mut self, before: &[(usize, Row<'static>)]) {
        if self.detail == Detail::Outcome {
            return;
        }
        let Self { sim, ran, now, .. } = self;
        for (store, row) in sim.rows() {
            let before = before.iter().find(|(other, before)| {
                (*other, before.slot, before.generation) == (store, row.slot, row.generation)
            });
            let before = before.map(|(_, before)| before);
            let polled = before.map_or(0, |before| before.polls) != row.polls;
            let ended = before.is_some_and(|before| before.is_task() && before.state != row.state)
                && matches!(row.state, State::Free | State::Ended { .. });
            let name = before.filter(|_| !row.is_task()).map_or(row.name, |before| before.name);
            if ended {
                ran.log.push(format!("{now:?}   {name} has ended"));
            } else if polled && row.is_task() {
                ran.log.push(format!("{now:?}   {name}: {}", row.whereabouts()));
            }
        }
    }
}

/// What a panic says.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".into())
}
