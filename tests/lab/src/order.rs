//! What was asked for.

use std::{
    fmt,
    num::NonZero,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    thread,
};

use lab_parts::Part;

use crate::{
    kind::Kind,
    scenario::{Scenario, listed},
};

/// One invocation.
#[derive(Debug)]
pub(crate) struct Order {
    /// The guest's image.
    pub(crate) guest: PathBuf,
    /// The program that is the guest's peer in the control domain.
    pub(crate) peer: PathBuf,
    /// Where packages, images and logs are.
    pub(crate) folder: PathBuf,
    /// The machines to be booted, one after the other.
    pub(crate) boots: Vec<Boot>,
    /// Virtual CPUs of a guest, and processors of the machine.
    pub(crate) cpus: u32,
    /// Whether each processor of the machine is emulated by a thread of its own.
    pub(crate) has_threads: bool,
    /// The last machine stays, with the guests that have failed, and a shell.
    pub(crate) is_kept: bool,
}

/// A machine that is booted, and what is played on it.
#[derive(Debug)]
pub(crate) struct Boot {
    pub(crate) daemon: Daemon,
    pub(crate) plays: Vec<Play>,
}

impl Boot {
    /// The kind of its guests that wants most of the machine.
    pub(crate) fn kind(&self) -> Kind {
        self.plays.iter().map(|play| play.kind).max().unwrap_or(Kind::Pvh)
    }
}

/// A scenario with a kind of guest.
#[derive(Clone, Debug)]
pub(crate) struct Play {
    pub(crate) scenario: Scenario,
    pub(crate) kind: Kind,
}

/// A xenstored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Daemon {
    /// In C.
    Xenstored,
    /// In OCaml.
    Oxenstored,
}

/// More virtual CPUs than the guest has room for.
const MOST_CPUS: u32 = 4;

const USAGE: &str = "usage: xen-lab GUEST PEER FOLDER [SCENARIO.. | all] [--pvh] [--hvm] [--store xenstored|oxenstored] \
                     [--smp N] [--threads] [--keep]; `cargo xtask lab` does that";

impl Daemon {
    const ALL: [Self; 2] = [Self::Xenstored, Self::Oxenstored];

    /// What the program is called.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Xenstored => "xenstored",
            Self::Oxenstored => "oxenstored",
        }
    }
}

impl fmt::Display for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Order {
    /// Reads the words of a command line, of these scenarios.
    ///
    /// Without the name of a scenario it is the quick set, by a PVH guest, divided among both xenstoreds; `all` is
    /// everything, by each kind of guest, with both.
    pub(crate) fn parse(
        words: impl IntoIterator<Item = String>,
        scenarios: &[Scenario],
    ) -> Result<Self, String> {
        let mut words = words.into_iter();
        let mut path = || words.next().map(PathBuf::from).ok_or(USAGE);
        let (guest, peer, folder) = (path()?, path()?, path()?);
        let (mut names, mut kinds, mut daemons) = (Vec::new(), Vec::new(), Vec::new());
        let (mut cpus, mut has_threads, mut is_kept) = (1, false, false);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("`{word}` needs a value; {USAGE}"));
            match word.as_str() {
                "--pvh" => kinds.push(Kind::Pvh),
                "--hvm" => kinds.push(Kind::Hvm),
                "--store" => daemons.push(daemon(&value()?)?),
                "--smp" => cpus = number_of_cpus(&value()?)?,
                "--threads" => has_threads = true,
                "--keep" => is_kept = true,
                option if option.starts_with('-') => return Err(format!("there is no `{option}`; {USAGE}")),
                _ => names.push(word),
            }
        }
        let is_all = names.iter().any(|name| name == "all");
        let chosen: Vec<&Scenario> = if is_all {
            scenarios.iter().collect()
        } else if names.is_empty() {
            scenarios.iter().filter(|scenario| scenario.is_quick).collect()
        } else {
            names.iter().map(|name| find(scenarios, name)).collect::<Result<_, _>>()?
        };
        if kinds.is_empty() {
            kinds = if is_all { Kind::ALL.to_vec() } else { vec![Kind::Pvh] };
        }
        if cpus > 1 && kinds.contains(&Kind::Hvm) {
            return Err("an HVM guest has one virtual CPU here: leave `--smp` or `--hvm` out".into());
        }
        let every_daemon = is_all || (daemons.is_empty() && names.is_empty());
        if daemons.is_empty() {
            daemons = if every_daemon { Daemon::ALL.to_vec() } else { vec![Daemon::Xenstored] };
        }
        let (last, mut boots) = (daemons.len() - 1, Vec::new());
        for (place, daemon) in daemons.into_iter().enumerate() {
            let with = |scenario: &&&Scenario| {
                is_all || !names.is_empty() || plays_with(scenario, last).contains(&place)
            };
            let plays = kinds.iter().flat_map(|kind| {
                let can = move |scenario: &&&Scenario| scenario.is_for(*kind) && scenario.cpus <= cpus;
                chosen
                    .iter()
                    .filter(with)
                    .filter(can)
                    .map(|scenario| Play { scenario: (*scenario).clone(), kind: *kind })
            });
            boots.push(Boot { daemon, plays: plays.collect() });
        }
        boots.retain(|boot| !boot.plays.is_empty());
        if boots.is_empty() {
            let names = listed(chosen.iter().map(|scenario| &scenario.name));
            return Err(format!("no guest of {cpus} virtual CPUs, {}, plays {names}", listed(kinds)));
        }
        Ok(Self { guest, peer, folder, boots, cpus, has_threads, is_kept })
    }

    /// How many machines run at once: as many as this one has processors for. One that is kept is alone.
    pub(crate) fn machines_at_once(&self) -> usize {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let each = if self.has_threads { self.cpus as usize } else { 1 };
        if self.is_kept { 1 } else { (processors / each).clamp(1, self.boots.len()) }
    }
}

