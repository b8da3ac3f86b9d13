//! Protection against running down: who uses something, and who waits until nobody does.
//!
//! The last guard is dropped, and whoever waits may give the memory back at once, this one's too. So a drop touches
//! nothing after it has left: the last one takes the waiter's waker with it beforehand. Should another have become the
//! waiter meanwhile, then that one has looked at the word, and each look is counted there: the drop begins again.
#![expect(unsafe_code, reason = "a guard's reference must not outlive what it refers to, by an instruction")]

use core::{
    fmt,
    marker::PhantomData,
    ptr::NonNull,
    sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release},
    task::Waker,
};

use super::waiters::{Source, Wait, Waiters};
use crate::{
    atomics::{AtomicU64, const_fn},
    task_table::{Kind, Leaf},
};

/// Nobody is let in.
const RUNNING_DOWN: u64 = 1;
/// One guard; there are 24 bits for them.
const GUARD: u64 = RUNNING_DOWN << 1;
/// One rundown that is over; there are 15 bits to tell them apart.
const EPOCH: u64 = GUARD << 24;
/// One look of a waiter, in the rest of the word.
const LOOK: u64 = EPOCH << 15;

static RUNDOWN: Kind = Kind::new("rundown");

/// Something that may be used until it runs down, such as an interface that other drivers were given: NT's
/// `EX_RUNDOWN_REF`.
///
/// Each user holds a guard, of which there may be 2^24 - 1. Once the owner runs it down nobody gets another, and when
/// the last guard is gone, nobody touches this any more but those who wait for that.
///
/// ```
/// use kexec::sync::RundownRef;
///
/// static STORE_INTERFACE: RundownRef = RundownRef::new();
///
/// # pollster::block_on(async {
/// if let Some(_guard) = STORE_INTERFACE.acquire() {
///     // The interface stays for as long as the guard.
/// }
/// STORE_INTERFACE.run_down().await;
/// assert!(STORE_INTERFACE.acquire().is_none());
/// # });
/// ```
pub struct RundownRef {
    refs: AtomicU64,
    /// Their word is counted up when those who wait have to look again.
    waiters: Waiters<u64>,
}

/// A rundown that is not over cannot begin again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotRunDown {
    /// How many guards there are.
    pub guards: u32,
}

impl fmt::Display for NotRunDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not run down, with {} guards left; wait for `run_down` before", self.guards)
    }
}

impl core::error::Error for NotRunDown {}

/// How many guards there are.
const fn guards(refs: u64) -> u32 {
    (refs % EPOCH / GUARD) as u32
}

/// Which rundown it is that goes on or will come next.
const fn epoch(refs: u64) -> u64 {
    refs % LOOK / EPOCH
}

impl RundownRef {
    const_fn! {
        /// Nobody uses it, and everybody may.
        #[must_use]
        pub fn new() -> Self {
            Self { refs: AtomicU64::new(0), waiters: Waiters::new(0) }
        }
    }

    /// Lets somebody in, unless it is being run down or has been. Callable at any level.
    ///
    /// Acquire: what was done before a [`reinit`](Self::reinit) is seen.
    #[must_use]
    pub fn acquire(&self) -> Option<RundownGuard<'_>> {
        const ALL: u32 = guards(u64::MAX);
        let mut seen = self.refs.load(Relaxed);
        while seen & RUNNING_DOWN == 0 && guards(seen) != ALL {
            match self.refs.compare_exchange_weak(seen, seen.wrapping_add(GUARD), Acquire, Relaxed) {
                Ok(_) => return Some(RundownGuard { rundown: NonNull::from(self), _users: PhantomData }),
                Err(now) => seen = now,
            }
        }
        None
    }

    /// Lets nobody in any more, from this call on, and waits until the last guard is gone. To be called at any level, and
    /// polled up to `DISPATCH_LEVEL`.
    ///
    /// Any number may wait, for one rundown.
    ///
    /// **Cancel-safe:** loses nothing. The rundown goes on when the future is dropped; another one can wait for it.
    #[track_caller]
    pub fn run_down(&self) -> Wait<'_, Self> {
        // Relaxed: it is the looks that see what the guards have done.
        let refs = self.refs.fetch_or(RUNNING_DOWN, Relaxed);
        Wait::new(self, epoch(refs), Leaf::new(&RUNDOWN))
    }

    /// Whether nobody is let in. Callable at any level.
    #[must_use]
    pub fn is_running_down(&self) -> bool {
        self.refs.load(Relaxed) & RUNNING_DOWN != 0
    }

    /// Lets users in again after a rundown. Callable at any level.
    ///
    /// Those who wait for the last rundown, and have not been polled since it was over, do not wait for the next one.
    ///
    /// Release: whoever is let in sees what was done before. Acquire: and what the last users did.
    ///
    /// # Errors
    ///
    /// It has not run down: nobody asked for that, or there are guards.
    pub fn reinit(&self) -> Result<(), NotRunDown> {
        let mut seen = self.refs.load(Relaxed);
        loop {
            if seen & RUNNING_DOWN == 0 || guards(seen) != 0 {
                return Err(NotRunDown { guards: guards(seen) });
            }
            // What an epoch carries over is a look.
            let next = seen.wrapping_sub(RUNNING_DOWN).wrapping_add(EPOCH);
            match self.refs.compare_exchange_weak(seen, next, AcqRel, Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        self.waiters.add(1);
        Ok(())
    }
}

impl Source for RundownRef {
    /// The rundown that is waited for.
    type Ask = u64;
    type Got<'a> = ();

    fn waiters(&self) -> &Waiters<u64> {
        &self.waiters
    }

    /// Looks, and counts that: whoever is named as the leader looks afterwards.
    ///
    /// Acquire: the guards' drops. Release: the name.
    fn grant(&self, word: u64, rundown: u64) -> Option<u64> {
        let refs = self.refs.fetch_add(LOOK, AcqRel);
        (guards(refs) == 0 || epoch(refs) != rundown).then_some(word)
    }

    fn got(&self, _word: u64, _rundown: u64) {}
}

impl Default for RundownRef {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for RundownRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refs = self.refs.load(Relaxed);
        f.debug_struct("RundownRef")
            .field("guards", &guards(refs))
            .field("running_down", &(refs & RUNNING_DOWN != 0))
            .finish_non_exhaustive()
    }
}

/// The right to use what a [`RundownRef`] protects. It is dropped at any level.
#[derive(Debug)]
#[must_use = "what it protects may run down as soon as it is dropped"]
pub struct RundownGuard<'a> {
    /// No reference, which would have to be valid to the end of every call that it is passed to.
    rundown: NonNull<RundownRef>,
    _users: PhantomData<&'a RundownRef>,
}

// SAFETY: a guard is used as a reference to what it is of.
unsafe impl Send for RundownGuard<'_> {}
// SAFETY: as above.
unsafe impl Sync for RundownGuard<'_> {}

impl Drop for RundownGuard<'_> {
    /// Release: what was done under the guard comes before the end of the rundown. Acquire: who has been named as the
    /// leader by the time of the last look.
    fn drop(&mut self) {
        // SAFETY: it is there until it has run down, which it has not before the exchange below.
        let RundownRef { refs, waiters } = unsafe { self.rundown.as_ref() };
        let mut waiter = None;
        let mut seen = refs.load(Acquire);
        loop {
            if seen & RUNNING_DOWN != 0 && guards(seen) == 1 {
                waiter = waiters.take_waker().or(waiter);
            }
            match refs.compare_exchange_weak(seen, seen.wrapping_sub(GUARD), Release, Acquire) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        waiter.into_iter().for_each(Waker::wake);
    }
}
