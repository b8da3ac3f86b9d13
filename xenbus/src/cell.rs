//! Cells that interrupts look into: what is there is found at any level, without a wait.
//!
//! | | what is put there | who has it |
//! |---|---|---|
//! | [`Once`] | stays, for good | all, by reference |
//! | [`Lent`] | can be taken away, when nobody has it | all, each for as long as his [`Loan`] |
//! | [`TryLock`] | stays | one at a time |
#![expect(unsafe_code, reason = "what several share is changed while none of them looks")]

#[cfg(test)]
mod tests;

use core::{
    cell::UnsafeCell,
    fmt,
    ops::Deref,
    sync::atomic::{
        AtomicBool, AtomicU32,
        Ordering::{Acquire, Relaxed, Release},
    },
};

/// A place in which something is put once, and is found from then on, at any level: a page that interrupts touch.
pub(crate) struct Once<T> {
    /// [`EMPTY`], [`MOVING`] or [`HERE`].
    state: AtomicU32,
    value: UnsafeCell<Option<T>>,
}

/// A place in which something is put, lent, and taken away when nobody has it any more. It is found there at any level,
/// and no lock is taken.
pub(crate) struct Lent<T> {
    /// [`EMPTY`], [`MOVING`], or [`HERE`] and the number of loans.
    state: AtomicU32,
    value: UnsafeCell<Option<T>>,
}

/// What is [`Lent`], for as long as it is needed.
pub(crate) struct Loan<'a, T>(&'a Lent<T>);

const EMPTY: u32 = 0;
/// The value is being put there or taken away, by one.
const MOVING: u32 = 1 << 31;
/// The value can be reached.
const HERE: u32 = 1 << 30;

// SAFETY: a value moves in from one thread, and out to another; in between, several share it.
unsafe impl<T: Send + Sync> Sync for Once<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Lent<T> {}

impl<T> Once<T> {
    pub(crate) const fn new() -> Self {
        Self { state: AtomicU32::new(EMPTY), value: UnsafeCell::new(None) }
    }

    /// Puts something there. Here it is again, if there is something.
    pub(crate) fn put(&self, value: T) -> Result<(), T> {
        put(&self.state, &self.value, value)
    }

    /// What is there. Acquire: as it was when it was put there.
    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        if self.state.load(Acquire) != HERE {
            return None;
        }
        // SAFETY: it is there for good, and nobody writes to the place any more.
        unsafe { &*self.value.get() }.as_ref()
    }

    /// What was there.
    pub(crate) fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }
}

impl<T> Lent<T> {
    pub(crate) const fn new() -> Self {
        Self { state: AtomicU32::new(EMPTY), value: UnsafeCell::new(None) }
    }

    /// Puts something there. Here it is again, if there is something.
    pub(crate) fn put(&self, value: T) -> Result<(), T> {
        put(&self.state, &self.value, value)
    }

    /// Lends what is there. Acquire: as it was when it was put there.
    #[inline]
    pub(crate) fn lend(&self) -> Option<Loan<'_, T>> {
        let one_more = |state| (HERE..MOVING - 1).contains(&state).then(|| state.wrapping_add(1));
        self.state.fetch_update(Acquire, Relaxed, one_more).ok().map(|_| Loan(self))
    }

    /// Whether somebody has it.
    pub(crate) fn is_lent(&self) -> bool {
        self.state.load(Relaxed) & !MOVING > HERE
    }

    /// Takes away what is there. None, if somebody has it, or nothing is there.
    ///
    /// Acquire: those who had it have done with it.
    pub(crate) fn take(&self) -> Option<T> {
        self.state.compare_exchange(HERE, MOVING, Acquire, Relaxed).ok()?;
        // SAFETY: there are no loans and will be none, and whoever else wants to move it finds that it is being moved.
        let value = unsafe { &mut *self.value.get() }.take();
        self.state.store(EMPTY, Release);
        value
    }
}

/// Release: whoever finds the value finds it whole.
fn put<T>(state: &AtomicU32, place: &UnsafeCell<Option<T>>, value: T) -> Result<(), T> {
    if state.compare_exchange(EMPTY, MOVING, Acquire, Relaxed).is_err() {
        return Err(value);
    }
    // SAFETY: nobody reads it before it says `HERE`, and whoever else wants to write finds that it is being moved.
    *unsafe { &mut *place.get() } = Some(value);
    state.store(HERE, Release);
    Ok(())
}

impl<T> Deref for Loan<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: nobody writes to the place while there is a loan.
        let value = unsafe { &*self.0.value.get() };
        // SAFETY: a loan is of what is there, and it stays there as long as there is one.
        unsafe { value.as_ref().unwrap_unchecked() }
    }
}

impl<T> Drop for Loan<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.0.state.fetch_sub(1, Release);
    }
}

impl<T: fmt::Debug> fmt::Debug for Loan<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Loan").field(&**self).finish()
    }
}

impl<T> fmt::Debug for Once<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Once").field(&self.get().is_some()).finish()
    }
}

impl<T> fmt::Debug for Lent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lent").field(&self.state.load(Relaxed)).finish()
    }
}

/// A value for one at a time, of whom nobody waits: at any level.
pub(crate) struct TryLock<T> {
    is_taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: one has the value at a time.
unsafe impl<T: Send> Sync for TryLock<T> {}

impl<T> TryLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { is_taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Does something with the value, unless somebody does.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        if self.is_taken.swap(true, Acquire) {
            return None;
        }
        // SAFETY: nobody else has taken it.
        let outcome = work(unsafe { &mut *self.value.get() });
        self.is_taken.store(false, Release);
        Some(outcome)
    }
}
