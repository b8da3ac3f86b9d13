//! A place in the source that emits, and what it emits.
#![forbid(unsafe_code)]

use core::{fmt, sync::atomic::AtomicU64};

use super::{Level, Limit, limit::Limiter, tracer};
use crate::time::Instant;

/// A place in the source that emits: the `static` behind each use of a macro.
#[derive(Debug)]
pub struct Site {
    level: Level,
    limit: Limit,
    name: &'static str,
    module: &'static str,
    file: &'static str,
    line: u32,
    /// The module's level when it was last looked at: see [`Levels`](super::Levels).
    seen: AtomicU64,
    limiter: Limiter,
}

impl Site {
    /// For the macros.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(
        level: Level,
        name: &'static str,
        module: &'static str,
        file: &'static str,
        line: u32,
    ) -> Self {
        let (seen, limiter) = (AtomicU64::new(0), Limiter::new());
        Self { level, limit: Limit::NONE, name, module, file, line, seen, limiter }
    }

    /// For the macros.
    #[doc(hidden)]
    #[must_use]
    pub const fn limited(self, limit: Limit) -> Self {
        Self { limit, ..self }
    }

    /// How much it matters.
    #[must_use]
    pub const fn level(&self) -> Level {
        self.level
    }

    /// The name of a span; empty for an event.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The module that it is in.
    #[must_use]
    pub const fn module(&self) -> &'static str {
        self.module
    }

    /// The source file.
    #[must_use]
    pub const fn file(&self) -> &'static str {
        self.file
    }

    /// The line in the file.
    #[must_use]
    pub const fn line(&self) -> u32 {
        self.line
    }

    /// Whether its module has its level.
    pub(super) fn is_on(&self) -> bool {
        tracer().is_some_and(|tracer| tracer.levels.allow(self.level, self.module, &self.seen))
    }

    /// For the macros: emits an event if the module has its level and the limit is not reached.
    #[doc(hidden)]
    #[cold]
    pub fn event(&'static self, message: fmt::Arguments<'_>) {
        let Some(tracer) = tracer() else { return };
        if !self.is_on() {
            return;
        }
        let told = tracer.tell(|output| {
            let time = output.time();
            if let Some(suppressed) = self.limiter.admit(self.limit, time) {
                output.sink.event(&Event { site: self, time, suppressed, message });
            }
        });
        if !told {
            self.limiter.suppress(1);
        }
    }
}

/// A message from a place in the source.
///
/// Its `Display` is a line: level, module, message, and how many events were suppressed there.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    site: &'static Site,
    time: Option<Instant>,
    suppressed: u32,
    message: fmt::Arguments<'a>,
}

impl<'a> Event<'a> {
    /// Where it comes from.
    #[must_use]
    pub fn site(&self) -> &'static Site {
        self.site
    }

    /// How much it matters.
    #[must_use]
    pub fn level(&self) -> Level {
        self.site.level
    }

    /// When it was emitted, if the output has a clock.
    #[must_use]
    pub fn time(&self) -> Option<Instant> {
        self.time
    }

    /// How many events of this place have been suppressed since the last one that was not.
    #[must_use]
    pub fn suppressed(&self) -> u32 {
        self.suppressed
    }

    /// What it says.
    #[must_use]
    pub fn message(&self) -> fmt::Arguments<'a> {
        self.message
    }
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:5} {}: {}", self.site.level, self.site.module, self.message)?;
        match self.suppressed {
            0 => Ok(()),
            suppressed => write!(f, " ({suppressed} suppressed)"),
        }
    }
}
