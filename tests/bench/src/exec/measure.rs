//! From runs of a child to the cost of one operation.

use std::fmt;
use std::time::Instant;

use crate::callgrind::Callgrind;
use crate::{Result, child, heap};

/// Operations in a run under callgrind. Its counts are exact, so that a few show as much as many; but
/// what happens only at times, such as a queue that grows, should average out.
const COUNTED: u32 = 1000;

/// How many native runs the least time is taken of.
const TIMED_RUNS: u32 = 5;

/// What a child is to do.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// Which peer.
    pub peer: &'static str,
    /// Which case.
    pub case: &'static str,
    /// How often in a native run: enough for set-up and the clock's grain not to matter.
    pub timed: u32,
}

/// What one operation costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    instructions: f64,
    locked: f64,
    ns: f64,
    heap: f64,
    doorbells: Option<f64>,
    /// Of a task, for which there is no operation.
    bytes: Option<f64>,
}

impl Cost {
    /// The metrics that were measured, by name.
    pub fn reported(&self) -> impl Iterator<Item = (&'static str, f64)> {
        [
            ("instructions", Some(self.instructions)),
            ("locked", Some(self.locked)),
            ("ns", Some(self.ns)),
            ("heap", Some(self.heap)),
            ("doorbells", self.doorbells),
            ("bytes", self.bytes),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }

    /// Without `times` of another operation.
    #[must_use]
    pub fn less(self, other: Self, times: f64) -> Self {
        Self {
            instructions: self.instructions - times * other.instructions,
            locked: self.locked - times * other.locked,
            ns: self.ns - times * other.ns,
            heap: self.heap - times * other.heap,
            ..self
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { instructions, locked, ns, heap, .. } = self;
        write!(f, "{instructions:8.1} instructions {locked:7.2} locked {ns:8.1} ns {heap:5.2} allocations")
    }
}

/// The child's part: performs the operations and prints what it can see itself.
///
/// # Errors
///
/// If the time taken is beyond all reason.
pub fn child(perform: impl FnOnce()) -> Result<()> {
    let before = heap::usage().allocations;
    let start = Instant::now();
    perform();
    let elapsed = start.elapsed();
    child::print_figure("ns", elapsed.as_nanos().try_into()?);
    child::print_figure("allocations", heap::usage().allocations - before);
    Ok(())
}

/// The cost of one operation.
///
/// # Errors
///
/// If a run fails.
pub fn cost(callgrind: &mut Callgrind, job: Job) -> Result<Cost> {
    let Job { peer, case, timed: n } = job;
    let mut count = |n: u32| callgrind.count(&[peer, case, &n.to_string()]);
    let (once, twice) = (count(COUNTED)?, count(2 * COUNTED)?);
    let counted = |once, twice| for_one(twice, once, COUNTED);

    let run = |n: u32| child::run(child::command(&[], &[peer, case, &n.to_string()])?);
    let (short, long) = (run(n)?, run(2 * n)?);
    let seen = |figure| for_one(long.figure(figure)?, short.figure(figure)?, n);
    let ns = (0..TIMED_RUNS).map(|_| run(n)?.figure("ns")).collect::<Result<Vec<_>>>()?;

    Ok(Cost {
        instructions: counted(once.instructions, twice.instructions)?,
        locked: counted(once.locked, twice.locked)?,
        ns: for_one(ns.into_iter().min().unwrap_or_default(), 0, n)?,
        heap: seen("allocations")?,
        doorbells: short.has("doorbells").then(|| seen("doorbells")).transpose()?,
        bytes: short
            .has("bytes")
            .then(|| -> Result<f64> { Ok(f64::from(u32::try_from(short.figure("bytes")?)?)) })
            .transpose()?,
    })
}

/// The share of one of `n` operations in the difference of two runs.
fn for_one(twice: u64, once: u64, n: u32) -> Result<f64> {
    let difference = twice.checked_sub(once).ok_or("twice the operations cost less")?;
    Ok(f64::from(u32::try_from(difference)?) / f64::from(n))
}

#[cfg(test)]
mod tests {
    use super::for_one;

    #[test]
    fn set_up_cancels() {
        let (set_up, each) = (12_345, 158_000);
        let cost = for_one(set_up + 2 * each, set_up + each, 1000).unwrap();
        assert!((cost - 158.0).abs() < f64::EPSILON, "{cost}");
        assert!(for_one(1, 2, 1).is_err());
    }
}
