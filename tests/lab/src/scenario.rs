//! Scenarios: what a guest does, and what its toolstack does with it meanwhile.
//!
//! Each is a file of `scenarios/`, a line for each word of it, in their order. On a real Xen, `dom0/init` plays the
//! toolstack's steps; on a simulated one, `tests/simulated` does.
//!
//! ```text
//! # What it is about, for whoever reads a table of them.
//! part traffic          what the guest does: a name of `lab_parts::Part`
//! abi bitmaps           its events come in the bitmaps of the shared page, not by the FIFO ABI
//! only hvm              only an HVM guest has what it takes; or: only pvh
//! cpus 2                it takes so many virtual CPUs, at least
//! quick                 it is in the quick set
//! wait busy             until the guest has said this word
//! checkpoint            the guest is suspended, and goes on as it was (`xl save -c`)
//! save-restore          it is saved, and restored in another domain
//! migrate               it is moved to another host, which is this one
//! ask poweroff          it is asked for that, or `reboot`
//! clock                 what the guest has said is the time is the time
//! peer hold             the control domain maps what the guest has shared with it
//! peer echo             it answers each event
//! peer storm 20000      it sends so many events
//! release               it lets go of what it has mapped: it is killed
//! ends poweroff         the guest has ended that way (or: reboot, crash) by itself; the last line
//! ```

use std::{fmt, fs, path::Path};

use anyhow::{Context, Result, anyhow, bail, ensure};
use lab_parts::Part;

use crate::kind::Kind;

/// One of them.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its file's name.
    pub name: String,
    /// What it is about.
    pub about: String,
    /// What the guest does.
    pub part: Part,
    /// Whether the guest's events come by the FIFO ABI.
    pub fifo: bool,
    /// The only kind of guest that can do that.
    pub only: Option<Kind>,
    /// Virtual CPUs that it takes.
    pub cpus: u32,
    /// Whether it is in the quick set.
    pub is_quick: bool,
    /// What the toolstack does.
    pub steps: Vec<Step>,
    /// How the guest ends.
    pub end: End,
    /// The whole file.
    pub text: String,
}

/// A step of the toolstack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Waits for a word.
    Wait(String),
    /// Suspends the guest, and resumes it.
    Checkpoint,
    /// Saves and restores it.
    SaveRestore,
    /// Moves it.
    Migrate,
    /// Asks it to switch itself off.
    PowerOff,
    /// Asks it to begin anew.
    Reboot,
    /// Compares clocks.
    Clock,
    /// Maps what is shared.
    Hold,
    /// Answers events.
    Echo,
    /// Sends events.
    Storm(u64),
    /// Ends the peer.
    Release,
}

/// How a guest ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It switches itself off.
    PowerOff,
    /// It wants to begin anew.
    Reboot,
    /// It crashes.
    Crash,
}

/// All that are in a folder, in the order of their names.
///
/// # Errors
///
/// There is none, or one that makes no sense.
pub fn all(folder: &Path) -> Result<Vec<Scenario>> {
    let mut scenarios = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".scenario"));
        if let Some(name) = name {
            let text = fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
            scenarios.push(Scenario::parse(name, &text).with_context(|| format!("in {}", path.display()))?);
        }
    }
    ensure!(!scenarios.is_empty(), "there is no scenario in {}", folder.display());
    scenarios.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(scenarios)
}

