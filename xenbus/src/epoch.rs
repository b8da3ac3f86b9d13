//! Epochs: from one suspend that was not cancelled to the next.
//!
//! After such a suspend the guest is another domain: its ports, grants, watches and transactions are gone, and their
//! numbers may be somebody else's. So each of them knows its epoch. In the next it answers that it is disconnected,
//! and ends without a word to Xen.
//!
//! Processors are captured while the epoch changes, and their interrupts are off: between two awaits, code at
//! `DISPATCH_LEVEL` is in one epoch.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use kexec::{irql::Dispatch, sync::Watch};

/// An epoch. Only whether two are the same means anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(u32);

impl Epoch {
    /// The number by which an atomic keeps it.
    pub(crate) const fn to_number(self) -> u32 {
        self.0
    }

    /// The epoch of that number.
    pub(crate) const fn from_number(number: u32) -> Self {
        Self(number)
    }
}

/// In which epoch the guest is, and who waits for the next.
#[derive(Debug)]
pub struct Epochs {
    now: AtomicU32,
    /// What was told.
    told: Watch<Epoch>,
}

impl Epochs {
    /// The first epoch.
    #[must_use]
    pub const fn new() -> Self {
        Self { now: AtomicU32::new(0), told: Watch::new(Epoch(0)) }
    }

    /// The epoch that the guest is in. Callable at any level.
    #[inline]
    pub fn now(&self) -> Epoch {
        // Nobody runs while it changes.
        Epoch(self.now.load(Relaxed))
    }

    /// How often the guest has come back as another domain, modulo 2³². Callable at any level.
    #[inline]
    pub fn count(&self) -> u32 {
        self.now().0
    }

    /// Waits until the guest is in another epoch, and its services are up again; at once, if it is.
    ///
    /// **Cancel-safe:** nothing is lost.
    pub async fn after(&self, at: &Dispatch, epoch: Epoch) -> Epoch {
        let mut told = self.told.watcher();
        loop {
            let now = told.get(at);
            if now != epoch {
                return now;
            }
            told.changed().await;
        }
    }

    /// Begins the next: the guest has come back as another domain. Callable at any level, by the only one who is not
    /// captured.
    pub fn begin(&self) -> Epoch {
        let next = Epoch(self.now().0.wrapping_add(1));
        self.now.store(next.0, Relaxed);
        next
    }

    /// Says to those who wait that the services are up in this epoch.
    pub(crate) fn tell(&self, at: &Dispatch) {
        self.told.send(at, self.now());
    }
}

impl Default for Epochs {
    fn default() -> Self {
        Self::new()
    }
}
