//! What the code says while it runs: events, spans, and the turns of tasks.
//!
//! ```
//! use kexec::trace::{self, Output, Ring};
//!
//! static RING: Ring<64> = Ring::new();
//! static OUTPUT: Output = Output::new(&RING);
//!
//! trace::set_output(Some(&OUTPUT));
//! trace::set_levels("warn, xenbus::store = debug").expect("the levels are well formed");
//!
//! let tries = 3;
//! kexec::warn!("no answer after {tries} tries");
//! kexec::info!("not seen: the level of this module is `warn`");
//!
//! let entry = RING.entries().next().expect("one event has passed");
//! assert!(entry.text().ends_with(": no answer after 3 tries"));
//! # trace::set_output(None);
//! ```
//!
//! - **Events**, [`error!`](crate::error) to [`trace!`](crate::trace!), are messages. One that is off costs a load, a
//!   compare and a branch, and its arguments are not evaluated. One that is on is formatted by the sink, where it is put.
//! - **Spans**, [`span!`](crate::span), are stretches: of a task, across its awaits ([`InSpan`]), or of a function.
//! - **Turns** of tasks are told by the executors of which [`trace_tasks`](crate::Executor::trace_tasks) asks it:
//!   who was woken, who was polled and for how long, and where it parked. The task table then shows the last and the
//!   longest poll. An executor that is not traced spends no instruction on it in a run, and at most one in a wake.
//!
//! | | decided by | callable |
//! |---|---|---|
//! | what is compiled in | the features `max-error` to `max-trace` of this crate; without them, nothing | |
//! | what is on | [`set_level`], [`set_module_level`], [`set_levels`]: a level for each module, at run time | any level |
//! | how much of it | each place has its own [`Limit`]; what it suppresses is counted, and told by the next event that passes | |
//! | where it goes | [`set_output`]: one [`Sink`], or several in a [`Both`]; `None` at first | any level |
//!
//! There is one output and one set of levels for each image, since each links its own copy of this crate. A copy that a
//! crash dump enters begins without an output, like any other.
//!
//! Nothing here allocates, waits, or takes a lock; events may be emitted at any level, interrupt level included. Sinks
//! are called there too. What a sink emits itself is suppressed.
//!
//! The files, in reading order: `level`, `levels` and `limit`, what passes; `site`, a place that emits; `output` and
//! `nesting`, where it goes; `span`; `task`; then the sinks: `ring`, `stderr` and `perfetto`.
#![forbid(unsafe_code)]

mod level;
mod levels;
mod limit;
mod nesting;
mod output;
#[cfg(feature = "std")]
mod perfetto;
mod ring;
mod site;
mod span;
#[cfg(feature = "std")]
mod stderr;
pub(crate) mod task;

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[cfg(not(loom))]
use self::levels::Levels;
use self::nesting::Nesting;
pub use self::{
    level::Level,
    levels::LevelError,
    limit::Limit,
    output::{Both, Output, Sink, UpTo},
    ring::{Entries, Entry, Ring, Totals},
    site::{Event, Site},
    span::{Change, Entered, InSpan, Span, SpanId, Spanned, Stage},
    task::{Activity, ExecutorId, Parked, Task, Then, What},
};
#[cfg(loom)]
pub use self::{levels::Levels, ring::places::Places};
#[cfg(feature = "std")]
pub use self::{perfetto::Perfetto, stderr::Stderr};
#[cfg(loom)]
pub use crate::exchange::Exchange;
#[cfg(not(loom))]
use crate::exchange::Exchange;

/// The state of this image's tracing.
struct Tracer {
    levels: Levels,
    output: Exchange<Output>,
    nesting: Nesting,
    /// How many spans have begun.
    spans: AtomicU64,
}

#[cfg(not(loom))]
static TRACER: Tracer = Tracer {
    levels: Levels::new(),
    output: Exchange::new(),
    nesting: Nesting::new(),
    spans: AtomicU64::new(0),
};

/// None in the models, which have no statics.
#[cfg_attr(not(loom), expect(clippy::unnecessary_wraps, reason = "outside of the models it is there"))]
#[inline]
fn tracer() -> Option<&'static Tracer> {
    #[cfg(not(loom))]
    return Some(&TRACER);
    #[cfg(loom)]
    None
}

impl Tracer {
    /// Calls `f` with the output, unless there is none, or this is inside a sink already; false then.
    fn tell(&self, f: impl FnOnce(&Output)) -> bool {
        let Some(output) = self.output.get() else { return false };
        let Some(_inside) = self.nesting.enter() else { return false };
        f(output);
        true
    }

    fn next_span(&self) -> u64 {
        self.spans.fetch_add(1, Relaxed)
    }

    fn publish_levels(&self) {
        self.levels.publish(|| self.output.get().is_some());
    }
}

/// Sends what is emitted from now on to `output`, or nowhere. Returns where it went before, where an event or two that
/// are on their way may still arrive.
///
/// Callable at any level.
#[expect(clippy::must_use_candidate, reason = "replacing is what it is for")]
pub fn set_output(output: Option<&'static Output>) -> Option<&'static Output> {
    let tracer = tracer()?;
    let before = tracer.output.replace(output);
    tracer.publish_levels();
    before
}

/// Sets the level of all modules that have none of their own; `None` turns them off. It is [`Level::Info`] at first.
///
/// Callable at any level.
///
/// # Errors
///
/// [`LevelError::Busy`].
pub fn set_level(level: impl Into<Option<Level>>) -> Result<(), LevelError<'static>> {
    change(|levels| levels.set_default(level.into()))
}

