//! What the device's tasks do: the part without an operating system.
//!
//! The same futures run in a DPC, in a crash dump and in a test of the host.
#![forbid(unsafe_code)]

use core::{fmt, time::Duration};

use futures_util::future::select;
use kexec::{irql::Dispatch, task_table::Label};
use xenbus::{Errno, Hypervisor, Version, version};

use crate::signal::Signal;

/// How many requests are served at the same time.
pub const REQUESTS: usize = 16;

/// The time between two beats: an upcall that got lost delays a request by no more than that and the [`TOLERANCE`].
pub const BEAT: Duration = Duration::from_millis(100);

/// How much later a beat may come, so that the system can let it come together with other timers.
pub const TOLERANCE: Duration = Duration::from_millis(10);

/// What requests wait for.
#[derive(Debug, Default)]
pub struct Events {
    /// Xen has called. The one place more is for who looks whether it does.
    pub upcall: Signal<{ REQUESTS + 1 }>,
    /// Time has passed.
    pub beat: Signal<REQUESTS>,
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Xen said so.
    Xen(Errno),
    /// [`REQUESTS`] others are being served.
    Busy,
}

impl Events {
    /// Nothing has happened.
    #[must_use]
    pub const fn new() -> Self {
        Self { upcall: Signal::new(), beat: Signal::new() }
    }

    /// Waits for the next upcall, or the next beat.
    ///
    /// **Cancel-safe:** another call waits for what comes after it.
    pub async fn next(&self) {
        // There are as many places as requests. A request without one would not wait, but ask at once.
        if let (Some(upcall), Some(beat)) = (self.upcall.next(), self.beat.next()) {
            select(upcall, beat).label("upcall or beat").await;
        }
    }
}

/// Serves a request: waits until something has happened, and asks for Xen's version.
///
/// **Cancel-safe:** nothing is lost but the answer.
///
/// # Errors
///
/// [`Failure::Xen`].
pub async fn answer<H: Hypervisor>(
    _level: &mut Dispatch,
    (events, xen): (&'static Events, H),
) -> Result<Version, Failure> {
    events.next().await;
    version(&xen).await.map_err(Failure::Xen)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xen(errno) => write!(f, "Xen answered {errno}"),
            Self::Busy => write!(f, "{REQUESTS} requests are being served; try again"),
        }
    }
}

impl core::error::Error for Failure {}
