//! What the daemon has done, for a timeline.
#![forbid(unsafe_code)]

use std::fmt;

use xen_abi::io::xs_wire::MessageType;

use super::{Event, Refusal, Xenstored, connection::Who};
use crate::rule::Rule;

/// One thing that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A request was dealt with.
    Request {
        /// Whose.
        from: Who,
        /// Its type, as in its header.
        r#type: u32,
        /// Its transaction, zero being none.
        transaction: u32,
        /// The first string of its payload: a path, or whatever stands there.
        subject: String,
        /// Whether it was done, and if not, why.
        result: Result<(), Refusal>,
    },
    /// An event was queued.
    Event {
        /// For whom.
        to: Who,
        /// What it says.
        event: Event,
    },
    /// A domain was connected, anew or again.
    Connected(u16),
    /// A domain's connection was ended, for an error of this number: one of `XENSTORE_ERROR_*`.
    Ended {
        /// Whose.
        domid: u16,
        /// The number in the ring's page.
        error: u32,
        /// What the domain has done.
        rule: Rule,
    },
}

impl Xenstored {
    /// Begins or stops to keep records.
    pub fn keep_records(&mut self, keep: bool) {
        self.records = keep.then(Vec::new);
    }

    /// Hands out what was recorded since the last time.
    pub fn take_records(&mut self) -> Vec<Record> {
        self.records.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The record is only made if somebody wants it.
    pub(super) fn record(&mut self, record: impl FnOnce() -> Record) {
        if let Some(records) = &mut self.records {
            records.push(record());
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request { from, r#type, transaction, subject, result } => {
                match MessageType::try_from(*r#type) {
                    Ok(kind) => write!(f, "{from}: {kind} {subject:?}")?,
                    Err(unknown) => write!(f, "{from}: type {} {subject:?}", unknown.0)?,
                }
                if *transaction != 0 {
                    write!(f, " in transaction {transaction}")?;
                }
                match result {
                    Ok(()) => Ok(()),
                    Err(refusal) => write!(f, ": {refusal}"),
                }
            }
            Self::Event { to, event } => {
                write!(f, "{to}: event {:?}, {:?}", event.path, String::from_utf8_lossy(&event.token))
            }
            Self::Connected(domid) => write!(f, "domain {domid}: connected"),
            Self::Ended { domid, error, rule } => {
                write!(f, "domain {domid}: connection ended, error {error} by {rule:?}: {}", rule.says.trim())
            }
        }
    }
}