/// With which of the xenstoreds a scenario is played, if it is to be quick: the suite with each, other talk with the
/// first, and what has little to do with it with the last. So the machines have about as much to do.
fn plays_with(scenario: &Scenario, last: usize) -> RangeInclusive<usize> {
    match scenario.part {
        Part::Store => 0..=last,
        Part::Wire | Part::Traffic => 0..=0,
        _ => last..=last,
    }
}

fn find<'s>(scenarios: &'s [Scenario], name: &str) -> Result<&'s Scenario, String> {
    // A file is a name, too.
    let name = Path::new(name).file_name().and_then(|name| name.to_str()).unwrap_or(name);
    let name = name.strip_suffix(".scenario").unwrap_or(name);
    scenarios.iter().find(|scenario| scenario.name == name).ok_or_else(|| {
        let all = listed(scenarios.iter().map(|scenario| &scenario.name));
        format!("the lab knows no `{name}`; there is: {all}, and `all`")
    })
}

fn daemon(word: &str) -> Result<Daemon, String> {
    let daemon = Daemon::ALL.into_iter().find(|daemon| daemon.name() == word);
    daemon.ok_or_else(|| format!("there is no `{word}`; there is: {}", listed(Daemon::ALL)))
}

fn number_of_cpus(word: &str) -> Result<u32, String> {
    let cpus = word.parse().ok().filter(|cpus| (1..=MOST_CPUS).contains(cpus));
    cpus.ok_or_else(|| format!("`--smp {word}`: a guest has 1 to {MOST_CPUS} virtual CPUs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenarios() -> Vec<Scenario> {
        let of = |name, text| Scenario::parse(name, text).expect("it makes sense");
        vec![
            of("store", "# A.\npart store\nquick\nends poweroff"),
            of("wire", "# E.\npart wire\nquick\nends poweroff"),
            of("time", "# B.\npart time\nquick\nends poweroff"),
            of("bios", "# C.\npart events\nonly hvm\nends poweroff"),
            of("many", "# D.\npart events\ncpus 2\nends poweroff"),
        ]
    }

    fn parsed(line: &str) -> Result<Order, String> {
        Order::parse(format!("g p f {line}").split_whitespace().map(str::to_owned), &scenarios())
    }

    /// What is played, machine by machine.
    fn played(line: &str) -> Vec<String> {
        let boots = parsed(line).expect("it makes sense").boots;
        let name = |play: &Play| format!("{} {}", play.scenario.name, play.kind);
        boots.iter().map(|boot| format!("{}: {}", boot.daemon, listed(boot.plays.iter().map(name)))).collect()
    }

    #[test]
    fn what_is_played_is_what_was_asked_for() {
        assert_eq!(played(""), ["xenstored: store pvh, wire pvh", "oxenstored: store pvh, time pvh"]);
        assert_eq!(played("--hvm --store oxenstored"), ["oxenstored: store hvm, wire hvm, time hvm"]);
        assert_eq!(played("time"), ["xenstored: time pvh"]);
        assert_eq!(played("scenarios/bios.scenario --hvm --pvh"), ["xenstored: bios hvm"]);
        assert_eq!(played("many --smp 2"), ["xenstored: many pvh"]);
        let all = "store pvh, wire pvh, time pvh, store hvm, wire hvm, time hvm, bios hvm";
        assert_eq!(played("all"), [format!("xenstored: {all}"), format!("oxenstored: {all}")]);
    }

    #[test]
    fn messages_name_the_wrong_word_and_the_right_ones() {
        let message = |line: &str| parsed(line).expect_err("it makes no sense");
        let unknown = message("stor");
        assert!(unknown.contains("`stor`") && unknown.contains("store, wire, time"), "{unknown}");
        assert!(message("--store xs").contains("oxenstored"));
        assert!(message("--smp 5").contains("1 to 4"));
        assert!(message("--smp").contains("needs a value"));
        assert!(message("--kvm").contains("`--kvm`"));
        assert!(message("time --hvm --smp 2").contains("one virtual CPU"));
        assert!(message("many").contains("1 virtual CPUs"));
        let words = ["g".to_owned()];
        assert!(Order::parse(words, &scenarios()).expect_err("too few").contains("usage"));
    }
}
