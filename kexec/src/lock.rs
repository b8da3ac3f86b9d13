//! A lock that is held for a few instructions by code that cannot be preempted.
#![expect(unsafe_code, reason = "who has set the flag owns the value")]

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::{
    atomics::{AtomicU32, Owned, const_fn, spin},
    home::Home,
};

/// A value behind a spin lock.
///
/// While it is held, nothing is called that could want it: no waker, no platform.
#[derive(Debug)]
pub(crate) struct Lock<T> {
    held: AtomicU32,
    value: Owned<T>,
}

/// So that loom sees a lock being given back as one more access.
#[cfg(loom)]
impl<T> Drop for Lock<T> {
    fn drop(&mut self) {
        // SAFETY: whoever drops it is alone; loom checks that.
        unsafe { self.value.with(|_| ()) }
    }
}

impl<T> Lock<T> {
    const_fn! {
        pub(crate) fn new(value: T) -> Self {
            Self { held: AtomicU32::new(0), value: Owned::new(value) }
        }
    }

    /// Calls `f` with the value, at `DISPATCH_LEVEL`, for no other code of this CPU may want the lock meanwhile.
    ///
    /// Acquire and Release: the next one sees what `f` did.
    #[inline]
    pub(crate) fn with<R>(&self, home: Home, f: impl FnOnce(&mut T) -> R) -> R {
        home.raised(|| {
            while self.held.compare_exchange_weak(0, 1, Acquire, Relaxed).is_err() {
                spin();
            }
            // SAFETY: this call has set the flag, and clears it after.
            let result = unsafe { self.value.with(f) };
            self.held.store(0, Release);
            result
        })
    }
}
