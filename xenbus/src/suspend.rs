//! Suspend and resume.
//!
//! The toolstack asks the guest to suspend itself, so that it can be saved or moved. One CPU does that, while all
//! others are captured: [`SCHEDOP_shutdown`](sched::shutdown) comes back in another domain, where nothing is left of
//! what the guest had arranged with Xen but its memory; or where it was, if the suspend was cancelled, and then
//! nothing at all has happened.
//!
//! ```text
//!   others captured │ interrupts off │ SCHEDOP_shutdown
//!                   │                │   an error, or 1: cancelled ──▶ all go on as before
//!                   │                │   0: the next epoch begins
//!                   │                │ every listener's `early`
//!                   │ interrupts on ─┘
//!                   │ every listener's `late`
//!                   │ who waits for the epoch is told
//!   others go on ───┘
//! ```
//!
//! Services that everything else is made of (the page that is shared with Xen, event channels, grants, xenstore) are
//! [listeners](Listener). Frontends are tasks: what they had answers that it is disconnected, they wait [for the new
//! epoch](Epochs::after), and connect again. As nobody else runs in between, no task ever sees a service that is half
//! up.
//!
//! # Who calls it
//!
//! Not a task that is polled by what is captured: it would wait for itself. Whoever takes the
//! [request](crate::control::Request::Suspend) has it done elsewhere, and is parked meanwhile:
//!
//! - *Windows*: a thread at `PASSIVE_LEVEL` that is bound to CPU 0, by way of [`PassiveWork`](kexec::PassiveWork). It
//!   raises to `DISPATCH_LEVEL`, and its [`Rendezvous`] queues a DPC to each other CPU;
//! - *a guest with one CPU and no kernel*: the loop that runs its executors, between two runs;
//! - *a test*: what `xen_harness::Rig::on_suspend` was given. The harness captures, so that its rendezvous has
//!   nothing left to do.
//!
//! ```
//! use kexec::{PassiveWork, irql::{Dispatch, Passive, Raise}, platform::AnyFuture};
//! use xenbus::{Hypervisor, suspend::{Rendezvous, Suspend, SuspendError, Suspended}};
//!
//! static SUSPEND: Suspend = Suspend::new();
//!
//! /// What a task does that was asked to.
//! async fn suspend<P, X, C, R, const S: usize>(
//!     passive: &PassiveWork<P, S>, xen: X, cpu: C, rendezvous: R,
//! ) -> Option<Result<Suspended, SuspendError>>
//! where
//!     P: AnyFuture<Level = Passive>,
//!     X: Hypervisor + Send + 'static,
//!     C: Raise + Send + 'static,
//!     R: Rendezvous + Send + 'static,
//! {
//!     let work = async move |at: &mut Passive| {
//!         at.raised(&cpu, |at| SUSPEND.suspend(at, &xen, &rendezvous))
//!     };
//!     // None, if the driver is being removed.
//!     passive.run(work).await.ok()
//! }
//! ```
//!
//! Sources: `xen/include/public/sched.h`, `SCHEDOP_shutdown`; `xen/common/domain.c`, what belongs to a domain.
#![forbid(unsafe_code)]

mod listeners;
mod rendezvous;

use core::{
    fmt,
    sync::atomic::{
        AtomicBool,
        Ordering::{Acquire, Release},
    },
};

use kexec::irql::Dispatch;
use xen_abi::{Errno, Hypervisor, sched::SHUTDOWN_SUSPEND};

use self::listeners::Listeners;
pub use self::{
    listeners::{Full, Listener, Registration, ResumeError},
    rendezvous::{Captured, Rendezvous},
};
use crate::{
    epoch::{Epoch, Epochs},
    hypercall::sched,
};

/// Suspends the guest, and has up to `N` listeners bring it up again. There is one in a guest.
#[derive(Debug)]
pub struct Suspend<const N: usize = 16> {
    epochs: Epochs,
    listeners: Listeners<N>,
    is_running: AtomicBool,
}

/// How a suspend has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspended {
    /// It was cancelled, or only a checkpoint was made: nothing has changed.
    Cancelled,
    /// The guest has come back as another domain.
    Resumed(Resumed),
}

/// What has become of a guest that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// The new epoch.
    pub epoch: Epoch,
    /// How many steps of listeners have failed.
    pub failures: u32,
    /// The first of them.
    pub first: Option<Failure>,
}

