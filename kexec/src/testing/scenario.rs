//! A scenario, and the enumeration of its faults.
#![forbid(unsafe_code)]

use core::{cell::RefCell, fmt, iter, num::NonZeroUsize, ops::Range, time::Duration};
use std::{
    boxed::Box,
    env,
    string::{String, ToString},
    vec::Vec,
};

use super::{
    case::{Case, Fault, Kind},
    report::{Failure, Problem, Report},
    run::{Detail, Ran, run},
    sim::{Shelf, Sim},
};

/// Names the run that is to be [replayed](Scenario::replay) instead of the enumeration.
pub(super) const REPLAY: &str = "KEXEC_REPLAY";

/// What the floor of the boundaries is called.
pub(super) const BOUNDARIES: &str = "poll boundaries";

/// So many runs may fail before the rest is left out.
const ENOUGH: usize = 8;

type Check<W> = Box<dyn Fn(&W, &Case)>;
type OwnFault<W> = (&'static str, Box<dyn Fn(&W)>);

/// A world that is built anew for each run, what may happen to it, and what must be so in the end: see the
/// [module](super).
pub struct Scenario<W> {
    name: &'static str,
    pub(super) build: Box<dyn Fn(&mut Sim) -> W>,
    pub(super) at_rest: Vec<Check<W>>,
    pub(super) checks: Vec<Check<W>>,
    pub(super) faults: Vec<OwnFault<W>>,
    pub(super) limits: Limits,
    seeds: Range<u64>,
    one_in: usize,
    floors: Vec<(&'static str, u64)>,
    /// Pools of the runs before.
    shelf: RefCell<Shelf>,
}

/// A run that was done again.
#[derive(Clone, Debug)]
pub struct Replay {
    /// What is wrong with it.
    pub failure: Option<Failure>,
    /// All that happened.
    pub trace: Vec<String>,
}

/// How long a run may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) steps: u64,
    pub(super) time: Duration,
    pub(super) lasting: Option<Duration>,
}

impl<W> Scenario<W> {
    /// A scenario of that name whose world is built so: executors, stores and tasks, and what the checks and the author's
    /// faults need to reach, which is returned.
    #[must_use]
    pub fn new(name: &'static str, build: impl Fn(&mut Sim) -> W + 'static) -> Self {
        Self {
            name,
            build: Box::new(build),
            at_rest: Vec::new(),
            checks: Vec::new(),
            faults: Vec::new(),
            limits: Limits { steps: 100_000, time: Duration::from_hours(1), lasting: None },
            seeds: 0..4,
            one_in: 1,
            floors: Vec::new(),
            shelf: RefCell::default(),
        }
    }

    /// A further kind of fault: what the world may do.
    #[must_use]
    pub fn fault(mut self, name: &'static str, fault: impl Fn(&W) + 'static) -> Self {
        self.faults.push((name, Box::new(fault)));
        self
    }

    /// What must be so when nothing is left to do, before anything is closed. It fails by a panic, as assertions do.
    #[must_use]
    pub fn at_rest(mut self, check: impl Fn(&W, &Case) + 'static) -> Self {
        self.at_rest.push(Box::new(check));
        self
    }

    /// What must be so in the end, when every executor is closed. It fails by a panic, as assertions do.
    #[must_use]
    pub fn check(mut self, check: impl Fn(&W, &Case) + 'static) -> Self {
        self.checks.push(Box::new(check));
        self
    }

    /// The seeds with which all is done again under a [wild plan](crate::platform::mock::Plan::wild), after the calm one;
    /// 0 to 3 if nothing is said.
    #[must_use]
    pub fn seeds(self, seeds: Range<u64>) -> Self {
        Self { seeds, ..self }
    }

    /// Does one in so many of the runs with a fault only, all if nothing is said: for a world that is large, and made of what is
    /// enumerated elsewhere. They are spread over all kinds and boundaries, and the report says so.
    #[must_use]
    pub fn one_in(self, runs: NonZeroUsize) -> Self {
        Self { one_in: runs.get(), ..self }
    }

    /// How many steps a run may take, and how much virtual time: 100,000 and an hour if nothing is said. One that takes
    /// more has failed.
    #[must_use]
    pub fn limits(self, steps: u64, time: Duration) -> Self {
        Self { limits: Limits { steps, time, ..self.limits }, ..self }
    }

    /// Says that the world never rests by itself, because of an interval for instance: after so much virtual time it is
    /// taken to rest.
    #[must_use]
    pub fn lasting(self, time: Duration) -> Self {
        Self { limits: Limits { lasting: Some(time), ..self.limits }, ..self }
    }

    /// How many poll boundaries the calm run has, at least.
    #[must_use]
    pub fn boundaries(self, floor: u32) -> Self {
        self.floor(BOUNDARIES, floor.into())
    }

    /// How often a [`Counter`](super::Counter) or [`Ledger`](super::Ledger) counts something in all runs, at least. What
    /// the enumeration shows can be lost without any run failing: a peer that answers no more, a fault that comes too
    /// late. This is how it is noticed.
    #[must_use]
    pub fn floor(mut self, name: &'static str, floor: u64) -> Self {
        self.floors.push((name, floor));
        self
    }

    /// Enumerates the faults, prints the report once, and panics if something is wrong. This is what a test calls.
    ///
    /// With `KEXEC_REPLAY` set to the key of one of its runs, it does only that run, and prints all that happens.
    ///
    /// # Panics
    ///
    /// See [`Report::is_ok`].
    pub fn run(&self) -> Report {
        let key = env::var(REPLAY).ok().filter(|key| self.plain_case(key).is_some());
        let report = key.as_ref().map_or_else(|| self.enumerate(), |key| self.shown_replay(key));
        assert!(report.is_ok(), "{report}");
        match key {
            Some(key) => std::println!("{key}: nothing is wrong with this run"),
            None => std::print!("{report}"),
        }
        report
    }

    /// Enumerates the faults: each kind, at each boundary, under each seed.
    pub fn enumerate(&self) -> Report {
        let mut report = Report { name: self.name, one_in: self.one_in, ..Report::default() };
        for seed in iter::once(None).chain(self.seeds.clone().map(Some)) {
            let plain = Case { scenario: self.name, seed, fault: None };
            let whole = self.go(&plain, &mut report, None);
            let boundaries = u32::try_from(whole.boundaries.len()).unwrap_or(u32::MAX).saturating_sub(1);
            if seed.is_none() {
                report.boundaries = boundaries;
            } else {
                let (fewest, most) = report.seeded.unwrap_or((boundaries, boundaries));
                report.seeded = Some((fewest.min(boundaries), most.max(boundaries)));
                report.seeds = report.seeds.saturating_add(1);
            }
            if !whole.problems.is_empty() {
                // With a fault on top of that, it would only be said again.
                continue;
            }
            for case in self.cases(&plain, &whole).into_iter().step_by(self.one_in) {
                if report.failures.len() == ENOUGH {
                    report.is_cut = true;
                    return report;
                }
                self.go(&case, &mut report, Some(&whole));
            }
        }
        report.measure(&self.floors);
        report
    }

    /// Does one run again, by its [key](Case). None if there is no such run.
    pub fn replay(&self, key: &str) -> Option<Replay> {
        let plain = self.plain_case(key)?;
        let whole = self.ran(&plain, None, Detail::Outcome);
        let mut cases = iter::once(plain.clone()).chain(self.cases(&plain, &whole));
        let case = cases.find(|case| case.to_string() == key)?;
        let ran = self.ran(&case, Some(&whole), Detail::Everything);
        Some(Replay { trace: ran.log.clone(), failure: failure(&case, ran) })
    }

    #[expect(clippy::panic, reason = "this is how a test fails")]
    fn shown_replay(&self, key: &str) -> Report {
        let Some(Replay { trace, failure }) = self.replay(key) else {
            panic!("{REPLAY}: `{}` has no run `{key}`: its code is not what it was", self.name)
        };
        std::println!("{key}:\n  {}", trace.join("\n  "));
        Report { name: self.name, runs: 1, failures: failure.into_iter().collect(), ..Report::default() }
    }

    /// The run without a fault that begins like the one that a key names, if that is one of this scenario.
    fn plain_case(&self, key: &str) -> Option<Case> {
        let rest = key.strip_prefix(self.name)?.strip_prefix('/')?;
        let seed = match rest.split('/').next()? {
            "calm" => None,
            seed => Some(seed.parse().ok()?),
        };
        Some(Case { scenario: self.name, seed, fault: None })
    }

    /// One run, and its place in the report.
    fn go(&self, case: &Case, report: &mut Report, whole: Option<&Ran>) -> Ran {
        let ran = self.ran(case, whole, Detail::Outcome);
        report.runs = report.runs.saturating_add(1);
        if let Some(kind) = case.fault() {
            let runs = report.faults.entry(kind).or_default();
            *runs = runs.saturating_add(1);
        }
        for &(name, count) in &ran.counts {
            let sum = report.counts.entry(name).or_default();
            *sum = sum.saturating_add(count);
        }
        if !ran.problems.is_empty() {
            // Again, for the trace: it is the same run.
            let mut again = self.ran(case, whole, Detail::Everything);
            if (again.digest, &again.problems) != (ran.digest, &ran.problems) {
                again.problems.clone_from(&ran.problems);
                again.problems.push(Problem::Diverged);
            }
            report.failures.extend(failure(case, again));
        }
        ran
    }

    fn ran(&self, case: &Case, whole: Option<&Ran>, detail: Detail) -> Ran {
        let boundary = case.fault.as_ref().and_then(|fault| usize::try_from(fault.boundary).ok());
        let expected = boundary.and_then(|at| whole?.boundaries.get(at));
        run(self, case, expected, &mut self.shelf.borrow_mut(), detail)
    }

    /// The faults that can happen to a run.
    fn cases(&self, plain: &Case, whole: &Ran) -> Vec<Case> {
        let mut cases = Vec::new();
        for (boundary, found) in (0..).zip(&whole.boundaries) {
            let mut add = |kind, target: &str| {
                let fault = Some(Fault { boundary, kind, target: target.into() });
                cases.push(Case { fault, ..plain.clone() });
            };
            for (at, (task, is_spared)) in found.tasks.iter().enumerate() {
                if !is_spared {
                    add(Kind::Abort(at), task);
                }
                add(Kind::Wake(at), task);
            }
            add(Kind::Suspend, "a day");
            for (at, scope) in whole.scopes.iter().enumerate() {
                add(Kind::CloseScope(at), scope);
            }
            for (at, driver) in whole.drivers.iter().enumerate() {
                add(Kind::Close(at), driver);
            }
            for (at, (fault, _)) in self.faults.iter().enumerate() {
                add(Kind::Own(at), fault);
            }
        }
        cases
    }
}

fn failure(case: &Case, ran: Ran) -> Option<Failure> {
    let Ran { problems, parked, log, .. } = ran;
    (!problems.is_empty()).then(|| Failure { case: case.clone(), problems, parked, trace: log })
}

impl<W> fmt::Debug for Scenario<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> = self.faults.iter().map(|(name, _)| (*name).into()).collect();
        f.debug_struct("Scenario")
            .field("name", &self.name)
            .field("faults", &faults)
            .field("seeds", &self.seeds)
            .finish_non_exhaustive()
    }
}
