//! What can be asked for on the command line.
//!
//! A handful of commands without options needs no parser of arguments; it needs messages that name the
//! word that was not understood and the ones that would have been.

use std::fmt::Write;

use crate::{
    bench::{self, Benchmark},
    dist::{self, Order},
    levels::LEVELS,
};

/// One invocation.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// Run every level of tests.
    Test {
        /// What to make of a mandatory level that cannot be set up.
        skips: Skips,
    },
    /// Run one benchmark.
    Bench {
        /// Which.
        name: &'static Benchmark,
        /// Handed on to it.
        arguments: Vec<String>,
    },
    /// Build kernel images.
    Dist(Order),
    /// Break the joints of the driver, one at a time.
    Joints {
        /// Only those whose name contains this.
        filter: Option<String>,
    },
    /// Boot a real Xen.
    Lab {
        /// Scenarios and options.
        words: Vec<String>,
    },
    /// Weaken the atomic orderings of kexec, one at a time.
    Mutants {
        /// Only those whose line of output contains this.
        filter: Option<String>,
    },
    /// Print the tasks in a dump.
    Tasks {
        /// The dump, and whatever else is said of it.
        arguments: Vec<String>,
    },
    /// Say what can be asked for.
    Help,
}

/// What to make of a mandatory level that cannot be set up on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skips {
    /// Say so and go on: a developer is better off with the other levels than with none.
    Reported,
    /// A failure: a CI that leaves out a level has not tested the change.
    Fail,
}

const COMMANDS: &str = "test, ci, dist, bench, joints, lab, mutants, tasks, help";

/// Reads the words after `cargo xtask`.
///
/// # Errors
///
/// A message for whoever typed them.
pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Request, String> {
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    parse_in(words, in_ci)
}

fn parse_in(words: impl IntoIterator<Item = String>, in_ci: bool) -> Result<Request, String> {
    let mut words = words.into_iter();
    let Some(command) = words.next() else {
        return Err(format!("a command is missing; there is: {COMMANDS}"));
    };
    match command.as_str() {
        "test" => {
            nothing_after("test", words)?;
            Ok(Request::Test { skips: if in_ci { Skips::Fail } else { Skips::Reported } })
        }
        "ci" => {
            nothing_after("ci", words)?;
            Ok(Request::Test { skips: Skips::Fail })
        }
        "bench" => {
            let Some(name) = words.next() else {
                return Err(format!("`bench` needs the name of a benchmark: {}", bench::names()));
            };
            let Some(found) = bench::find(&name) else {
                return Err(format!("there is no benchmark `{name}`; there is: {}", bench::names()));
            };
            Ok(Request::Bench { name: found, arguments: words.collect() })
        }
        "dist" => order(words).map(Request::Dist),
        "joints" => {
            let filter = words.next();
            nothing_after("joints FILTER", words)?;
            Ok(Request::Joints { filter })
        }
        "lab" => Ok(Request::Lab { words: words.collect() }),
        "mutants" => {
            let filter = words.next();
            nothing_after("mutants FILTER", words)?;
            Ok(Request::Mutants { filter })
        }
        "tasks" => Ok(Request::Tasks { arguments: words.collect() }),
        "help" | "--help" | "-h" => Ok(Request::Help),
        other => Err(format!("there is no command `{other}`; there is: {COMMANDS}")),
    }
}

fn order(words: impl Iterator<Item = String>) -> Result<Order, String> {
    let mut order = Order::default();
    for word in words {
        match word.as_str() {
            "--bless" => order.bless = true,
            "--check-reproducible" => order.check_reproducible = true,
            name => order.images.push(dist::find(name).ok_or_else(|| {
                format!(
                    "`dist` knows no image `{name}`; there is: {}, --bless, --check-reproducible",
                    dist::names()
                )
            })?),
        }
    }
    Ok(order)
}

fn nothing_after(command: &str, mut words: impl Iterator<Item = String>) -> Result<(), String> {
    words.next().map_or(Ok(()), |word| Err(format!("`{command}` takes nothing more, but got `{word}`")))
}

