//! What the machine's serial line says, and what that amounts to.
//!
//! Xen puts `(d1) ` before what a guest logs; the guest puts `lab ` and the time before what it says, and the control
//! domain's script `dom0: `. Everything else is Xen's or the kernel's: it is kept in the log, and not shown.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{order::Play, scenario::End};

/// A machine's run, as far as it has been told.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    /// A guest's last line, which may go on.
    guest: Option<String>,
    is_up: bool,
    /// All has been played.
    is_done: bool,
    plays: Vec<Played>,
    failed: Option<String>,
    /// Xen's last words, or those of the control domain's kernel.
    panic: Option<String>,
}

/// What was told of one play.
#[derive(Debug)]
pub(crate) struct Played {
    /// The scenario, and the kind of guest, as the control domain says them.
    name: String,
    begin: Instant,
    pub(crate) took: Duration,
    /// What came of what the guest has tried, by its own account.
    tally: Option<Tally>,
    /// Its last words.
    crash: Option<String>,
    /// What the control domain says.
    control_domain: Option<Result<(), String>>,
    /// What the guest says has failed.
    failures: Vec<String>,
}

/// What came of what a guest has tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u32,
    failed: u32,
}

/// What the kernel's last words begin with, and Xen's.
const PANICS: [&str; 2] = ["Kernel panic - ", "(XEN) Panic on CPU"];

/// The last words of a guest that is to crash.
const AS_IT_WAS_TO: &str = "as it was to";

impl Timeline {
    /// Takes a line in, and says what of it somebody would like to see.
    pub(crate) fn take(&mut self, line: &str) -> Option<String> {
        if let Some(said) = guest_says(line) {
            if let Some(more) = said.strip_prefix('+') {
                // Xen's log has no longer lines.
                self.guest.get_or_insert_default().push_str(more);
                return None;
            }
            let before = self.end_of_line();
            self.guest = Some(said.to_owned());
            return before;
        }
        if PANICS.iter().any(|panic| line.contains(panic)) {
            self.panic.get_or_insert_with(|| line.trim().to_owned());
        }
        let said = line.split_once("dom0: ").map(|(_, said)| said.trim())?;
        let before = self.end_of_line();
        self.control_domain(said);
        Some(before.map_or_else(String::new, |before| before + "\n") + "dom0: " + said)
    }

    /// The guest's last line is over.
    pub(crate) fn end_of_line(&mut self) -> Option<String> {
        let line = self.guest.take()?;
        let what = line.split_once(' ').map_or("", |(_, what)| what);
        if let Some(play) = self.plays.last_mut() {
            if let Some(tally) = what.strip_prefix("end: ") {
                play.tally = Tally::of(tally);
            } else if let Some(why) = what.strip_prefix("crash: ") {
                // What comes after the first is of its making.
                play.crash.get_or_insert_with(|| why.to_owned());
            } else if let Some(what) = what.strip_prefix("FAILED: ") {
                play.failures.push(what.to_owned());
            }
        }
        Some(line)
    }

    fn control_domain(&mut self, said: &str) {
        if said.starts_with("up, ") {
            self.is_up = true;
        } else if said == "done" {
            self.is_done = true;
        } else if let Some(why) = said.strip_prefix("failed: ") {
            self.failed.get_or_insert_with(|| why.to_owned());
        } else if let Some(name) = said.strip_prefix("plays ") {
            self.plays.push(Played::new(name));
        } else if let Some((name, verdict)) =
            said.strip_prefix("played ").and_then(|said| said.split_once(": "))
            && let Some(play) = self.plays.iter_mut().rfind(|play| play.name == name)
        {
            play.took = play.begin.elapsed();
            play.control_domain = Some(match verdict.strip_prefix("failed: ") {
                Some(why) => Err(why.to_owned()),
                None => Ok(()),
            });
        }
    }

    /// Whether the control domain has come up.
    pub(crate) const fn is_up(&self) -> bool {
        self.is_up
    }

    /// Whether all has been played.
    pub(crate) const fn is_done(&self) -> bool {
        self.is_done
    }

    /// What is being played.
    pub(crate) fn playing(&self) -> Option<&str> {
        let play = self.plays.last().filter(|play| play.control_domain.is_none())?;
        Some(&play.name)
    }

    /// What was told of each play, and whether the machine has come to its end.
    pub(crate) fn outcome(self) -> (Vec<Played>, Result<()>) {
        let end = self.end();
        (self.plays, end)
    }

    fn end(&self) -> Result<()> {
        if let Some(why) = &self.failed {
            bail!("in the control domain: {why}");
        }
        if let Some(panic) = &self.panic {
            bail!("it has crashed: {panic}");
        }
        if !self.is_up {
            bail!("the control domain did not come up");
        }
        if !self.is_done {
            bail!("it has ended before all was played");
        }
        Ok(())
    }
}

impl Played {
    fn new(name: &str) -> Self {
        let (name, begin, took) = (name.to_owned(), Instant::now(), Duration::ZERO);
        Self { name, begin, took, tally: None, crash: None, control_domain: None, failures: Vec::new() }
    }

    /// Whether it is this play that was told of.
    pub(crate) fn is_of(&self, play: &Play) -> bool {
        self.name == format!("{} as {}", play.scenario.name, play.kind)
    }

