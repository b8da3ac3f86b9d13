//! The atomics and shared cells that the core is made of, so that loom can take their place.
//!
//! The package of the loom models compiles these same sources with `cfg(loom)`; everywhere else
//! the names below are `core`'s.
#![expect(unsafe_code, reason = "a cell whose owner changes by protocol cannot be checked by the compiler")]

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};

#[cfg(not(loom))]
use core::cell::UnsafeCell;
#[cfg(loom)]
use loom::cell::UnsafeCell;

#[cfg(loom)]
pub(crate) use self::model::AtomicWaker;
/// Who registers later and is woken from elsewhere.
#[cfg(not(loom))]
pub(crate) use atomic_waker::AtomicWaker;

/// Lets another CPU go on.
#[inline]
pub(crate) fn spin() {
    #[cfg(not(loom))]
    core::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// Loom's stand-ins, under the names that the real ones have.
#[cfg(loom)]
mod model {
    use core::task::Waker;

    #[derive(Debug, Default)]
    pub(crate) struct AtomicWaker(loom::future::AtomicWaker);

    impl AtomicWaker {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn register(&self, waker: &Waker) {
            self.0.register_by_ref(waker);
        }

        pub(crate) fn wake(&self) {
            self.0.wake();
        }

        pub(crate) fn take(&self) -> Option<Waker> {
            self.0.take_waker()
        }
    }
}

/// Makes a constructor `const`, but for loom, whose atomics are registered when they are made.
macro_rules! const_fn {
    ($(#[$meta:meta])* $vis:vis fn $($rest:tt)*) => {
        #[cfg(not(loom))]
        $(#[$meta])* $vis const fn $($rest)*
        #[cfg(loom)]
        $(#[$meta])* $vis fn $($rest)*
    };
}
pub(crate) use const_fn;

/// A value with one owner at a time, where a protocol of atomics says who that is.
///
/// Nothing is checked here, except under loom, which reports two owners as a data race.
#[derive(Debug)]
pub(crate) struct Owned<T>(UnsafeCell<T>);

// SAFETY: every access goes through an unsafe method, whose caller states that it is the only owner
// and that the protocol's atomics ordered it after the last one.
unsafe impl<T> Sync for Owned<T> {}
// SAFETY: an owner on another thread is what the protocols are for; what is stored here (pointers to
// type-stable headers, wakers, the consumer's lists) is not tied to a thread.
unsafe impl<T> Send for Owned<T> {}

impl<T> Owned<T> {
    const_fn! {
        pub(crate) fn new(value: T) -> Self {
            Self(UnsafeCell::new(value))
        }
    }

    /// Calls `f` with the value.
    ///
    /// # Safety
    ///
    /// The caller owns the value until `f` returns.
    #[inline]
    pub(crate) unsafe fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        #[cfg(not(loom))]
        let value = self.0.get();
        #[cfg(not(loom))]
        // SAFETY: the caller owns the value, so that no other reference to it lives.
        return f(unsafe { &mut *value });
        #[cfg(loom)]
        self.0.with_mut(|value| {
            // SAFETY: as above; loom checks it.
            f(unsafe { &mut *value })
        })
    }
}

impl<T> Owned<T> {
    /// Where the value is. For loom, to ask is to write.
    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut T {
        #[cfg(not(loom))]
        return self.0.get();
        #[cfg(loom)]
        self.0.with_mut(|value| value)
    }

    /// The value, which nobody else can reach.
    pub(crate) fn get_mut(&mut self) -> &mut T {
        // SAFETY: it is borrowed mutably.
        unsafe { &mut *self.as_ptr() }
    }

    /// Gives the value back.
    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: Copy> Owned<T> {
    /// Reads the value.
    ///
    /// # Safety
    ///
    /// The caller owns the value, or shares it with others who only read it.
    #[inline]
    pub(crate) unsafe fn read(&self) -> T {
        #[cfg(not(loom))]
        let value = self.0.get();
        #[cfg(not(loom))]
        // SAFETY: nobody writes it.
        return unsafe { value.read() };
        #[cfg(loom)]
        self.0.with(|value| {
            // SAFETY: as above; loom checks it.
            unsafe { value.read() }
        })
    }

    /// Replaces the value.
    ///
    /// # Safety
    ///
    /// The caller owns the value.
    #[inline]
    pub(crate) unsafe fn write(&self, new: T) {
        // SAFETY: the caller's promise.
        unsafe { self.with(|value| *value = new) }
    }
}
