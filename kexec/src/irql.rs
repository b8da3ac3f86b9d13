//! IRQL as types: who may block, who may touch a ring.
//!
//! A token is a zero-sized proof that the code runs at a level. A task is lent one for its whole life,
//! because its executor polls it at that level and nowhere else; it cannot be copied, sent or kept.
//!
//! | operation | takes |
//! |---|---|
//! | ring, grant and port operations, locks that are held at `DISPATCH_LEVEL` anyway | `&Dispatch` |
//! | blocking, raising, locks that raise | `&mut Passive` |
//!
//! Several sub-futures of a task may share a `&Dispatch`. A `&mut Passive` is spent while the level is
//! raised, so that blocking in there does not compile:
//!
//! ```compile_fail
//! use kexec::irql::{Passive, Raise};
//! fn block(_: &mut Passive) {}
//! fn wrong(cpu: &impl Raise, passive: &mut Passive) {
//!     passive.raised(cpu, |_dispatch| block(passive));
//! }
//! ```
//!
//! Nor can a token be used while a guard made from it lives:
//!
//! ```compile_fail
//! use kexec::irql::{Passive, Raise};
//! fn block(_: &mut Passive) {}
//! fn wrong(cpu: &impl Raise, passive: &mut Passive) {
//!     let raised = passive.raise(cpu);
//!     block(passive);
//!     drop(raised);
//! }
//! ```
#![expect(unsafe_code, reason = "a token is a promise about the CPU, which only its maker can give")]

use core::{
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

/// The code runs at `PASSIVE_LEVEL`: it may block, take page faults and wait for other threads.
pub struct Passive(PhantomData<*mut ()>);

/// The code runs at `DISPATCH_LEVEL` or above: its CPU runs no other thread until it is done, and it may not wait.
pub struct Dispatch(PhantomData<*mut ()>);

/// A level at which an executor polls its tasks: [`Passive`], [`Dispatch`], or `()`, which promises nothing.
///
/// # Safety
///
/// **Implementation safety.** The type is zero-sized, neither `Copy` nor `Clone`, and (but for `()`)
/// neither `Send` nor `Sync`.
pub unsafe trait Level: Sized + 'static {
    /// Makes a token out of nothing.
    ///
    /// # Safety
    ///
    /// Until the token is dropped, the code that can reach it runs at this level, and no token of
    /// another level is in its hands.
    unsafe fn assume() -> Self;
}

const _: () = assert!(size_of::<Passive>() == 0 && size_of::<Dispatch>() == 0, "a token costs nothing");

// SAFETY: the type is as required.
unsafe impl Level for Passive {
    #[inline]
    unsafe fn assume() -> Self {
        Self(PhantomData)
    }
}

// SAFETY: the type is as required.
unsafe impl Level for Dispatch {
    #[inline]
    unsafe fn assume() -> Self {
        Self(PhantomData)
    }
}

// SAFETY: the unit promises nothing, so that anyone may have any number of it.
unsafe impl Level for () {
    #[inline]
    unsafe fn assume() -> Self {}
}

impl fmt::Debug for Passive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passive")
    }
}

impl fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dispatch")
    }
}

/// A CPU that can be kept from running other threads.
///
/// # Safety
///
/// **Implementation safety.** While the value that [`raise`](Self::raise) returned lives, the calling
/// CPU is at `DISPATCH_LEVEL` or above and the calling code stays on it; dropping it restores the level
/// that was found.
pub unsafe trait Raise {
    /// Restores the level when it is dropped.
    type Restore;

    /// Raises the calling CPU to `DISPATCH_LEVEL` if it is below. Callable at any level.
    fn raise(&self) -> Self::Restore;
}

impl Passive {
    /// Raises to `DISPATCH_LEVEL` until the guard is dropped.
    #[inline]
    pub fn raise<'p, C: Raise>(&'p mut self, cpu: &C) -> Raised<'p, C::Restore> {
        Raised {
            // SAFETY: the level is raised until `restore` is dropped together with this token, and the
            // guard's borrow keeps the passive token from being used.
            dispatch: unsafe { Dispatch::assume() },
            _restore: cpu.raise(),
            _passive: PhantomData,
        }
    }

    /// Runs `f` at `DISPATCH_LEVEL`.
    #[inline]
    pub fn raised<C: Raise, R>(&mut self, cpu: &C, f: impl FnOnce(&mut Dispatch) -> R) -> R {
        f(&mut self.raise(cpu))
    }
}

/// A CPU raised to `DISPATCH_LEVEL`; dropping it restores the level.
///
/// It must not live across an await: clippy's `await_holding_invalid_type` is told so.
#[must_use = "the level is restored as soon as the guard is dropped"]
pub struct Raised<'p, R> {
    dispatch: Dispatch,
    _restore: R,
    _passive: PhantomData<&'p mut Passive>,
}

impl<R> Deref for Raised<'_, R> {
    type Target = Dispatch;

    fn deref(&self) -> &Dispatch {
        &self.dispatch
    }
}

impl<R> DerefMut for Raised<'_, R> {
    fn deref_mut(&mut self) -> &mut Dispatch {
        &mut self.dispatch
    }
}

impl<R> fmt::Debug for Raised<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Raised")
    }
}
