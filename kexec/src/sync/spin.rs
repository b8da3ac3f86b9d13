//! A spin lock for code at `DISPATCH_LEVEL`.
#![expect(unsafe_code, reason = "who has set the flag owns the value")]

use core::{
    cell, fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
};

use crate::{
    atomics::{AtomicU32, Owned, const_fn, spin},
    irql::Dispatch,
};

/// A value behind a spin lock, for a few instructions at a time.
///
/// Taking it costs one read-modify-write, giving it back a store. Whoever waits spins, in no order.
///
/// The token shows that the CPU cannot be preempted by a thread that wants the lock as well. It does not show that an
/// interrupt cannot: what an interrupt service routine touches does not belong in here. Nor does it show that the
/// caller has not locked it already: a lock that is taken again by the CPU that holds it waits for itself, for ever.
///
/// ```
/// use kexec::{irql::Dispatch, sync::SpinLock};
///
/// static FREE: SpinLock<u32> = SpinLock::new(32);
///
/// fn take_one(at: &Dispatch) -> bool {
///     let mut free = FREE.lock(at);
///     let left = free.checked_sub(1);
///     *free = left.unwrap_or(0);
///     left.is_some()
/// }
/// ```
///
/// The guard cannot outlive the token, and clippy's `await_holding_invalid_type` is told that it must not live across
/// an await:
///
/// ```compile_fail
/// use kexec::{irql::{Passive, Raise}, sync::SpinLock};
///
/// static FREE: SpinLock<u32> = SpinLock::new(32);
///
/// fn wrong(cpu: &impl Raise, passive: &mut Passive) -> u32 {
///     let free = passive.raised(cpu, |at| FREE.lock(at));
///     *free // the CPU may have been preempted
/// }
/// ```
pub struct SpinLock<T> {
    held: AtomicU32,
    value: Owned<T>,
    /// `Owned` is shared whatever it holds; a lock is not.
    _value: PhantomData<cell::UnsafeCell<T>>,
}

// SAFETY: a guard lends the value to one thread at a time.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    const_fn! {
        /// An unlocked value.
        #[must_use]
        pub fn new(value: T) -> Self {
            Self { held: AtomicU32::new(0), value: Owned::new(value), _value: PhantomData }
        }
    }

    /// The value, of a lock that nobody has any more.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    /// Waits until nobody has the lock, and takes it. At `DISPATCH_LEVEL`.
    ///
    /// Acquire: what the last holder did is seen by this one.
    #[inline]
    pub fn lock<'a>(&'a self, _at: &'a Dispatch) -> SpinGuard<'a, T> {
        while self.held.compare_exchange_weak(0, 1, Acquire, Relaxed).is_err() {
            spin();
        }
        SpinGuard { lock: self, _at: PhantomData }
    }

    /// Takes the lock if nobody has it. At `DISPATCH_LEVEL`.
    ///
    /// Acquire: as above.
    #[inline]
    pub fn try_lock<'a>(&'a self, _at: &'a Dispatch) -> Option<SpinGuard<'a, T>> {
        self.held.compare_exchange(0, 1, Acquire, Relaxed).ok()?;
        Some(SpinGuard { lock: self, _at: PhantomData })
    }

    /// The value, which nobody else can reach. Callable at any level.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T> fmt::Debug for SpinLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SpinLock")
    }
}

/// The right to a [`SpinLock`]'s value; dropping it unlocks.
#[must_use = "the lock is given back as soon as the guard is dropped"]
pub struct SpinGuard<'a, T> {
    lock: &'a SpinLock<T>,
    /// Keeps the guard on the CPU, and in the time, of the token.
    _at: PhantomData<(&'a Dispatch, &'a mut T)>,
}

impl<T> Deref for SpinGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard has the lock, and is borrowed for as long as the value is.
        unsafe { &*self.lock.value.as_ptr() }
    }
}

impl<T> DerefMut for SpinGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard has the lock, and is borrowed mutably for as long as the value is.
        unsafe { &mut *self.lock.value.as_ptr() }
    }
}

impl<T> Drop for SpinGuard<'_, T> {
    /// Release: the next holder sees what this one did.
    #[inline]
    fn drop(&mut self) {
        self.lock.held.store(0, Release);
    }
}

impl<T: fmt::Debug> fmt::Debug for SpinGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