    /// What it amounts to: what has passed, or why it has failed.
    pub(crate) fn verdict(&self, play: &Play) -> Result<String, String> {
        let crashes = play.scenario.end == End::Crash;
        match &self.crash {
            Some(why) if !(crashes && why.contains(AS_IT_WAS_TO)) => {
                return Err(format!("the guest has crashed: {why}"));
            }
            None if crashes => return Err("the guest was to crash, and has no last words".to_owned()),
            _ => {}
        }
        if let Some(failure) = self.failures.first() {
            return Err(format!("{} failed; the first: {failure}", self.failures.len()));
        }
        match &self.control_domain {
            None => return Err("it has not come to its end".to_owned()),
            Some(Err(why)) => return Err(why.clone()),
            Some(Ok(())) => {}
        }
        match self.tally {
            None => Err("the guest has ended without a word".to_owned()),
            Some(tally) if tally.failed > 0 || (tally.passed == 0 && !crashes) => Err(tally.to_string()),
            Some(tally) => Ok(tally.to_string()),
        }
    }
}

impl Tally {
    /// Of what the guest says: `45 passed, 0 failed`.
    fn of(text: &str) -> Option<Self> {
        let (passed, failed) = text.split_once(" passed, ")?;
        let failed = failed.strip_suffix(" failed")?;
        Some(Self { passed: passed.parse().ok()?, failed: failed.parse().ok()? })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// What comes after `(d1) lab `, wherever in the line: the control domain may be in the middle of its own.
fn guest_says(line: &str) -> Option<&str> {
    let (before, said) = line.split_once(") lab ")?;
    let (_, domain) = before.rsplit_once("(d")?;
    domain.bytes().all(|byte| byte.is_ascii_digit()).then(|| said.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kind::Kind, scenario::Scenario};

    fn told(lines: &str) -> Timeline {
        let mut timeline = Timeline::default();
        for line in lines.lines() {
            timeline.take(line);
        }
        timeline.end_of_line();
        timeline
    }

    fn play(end: &str) -> Play {
        let scenario = Scenario::parse("store", &format!("# A.\npart store\nends {end}"));
        Play { scenario: scenario.expect("it makes sense"), kind: Kind::Pvh }
    }

    /// The verdict on the only play, or on the machine if that is worse.
    fn verdict(lines: &str) -> Result<String, String> {
        let (plays, end) = told(lines).outcome();
        end.map_err(|error| format!("{error:#}"))?;
        let play = play("poweroff");
        plays
            .iter()
            .find(|played| played.is_of(&play))
            .map_or(Err("not played".into()), |it| it.verdict(&play))
    }

    const WHOLE: &str = "\
(XEN) Xen version 4.17
dom0: up, with xenstored
dom0: plays store as pvh
(d1) lab 0.015 begins
(d1) lab 0.300 a line that is too long f
(d1) lab +or Xen
(d1) lab 5.000 end: 45 passed, 0 failed
dom0: played store as pvh: passed
dom0: done";

    /// A line that is left out must be noticed: who says nothing has passed nothing.
    #[test]
    fn it_passes_if_everybody_says_so() {
        assert_eq!(verdict(WHOLE), Ok("45 passed, 0 failed".to_owned()));
        for line in ["dom0: up", "dom0: plays", "end: ", "dom0: played", "dom0: done"] {
            let without: Vec<&str> = WHOLE.lines().filter(|other| !other.contains(line)).collect();
            assert!(verdict(&without.join("\n")).is_err(), "without {line}");
        }
    }

    #[test]
    fn whoever_has_failed_is_named() {
        let error = |lines: &str| verdict(lines).expect_err("it has failed");
        assert!(error("dom0: failed: no xenconsoled").contains("no xenconsoled"));
        let failed = WHOLE.replace("pvh: passed", "pvh: failed: the guest does not end");
        assert_eq!(error(&failed), "the guest does not end");
        let crash = WHOLE.replace("end: 45 passed, 0 failed", "crash: exception 6\n(d1) lab +, code 0");
        assert!(error(&crash).contains("exception 6, code 0"));
        assert!(error("(XEN) Xen version 4.17").contains("did not come up"));
        let panic = "[    7.1] Kernel panic - not syncing: no init\n(XEN) Panic on CPU 0:";
        assert!(error(&WHOLE.replace("dom0: up", panic)).ends_with("not syncing: no init"));
        assert!(error(&WHOLE.replace("45 passed, 0", "44 passed, 1")).contains("1 failed"));
        assert!(error(&WHOLE.replace("45 passed", "0 passed")).contains("0 passed"));
        let wrong = WHOLE.replace("a line that", "FAILED: a case:");
        assert!(error(&wrong).contains("1 failed; the first: a case"));
    }

    /// Who is to crash has to, and by itself.
    #[test]
    fn a_crash_can_be_what_was_wanted() {
        let (lines, play) = (WHOLE.replace("45 passed", "0 passed"), play("crash"));
        let verdict = |lines: &str| told(lines).outcome().0[0].verdict(&play);
        assert!(verdict(&lines).expect_err("it has not crashed").contains("last words"));
        let crash = |why: &str| lines.replace(" failed\n", &format!(" failed\n(d1) lab 5.1 crash: {why}\n"));
        assert!(verdict(&crash("panicked: as it was to")).is_ok());
        assert!(verdict(&crash("exception 6")).expect_err("not that").contains("exception 6"));
    }

    #[test]
    fn a_line_is_shown_when_it_is_whole() {
        let mut timeline = Timeline::default();
        let mut shown: Vec<String> = WHOLE.lines().filter_map(|line| timeline.take(line)).collect();
        shown.extend(timeline.end_of_line());
        assert_eq!(
            shown.join("\n"),
            "\
dom0: up, with xenstored
dom0: plays store as pvh
0.015 begins
0.300 a line that is too long for Xen
5.000 end: 45 passed, 0 failed
dom0: played store as pvh: passed
dom0: done"
        );
    }

    #[test]
    fn whoever_is_interrupted_is_heard() {
        assert_eq!(guest_says("dom(d12) lab 0.1 begins"), Some("0.1 begins"));
        assert_eq!(guest_says("(XEN) lab 0.1 begins"), None);
    }
}
