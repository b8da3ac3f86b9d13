//! What happens, and when: the program's output, while it happens.

use std::{
    fmt::Display,
    io::{Write, stdout},
    time::Duration,
};

use kexec::{Executor, platform::mock::Mock, time::Instant};

/// Lines with the virtual time of an executor.
#[derive(Clone, Copy)]
pub(crate) struct Timeline {
    clock: &'static Executor<Mock>,
    /// Printed at once, or thrown away.
    is_shown: bool,
}

impl Timeline {
    pub(crate) fn new(clock: &'static Executor<Mock>, is_shown: bool) -> Self {
        Self { clock, is_shown }
    }

    pub(crate) fn say(self, who: &str, what: impl Display) {
        if self.is_shown {
            print(self.clock.platform().time().since(Instant::START), who, what);
        }
    }
}

/// A line of the timeline.
pub(crate) fn print(at: Duration, who: &str, what: impl Display) {
    // Whoever reads the screen may have gone.
    let _ = writeln!(stdout(), "{:>9.3} ms  {who:<9} {what}", at.as_secs_f64() * 1e3);
}
