//! What an enumeration has to say.
#![forbid(unsafe_code)]

use core::{fmt, time::Duration};
use std::{collections::BTreeMap, format, string::String, vec::Vec};

use super::{books::Imbalance, case::Case};

/// What is wrong with a run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// A task, a check or the scenario has panicked, and said this.
    Panic(String),
    /// Nothing is left to do, and the task of this name waits.
    Waits(&'static str),
    /// Tasks go on waking each other: so many steps were made.
    Restless(u64),
    /// Timers go on and on: so much time has passed.
    TooLong(Duration),
    /// The scope of this name was closed, and something in it does not end.
    OpenScope(&'static str),
    /// The executor of this name was closed, and a task of it does not end, or an output was not taken.
    OpenExecutor(&'static str),
    /// A timer was forgotten that is in the heap of the executor of this name.
    Timer(&'static str),
    /// So many slots of a store are lost.
    Slots(u32),
    /// Something has not come out even.
    Imbalance {
        /// Whose.
        ledger: &'static str,
        /// Which entry.
        entry: String,
        /// How.
        how: Imbalance,
    },
    /// The executor of this name has tasks in a store that the kit was not told of.
    UnknownStore(&'static str),
    /// The run was another one than before, with the same seed.
    Diverged,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic(text) => write!(f, "a panic: {text}"),
            Self::Waits(task) => write!(f, "`{task}` still waits, and nothing is left to do"),
            Self::Restless(steps) => write!(f, "no rest after {steps} steps: tasks go on waking each other"),
            Self::TooLong(time) => {
                write!(f, "no rest after {time:?}: timers go on and on; if they should, say `lasting`")
            }
            Self::OpenScope(scope) => write!(f, "scope `{scope}` was closed, and a member does not end"),
            Self::OpenExecutor(executor) => {
                write!(
                    f,
                    "executor `{executor}` was closed, and a task does not end or its output was not taken"
                )
            }
            Self::Timer(executor) => write!(f, "a timer of executor `{executor}` was leaked"),
            Self::Slots(slots) => write!(f, "slots of a store are not free: {slots}"),
            Self::Imbalance { ledger, entry, how } => write!(f, "{ledger}: `{entry}` was {how}"),
            Self::UnknownStore(executor) => {
                write!(
                    f,
                    "executor `{executor}` has tasks in a store of which the kit does not know: say `sim.store`"
                )
            }
            Self::Diverged => f.write_str(
                "not the same run as before, with the same seed: the scenario depends on something else, \
                 such as an address, a hash map's order or the host's clock",
            ),
        }
    }
}

/// A run with something wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which run.
    pub case: Case,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
    /// Where its tasks were parked when it could not go on.
    pub parked: Vec<String>,
    /// What has happened, up to then.
    pub trace: Vec<String>,
}

/// So many lines of the trace are shown before the fault, after it, and at the end.
const SHOWN: usize = 8;

impl Failure {
    /// The lines of the trace that matter most: what comes before the fault and right after it, and the end.
    fn excerpt(&self) -> Vec<&str> {
        let trace: Vec<&str> = self.trace.iter().map(String::as_str).collect();
        let fault = trace.iter().position(|line| line.starts_with("!!")).unwrap_or(trace.len());
        let around = fault.saturating_sub(SHOWN)..=fault.saturating_add(SHOWN);
        let last = trace.len().saturating_sub(SHOWN);
        let mut shown = Vec::new();
        let mut left_out = false;
        for (at, line) in trace.iter().enumerate() {
            if around.contains(&at) || at >= last {
                if left_out {
                    shown.push("...");
                }
                shown.push(line);
            }
            left_out = !around.contains(&at) && at < last;
        }
        shown
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "failed: {}", self.case)?;
        for problem in &self.problems {
            writeln!(f, "  {problem}")?;
        }
        for line in &self.parked {
            writeln!(f, "    {line}")?;
        }
        if !self.trace.is_empty() {
            writeln!(f, "  what happened:")?;
        }
        for line in self.excerpt() {
            writeln!(f, "    {line}")?;
        }
        write!(f, "  this run alone, with all that happened: {}='{}'", super::REPLAY, self.case)
    }
}