/// Sets the level of a module and of those inside it, unless one of these has its own; `None` turns it off.
///
/// An image remembers up to 16 names of modules, of up to 48 bytes each, for ever. Callable at any level.
///
/// # Errors
///
/// See [`LevelError`]; nothing has changed then.
pub fn set_module_level(module: &str, level: impl Into<Option<Level>>) -> Result<(), LevelError<'_>> {
    change(|levels| levels.set(module, level.into()))
}

/// Lets a module have its surroundings' level again.
///
/// Callable at any level.
///
/// # Errors
///
/// [`LevelError::Busy`].
pub fn clear_module_level(module: &str) -> Result<(), LevelError<'static>> {
    change(|levels| levels.clear(module))
}

/// Sets several levels at once, as a registry value or a command line gives them: `warn, xenbus::store = debug,
/// xenvbd = off`. Modules that are not named keep theirs.
///
/// Callable at any level.
///
/// # Errors
///
/// See [`LevelError`]. The text is read from the left; what stands before the error has been set.
pub fn set_levels(text: &str) -> Result<(), LevelError<'_>> {
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            None => set_level(Level::named(part)?)?,
            Some((module, level)) => set_module_level(module.trim_end(), Level::named(level.trim_start())?)?,
        }
    }
    Ok(())
}

/// The level of the modules of this name.
///
/// Callable at any level.
#[must_use]
pub fn level_of(module: &str) -> Option<Level> {
    tracer().and_then(|tracer| tracer.levels.level_of(module))
}

fn change<'a>(f: impl FnOnce(&Levels) -> Result<(), LevelError<'a>>) -> Result<(), LevelError<'a>> {
    let Some(tracer) = tracer() else { return Ok(()) };
    f(&tracer.levels)?;
    tracer.publish_levels();
    Ok(())
}

/// Whether some module has this level, and somebody listens: all that an event which is off asks.
#[doc(hidden)]
#[inline]
#[must_use]
pub fn reaches(level: Level) -> bool {
    tracer().is_some_and(|tracer| tracer.levels.reach(level))
}

/// Emits an event: a [`Level`], which must be a constant, and a message as for `format!`.
///
/// ```
/// use kexec::{event, trace::{Level, Limit}};
///
/// event!(Level::Info, "ring of {} entries", 32);
/// // Another limit than `Limit::DEFAULT`:
/// event!(limit: Limit::NONE, Level::Debug, "entry {} is free", 7);
/// ```
#[macro_export]
macro_rules! event {
    (limit: $limit:expr, $level:expr, $($message:tt)+) => {
        if const { $crate::trace::Level::is_compiled_in($level) } && $crate::trace::reaches($level) {
            static SITE: $crate::trace::Site =
                $crate::trace::Site::new($level, "", ::core::module_path!(), ::core::file!(), ::core::line!())
                    .limited($limit);
            SITE.event(::core::format_args!($($message)+));
        }
    };
    ($level:expr, $($message:tt)+) => {
        $crate::event!(limit: $crate::trace::Limit::DEFAULT, $level, $($message)+)
    };
}

/// Emits an event of [`Level::Error`]: what was to be done is not done.
#[macro_export]
macro_rules! error {
    (limit: $limit:expr, $($message:tt)+) => {
        $crate::event!(limit: $limit, $crate::trace::Level::Error, $($message)+)
    };
    ($($message:tt)+) => { $crate::event!($crate::trace::Level::Error, $($message)+) };
}

/// Emits an event of [`Level::Warn`]: something went wrong, and the code goes on.
#[macro_export]
macro_rules! warn {
    (limit: $limit:expr, $($message:tt)+) => {
        $crate::event!(limit: $limit, $crate::trace::Level::Warn, $($message)+)
    };
    ($($message:tt)+) => { $crate::event!($crate::trace::Level::Warn, $($message)+) };
}

/// Emits an event of [`Level::Info`]: a step of a device's life.
#[macro_export]
macro_rules! info {
    (limit: $limit:expr, $($message:tt)+) => {
        $crate::event!(limit: $limit, $crate::trace::Level::Info, $($message)+)
    };
    ($($message:tt)+) => { $crate::event!($crate::trace::Level::Info, $($message)+) };
}

/// Emits an event of [`Level::Debug`]: for whoever looks for a fault.
#[macro_export]
macro_rules! debug {
    (limit: $limit:expr, $($message:tt)+) => {
        $crate::event!(limit: $limit, $crate::trace::Level::Debug, $($message)+)
    };
    ($($message:tt)+) => { $crate::event!($crate::trace::Level::Debug, $($message)+) };
}

/// Emits an event of [`Level::Trace`]: every request and every message.
#[macro_export]
macro_rules! trace {
    (limit: $limit:expr, $($message:tt)+) => {
        $crate::event!(limit: $limit, $crate::trace::Level::Trace, $($message)+)
    };
    ($($message:tt)+) => { $crate::event!($crate::trace::Level::Trace, $($message)+) };
}

/// A [`Span`]: its [`Level`], [`Info`](Level::Info) if none is given, and its name, both constants.
///
/// ```
/// use kexec::{span, trace::{InSpan, Level}};
///
/// async fn connect() {
///     negotiate().in_span(span!("negotiate")).await;
///     let _publishing = span!(Level::Debug, "publish").enter();
/// }
/// # async fn negotiate() {}
/// ```
#[macro_export]
macro_rules! span {
    ($name:literal) => {
        $crate::span!($crate::trace::Level::Info, $name)
    };
    ($level:expr, $name:expr) => {
        if const { $crate::trace::Level::is_compiled_in($level) } {
            static SITE: $crate::trace::Site = $crate::trace::Site::new(
                $level,
                $name,
                ::core::module_path!(),
                ::core::file!(),
                ::core::line!(),
            );
            $crate::trace::Span::at(&SITE)
        } else {
            $crate::trace::Span::NONE
        }
    };
}
