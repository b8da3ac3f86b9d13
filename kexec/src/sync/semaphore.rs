//! Permits, in batches.
#![forbid(unsafe_code)]

use core::fmt;

use super::waiters::{Source, Turn, Wait, Waiters};
use crate::{
    atomics::const_fn,
    task_table::{Kind, Leaf},
};

/// How many permits there are to be had: the low bits.
const AVAILABLE: u64 = Semaphore::MAX as u64;
/// One permit of those that somebody holds; they follow.
const HELD: u64 = AVAILABLE.wrapping_add(1);
/// Nobody gets any more.
const CLOSED: u64 = 1 << 62;

const _: () = assert!(HELD.pow(2) == CLOSED, "two counts, then this, then the waiters' bit");

static SEMAPHORE: Kind = Kind::new("semaphore");

/// So many permits, to be taken some at a time and given back.
///
/// Those who wait get theirs in the order of their coming: a large batch at the head is not starved by small ones, which
/// wait behind it even if there are enough permits for them.
///
/// ```
/// use kexec::sync::Semaphore;
///
/// /// The slots of a ring.
/// static SLOTS: Semaphore = Semaphore::new(32);
///
/// # pollster::block_on(async {
/// let slots = SLOTS.acquire(2).await?;
/// assert_eq!(SLOTS.available(), 30);
/// drop(slots);
/// # Ok::<_, kexec::sync::AcquireError>(())
/// # }).unwrap();
/// assert_eq!(SLOTS.available(), 32);
/// ```
#[derive(Debug)]
pub struct Semaphore {
    waiters: Waiters<u32>,
    size: u32,
}

/// Why no permits were had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcquireError {
    /// There are never so many.
    TooMany {
        /// What was asked for.
        asked: u32,
        /// What the semaphore has.
        size: u32,
    },
    /// The semaphore was closed.
    Closed,
}

/// Why no permits were had at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryAcquireError {
    /// There are not enough, or somebody waits for them.
    Unavailable,
    /// There never will be.
    Never(AcquireError),
}

/// More permits were given back than had been forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overfull {
    /// How many were given back.
    pub released: u32,
    /// How many had been forgotten.
    pub forgotten: u32,
}

impl Semaphore {
    /// The most permits that a semaphore can have.
    pub const MAX: u32 = u32::MAX >> 1;

    const_fn! {
        /// A semaphore of so many permits, or of [`MAX`](Self::MAX), if that is less.
        #[must_use]
        pub fn new(permits: u32) -> Self {
            let size = if permits < Self::MAX { permits } else { Self::MAX };
            Self { waiters: Waiters::new(untouched(size)), size }
        }
    }

    /// Waits for `permits` permits. To be polled up to `DISPATCH_LEVEL`.
    ///
    /// No permits are had at once, even if others are waiting.
    ///
    /// **Cancel-safe:** loses its place. Permits are taken all together by the poll that returns them.
    ///
    /// The output is an error if there are never so many, or once the semaphore is [closed](Self::close).
    #[track_caller]
    pub fn acquire(&self, permits: u32) -> Wait<'_, Self> {
        Wait::new(self, permits, Leaf::new(&SEMAPHORE))
    }

    /// Takes `permits` permits, if they are there and nobody waits. Callable at any level.
    ///
    /// # Errors
    ///
    /// See [`TryAcquireError`].
    pub fn try_acquire(&self, permits: u32) -> Result<Permits<'_>, TryAcquireError> {
        let word = self
            .waiters
            .take(Turn::Newcomer, |word| self.grant(word, permits))
            .ok_or(TryAcquireError::Unavailable)?;
        self.got(word, permits).map_err(TryAcquireError::Never)
    }

    /// How many permits nobody has. Callable at any level.
    #[must_use]
    pub fn available(&self) -> u32 {
        available(self.waiters.word())
    }

    /// How many permits there are altogether.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Brings [forgotten](Permits::forget) permits back. Callable at any level.
    ///
    /// # Errors
    ///
    /// Fewer than `permits` permits have been forgotten; nothing has changed.
    pub fn release(&self, permits: u32) -> Result<(), Overfull> {
        let forgotten = |word| self.size.saturating_sub(available(word)).saturating_sub(held(word));
        let more = |word: u64| (permits <= forgotten(word)).then_some(word.wrapping_add(permits.into()));
        match self.waiters.update(more) {
            Some(_) => Ok(()),
            None => Err(Overfull { released: permits, forgotten: forgotten(self.waiters.word()) }),
        }
    }

    /// Ends all waits, and all that are to come, with [`AcquireError::Closed`]. Permits that somebody has are still given
    /// back. Callable at any level.
    pub fn close(&self) {
        self.waiters.set(CLOSED);
    }

    /// Whether the semaphore is closed. Callable at any level.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.waiters.word() & CLOSED != 0
    }
}

