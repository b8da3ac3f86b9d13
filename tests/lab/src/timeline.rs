//! What the machine's serial line says, and what that amounts to.
//!
//! Xen puts `(d1) ` before what a guest logs; the guest puts `lab ` and the time before what it says, and the control
//! domain's script `dom0: `. Everything else is Xen's or the kernel's: it is kept in the log, and not shown.

use std::fmt;

use anyhow::{Result, bail};

/// A run, as far as it has been told.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    /// The guest's last line, which may go on.
    guest: Option<String>,
    is_up: bool,
    tally: Option<Tally>,
    crash: Option<String>,
    failed: Option<String>,
    /// Xen's last words, or those of the control domain's kernel.
    panic: Option<String>,
    /// The console has told the end, too.
    console: bool,
    reason: Option<u32>,
}

/// What came of what the guest has tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    passed: u32,
    failed: u32,
}

/// What the kernel's last words begin with, and Xen's.
const PANICS: [&str; 2] = ["Kernel panic - ", "(XEN) Panic on CPU"];

/// `SHUTDOWN_poweroff`, in `xen/include/public/sched.h`.
const POWEROFF: u32 = 0;

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
        if let Some(tally) = what.strip_prefix("end: ") {
            self.tally = Tally::of(tally);
        } else if let Some(why) = what.strip_prefix("crash: ") {
            // What comes after the first is of its making.
            self.crash.get_or_insert_with(|| why.to_owned());
        }
        Some(line)
    }

    fn control_domain(&mut self, said: &str) {
        if said.starts_with("up, ") {
            self.is_up = true;
        } else if let Some(why) = said.strip_prefix("failed: ") {
            self.failed.get_or_insert_with(|| why.to_owned());
        } else if said == "the console has told the end" {
            self.console = true;
        } else if let Some(reason) = said.strip_prefix("the guest has ended, reason ") {
            self.reason = reason.parse().ok();
        }
    }

    /// Whether the control domain has come up.
    pub(crate) const fn is_up(&self) -> bool {
        self.is_up
    }

    /// What it amounts to, when the machine has ended.
    pub(crate) fn outcome(&self) -> Result<Tally> {
        if let Some(why) = &self.failed {
            bail!("in the control domain: {why}");
        }
        if let Some(why) = &self.crash {
            bail!("the guest has crashed: {why}");
        }
        if let Some(panic) = &self.panic {
            bail!("the machine has crashed: {panic}");
        }
        if !self.is_up {
            bail!("the control domain did not come up");
        }
        match (self.tally, self.reason) {
            (_, None) => bail!("the machine has ended before the guest"),
            (None, Some(reason)) => bail!("the guest has ended without a word: {}", named(reason)),
            (Some(_), Some(reason)) if reason != POWEROFF => {
                bail!("the guest was to switch itself off, and has not: {}", named(reason))
            }
            (Some(_), Some(_)) if !self.console => bail!("the guest's console has not told the end"),
            (Some(tally), Some(_)) => Ok(tally),
        }
    }
}

/// Why a domain has shut down, by its number.
fn named(reason: u32) -> String {
    match reason {
        POWEROFF => "it has switched itself off".to_owned(),
        // What Xen makes of one, if nobody has told it otherwise: `HVM_PARAM_TRIPLE_FAULT_REASON`.
        1 => "it has rebooted, or has had a triple fault".to_owned(),
        3 => "it has crashed".to_owned(),
        other => format!("reason {other} of SHUTDOWN_*"),
    }
}

impl Tally {
    /// Of what the guest says: `45 passed, 0 failed`.
    fn of(text: &str) -> Option<Self> {
        let (passed, failed) = text.split_once(" passed, ")?;
        let failed = failed.strip_suffix(" failed")?;
        Some(Self { passed: passed.parse().ok()?, failed: failed.parse().ok()? })
    }

    /// Something was tried, and nothing has failed.
    pub(crate) const fn is_passed(self) -> bool {
        self.passed > 0 && self.failed == 0
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

    fn told(lines: &str) -> Timeline {
        let mut timeline = Timeline::default();
        for line in lines.lines() {
            timeline.take(line);
        }
        timeline.end_of_line();
        timeline
    }

    const WHOLE: &str = "\
(XEN) Xen version 4.17
dom0: up, with xenstored
(d1) lab 0.015 begins
(d1) lab 0.300 a line that is too long f
(d1) lab +or Xen
(d1) lab 5.000 end: 45 passed, 0 failed
dom0: the console has told the end
dom0: the guest has ended, reason 0";

    /// A line that is left out must be noticed: who says nothing has passed nothing.
    #[test]
    fn it_passes_if_everybody_says_so() {
        let tally = told(WHOLE).outcome().expect("all is well");
        assert!(tally.is_passed());
        assert_eq!(tally.to_string(), "45 passed, 0 failed");
        for line in ["dom0: up", "end: ", "console", "reason 0"] {
            let without: Vec<&str> = WHOLE.lines().filter(|other| !other.contains(line)).collect();
            assert!(told(&without.join("\n")).outcome().is_err(), "without {line}");
        }
    }

    #[test]
    fn whoever_has_failed_is_named() {
        let error = |lines: &str| told(lines).outcome().expect_err("it has failed").to_string();
        assert!(error("dom0: failed: xl does not make the guest").contains("xl does not make"));
        assert!(error(&WHOLE.replace("reason 0", "reason 3")).contains("crashed"));
        let crash = WHOLE.replace("end: 45 passed, 0 failed", "crash: exception 6\n(d1) lab +, code 0");
        assert!(error(&crash).contains("exception 6, code 0"));
        assert!(error("(XEN) Xen version 4.17").contains("did not come up"));
        let panic = "[    7.1] Kernel panic - not syncing: no init\n(XEN) Panic on CPU 0:";
        assert!(error(&WHOLE.replace("dom0: up", panic)).ends_with("not syncing: no init"));
        let failed = told(&WHOLE.replace("0 failed", "1 failed")).outcome().expect("it has ended well");
        assert!(!failed.is_passed());
        let nothing = told(&WHOLE.replace("45 passed", "0 passed")).outcome().expect("it has ended well");
        assert!(!nothing.is_passed());
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
0.015 begins
0.300 a line that is too long for Xen
5.000 end: 45 passed, 0 failed
dom0: the console has told the end
dom0: the guest has ended, reason 0"
        );
    }

    #[test]
    fn whoever_is_interrupted_is_heard() {
        assert_eq!(guest_says("dom(d12) lab 0.1 begins"), Some("0.1 begins"));
        assert_eq!(guest_says("(XEN) lab 0.1 begins"), None);
    }
}
