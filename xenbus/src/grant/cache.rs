//! The references of one queue.
#![forbid(unsafe_code)]

use core::fmt;

use kexec::irql::Dispatch;

use super::{
    Grants, ShareError,
    share::{Batch, Reference},
};
use crate::page::Seam;

/// Up to `N` references that are one queue's alone: granting takes one out, revoking puts it back, and nobody else
/// is met.
///
/// When it is empty it is refilled from the table, a word of up to 64 at a time; when it is full, half of them go
/// back. Dropping it gives all back.
pub struct GrantCache<P: Seam, const N: usize> {
    grants: &'static Grants<P>,
    free: [Option<Reference<P>>; N],
    /// So many of them, from the first on.
    count: usize,
    /// So many are not given back while it is full.
    reserved: usize,
    counters: CacheCounters,
}

/// What a cache has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounters {
    /// Pages that were granted.
    pub granted: u64,
    /// Grants that were revoked.
    pub revoked: u64,
    /// Revocations that were refused, for the page was in use.
    pub in_use: u64,
    /// How often the table was asked for more references.
    pub refills: u64,
}

impl<P: Seam, const N: usize> GrantCache<P, N> {
    /// An empty one.
    #[must_use]
    pub const fn new(grants: &'static Grants<P>) -> Self {
        let counters = CacheCounters { granted: 0, revoked: 0, in_use: 0, refills: 0 };
        Self { grants, free: [const { None }; N], count: 0, reserved: 0, counters }
    }

    /// Sees to it that so many pages can be granted at a time, whatever others take: all of these references are
    /// taken now, and none of them is given back before the cache is. To be called before anything is granted.
    ///
    /// It goes for what is ended by this cache. What is dropped instead gives its reference to the table.
    ///
    /// At `DISPATCH_LEVEL`.
    ///
    /// # Errors
    ///
    /// There are not so many, or the cache has no room for them. It is as it was.
    pub fn reserve(&mut self, at: &Dispatch, references: usize) -> Result<(), ShareError> {
        if references > N {
            return Err(ShareError::NoRoom(N));
        }
        let before = self.count;
        while self.count < references {
            if let Err(error) = self.refill(at) {
                self.spill(before);
                return Err(error);
            }
        }
        self.reserved = references;
        Ok(())
    }

    /// What it has done. Callable at any level.
    #[must_use]
    pub const fn counters(&self) -> CacheCounters {
        self.counters
    }

    /// The table.
    pub(crate) const fn grants(&self) -> &'static Grants<P> {
        self.grants
    }

    /// A reference to grant with.
    pub(super) fn take(&mut self, at: &Dispatch) -> Result<Reference<P>, ShareError> {
        // The table may have become smaller since they were taken.
        while let Some(reference) = self.pop() {
            if reference.is_mapped() {
                return Ok(reference);
            }
        }
        self.refill(at)?;
        self.pop().ok_or(ShareError::NoRoom(N))
    }

    /// Takes one back with which nothing was granted.
    pub(super) fn put(&mut self, reference: Reference<P>) {
        if self.count == N {
            self.spill(self.reserved.max(N / 2));
        }
        match self.free.get_mut(self.count) {
            Some(place) => {
                *place = Some(reference);
                self.count = self.count.saturating_add(1);
            }
            None => drop(reference),
        }
    }

    /// Counts what was done.
    pub(super) const fn count(&mut self, granted: u64, revoked: u64, in_use: u64) {
        let counters = &mut self.counters;
        counters.granted = counters.granted.wrapping_add(granted);
        counters.revoked = counters.revoked.wrapping_add(revoked);
        counters.in_use = counters.in_use.wrapping_add(in_use);
    }

    fn pop(&mut self) -> Option<Reference<P>> {
        let last = self.count.checked_sub(1)?;
        self.count = last;
        self.free.get_mut(last)?.take()
    }

    /// Takes a word of the table's, as far as there is room.
    fn refill(&mut self, at: &Dispatch) -> Result<(), ShareError> {
        self.counters.refills = self.counters.refills.wrapping_add(1);
        let batch = self.grants.batch(at)?;
        for (place, reference) in self.free.iter_mut().skip(self.count).zip(batch) {
            *place = Some(reference);
            self.count = self.count.saturating_add(1);
        }
        Ok(())
    }

    /// Gives all but so many back, those of a word together.
    fn spill(&mut self, keep: usize) {
        let mut batch: Option<Batch<P>> = None;
        while self.count > keep
            && let Some(reference) = self.pop()
        {
            batch = Some(match batch {
                None => reference.into(),
                Some(mut batch) => match batch.join(reference) {
                    Ok(()) => batch,
                    Err(other) => other.into(),
                },
            });
        }
    }
}

impl<P: Seam, const N: usize> Drop for GrantCache<P, N> {
    fn drop(&mut self) {
        self.spill(0);
    }
}

impl<P: Seam, const N: usize> fmt::Debug for GrantCache<P, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantCache")
            .field("free", &self.count)
            .field("reserved", &self.reserved)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}