/// The word of a semaphore whose permits are all there.
const fn untouched(size: u32) -> u64 {
    size as u64
}

fn available(word: u64) -> u32 {
    (word & AVAILABLE) as u32
}

fn held(word: u64) -> u32 {
    ((word / HELD) & AVAILABLE) as u32
}

impl Source for Semaphore {
    /// How many permits.
    type Ask = u32;
    type Got<'a> = Result<Permits<'a>, AcquireError>;

    fn waiters(&self) -> &Waiters<u32> {
        &self.waiters
    }

    fn grant(&self, word: u64, asked: u32) -> Option<u64> {
        if word & CLOSED != 0 || asked > self.size {
            return Some(word);
        }
        // From those that are available to those that are held.
        (asked <= available(word)).then_some(word.wrapping_add(u64::from(asked).wrapping_mul(AVAILABLE)))
    }

    fn got(&self, word: u64, asked: u32) -> Result<Permits<'_>, AcquireError> {
        if word & CLOSED != 0 {
            Err(AcquireError::Closed)
        } else if asked > self.size {
            Err(AcquireError::TooMany { asked, size: self.size })
        } else {
            Ok(Permits { semaphore: self, count: asked })
        }
    }
}

/// Permits that somebody has. They are given back when this is dropped, anywhere and at any level.
#[derive(Debug)]
#[must_use = "permits are given back as soon as they are dropped"]
pub struct Permits<'a> {
    semaphore: &'a Semaphore,
    count: u32,
}

impl Permits<'_> {
    /// How many these are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Takes some of them out; None if there are fewer.
    #[must_use]
    pub fn split(&mut self, permits: u32) -> Option<Self> {
        self.count = self.count.checked_sub(permits)?;
        Some(Self { semaphore: self.semaphore, count: permits })
    }

    /// Adds others of the same semaphore.
    ///
    /// # Errors
    ///
    /// They are another's, and come back.
    pub fn merge(&mut self, mut other: Self) -> Result<(), Self> {
        if !core::ptr::eq(self.semaphore, other.semaphore) {
            return Err(other);
        }
        // There are no more of a semaphore than fit.
        self.count = self.count.saturating_add(core::mem::take(&mut other.count));
        Ok(())
    }

    /// Keeps them from being given back here. Somebody else [releases](Semaphore::release) them later, such as the response
    /// that frees a slot; or nobody, and the slot is in quarantine.
    pub fn forget(mut self) {
        let forgotten = u64::from(core::mem::take(&mut self.count)).wrapping_mul(HELD);
        self.semaphore.waiters.take(Turn::Leader, |word| Some(word.wrapping_sub(forgotten)));
    }
}

impl Drop for Permits<'_> {
    fn drop(&mut self) {
        if self.count != 0 {
            // From those that are held to those that are available.
            self.semaphore.waiters.add(u64::from(self.count).wrapping_mul(AVAILABLE).wrapping_neg());
        }
    }
}

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { asked, size } => {
                write!(f, "{asked} permits of a semaphore that has {size}; ask for fewer at a time")
            }
            Self::Closed => {
                f.write_str("the semaphore is closed; whoever closed it wants no more of this work")
            }
        }
    }
}

impl fmt::Display for TryAcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable => {
                f.write_str("the permits are not there, or others wait for them; await `acquire`")
            }
            Self::Never(why) => why.fmt(f),
        }
    }
}

impl fmt::Display for Overfull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { released, forgotten } = self;
        write!(f, "{released} permits released of {forgotten} forgotten; release each once, as it comes back")
    }
}

impl core::error::Error for AcquireError {}
impl core::error::Error for TryAcquireError {}
impl core::error::Error for Overfull {}