/// What can be asked for, and what the levels show.
#[must_use]
pub fn help() -> String {
    let mut text = format!(
        "\
usage: cargo xtask COMMAND

  test              run every level of tests that this machine allows, and set up what they need
  ci                the same, but a mandatory level that cannot be set up is a failure (also `test` with CI=true)
  dist [IMAGE..]    build kernel images into target/dist: {}
      --bless       rewrite the committed lists of what they import
      --check-reproducible
                    build each again from another folder and expect the same bytes
  bench NAME ARGS   run a benchmark: {}
  joints [FILTER]   break each joint between driver, kexec and NT and expect a test of the simulated NT to
                    fail; FILTER is part of a name as it is printed
  lab [SCENARIO..]  boot a real Xen in QEMU, and play scenarios on it, with a guest that tests itself: those that
                    are named, or the quick set, or `all`; nothing of Xen is installed
                    [--pvh] [--hvm] which kind of guest, [--store xenstored|oxenstored], [--smp N] its virtual
                    CPUs, [--threads] each emulated by a thread of its own, [--keep] stay, with a shell
  mutants [FILTER]  weaken each atomic ordering of kexec and expect a loom model to fail;
                    FILTER is part of a file, line, model or name as it is printed
  tasks FILE ARGS   print the tasks in a dump as a tree; without FILE, what can be said of it
  help              print this

levels, in the order in which they run:

",
        dist::names(),
        bench::names()
    );
    for level in LEVELS {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {:<9} {:<13} {}", level.name, level.duty.to_string(), level.shows);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request, String> {
        parse_in(line.split_whitespace().map(str::to_owned), false)
    }

    #[test]
    fn a_skipped_level_fails_only_in_ci() {
        assert_eq!(parsed("test"), Ok(Request::Test { skips: Skips::Reported }));
        assert_eq!(parsed("ci"), Ok(Request::Test { skips: Skips::Fail }));
        assert_eq!(parse_in(["test".to_owned()], true), Ok(Request::Test { skips: Skips::Fail }));
    }

    #[test]
    fn arguments_of_a_benchmark_are_handed_on() {
        let Ok(Request::Bench { name, arguments }) = parsed("bench exec --quick wake") else {
            panic!("not understood as a benchmark");
        };
        assert_eq!(name.name, "exec");
        assert_eq!(arguments, ["--quick", "wake"]);
    }

    #[test]
    fn images_and_what_to_do_with_them_come_in_any_order() {
        assert_eq!(parsed("dist"), Ok(Request::Dist(Order::default())));
        let Ok(Request::Dist(order)) = parsed("dist --bless probe --check-reproducible xenbus") else {
            panic!("not understood as a build");
        };
        assert_eq!(order.images.iter().map(|image| image.name).collect::<Vec<_>>(), ["probe", "xenbus"]);
        assert!(order.bless && order.check_reproducible);
    }

    #[test]
    fn what_is_said_of_a_dump_is_handed_on() {
        let arguments = ["tasks.bin", "--image", "xenbus.sys"].map(str::to_owned).to_vec();
        assert_eq!(parsed("tasks tasks.bin --image xenbus.sys"), Ok(Request::Tasks { arguments }));
    }

    #[test]
    fn the_lab_gets_its_words() {
        assert_eq!(parsed("lab"), Ok(Request::Lab { words: vec![] }));
        let words = vec!["migrate".to_owned(), "--hvm".to_owned()];
        assert_eq!(parsed("lab migrate --hvm"), Ok(Request::Lab { words }));
    }

    #[test]
    fn a_filter_is_optional() {
        assert_eq!(parsed("joints beat"), Ok(Request::Joints { filter: Some("beat".to_owned()) }));
        assert_eq!(parsed("mutants"), Ok(Request::Mutants { filter: None }));
        assert_eq!(parsed("mutants task.rs"), Ok(Request::Mutants { filter: Some("task.rs".to_owned()) }));
    }

    #[test]
    fn messages_name_the_wrong_word_and_the_right_ones() {
        let message = |line| parsed(line).expect_err("this makes no sense");
        assert!(message("tset").contains("`tset`") && message("tset").contains("mutants"));
        assert!(message("bench disk").contains("`disk`") && message("bench disk").contains("exec"));
        assert!(message("bench").contains("exec"));
        assert!(message("dist xenusb").contains("`xenusb`") && message("dist xenusb").contains("xenbus"));
        assert!(message("test now").contains("`now`"));
        assert!(message("mutants a b").contains("`b`"));
        assert!(message("").contains("missing"));
    }

    #[test]
    fn help_lists_every_level() {
        let text = help();
        assert!(LEVELS.iter().all(|level| text.contains(level.shows)));
    }
}
