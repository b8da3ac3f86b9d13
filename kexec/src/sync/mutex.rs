//! A lock that may be held across awaits.
#![expect(unsafe_code, reason = "who has set the word's bit owns the value")]

use core::{
    cell, fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

use super::waiters::{Source, Turn, Wait, Waiters};
use crate::{
    atomics::{Owned, const_fn},
    task_table::{Kind, Leaf},
};

/// Somebody has the guard.
const LOCKED: u64 = 1;

static MUTEX: Kind = Kind::new("mutex");

/// A value that one task at a time may use, for as long as it likes, across awaits too.
///
/// Those who wait get it in the order of their coming. It is unlocked when its guard is dropped, anywhere and at any
/// level. For a few instructions without an await, a spin lock costs less.
///
/// There is no poisoning. A task that is cancelled while it has the guard drops it where it is parked, and the next one
/// finds the value as it was at that await: leave it so at each await that another may go on from there, or keep in the
/// value a note of what is under way.
///
/// ```
/// use kexec::sync::Mutex;
///
/// static XENSTORE: Mutex<Vec<u8>> = Mutex::new(Vec::new());
///
/// # pollster::block_on(async {
/// let mut wire = XENSTORE.lock().await;
/// wire.extend(b"READ");
/// kexec::yield_now().await; // nobody else writes meanwhile
/// wire.extend(b" domid");
/// # });
/// ```
pub struct Mutex<T> {
    waiters: Waiters<()>,
    value: Owned<T>,
    /// `Owned` is shared whatever it holds; a mutex is not.
    _value: PhantomData<cell::UnsafeCell<T>>,
}

// SAFETY: a guard lends the value to one thread at a time.
unsafe impl<T: Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    const_fn! {
        /// An unlocked mutex.
        #[must_use]
        pub fn new(value: T) -> Self {
            Self { waiters: Waiters::new(0), value: Owned::new(value), _value: PhantomData }
        }
    }

    /// Waits for the value. To be polled up to `DISPATCH_LEVEL`.
    ///
    /// **Cancel-safe:** loses its place.
    #[track_caller]
    pub fn lock(&self) -> Wait<'_, Self> {
        Wait::new(self, (), Leaf::new(&MUTEX))
    }

    /// The value, if nobody has it and nobody waits for it. Callable at any level.
    #[must_use]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.waiters.take(Turn::Newcomer, locked)?;
        Some(self.guard())
    }

    /// The value, which nobody else can have.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Gives the value back.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    /// For who has just set `LOCKED`.
    fn guard(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, _value: PhantomData }
    }
}

fn locked(word: u64) -> Option<u64> {
    (word & LOCKED == 0).then_some(word | LOCKED)
}

impl<T> Source for Mutex<T> {
    type Ask = ();
    type Got<'a>
        = MutexGuard<'a, T>
    where
        T: 'a;

    fn waiters(&self) -> &Waiters<()> {
        &self.waiters
    }

    fn grant(&self, word: u64, (): ()) -> Option<u64> {
        locked(word)
    }

    fn got(&self, _word: u64, (): ()) -> MutexGuard<'_, T> {
        self.guard()
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut mutex = f.debug_struct("Mutex");
        match self.try_lock() {
            Some(value) => mutex.field("value", &*value).finish(),
            None => mutex.field("value", &format_args!("<locked>")).finish(),
        }
    }
}

/// The value of a [`Mutex`], until this is dropped.
#[must_use = "the mutex is unlocked as soon as the guard is dropped"]
pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    _value: PhantomData<&'a mut T>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the one guard there is, is borrowed for as long.
        unsafe { &*self.mutex.value.as_ptr() }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, mutably.
        unsafe { &mut *self.mutex.value.as_ptr() }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        self.mutex.waiters.clear(LOCKED);
    }
}

impl<T: fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
