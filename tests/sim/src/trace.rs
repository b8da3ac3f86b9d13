//! What happens in a machine, for whoever looks on.
#![forbid(unsafe_code)]

use std::{fmt, time::Duration};

/// One thing that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Since the machine was switched on.
    pub at: Duration,
    /// Who did it: `toolstack`, `xenstored`, `fault`, a backend's directory.
    pub who: String,
    /// Whether it is one of many: a message to or from xenstored.
    pub is_detail: bool,
    /// What.
    pub what: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>12.6} s  {}: {}", self.at.as_secs_f64(), self.who, self.what)
    }
}

type Observer = Box<dyn FnMut(&Line) + Send>;

/// Who looks on. Nothing is made into text if nobody does.
#[derive(Default)]
pub(crate) struct Trace {
    observer: Option<Observer>,
}

impl Trace {
    pub(crate) fn set_observer(&mut self, observer: Option<Observer>) {
        self.observer = observer;
    }

    pub(crate) fn is_on(&self) -> bool {
        self.observer.is_some()
    }

    /// One of the lines that everybody wants to read.
    pub(crate) fn say(&mut self, at: Duration, who: impl Into<String>, what: impl FnOnce() -> String) {
        self.tell(at, who, what, false);
    }

    /// One of many.
    pub(crate) fn detail(&mut self, at: Duration, who: impl Into<String>, what: impl FnOnce() -> String) {
        self.tell(at, who, what, true);
    }

    fn tell(&mut self, at: Duration, who: impl Into<String>, what: impl FnOnce() -> String, is_detail: bool) {
        if let Some(observer) = &mut self.observer {
            observer(&Line { at, who: who.into(), is_detail, what: what() });
        }
    }
}
