//! One run of an enumeration: by which seed, and with which fault where.
#![forbid(unsafe_code)]

use core::fmt;
use std::string::String;

/// One run: a seed, and a fault at a boundary, or none.
///
/// [`Display`](fmt::Display) is its *key*, by which it is [replayed](super::Scenario::replay).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub(super) scenario: &'static str,
    pub(super) seed: Option<u64>,
    pub(super) fault: Option<Fault>,
}

/// What happens, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) boundary: u32,
    pub(super) kind: Kind,
    /// The name of whom it happens to.
    pub(super) target: String,
}

/// What happens. Numbers count tasks, scopes, executors and the author's faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Abort(usize),
    Wake(usize),
    Suspend,
    CloseScope(usize),
    Close(usize),
    Own(usize),
}

impl Case {
    /// The seed of the mock's [plan](crate::platform::mock::Plan); none if nothing goes wrong but the fault.
    #[must_use]
    pub fn seed(&self) -> Option<u64> {
        self.seed
    }

    /// The fault: `abort`, `wake`, `suspend`, `close NAME`, `close scope NAME`, or the name of the author's own. None in a
    /// run without one.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.fault.as_ref().map(Fault::name)
    }

    /// How many polls come before the fault.
    #[must_use]
    pub fn boundary(&self) -> Option<u32> {
        self.fault.as_ref().map(|fault| fault.boundary)
    }
}

impl Fault {
    /// What a person wants to know of it.
    pub(super) fn describe(&self) -> String {
        match self.kind {
            Kind::Abort(_) | Kind::Wake(_) => std::format!("{self}: {}", self.target),
            _ => self.name(),
        }
    }

    /// Its kind, by which it is counted.
    pub(super) fn name(&self) -> String {
        let target = &self.target;
        match self.kind {
            Kind::Abort(_) => "abort".into(),
            Kind::Wake(_) => "wake".into(),
            Kind::Suspend => "suspend".into(),
            Kind::CloseScope(_) => std::format!("close scope {target}"),
            Kind::Close(_) => std::format!("close {target}"),
            Kind::Own(_) => target.clone(),
        }
    }
}

/// `close driver`, `abort 2`: enough to find it again at its boundary.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        match self.kind {
            Kind::Abort(task) | Kind::Wake(task) => write!(f, " {task}"),
            _ => Ok(()),
        }
    }
}

/// `ask/calm`, `ask/3/7/abort 2`: scenario, seed, boundary, fault.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scenario)?;
        match self.seed {
            None => f.write_str("/calm")?,
            Some(seed) => write!(f, "/{seed}")?,
        }
        match &self.fault {
            None => Ok(()),
            Some(fault) => write!(f, "/{}/{fault}", fault.boundary),
        }
    }
}
