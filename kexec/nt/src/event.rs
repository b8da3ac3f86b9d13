//! A KEVENT, which stays where it is.
#![expect(unsafe_code, reason = "NT is given the event's address")]

use core::{cell::UnsafeCell, fmt, mem::MaybeUninit, ptr};

use kexec::irql::Passive;
use nt_sys::{_KWAIT_REASON, _MODE, EVENT_TYPE, FALSE, KEVENT, ntddk};

/// An event.
pub(crate) struct Event(UnsafeCell<MaybeUninit<KEVENT>>);

// SAFETY: NT serializes what is done to an event.
unsafe impl Sync for Event {}

impl Event {
    /// One that is still to be [initialized](Self::init).
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// Makes it ready, not set. Callable at any level.
    ///
    /// # Safety
    ///
    /// The event stays where it is, is initialized once, and not used before.
    pub(crate) unsafe fn init(&self, kind: EVENT_TYPE) {
        // SAFETY: the caller's promise.
        unsafe { ntddk::KeInitializeEvent(self.0.get().cast(), kind, FALSE) };
    }

    /// Sets it. Up to `DISPATCH_LEVEL`. NT does not touch it any more when whoever waits for it goes on.
    pub(crate) fn set(&self) {
        // SAFETY: its makers have initialized it, and the caller is at `DISPATCH_LEVEL` at most.
        unsafe { ntddk::KeSetEvent(self.0.get().cast(), 0, FALSE) };
    }

    /// Waits until it is set.
    pub(crate) fn wait(&self, _passive: &mut Passive) {
        // SAFETY: its makers have initialized it; the caller may wait, as the token says.
        unsafe {
            ntddk::KeWaitForSingleObject(
                self.0.get().cast(),
                _KWAIT_REASON::Executive,
                // Not alertable, without end: it returns when the event is set, and only then.
                _MODE::KernelMode,
                FALSE,
                ptr::null_mut(),
            )
        };
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Event")
    }
}
