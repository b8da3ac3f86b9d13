//! Grants: what other domains may use, and until when.
//!
//! A page is granted by an entry of the domain's grant table, which Xen and the guest write together. Granting is
//! two stores; taking back is one compare-and-exchange, which fails while the other domain has the page mapped.
//! What becomes of the page then is what this module is about: nothing frees or reuses memory that somebody else
//! may still write to.
//!
//! ```
//! use kexec::irql::Dispatch;
//! use xenbus::{
//!     grant::{GrantCache, Peer, Rights, ShareError, Shared},
//!     page::{Ram, Seam},
//! };
//!
//! /// A page is sent, and comes back.
//! fn send<P: Seam>(at: &Dispatch, cache: &mut GrantCache<P, 32>, to: Peer, page: Ram<P>) -> Result<(), ShareError> {
//!     let shared = Shared::new(cache, at, to, page, Rights::Read).map_err(|refused| refused.error)?;
//!     // .. tell the other domain the number, and wait until it has done with it ..
//!     let _number = shared.reference();
//!     match shared.end(cache, at) {
//!         Ok(page) => drop(page),
//!         // Not yet: later, or never. Dropped, it is looked after.
//!         Err(held) => drop(held),
//!     }
//!     Ok(())
//! }
//! ```
//!
//! | | whose pages | if somebody uses them at the end |
//! |---|---|---|
//! | [`Shared`] | the driver's | in quarantine, if it is dropped, and [tried again](Grants::serve) |
//! | [`Loan`] | Windows's, with the right to complete the request | [held](Held); if it is dropped, for ever |
//! | [`Foreign`](crate::page::Foreign) | another domain's, mapped here | the place is kept, if Xen does not unmap it |
//!
//! With a [`Peer`] that is not trusted, pages are only shared, never lent, and are zeroed before.
//!
//! # What it costs
//!
//! | | atomic read-modify-writes | cache lines that others write | hypercalls |
//! |---|---|---|---|
//! | grant a page, with a reference from the cache | 0 | the entry's | 0 |
//! | revoke | 1 | the entry's | 0 |
//! | refill a [`GrantCache`], up to 64 references | 1, and 1 for what is too much | a word of the frame's | 0 |
//! | the table grows, by 512 references | | | 1 |
//!
//! In reading order: this file, the table; `share`, who may use what; [`GrantCache`]; [`Shared`] and [`Loan`];
//! `quarantine`; `foreign`.
//!
//! Sources: `xen/include/public/grant_table.h`, "GRANT TABLE REPRESENTATION"; `xen/common/grant_table.c`.
#![deny(unsafe_code)]

mod cache;
mod error;
mod foreign;
mod loan;
mod owned;
mod peer;
mod quarantine;
mod share;

use core::{
    fmt,
    ops::Range,
    sync::atomic::{
        AtomicU32,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use kexec::{irql::Dispatch, sync::SpinLock};

pub use self::{
    cache::{CacheCounters, GrantCache},
    error::{Held, InUse, ShareError, StillGranted, Unshared},
    loan::Loan,
    owned::Shared,
    peer::{Distrusted, Peer, Trusted},
    quarantine::QUARANTINE,
    share::{Frame, Lender},
};
use self::{
    quarantine::Quarantine,
    share::{Batch, WORDS},
};
use crate::{
    epoch::Epochs,
    hypercall::grant_table::{RefusedGrant, query_size},
    page::{MapError, Seam},
    suspend::{Captured, Listener, ResumeError},
};

/// The first references are not for everybody: 0 and 1 are the console's and xenstore's, those below 8 are the
/// toolstack's and Xen's, and the rest is for the [crash path](Grants::for_crash).
pub const RESERVED: u32 = 32;

/// Those of the crash path.
const CRASH: Range<u32> = 8..RESERVED;

/// What a grant allows to the other domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// To read the page.
    Read,
    /// To read it and to write to it.
    Write,
}

/// The domain's grant table, version 1.
///
/// It begins without pages, and grows when references are asked for, as far as Xen allows and the driver has lent
/// [`Frame`]s. There is one in a guest; the second one would map the first one's pages away.
pub struct Grants<P: Seam> {
    platform: P,
    epochs: &'static Epochs,
    frames: &'static [Frame<P>],
    /// The references that are given out.
    range: Range<u32>,
    /// So many of the frames are mapped, from the first on.
    mapped: AtomicU32,
    /// So many may be.
    limit: AtomicU32,
    /// The word in which free references were found last.
    hint: AtomicU32,
    /// Who lets the table grow or shrink.
    growth: SpinLock<()>,
    quarantine: Quarantine<P>,
    growth_refused: AtomicU32,
    held: AtomicU32,
    kept: AtomicU32,
    holes: AtomicU32,
}

/// How many there are of what should not be many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Pages of the table.
    pub frames: u32,
    /// References that are somebody's: in caches, and granted.
    pub taken: u32,
    /// How often the table could not grow.
    pub growth_refused: u32,
    /// Pages that nobody waits for, and that the other domain has not let go of yet.
    pub quarantined: u32,
    /// Such pages that there was no more room for: they are lost.
    pub leaked: u32,
    /// Requests that are not completed because the other domain has not let go of a page.
    pub held: u32,
    /// Requests that will never be completed.
    pub kept: u32,
    /// Places at which a page of another domain's stays for ever.
    pub holes: u32,
}