/// A listener that could not bring up what it is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whose [name](Listener::name) it is.
    pub listener: &'static str,
    /// In which of its two steps.
    pub step: Step,
    /// Why.
    pub error: ResumeError,
}

/// A step of a listener's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// [`Listener::early`]
    Early,
    /// [`Listener::late`]
    Late,
}

/// Why the guest was not suspended. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuspendError {
    /// It is being suspended already.
    Running,
    /// Xen refused.
    Refused(Errno),
}

impl<const N: usize> Suspend<N> {
    /// Of a guest in its first epoch, to which nobody listens yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { epochs: Epochs::new(), listeners: Listeners::new(), is_running: AtomicBool::new(false) }
    }

    /// The guest's epochs.
    pub const fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// Has a listener called after each suspend that was not cancelled, after those that have registered before,
    /// until the registration is dropped. One that registers while a suspend runs is not called for that.
    ///
    /// # Errors
    ///
    /// There are `N` already.
    pub fn register(&self, at: &Dispatch, listener: &'static dyn Listener) -> Result<Registration<'_>, Full> {
        self.listeners.register(at, listener)
    }

    /// Suspends the guest. It comes back when the toolstack lets it: at once, or in a year, perhaps on another host;
    /// no deadline counts that time.
    ///
    /// To be called at `DISPATCH_LEVEL` by what is not captured itself: see the [module](self).
    ///
    /// # Errors
    ///
    /// The guest goes on where it was.
    pub fn suspend<H: Hypervisor, R: Rendezvous>(
        &self,
        at: &Dispatch,
        xen: &H,
        rendezvous: &R,
    ) -> Result<Suspended, SuspendError> {
        let _running = Running::begin(&self.is_running)?;
        rendezvous.hold(at, || {
            let last = self.listeners.last(at);
            let early = rendezvous.silence(at, || {
                if sched::shutdown(xen, SHUTDOWN_SUSPEND)? {
                    return Ok(None);
                }
                let mut resumed = Resumed { epoch: self.epochs.begin(), failures: 0, first: None };
                let captured = Captured::new(at, rendezvous);
                self.listeners.each(at, last, |listener| {
                    resumed.note(listener, Step::Early, listener.early(&captured));
                });
                Ok(Some(resumed))
            });
            let Some(mut resumed) = early.map_err(SuspendError::Refused)? else {
                return Ok(Suspended::Cancelled);
            };
            self.listeners.each(at, last, |listener| {
                resumed.note(listener, Step::Late, listener.late(at));
            });
            self.epochs.tell(at);
            Ok(Suspended::Resumed(resumed))
        })
    }
}

impl<const N: usize> Default for Suspend<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// The right to be the one that suspends the guest.
struct Running<'s>(&'s AtomicBool);

impl<'s> Running<'s> {
    fn begin(is_running: &'s AtomicBool) -> Result<Self, SuspendError> {
        if is_running.swap(true, Acquire) { Err(SuspendError::Running) } else { Ok(Self(is_running)) }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.store(false, Release);
    }
}

impl Resumed {
    /// Takes note of how a step has ended.
    fn note(&mut self, listener: &dyn Listener, step: Step, outcome: Result<(), ResumeError>) {
        if let Err(error) = outcome {
            self.failures = self.failures.saturating_add(1);
            self.first.get_or_insert(Failure { listener: listener.name(), step, error });
        }
    }
}

impl fmt::Display for Suspended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => f.write_str("the suspend was cancelled: nothing has changed"),
            Self::Resumed(resumed) => resumed.fmt(f),
        }
    }
}

impl fmt::Display for Resumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the guest has come back as another domain")?;
        match &self.first {
            None => Ok(()),
            Some(first) => write!(f, "; {} steps have failed, at first {first}", self.failures),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match self.step {
            Step::Early => "early",
            Step::Late => "late",
        };
        write!(f, "{}, {step}: {}", self.listener, self.error)
    }
}

impl fmt::Display for SuspendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("the guest is being suspended already; wait for that"),
            Self::Refused(errno) => write!(f, "Xen did not suspend the guest, which goes on: {errno}"),
        }
    }
}

impl core::error::Error for SuspendError {}
