//! What has happened, and when.

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
    lines: Arc<Mutex<Vec<String>>>,
}

impl Timeline {
    pub(crate) fn new(clock: &'static Executor<Mock>) -> Self {
        Self { clock, lines: Arc::default() }
    }

    /// The virtual time since the start.
    pub(crate) fn time(&self) -> Duration {
        self.clock.platform().time().since(Instant::START)
    }

    pub(crate) fn say(&self, what: impl Display) {
        let time = self.time();
        let (seconds, millis) = (time.as_secs(), time.subsec_millis());
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let line = format!("{hours:02}:{minutes:02}:{seconds:02}.{millis:03}  {what}");
        self.lines.lock().expect("nobody panics with it").push(line);
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("nobody panics with it").clone()
    }
}