impl<P: Seam> Grants<P> {
    /// The table of a domain that has just begun: asks Xen how large it may become.
    ///
    /// Callable at any level.
    ///
    /// # Errors
    ///
    /// What Xen answered.
    pub fn new(
        platform: P,
        epochs: &'static Epochs,
        frames: &'static [Frame<P>],
    ) -> Result<Self, RefusedGrant> {
        Self::of(platform, epochs, frames, RESERVED..u32::MAX)
    }

    /// The table for a driver in a crash dump: 24 references that nobody else has, in one page that the driver has
    /// in its image. Nobody is interrupted or waited for, and nothing is allocated but the place of that page.
    ///
    /// Entries that are still valid since an earlier dump are left out.
    ///
    /// Callable at any level.
    ///
    /// # Errors
    ///
    /// What Xen answered.
    pub fn for_crash(
        platform: P,
        epochs: &'static Epochs,
        frame: &'static Frame<P>,
    ) -> Result<Self, RefusedGrant> {
        Self::of(platform, epochs, core::slice::from_ref(frame), CRASH)
    }

    fn of(
        platform: P,
        epochs: &'static Epochs,
        frames: &'static [Frame<P>],
        range: Range<u32>,
    ) -> Result<Self, RefusedGrant> {
        let (_, most) = query_size(&platform)?;
        Ok(Self {
            platform,
            epochs,
            frames,
            range,
            mapped: AtomicU32::new(0),
            limit: AtomicU32::new(most),
            hint: AtomicU32::new(0),
            growth: SpinLock::new(()),
            quarantine: Quarantine::new(),
            growth_refused: AtomicU32::new(0),
            held: AtomicU32::new(0),
            kept: AtomicU32::new(0),
            holes: AtomicU32::new(0),
        })
    }

    /// Gives all pages of the table back. It grows again if somebody asks for references.
    ///
    /// # Errors
    ///
    /// Somebody has references: caches, or what is granted. The table stays, as far as they need it.
    pub fn close(&self, at: &Dispatch) -> Result<(), StillGranted> {
        self.tend(at);
        let _alone = self.growth.lock(at);
        // The last first, so that those that stay are in their order.
        for (number, frame) in self.frames.iter().enumerate().rev() {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            frame.unmap().map_err(|references| StillGranted { references, frame: number })?;
            self.mapped.fetch_min(number, Relaxed);
        }
        Ok(())
    }

    /// The counters, each at its own moment. Callable at any level.
    pub fn counters(&self) -> Counters {
        let (quarantined, leaked) = self.quarantine.counters();
        Counters {
            frames: self.mapped.load(Relaxed),
            taken: self.frames.iter().map(Frame::taken).sum(),
            growth_refused: self.growth_refused.load(Relaxed),
            quarantined,
            leaked,
            held: self.held.load(Relaxed),
            kept: self.kept.load(Relaxed),
            holes: self.holes.load(Relaxed),
        }
    }

