//! What the user wants.

use std::{fmt, path::PathBuf};

/// The command line.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Arguments {
    /// From which all chance is drawn.
    pub(crate) seed: u64,
    /// Every message to xenstored, on the screen; and every poll, into this file.
    pub(crate) trace: Option<PathBuf>,
    /// A picture that needs no viewer, into this file.
    pub(crate) picture: Option<PathBuf>,
    /// Every fault at every poll boundary, instead of one run without.
    pub(crate) faults: bool,
}

/// How it is used.
pub(crate) const USAGE: &str =
    "usage: cargo run -p bringup -- [--seed N] [--trace FILE] [--picture FILE] [--faults]

  --seed N        another run: N is any number below 2^64
  --trace FILE    every message to xenstored as well, and a trace of the run for ui.perfetto.dev
  --picture FILE  a picture of the run, as SVG
  --faults        every fault at every poll boundary, instead of one run without";

/// Why it cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Misused {
    Unknown(String),
    Missing(&'static str),
    NoSeed(String),
    Help,
}

impl Arguments {
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, Misused> {
        let mut wanted = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--seed" => {
                    let seed = arguments.next().ok_or(Misused::Missing("--seed"))?;
                    wanted.seed = seed.parse().map_err(|_| Misused::NoSeed(seed))?;
                }
                "--trace" => wanted.trace = Some(arguments.next().ok_or(Misused::Missing("--trace"))?.into()),
                "--picture" => {
                    wanted.picture = Some(arguments.next().ok_or(Misused::Missing("--picture"))?.into());
                }
                "--faults" => wanted.faults = true,
                "--help" | "-h" => return Err(Misused::Help),
                _ => return Err(Misused::Unknown(argument)),
            }
        }
        Ok(wanted)
    }
}

impl fmt::Display for Misused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(argument) => write!(f, "`{argument}` is no option\n{USAGE}"),
            Self::Missing(option) => write!(f, "{option} needs a value\n{USAGE}"),
            Self::NoSeed(value) => write!(f, "`{value}` is no seed: a number below 2^64 is\n{USAGE}"),
            Self::Help => f.write_str(USAGE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, Misused> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    /// A mistyped option must not silently do something else.
    #[test]
    fn says_what_is_wrong() {
        let all = Arguments {
            seed: 7,
            trace: Some("run.json".into()),
            picture: Some("run.svg".into()),
            faults: true,
        };
        assert_eq!(parsed("--faults --seed 7 --trace run.json --picture run.svg"), Ok(all));
        assert_eq!(parsed(""), Ok(Arguments::default()));
        assert_eq!(parsed("--sed 7"), Err(Misused::Unknown("--sed".into())));
        assert_eq!(parsed("7"), Err(Misused::Unknown("7".into())));
        assert_eq!(parsed("--picture"), Err(Misused::Missing("--picture")));
        assert_eq!(parsed("--seed"), Err(Misused::Missing("--seed")));
        assert_eq!(parsed("--seed -1"), Err(Misused::NoSeed("-1".into())));
        assert_eq!(
            parsed("--seed 18446744073709551616"),
            Err(Misused::NoSeed("18446744073709551616".into()))
        );
    }
}