impl Scenario {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// Which line makes no sense, or what is missing.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let mut about = None;
        let (mut part, mut only, mut end) = (None, None, None);
        let (mut fifo, mut is_quick, mut cpus) = (true, false, 1);
        let mut steps = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(comment) = line.strip_prefix('#') {
                about.get_or_insert_with(|| comment.trim().to_owned());
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let wrong = || anyhow!("line {number}, `{line}`, makes no sense");
            if !words.is_empty() && end.is_some() {
                bail!("line {number}, `{line}`, comes after the guest's end");
            }
            match words.as_slice() {
                [] => {}
                ["part", word] => {
                    let known = Part::ALL.iter().find(|part| part.name() == *word);
                    part = Some(*known.ok_or_else(|| {
                        anyhow!("line {number}: no guest plays `{word}`; there is: {}", listed(Part::ALL))
                    })?);
                }
                ["abi", "fifo"] => fifo = true,
                ["abi", "bitmaps"] => fifo = false,
                ["only", word] => {
                    only = Some(Kind::ALL.into_iter().find(|kind| kind.name() == *word).ok_or_else(wrong)?);
                }
                ["cpus", number] => cpus = number.parse().map_err(|_| wrong())?,
                ["quick"] => is_quick = true,
                ["ends", "poweroff"] => end = Some(End::PowerOff),
                ["ends", "reboot"] => end = Some(End::Reboot),
                ["ends", "crash"] => end = Some(End::Crash),
                words => steps.push(Step::parse(words).ok_or_else(wrong)?),
            }
        }
        Ok(Self {
            name: name.to_owned(),
            about: about.context("the first line is to be a comment, which says what it is about")?,
            part: part.context("it does not say which `part` the guest plays")?,
            fifo,
            only,
            cpus,
            is_quick,
            steps,
            end: end.context("it does not say how the guest `ends`")?,
            text: text.to_owned(),
        })
    }

    /// Whether a guest of this kind can do that.
    #[must_use]
    pub fn is_for(&self, kind: Kind) -> bool {
        self.only.is_none_or(|only| only == kind)
    }
}

impl Step {
    fn parse(words: &[&str]) -> Option<Self> {
        Some(match words {
            ["wait", word] => Self::Wait((*word).to_owned()),
            ["checkpoint"] => Self::Checkpoint,
            ["save-restore"] => Self::SaveRestore,
            ["migrate"] => Self::Migrate,
            ["ask", "poweroff"] => Self::PowerOff,
            ["ask", "reboot"] => Self::Reboot,
            ["clock"] => Self::Clock,
            ["peer", "hold"] => Self::Hold,
            ["peer", "echo"] => Self::Echo,
            ["peer", "storm", count] => Self::Storm(count.parse().ok()?),
            ["release"] => Self::Release,
            _ => return None,
        })
    }
}

/// Names, with commas between them.
pub(crate) fn listed(names: impl IntoIterator<Item = impl fmt::Display>) -> String {
    names.into_iter().map(|name| name.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str =
        "# About.\npart traffic\nabi bitmaps\nwait busy\nmigrate\nask poweroff\nends poweroff\n";

    #[test]
    fn a_scenario_is_read() {
        let scenario = Scenario::parse("s", WHOLE).expect("it makes sense");
        assert_eq!((scenario.about.as_str(), scenario.part, scenario.fifo), ("About.", Part::Traffic, false));
        assert_eq!(scenario.steps, [Step::Wait("busy".to_owned()), Step::Migrate, Step::PowerOff]);
        assert_eq!((scenario.end, scenario.is_quick), (End::PowerOff, false));
        assert!(Kind::ALL.iter().all(|kind| scenario.is_for(*kind)));
    }

    /// Each line is needed, and none is taken for another.
    #[test]
    fn what_is_wrong_is_named() {
        let message =
            |text: &str| format!("{:#}", Scenario::parse("s", text).expect_err("it makes no sense"));
        assert!(message(&WHOLE.replace("part traffic\n", "")).contains("`part`"));
        assert!(message(&WHOLE.replace("ends poweroff\n", "")).contains("`ends`"));
        assert!(message(&WHOLE.replace("# About.\n", "")).contains("comment"));
        assert!(message(&WHOLE.replace("traffic", "trafic")).contains("traffic"), "what there is");
        assert!(message(&WHOLE.replace("migrate", "migrate 2")).contains("line 5, `migrate 2`"));
        assert!(message(&WHOLE.replace("bitmaps", "bitmap")).contains("line 3"));
        assert!(message(&(WHOLE.to_owned() + "migrate\n")).contains("after the guest's end"));
    }

    #[test]
    fn those_that_there_are_make_sense() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let scenarios = all(&folder).expect("they make sense");
        for part in Part::ALL {
            assert!(scenarios.iter().any(|scenario| scenario.part == *part), "nobody plays {part}");
        }
    }
}
