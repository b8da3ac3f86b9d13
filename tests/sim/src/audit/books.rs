//! What is written down about a guest while it runs.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, fmt, time::Duration};

use xen_abi::seam::Gfn;

use super::Mistake;
use crate::ram::{Event, History, Moment, Site};

/// A mistake that was made, written down at the moment it was made; or something that is left, at the end.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What is wrong.
    pub mistake: Mistake,
    /// The facts, in one line.
    pub facts: String,
    /// When it was.
    pub at: Duration,
    /// Where in the guest's code it was, or where what is left came from.
    pub site: Option<Site>,
    /// How often it was, with the same facts and at the same place.
    pub times: u64,
    /// The page that it is about, and what had happened to it.
    pub(super) page: Option<(Gfn, History)>,
}

impl Finding {
    pub(crate) fn new(mistake: Mistake, facts: impl Into<String>, moment: Moment) -> Self {
        let Moment { at, site } = moment;
        Self { mistake, facts: facts.into(), at, site, times: 1, page: None }
    }

    fn is_again(&self, other: &Self) -> bool {
        let key = |finding: &Self| (finding.mistake, finding.site, finding.page.as_ref().map(|page| page.0));
        key(self) == key(other) && self.facts == other.facts
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mistake, facts, at, site, times, page } = self;
        writeln!(f, "{mistake:?}: {mistake}")?;
        writeln!(f, "  {facts}")?;
        writeln!(f, "  {}", Moment { at: *at, site: *site })?;
        if *times > 1 {
            writeln!(f, "  {times} times")?;
        }
        match page {
            Some((gfn, history)) => write!(f, "  page {:#x}:\n{history}", gfn.0),
            None => Ok(()),
        }
    }
}

/// How many there are of something, and the most that there were at once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    now: u64,
    most: u64,
}

impl Mark {
    pub(crate) fn raise(&mut self) {
        self.now += 1;
        self.most = self.most.max(self.now);
    }

    pub(crate) fn lower(&mut self) {
        self.now = self.now.saturating_sub(1);
    }

    pub(crate) const fn most(self) -> u64 {
        self.most
    }
}

/// What has happened to a guest's pages, and what it has done wrong. It survives a migration, as the pages do.
#[derive(Debug, Default)]
pub(crate) struct Books {
    histories: BTreeMap<Gfn, History>,
    findings: Vec<Finding>,
    /// Findings beyond those that are kept.
    pub(super) more: u64,
}

impl Books {
    /// So many different findings are kept. Who makes more mistakes is not helped by more of them.
    const MOST: usize = 256;

    /// Writes down what has happened to a page.
    pub(crate) fn note(&mut self, gfn: Gfn, event: Event, moment: Moment) {
        self.histories.entry(gfn).or_default().add(event, moment);
    }

    /// Writes down what was found.
    pub(crate) fn find(&mut self, finding: Finding) {
        if let Some(known) = self.findings.iter_mut().find(|known| known.is_again(&finding)) {
            known.times += 1;
        } else if self.findings.len() < Self::MOST {
            self.findings.push(finding);
        } else {
            self.more += 1;
        }
    }

    /// The same about a page.
    pub(crate) fn find_at(&mut self, gfn: Gfn, mistake: Mistake, facts: impl Into<String>, moment: Moment) {
        let finding = self.about(gfn, Finding::new(mistake, facts, moment));
        self.find(finding);
    }

    /// Adds what is known of a page.
    pub(super) fn about(&self, gfn: Gfn, mut finding: Finding) -> Finding {
        finding.page = Some((gfn, self.histories.get(&gfn).cloned().unwrap_or_default()));
        finding
    }

    pub(super) fn findings(&self) -> &[Finding] {
        &self.findings
    }
}
