//! What happens, and when: the program's output, while it happens.

use std::{
    fmt::Display,
    io::{Write, stdout},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kexec::{Executor, platform::mock::Mock, time::Instant};

/// Lines with the virtual time of an executor.
#[derive(Clone)]
pub(crate) struct Timeline {
    clock: &'static Executor<Mock>,
    /// Printed at once, or thrown away.
    is_shown: bool,
    count: Arc<Mutex<usize>>,
}

impl Timeline {
    pub(crate) fn new(clock: &'static Executor<Mock>, is_shown: bool) -> Self {
        Self { clock, is_shown, count: Arc::default() }
    }

    pub(crate) fn say(&self, who: &str, what: impl Display) {
        self.say_at(self.clock.platform().time().since(Instant::START), who, what);
    }

    pub(crate) fn say_at(&self, at: Duration, who: &str, what: impl Display) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        if self.is_shown {
            // Whoever reads the screen may have gone.
            let _ = writeln!(stdout(), "{:>10.3} ms  {who:<8} {what}", at.as_secs_f64() * 1e3);
        }
    }
}
