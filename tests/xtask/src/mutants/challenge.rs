//! Runs the models without a mutant, and then against each one.

use std::{
    fmt,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::{
    inject::Mutant,
    models::{Ending, Model, Sound},
};
use crate::levels::{self, Outcome};

/// How long a model may take without a mutant.
const LONGEST_MODEL: Duration = Duration::from_mins(10);

/// What became of a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// By the model of this name, which failed.
    Killed(String),
    /// By the model of this name, which did not end.
    TimedOut(String),
    /// All models that come by pass; there are so many.
    Survived(usize),
}

/// How many mutants there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// A model failed, or did not end.
    pub killed: usize,
    /// Those of them where a model did not end.
    pub timed_out: usize,
    /// No model failed.
    pub survived: usize,
}

/// Runs the models without a mutant: they must pass, or what they say of mutants means nothing.
pub(super) fn prove<'m>(models: &'m [Model], work: &Path) -> Result<Vec<Sound<'m>>> {
    in_parallel(models, |index, model| model.prove(&work.join(format!("reached-{index}")), LONGEST_MODEL))
}

/// Runs the models that come by a mutant against it, until one fails; for all mutants.
pub(super) fn all(mutants: &[Mutant], mut models: Vec<Sound<'_>>, patience: Duration) -> Result<Vec<Fate>> {
    // The fastest first: most mutants do not live to see the slow ones.
    models.sort_by_key(|sound| sound.time);
    let done = AtomicUsize::new(0);
    in_parallel(mutants, |_, mutant| {
        let begin = Instant::now();
        let fate = one(mutant, &models, patience)?;
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        let seconds = begin.elapsed().as_secs_f64();
        println!("[{done}/{}] {}: {fate} ({seconds:.1} s)", mutants.len(), mutant.label);
        Ok(fate)
    })
}

fn one(mutant: &Mutant, models: &[Sound<'_>], patience: Duration) -> Result<Fate> {
    let mut passed = 0;
    for witness in models.iter().filter(|sound| sound.reached.contains(&mutant.site)) {
        match witness.model.challenge(&mutant.key, patience.max(witness.time * 10))? {
            Ending::Passed => passed += 1,
            Ending::Failed => return Ok(Fate::Killed(witness.model.name.clone())),
            Ending::TimedOut => return Ok(Fate::TimedOut(witness.model.name.clone())),
        }
    }
    Ok(Fate::Survived(passed))
}

/// Calls `work` for each item, on as many threads as the machine runs at once; the results in order.
fn in_parallel<'i, T: Sync, R: Send>(
    items: &'i [T],
    work: impl Fn(usize, &'i T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let worker = || {
        while let Some((index, item)) = items.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed)) {
            let result = work(index, item);
            if result.is_err() {
                // Nobody needs what is left.
                next.store(items.len(), Ordering::Relaxed);
            }
            results.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(worker);
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

impl Fate {
    pub(super) fn survived(&self) -> bool {
        matches!(self, Self::Survived(_))
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed(model) => write!(f, "killed by {model}"),
            Self::TimedOut(model) => write!(f, "killed by {model}, which did not end"),
            Self::Survived(0) => f.write_str("SURVIVED: no model comes by"),
            Self::Survived(models) => write!(f, "SURVIVED: the models that come by all pass ({models})"),
        }
    }
}

impl Tally {
    pub(super) fn of(fates: &[Fate]) -> Self {
        let count = |is: fn(&Fate) -> bool| fates.iter().filter(|fate| is(fate)).count();
        let survived = count(Fate::survived);
        let timed_out = count(|fate| matches!(fate, Fate::TimedOut(_)));
        Self { killed: fates.len() - survived, timed_out, survived }
    }

    /// As the result of a level.
    ///
    /// # Errors
    ///
    /// A mutant survived.
    pub fn outcome(self) -> Result<Outcome> {
        if self.survived != 0 {
            bail!("{self}, {} survived", self.survived);
        }
        levels::passed(self)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mutants, {} killed", self.killed + self.survived, self.killed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        let items: Vec<usize> = (0..100).collect();
        let doubled = in_parallel(&items, |index, item| Ok(index + item)).expect("nothing fails");
        assert_eq!(doubled, (0..200).step_by(2).collect::<Vec<_>>());
    }

    #[test]
    fn an_error_is_not_lost() {
        let items = [1, 2, 3];
        let result = in_parallel(&items, |_, item| if *item == 2 { bail!("two") } else { Ok(()) });
        assert_eq!(result.expect_err("one fails").to_string(), "two");
    }

    #[test]
    fn a_survivor_fails_the_level() {
        let by = || "model".to_owned();
        let tally = Tally::of(&[Fate::Killed(by()), Fate::TimedOut(by())]);
        assert_eq!(tally, Tally { killed: 2, timed_out: 1, survived: 0 });
        assert_eq!(
            tally.outcome().expect("none survived"),
            Outcome::Passed("2 mutants, 2 killed".to_owned())
        );
        let tally = Tally::of(&[Fate::Killed(by()), Fate::Survived(3)]);
        assert_eq!(tally.outcome().expect_err("one survived").to_string(), "2 mutants, 1 killed, 1 survived");
    }
}
