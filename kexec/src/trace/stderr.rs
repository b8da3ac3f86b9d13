//! Events as lines on a host's standard error.
#![forbid(unsafe_code)]

use std::io::{Write, stderr};

use super::{Event, Sink};

/// A sink that writes each event to standard error, with the time in seconds if there is a clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stderr;

impl Sink for Stderr {
    fn event(&self, event: &Event<'_>) {
        let mut stderr = stderr().lock();
        // Nobody could be told that nobody can be told.
        let _failed = match event.time() {
            Some(time) => {
                let nanos = time.as_nanos();
                writeln!(stderr, "[{:5}.{:06}] {event}", nanos / 1_000_000_000, nanos / 1_000 % 1_000_000)
            }
            None => writeln!(stderr, "{event}"),
        };
    }
}
