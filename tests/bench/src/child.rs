//! What passes between a bench and the child that it starts: arguments there, lines of text back.
//!
//! The child is the same binary, started with `--child` and whatever the bench wants done. On its
//! standard output it prints a line `<name> <number>` for each figure, and nothing else.

use std::collections::BTreeMap;
use std::env;
use std::process::Command;

use crate::Result;

/// The first argument of a child.
pub const CHILD: &str = "--child";

/// The figures that a child printed.
#[derive(Debug, Default)]
pub struct Report(BTreeMap<String, u64>);

impl Report {
    /// The figure that the child printed under `name`.
    ///
    /// # Errors
    ///
    /// If the child printed no such figure.
    pub fn figure(&self, name: &str) -> Result<u64> {
        self.0.get(name).copied().ok_or_else(|| format!("the child printed no figure `{name}`").into())
    }

    /// Whether the child printed a figure under `name`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn parse(output: &str) -> Result<Self> {
        let mut figures = BTreeMap::new();
        for line in output.lines() {
            let (name, value) = line.split_once(' ').ok_or_else(|| format!("a child printed `{line}`"))?;
            let value = value.parse().map_err(|error| format!("a child printed `{line}`: {error}"))?;
            figures.insert(name.to_owned(), value);
        }
        Ok(Self(figures))
    }
}

/// Prints a figure for the parent.
pub fn print_figure(name: &str, value: u64) {
    println!("{name} {value}");
}

/// The command that starts this binary as a child with `arguments`, behind `wrapper` (a profiler and
/// its options; may be empty).
///
/// # Errors
///
/// If the path of this binary is not known.
pub fn command(wrapper: &[String], arguments: &[&str]) -> Result<Command> {
    let this = env::current_exe()?;
    let mut command = match wrapper {
        [] => Command::new(&this),
        [profiler, options @ ..] => {
            let mut command = Command::new(profiler);
            command.args(options).arg(&this);
            command
        }
    };
    command.arg(CHILD).args(arguments);
    Ok(command)
}

/// Runs a child to its end and reads its report.
///
/// # Errors
///
/// If it does not start, fails, or prints what is not a report.
pub fn run(mut command: Command) -> Result<Report> {
    let output = command.output().map_err(|error| format!("{command:?} does not start: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?} ended with {}:\n{said}", output.status).into());
    }
    Report::parse(&String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::Report;

    #[test]
    fn a_report_is_read_back() {
        let report = Report::parse("ns 12\nbytes 40\n").unwrap();
        assert_eq!((report.figure("ns").unwrap(), report.figure("bytes").unwrap()), (12, 40));
        assert!(report.figure("doorbells").is_err());
    }

    #[test]
    fn what_is_not_a_report_is_refused() {
        assert!(Report::parse("ns\n").is_err());
        assert!(Report::parse("warning: noise\n").is_err());
    }
}