/// Something was counted too rarely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// What.
    pub name: &'static str,
    /// How often.
    pub count: u64,
    /// How often it should be, at least.
    pub floor: u64,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, count, floor } = self;
        write!(f, "{name}: {count}, and {floor} is the floor: the enumeration shows less than it did")
    }
}

/// What an enumeration found. [`Display`](fmt::Display) is short if all is well.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub(super) name: &'static str,
    pub(super) seeds: u64,
    pub(super) runs: u64,
    /// Of those with a fault, one in so many was done.
    pub(super) one_in: usize,
    pub(super) boundaries: u32,
    /// The fewest and the most that a seed has had.
    pub(super) seeded: Option<(u32, u32)>,
    pub(super) faults: BTreeMap<String, u64>,
    pub(super) counts: BTreeMap<&'static str, u64>,
    pub(super) floors: BTreeMap<&'static str, u64>,
    pub(super) shortfalls: Vec<Shortfall>,
    pub(super) failures: Vec<Failure>,
    /// Whether it ended early, because enough had failed.
    pub(super) is_cut: bool,
}

impl Report {
    /// The poll boundaries of the calm run: what is called N. Faults happened at each, and before the first poll.
    #[must_use]
    pub fn boundaries(&self) -> u32 {
        self.boundaries
    }

    /// Runs, those without a fault included.
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// In how many runs a fault of this kind happened: see [`Case::fault`].
    #[must_use]
    pub fn faults(&self, kind: &str) -> u64 {
        self.faults.get(kind).copied().unwrap_or(0)
    }

    /// What a counter or ledger has counted in all runs.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// The runs with something wrong, the first ones.
    #[must_use]
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// What is below its floor.
    #[must_use]
    pub fn shortfalls(&self) -> &[Shortfall] {
        &self.shortfalls
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.failures.is_empty() && self.shortfalls.is_empty()
    }

    /// Compares what was counted with the floors, unless runs have failed, which then count less.
    pub(super) fn measure(&mut self, floors: &[(&'static str, u64)]) {
        self.floors = floors.iter().copied().collect();
        if !self.failures.is_empty() {
            return;
        }
        for (&name, &floor) in &self.floors {
            let count = if name == super::BOUNDARIES { self.boundaries.into() } else { self.count(name) };
            if count < floor {
                self.shortfalls.push(Shortfall { name, count, floor });
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let floor =
            |name: &str| self.floors.get(name).map_or_else(String::new, |floor| format!(" (floor {floor})"));
        let Self { name, runs, boundaries, .. } = self;
        write!(f, "{name}: {boundaries} poll boundaries{}", floor(super::BOUNDARIES))?;
        if let Some((fewest, most)) = self.seeded {
            write!(f, ", {fewest} to {most} under {} seeds", self.seeds)?;
        }
        write!(f, ", {runs} runs")?;
        if self.one_in > 1 {
            write!(f, ", one in {} of those with a fault", self.one_in)?;
        }
        writeln!(f)?;
        let list = |items: Vec<String>| items.join(", ");
        writeln!(
            f,
            "  faults: {}",
            list(self.faults.iter().map(|(kind, runs)| format!("{kind} {runs}")).collect())
        )?;
        if !self.counts.is_empty() {
            let counts = self.counts.iter().map(|(name, count)| format!("{name} {count}{}", floor(name)));
            writeln!(f, "  counted: {}", list(counts.collect()))?;
        }
        for shortfall in &self.shortfalls {
            writeln!(f, "below its floor: {shortfall}")?;
        }
        if let Some((first, others)) = self.failures.split_first() {
            writeln!(f, "{first}")?;
            for other in others {
                let problem = other.problems.first().map_or_else(String::new, |problem| format!("{problem}"));
                writeln!(f, "failed too: {}: {problem}", other.case)?;
            }
            if self.is_cut {
                writeln!(f, "and there it ended: the rest was not tried")?;
            }
        }
        Ok(())
    }
}
