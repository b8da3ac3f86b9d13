//! What has happened, and when: the program's output, and what its claims are checked by.

use std::{
    fmt::Display,
    sync::{Arc, Mutex},
    time::Duration,
};

use kexec::{Executor, platform::mock::Mock, time::Instant};

/// Lines with the virtual time of an executor.
#[derive(Clone)]
pub(crate) struct Timeline {
    clock: &'static Executor<Mock>,
    lines: Arc<Mutex<Vec<Line>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) at: Duration,
    pub(crate) who: &'static str,
    pub(crate) what: String,
}

impl Timeline {
    pub(crate) fn new(clock: &'static Executor<Mock>) -> Self {
        Self { clock, lines: Arc::default() }
    }

    pub(crate) fn say(&self, who: &'static str, what: impl Display) {
        let at = self.clock.platform().time().since(Instant::START);
        let mut lines = self.lines.lock().expect("nobody panics with it");
        lines.push(Line { at, who, what: what.to_string() });
    }

    pub(crate) fn lines(&self) -> Vec<Line> {
        self.lines.lock().expect("nobody panics with it").clone()
    }

    /// Where this was said, counted from the first line.
    pub(crate) fn find(&self, who: &str, what: &str) -> Option<usize> {
        self.lines().iter().position(|line| line.who == who && line.what == what)
    }
}
