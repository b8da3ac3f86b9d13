//! Who brings up what, after a suspend.
#![forbid(unsafe_code)]

use core::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use kexec::{irql::Dispatch, sync::SpinLock};
use xen_abi::Errno;

use super::Captured;
use crate::{console, page::MapError, store, unplug::UnplugError};

/// What is called when the guest has come back as another domain.
///
/// Both steps are called in the order of the registrations, whatever becomes of others and of the first. They may
/// register and drop registrations, their own too.
pub trait Listener: Sync {
    /// What it is called where failures are reported.
    fn name(&self) -> &'static str;

    /// Does what must be done before anything else runs: a page of Xen's is where it was, a channel's ports are none.
    ///
    /// Nobody else runs, and interrupts are off.
    ///
    /// # Errors
    ///
    /// What it is for is not there in this epoch.
    fn early(&self, captured: &Captured<'_>) -> Result<(), ResumeError> {
        let _ = captured;
        Ok(())
    }

    /// Does the rest: interrupts come again, and connections are made.
    ///
    /// At `DISPATCH_LEVEL`. The other CPUs are captured still, so that whatever is waited for here does not come.
    ///
    /// # Errors
    ///
    /// What it is for is not there in this epoch.
    fn late(&self, at: &Dispatch) -> Result<(), ResumeError> {
        let _ = at;
        Ok(())
    }
}

/// Why something does not come up in a new epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeError {
    /// Xen refused something.
    Xen(Errno),
    /// A page cannot be put where it was.
    Map(MapError),
    /// There is no connection to xenstored.
    Store(store::ConnectError),
    /// There is none to the console.
    Console(console::ConnectError),
    /// Emulated devices are there again.
    Unplug(UnplugError),
    /// Something else, which the listener says in words.
    Other(&'static str),
}

/// As many listeners as there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full(
    /// So many.
    pub usize,
);

/// A listener's place. It is not called any more when this is dropped, which can be done at any level.
#[derive(Debug)]
#[must_use = "the listener is forgotten as soon as this is dropped"]
pub struct Registration<'s>(&'s AtomicU64);

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        // Whoever looks for a free place locks; listeners are called when nobody else runs.
        self.0.store(FREE, Relaxed);
    }
}

/// A table of `N` places.
#[derive(Debug)]
pub(super) struct Listeners<const N: usize> {
    /// The number of the registration that has the place, from one on in their order. It is outside of the lock, so
    /// that a registration can be dropped at any level.
    numbers: [AtomicU64; N],
    places: SpinLock<Places<N>>,
}

/// In the number of a place that nobody has.
const FREE: u64 = 0;

struct Places<const N: usize> {
    listeners: [Option<&'static dyn Listener>; N],
    /// The number that was given last.
    last: u64,
}

impl<const N: usize> Listeners<N> {
    pub(super) const fn new() -> Self {
        Self {
            numbers: [const { AtomicU64::new(FREE) }; N],
            places: SpinLock::new(Places { listeners: [None; N], last: 0 }),
        }
    }

    pub(super) fn register(
        &self,
        at: &Dispatch,
        listener: &'static dyn Listener,
    ) -> Result<Registration<'_>, Full> {
        let mut places = self.places.lock(at);
        let Places { listeners, last } = &mut *places;
        let mut both = self.numbers.iter().zip(listeners);
        let (number, place) = both.find(|(number, _)| number.load(Relaxed) == FREE).ok_or(Full(N))?;
        *last = last.saturating_add(1);
        *place = Some(listener);
        number.store(*last, Relaxed);
        Ok(Registration(number))
    }

    /// The registration that was made last.
    pub(super) fn last(&self, at: &Dispatch) -> u64 {
        self.places.lock(at).last
    }

    /// Calls for each listener up to that registration, in order. It may come back to the table.
    pub(super) fn each(&self, at: &Dispatch, last: u64, mut call: impl FnMut(&'static dyn Listener)) {
        let mut called = FREE;
        while let Some((number, listener)) = self.after(at, called).filter(|(number, _)| *number <= last) {
            called = number;
            call(listener);
        }
    }

    /// The first listener after that registration.
    fn after(&self, at: &Dispatch, called: u64) -> Option<(u64, &'static dyn Listener)> {
        let places = self.places.lock(at);
        let both = self.numbers.iter().map(|number| number.load(Relaxed)).zip(places.listeners);
        let later = both.filter(|(number, _)| *number > called);
        let (number, listener) = later.min_by_key(|(number, _)| *number)?;
        Some((number, listener?))
    }
}

impl fmt::Display for ResumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xen(errno) => write!(f, "Xen answered {errno}"),
            Self::Map(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Console(error) => error.fmt(f),
            Self::Unplug(error) => error.fmt(f),
            Self::Other(what) => f.write_str(what),
        }
    }
}

impl core::error::Error for ResumeError {}

impl From<Errno> for ResumeError {
    fn from(errno: Errno) -> Self {
        Self::Xen(errno)
    }
}

impl From<MapError> for ResumeError {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

impl From<store::ConnectError> for ResumeError {
    fn from(error: store::ConnectError) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there are {} listeners, which is as many as there is room for", self.0)
    }
}

impl core::error::Error for Full {}

impl<const N: usize> fmt::Debug for Places<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Places").field("last", &self.last).finish_non_exhaustive()
    }
}
