//! Goes through the levels and prints the table of results.
//!
//! A failing level does not stop the others: one run then tells everything that is wrong.

use std::{fmt, time::Instant};

use crate::{
    cli::Skips,
    host::Host,
    levels::{Duty, LEVELS, Level, Outcome},
};

/// Runs every level. The last line printed is the one that a CI reads.
///
/// Whether they all passed, or were skipped where `skips` lets them.
#[must_use]
pub fn all_levels(host: &Host, skips: Skips) -> bool {
    let mut report = Report { rows: Vec::new() };
    for level in LEVELS {
        println!("\n== {}: {}", level.name, level.shows);
        let begin = Instant::now();
        let result = Verdict::of(level, run(level, host), skips);
        let seconds = begin.elapsed().as_secs_f64();
        println!("== {}: {result} ({seconds:.1} s)", level.name);
        report.rows.push(Row { name: level.name, result, seconds });
    }
    println!("\n{report}");
    report.count(Verdict::is_failed) == 0
}

fn run(level: &Level, host: &Host) -> anyhow::Result<Outcome> {
    match host.supply(level.needs) {
        Ok(()) => (level.run)(host),
        Err(missing) => Ok(Outcome::Skipped(missing)),
    }
}

/// What became of a level.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passed(String),
    Failed(String),
    Skipped(String),
}

struct Row {
    name: &'static str,
    result: Verdict,
    seconds: f64,
}

struct Report {
    rows: Vec<Row>,
}

impl Verdict {
    fn of(level: &Level, outcome: anyhow::Result<Outcome>, skips: Skips) -> Self {
        match outcome {
            Ok(Outcome::Passed(what)) => Self::Passed(what),
            Ok(Outcome::Skipped(why)) if level.duty == Duty::Mandatory && skips == Skips::Fail => {
                Self::Failed(format!("mandatory, but {why}"))
            }
            Ok(Outcome::Skipped(why)) => Self::Skipped(why),
            Err(error) => Self::Failed(format!("{error:#}")),
        }
    }

    fn is_passed(&self) -> bool {
        matches!(self, Self::Passed(_))
    }

    fn is_failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }

    fn is_skipped(&self) -> bool {
        matches!(self, Self::Skipped(_))
    }

    /// The word for it, and what there is to say.
    fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Passed(what) => ("passed", what),
            Self::Failed(why) => ("FAILED", why),
            Self::Skipped(why) => ("skipped", why),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, text) = self.parts();
        write!(f, "{word}: {text}")
    }
}

impl Report {
    fn count(&self, is: impl Fn(&Verdict) -> bool) -> usize {
        self.rows.iter().filter(|row| is(&row.result)).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<9} {:<8} {:>8}  what ran, or why not", "level", "result", "seconds")?;
        for row in &self.rows {
            let (word, text) = row.result.parts();
            // The first line only: the rest stands above, where the level ran.
            let text = text.lines().next().unwrap_or_default();
            writeln!(f, "{:<9} {word:<8} {:>8.1}  {text}", row.name, row.seconds)?;
        }
        writeln!(f)?;
        let (passed, failed, skipped) =
            (self.count(Verdict::is_passed), self.count(Verdict::is_failed), self.count(Verdict::is_skipped));
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(duty: Duty) -> Level {
        Level {
            name: "sim",
            shows: "something",
            duty,
            needs: &[],
            run: |_| Ok(Outcome::Passed(String::new())),
        }
    }

    #[test]
    fn only_a_mandatory_level_must_run_and_only_in_ci() {
        let skipped = || Ok(Outcome::Skipped("Xen is missing".to_owned()));
        let verdict = |duty, skips| Verdict::of(&level(duty), skipped(), skips);
        assert!(verdict(Duty::Mandatory, Skips::Fail).is_failed());
        assert!(verdict(Duty::Mandatory, Skips::Reported).is_skipped());
        assert!(verdict(Duty::Opportunistic, Skips::Fail).is_skipped());
    }

    #[test]
    fn an_error_is_a_failure() {
        let failed = Err(anyhow::anyhow!("`cargo test` failed"));
        assert!(Verdict::of(&level(Duty::Opportunistic), failed, Skips::Reported).is_failed());
    }

    #[test]
    fn the_last_line_is_plain() {
        let row = |name, result| Row { name, result, seconds: 1.25 };
        let report = Report {
            rows: vec![
                row("fmt", Verdict::Passed("all packages".to_owned())),
                row("test", Verdict::Passed("12 passed".to_owned())),
                row("miri", Verdict::Skipped("Miri is missing\nand so on".to_owned())),
            ],
        };
        assert_eq!(
            report.to_string(),
            "\
level     result    seconds  what ran, or why not
fmt       passed        1.2  all packages
test      passed        1.2  12 passed
miri      skipped       1.2  Miri is missing

2 passed, 0 failed, 1 skipped"
        );
    }
}
