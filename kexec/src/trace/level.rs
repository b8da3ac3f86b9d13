//! How much an event matters.
#![forbid(unsafe_code)]

use core::fmt;

use super::LevelError;

/// How much an event matters, and so who should see it. A module that has a level emits that and the more urgent ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// What was to be done is not done. An operator has to know.
    Error = 1,
    /// Something went wrong, and the code goes on.
    Warn,
    /// A step of a device's life: connected, closed, suspended.
    Info,
    /// For whoever looks for a fault.
    Debug,
    /// Every request and every message.
    Trace,
}

/// The least urgent level that is compiled in, if any is.
const COMPILED_IN: Option<Level> = if cfg!(feature = "max-trace") {
    Some(Level::Trace)
} else if cfg!(feature = "max-debug") {
    Some(Level::Debug)
} else if cfg!(feature = "max-info") {
    Some(Level::Info)
} else if cfg!(feature = "max-warn") {
    Some(Level::Warn)
} else if cfg!(feature = "max-error") {
    Some(Level::Error)
} else {
    None
};

impl Level {
    /// Whether this level is compiled in: see the features of this crate.
    #[must_use]
    pub const fn is_compiled_in(self) -> bool {
        match COMPILED_IN {
            Some(least) => self as u8 <= least as u8,
            None => false,
        }
    }

    /// The level of this name, in lower case; `None` for `off`.
    ///
    /// # Errors
    ///
    /// [`LevelError::Unknown`].
    pub fn named(name: &str) -> Result<Option<Self>, LevelError<'_>> {
        Ok(Some(match name {
            "off" => return Ok(None),
            "error" => Self::Error,
            "warn" => Self::Warn,
            "info" => Self::Info,
            "debug" => Self::Debug,
            "trace" => Self::Trace,
            _ => return Err(LevelError::Unknown(name)),
        }))
    }

    /// The name, in capitals, as sinks print it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
            Self::Trace => "TRACE",
        }
    }

    pub(super) const fn number(level: Option<Self>) -> u32 {
        match level {
            None => 0,
            Some(level) => level as u32,
        }
    }

    pub(super) const fn of_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Error,
            2 => Self::Warn,
            3 => Self::Info,
            4 => Self::Debug,
            5 => Self::Trace,
            _ => return None,
        })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