    pub(crate) const fn platform(&self) -> &P {
        &self.platform
    }

    pub(crate) const fn epochs(&self) -> &'static Epochs {
        self.epochs
    }

    /// A place at which a page of another domain's stays.
    pub(crate) fn keep_hole(&self) {
        self.holes.fetch_add(1, Relaxed);
    }

    /// Counts loans that are held.
    fn count_held(&self, was: bool, is: bool) {
        match (was, is) {
            (false, true) => _ = self.held.fetch_add(1, Relaxed),
            (true, false) => _ = self.held.fetch_sub(1, Relaxed),
            _ => {}
        }
    }

    /// Some references that are free. The table grows for them, by one frame.
    ///
    /// Who comes while it does spins for a hypercall; there are not more of these than frames.
    fn batch(&self, at: &Dispatch) -> Result<Batch<P>, ShareError> {
        if let Some(batch) = self.search() {
            return Ok(batch);
        }
        let _alone = self.growth.lock(at);
        // Somebody may have let it grow since, or had all of them to see whether it can be closed.
        if let Some(batch) = self.search() {
            return Ok(batch);
        }
        self.grow().inspect_err(|_| _ = self.growth_refused.fetch_add(1, Relaxed))?;
        self.search().ok_or(ShareError::Full)
    }

    /// A word of free references, if there is one.
    fn search(&self) -> Option<Batch<P>> {
        // Acquire: what was mapped is there.
        let words = usize::try_from(self.mapped.load(Acquire)).ok()?.checked_mul(WORDS)?;
        let hint = usize::try_from(self.hint.load(Relaxed)).ok().filter(|hint| *hint < words).unwrap_or(0);
        let (word, batch) = (hint..words).chain(0..hint).find_map(|word| {
            let frame = self.frames.get(word / WORDS)?;
            Some((word, frame.take(word % WORDS)?))
        })?;
        if word != hint {
            self.hint.store(u32::try_from(word).unwrap_or(0), Relaxed);
        }
        Some(batch)
    }

    /// Adds a frame.
    fn grow(&self) -> Result<(), ShareError> {
        let number = self.mapped.load(Relaxed);
        let frame = usize::try_from(number).ok().and_then(|number| self.frames.get(number));
        match frame {
            Some(frame) if number < self.limit.load(Relaxed) => {
                self.map(number, frame).map_err(ShareError::Table)
            }
            _ => Err(ShareError::Full),
        }
    }

    /// Maps the frame after those that are mapped.
    fn map(&self, number: u32, frame: &Frame<P>) -> Result<(), MapError> {
        frame.map(&self.platform, number, |reference| self.range.contains(&reference))?;
        // Release: whoever looks there finds it mapped.
        self.mapped.store(number.saturating_add(1), Release);
        Ok(())
    }
}

impl<P: Seam> Listener for Grants<P> {
    fn name(&self) -> &'static str {
        "grants"
    }

    /// Maps the pages of the table again, in their order. What was granted before is gone.
    ///
    /// # Errors
    ///
    /// Xen refuses one of them, or allows fewer: the table is smaller than it was, and grows again when it can.
    fn early(&self, _: &Captured<'_>) -> Result<(), ResumeError> {
        let had = self.mapped.swap(0, Relaxed);
        self.frames.iter().for_each(Frame::lose);
        let (_, most) = query_size(&self.platform).map_err(|refused| match refused {
            RefusedGrant::Xen(errno) => ResumeError::Xen(errno),
            RefusedGrant::Operation(_) => {
                ResumeError::Other("Xen does not say how large the grant table may be")
            }
        })?;
        self.limit.store(most, Relaxed);
        for (number, frame) in (0..had.min(most)).zip(self.frames) {
            self.map(number, frame)?;
        }
        if most < had {
            return Err(ResumeError::Other("the grant table may have fewer frames than it had"));
        }
        Ok(())
    }
}

impl<P: Seam> fmt::Debug for Grants<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grants").field("counters", &self.counters()).finish_non_exhaustive()
    }
}
