//! Who may use what: entries of the table, and pages that are granted by them.
//!
//! ```text
//!              take a word of them                permit
//!   free bits ────────────────────▶ Reference ────────────▶ Granted
//!             ◀────────────────────           ◀────────────
//!              drop                               revoke, once nobody uses the page
//! ```
//!
//! A [`Reference`] is the right to an entry, and there is one of each. A [`Granted`] entry is the other domain's as
//! well; dropping one leaves it as it is, for ever. A [`Lent`] has those of a lender's pages, and the lender with
//! them, which comes out when all are revoked, and not before.
#![expect(
    unsafe_code,
    reason = "the table stays as long as somebody has a reference, and a lender as long as its pages are granted"
)]

use core::{
    cell::UnsafeCell,
    mem::{self, ManuallyDrop},
    ops::{Deref, DerefMut},
    sync::atomic::{
        AtomicBool, AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use xen_abi::{
    DomId, GrantRef,
    grant_table::{
        self, DOMID, ENTRIES_PER_PAGE, FLAGS, GTF_INVALID, GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY,
        GTF_WRITING,
    },
    seam::{Access, Gfn},
};

use super::{InUse, Rights, ShareError};
use crate::{
    epoch::Epoch,
    page::{MapError, Ram, Seam, XenPage},
};

/// Entries in a frame.
#[expect(clippy::cast_possible_truncation, reason = "there are 512")]
const ENTRIES: u32 = ENTRIES_PER_PAGE as u32;

/// Words of free bits in a frame.
pub(super) const WORDS: usize = ENTRIES_PER_PAGE / BITS;
const BITS: usize = u64::BITS as usize;

/// How often an entry is looked at that Xen changes meanwhile: a backend that copies all the time changes it all
/// the time.
const ATTEMPTS: u32 = 4;

/// There is no page.
const EMPTY: u32 = 0;
/// The page is there.
const MAPPED: u32 = 1;
/// The page was there in another domain, and is nowhere in this one.
const LOST: u32 = 2;

/// A page of the grant table, and which of its entries are free: memory that the driver lends, for one page that
/// Xen may allow.
pub struct Frame<P: Seam> {
    /// Somebody maps the page, or takes it out. Who asks for that sees to it that one does at a time; that the cell
    /// is not changed by two rests on this.
    is_busy: AtomicBool,
    state: AtomicU32,
    /// Its place in the table.
    number: AtomicU32,
    /// How many references there are: all but those that are kept for others.
    references: AtomicU32,
    /// A bit for each reference that nobody has.
    free: [AtomicU64; WORDS],
    /// It is changed by whoever has made the frame busy, while nobody has a reference.
    page: UnsafeCell<Option<XenPage<P>>>,
}

// SAFETY: the cell is changed by one at a time, while nobody reads it; what is in it may be read by many and
// dropped by anyone.
unsafe impl<P: Seam> Sync for Frame<P> {}

impl<P: Seam> Frame<P> {
    /// Nothing is mapped.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            is_busy: AtomicBool::new(false),
            state: AtomicU32::new(EMPTY),
            number: AtomicU32::new(0),
            references: AtomicU32::new(0),
            free: [const { AtomicU64::new(0) }; WORDS],
            page: UnsafeCell::new(None),
        }
    }

    /// Has Xen map the frame of this number, if it is not mapped, and gives its references free: those that
    /// `is_ours`, and whose entries are not valid. What somebody has granted who was here before may still be in
    /// use.
    pub(super) fn map(
        &self,
        platform: &P,
        number: u32,
        is_ours: impl Fn(u32) -> bool,
    ) -> Result<(), MapError> {
        if self.begin(LOST) {
            // SAFETY: nobody changes it but who has made it busy.
            let page = unsafe { &*self.page.get() };
            let renewed = page.as_ref().map_or(Ok(()), XenPage::renew);
            self.end(if renewed.is_ok() { MAPPED } else { LOST });
            return renewed;
        }
        if !self.begin(EMPTY) {
            return Ok(());
        }
        let page = XenPage::grant_table(platform, number).inspect_err(|_| self.end(EMPTY))?;
        let mut words = [0; WORDS];
        for (index, flags) in (0..).map_while(|index| Some((index, FLAGS.get(index.into())?))) {
            let (word, bit) = place(index);
            if page.load(flags) == GTF_INVALID
                && is_ours(reference(number, index))
                && let Some(word) = words.get_mut(word)
            {
                *word |= bit;
            }
        }
        // SAFETY: it is busy, and nobody has a reference: there was none before.
        unsafe { *self.page.get() = Some(page) };
        self.number.store(number, Relaxed);
        self.references.store(words.iter().map(|word| word.count_ones()).sum(), Relaxed);
        self.end(MAPPED);
        for (free, word) in self.free.iter().zip(words) {
            // Release: whoever takes one finds the page.
            free.fetch_or(word, Release);
        }
        Ok(())
    }

    /// The domain is new, and has no such page before it is [mapped](Self::map) again. Called while nobody else runs.
    pub(super) fn lose(&self) {
        if self.begin(MAPPED) {
            self.end(LOST);
        }
    }

    /// Takes the page out, unless somebody has a reference.
    ///
    /// # Errors
    ///
    /// So many are somebody's.
    pub(super) fn unmap(&self) -> Result<(), u32> {
        let Some(state) = [MAPPED, LOST].into_iter().find(|state| self.begin(*state)) else { return Ok(()) };
        let taken = self.free.each_ref().map(|free| free.swap(0, Acquire));
        let own: u32 = taken.iter().map(|word| word.count_ones()).sum();
        let others = self.references.load(Relaxed).saturating_sub(own);
        if others > 0 {
            for (free, word) in self.free.iter().zip(taken) {
                free.fetch_or(word, Release);
            }
            self.end(state);
            return Err(others);
        }
        // SAFETY: it is busy, and all references are here: nobody reads it.
        let page = unsafe { &mut *self.page.get() };
        drop(page.take());
        self.references.store(0, Relaxed);
        self.end(EMPTY);
        Ok(())
    }

    /// How many references are somebody's.
    pub(super) fn taken(&self) -> u32 {
        let free: u32 = self.free.iter().map(|word| word.load(Relaxed).count_ones()).sum();
        self.references.load(Relaxed).saturating_sub(free)
    }

    /// Takes all of a word's references that are free: one read-modify-write.
    pub(super) fn take(&'static self, word: usize) -> Option<Batch<P>> {
        let free = self.free.get(word)?;
        // A word that is empty is left in the caches of all.
        if free.load(Relaxed) == 0 {
            return None;
        }
        let bits = free.swap(0, Acquire);
        (bits != 0).then_some(Batch { frame: self, word, bits })
    }

    fn put(&self, word: usize, bits: u64) {
        if let Some(free) = self.free.get(word) {
            // Release: what was done with them is done before another has them.
            free.fetch_or(bits, Release);
        }
    }

    /// Makes it busy, if it is in this state, and nobody has.
    fn begin(&self, from: u32) -> bool {
        if self.is_busy.swap(true, Acquire) {
            return false;
        }
        let is_so = self.state.load(Relaxed) == from;
        if !is_so {
            self.is_busy.store(false, Release);
        }
        is_so
    }

    fn end(&self, state: u32) {
        self.state.store(state, Release);
        self.is_busy.store(false, Release);
    }

    fn is_mapped(&self) -> bool {
        self.state.load(Acquire) == MAPPED
    }

    /// The page, for who has a reference.
    ///
    /// # Safety
    ///
    /// The caller has a [`Reference`] or a [`Granted`] of this frame for as long as the page is borrowed.
    unsafe fn page(&self) -> Option<&XenPage<P>> {
        // SAFETY: it is taken out only by who has all references, and the caller has one.
        unsafe { &*self.page.get() }.as_ref()
    }
}

impl<P: Seam> Default for Frame<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Seam> core::fmt::Debug for Frame<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Frame")
            .field("number", &self.number.load(Relaxed))
            .field("is_mapped", &self.is_mapped())
            .field("taken", &self.taken())
            .finish_non_exhaustive()
    }
}

/// The number of an entry, of one that is there.
const fn reference(frame: u32, index: u16) -> u32 {
    frame.wrapping_mul(ENTRIES).wrapping_add(index as u32)
}

/// The word of an entry, and its bit there.
const fn place(index: u16) -> (usize, u64) {
    (index as usize / BITS, 1_u64.wrapping_shl(index as u32))
}

/// References of one word. Those that are not taken out go back.
pub(super) struct Batch<P: Seam> {
    frame: &'static Frame<P>,
    word: usize,
    bits: u64,
}

impl<P: Seam> Batch<P> {
    /// Takes a reference in, if it is of the same word.
    pub(super) fn join(&mut self, reference: Reference<P>) -> Result<(), Reference<P>> {
        let (word, bit) = place(reference.index);
        if !core::ptr::eq(self.frame, reference.frame) || self.word != word {
            return Err(reference);
        }
        self.bits |= bit;
        let _kept = ManuallyDrop::new(reference);
        Ok(())
    }
}

impl<P: Seam> From<Reference<P>> for Batch<P> {
    fn from(reference: Reference<P>) -> Self {
        let (word, bits) = place(reference.index);
        let frame = ManuallyDrop::new(reference).frame;
        Self { frame, word, bits }
    }
}

impl<P: Seam> Iterator for Batch<P> {
    type Item = Reference<P>;

    fn next(&mut self) -> Option<Reference<P>> {
        let left = self.bits & self.bits.checked_sub(1)?;
        let bit = mem::replace(&mut self.bits, left).trailing_zeros() as usize;
        #[expect(clippy::cast_possible_truncation, reason = "there are 512")]
        let index = self.word.wrapping_mul(BITS).wrapping_add(bit) as u16;
        Some(Reference { frame: self.frame, index })
    }
}

impl<P: Seam> Drop for Batch<P> {
    fn drop(&mut self) {
        if self.bits != 0 {
            self.frame.put(self.word, self.bits);
        }
    }
}

/// The right to an entry that grants nothing. Dropping it gives it back.
pub(super) struct Reference<P: Seam> {
    frame: &'static Frame<P>,
    index: u16,
}

impl<P: Seam> Reference<P> {
    /// Whether its entry can be used: in a domain that is new, the table may have become smaller.
    pub(super) fn is_mapped(&self) -> bool {
        self.frame.is_mapped()
    }

    /// Lets a domain use a page: two stores.
    ///
    /// # Safety
    ///
    /// The page is there, and nobody minds what the other domain does to it, until it is revoked.
    unsafe fn permit(
        self,
        to: DomId,
        page: Gfn,
        rights: Rights,
        epoch: Epoch,
    ) -> Result<Granted<P>, (Self, ShareError)> {
        let Ok(gfn) = u32::try_from(page.0) else { return Err((self, ShareError::TooHigh(page))) };
        let index = usize::from(self.index);
        // SAFETY: this is a reference.
        let table = unsafe { self.frame.page() };
        let (Some(table), Some(entry), Some(place)) =
            (table, grant_table::ENTRIES.get(index), FLAGS.get(index))
        else {
            return Err((self, ShareError::Full));
        };
        let flags = match rights {
            Rights::Read => GTF_PERMIT_ACCESS | GTF_READONLY,
            Rights::Write => GTF_PERMIT_ACCESS,
        };
        // Who, and which page; not valid yet.
        table.store(entry, u64::from(gfn) << 32 | u64::from(to.0) << 16);
        // A store is a release: Xen sees the above when it sees this.
        table.store(place, flags);
        let this = ManuallyDrop::new(self);
        Ok(Granted { frame: this.frame, index: this.index, flags, epoch })
    }
}

impl<P: Seam> Drop for Reference<P> {
    fn drop(&mut self) {
        let (word, bit) = place(self.index);
        self.frame.put(word, bit);
    }
}

/// An entry that lets another domain use a page. Dropping it leaves it so.
struct Granted<P: Seam> {
    frame: &'static Frame<P>,
    index: u16,
    /// What was written.
    flags: u16,
    epoch: Epoch,
}

impl<P: Seam> Granted<P> {
    fn number(&self) -> GrantRef {
        GrantRef(reference(self.frame.number.load(Relaxed), self.index))
    }

    /// Takes it back, unless the page is in use: one read-modify-write.
    ///
    /// `xen/include/public/grant_table.h`, "Invalidating an unused `GTF_permit_access` entry".
    fn revoke(self, now: Epoch) -> Result<Reference<P>, (Self, InUse)> {
        let Self { frame, index, flags, epoch } = self;
        // In another domain it was not granted, and the entry is invalid; but one that was written by a CPU that was
        // not captured when it should have been is taken back like any other. There is none, if the table has become
        // smaller.
        if epoch != now && !frame.is_mapped() {
            return Ok(Reference { frame, index });
        }
        // SAFETY: this is a granted one.
        let Some(table) = (unsafe { frame.page() }) else { return Err(self.in_use(flags)) };
        let Some(place) = FLAGS.get(index.into()) else { return Err(self.in_use(flags)) };
        let mut seen = flags;
        for _ in 0..ATTEMPTS {
            match table.compare_exchange(place, seen, GTF_INVALID) {
                Ok(_) => return Ok(Reference { frame, index }),
                Err(other) if other & (GTF_READING | GTF_WRITING) != 0 => return Err(self.in_use(other)),
                Err(other) => seen = other,
            }
        }
        Err(self.in_use(seen))
    }

    fn in_use(self, flags: u16) -> (Self, InUse) {
        // SAFETY: this is a granted one.
        let table = unsafe { self.frame.page() };
        let domain = table.zip(DOMID.get(self.index.into())).map(|(table, place)| DomId(table.load(place)));
        let by = InUse { grant: self.number(), domain: domain.unwrap_or_default(), flags };
        (self, by)
    }
}

/// Who has pages that other domains may be let use.
///
/// An SRB's or NBL's wrapper is one: the pages are Windows's, and stay locked and mapped for as long as the request
/// is not completed, which dropping the wrapper does.
///
/// # Safety
///
/// **Implementation safety.** From the first call of [`page`](Self::page) until the lender is dropped, and for ever
/// if it never is, each page that it has named is RAM of the guest's at that place, is used for nothing else, and
/// may be read and written by others at any time: nobody has a reference to its bytes.
pub unsafe trait Lender: Send + 'static {
    /// The place of one of its pages; none if it has not so many. The same each time.
    fn page(&self, index: usize) -> Option<Gfn>;
}

// SAFETY: the page is the owner's alone, who reaches it by `Access` only, and is given back when the owner is
// dropped.
unsafe impl<P: Seam> Lender for Ram<P> {
    fn page(&self, index: usize) -> Option<Gfn> {
        (index == 0).then(|| self.gfn())
    }
}

/// A lender, and up to `N` grants of its pages. Dropping it leaves all as it is: the lender is not dropped, the
/// grants stay.
pub(super) struct Lent<P: Seam, T: Lender, const N: usize> {
    lender: ManuallyDrop<T>,
    granted: [Option<Granted<P>>; N],
    /// Places in there that were used.
    used: usize,
}

impl<P: Seam, T: Lender, const N: usize> Lent<P, T, N> {
    pub(super) const fn new(lender: T) -> Self {
        Self { lender: ManuallyDrop::new(lender), granted: [const { None }; N], used: 0 }
    }

    /// The lender.
    pub(super) fn lender(&self) -> &T {
        &self.lender
    }

    /// A lender with one grant.
    pub(super) fn of(
        lender: T,
        reference: Reference<P>,
        to: DomId,
        rights: Rights,
        epoch: Epoch,
    ) -> Result<(Self, GrantRef), (T, Reference<P>, ShareError)> {
        let mut lent = Self::new(lender);
        match lent.lend(reference, to, 0, rights, epoch) {
            Ok(grant) => Ok((lent, grant)),
            // Nothing was granted.
            Err((reference, error)) => Err((ManuallyDrop::into_inner(lent.lender), reference, error)),
        }
    }

    /// Grants one of the lender's pages.
    pub(super) fn lend(
        &mut self,
        reference: Reference<P>,
        to: DomId,
        index: usize,
        rights: Rights,
        epoch: Epoch,
    ) -> Result<GrantRef, (Reference<P>, ShareError)> {
        let Some(page) = self.lender.page(index) else { return Err((reference, ShareError::NoPage(index))) };
        let Some(place) = self.granted.get_mut(self.used) else {
            return Err((reference, ShareError::NoRoom(N)));
        };
        // SAFETY: the page stays until the lender is dropped, which comes out when all grants are revoked.
        let granted = place.insert(unsafe { reference.permit(to, page, rights, epoch) }?);
        self.used = self.used.saturating_add(1);
        Ok(granted.number())
    }

    /// The lender, once all is revoked. What can be revoked is, also if something is in use.
    pub(super) fn end(mut self, now: Epoch, mut back: impl FnMut(Reference<P>)) -> Result<T, (Self, InUse)> {
        let mut in_use = None;
        for place in self.granted.iter_mut().take(self.used) {
            match place.take().map(|granted| granted.revoke(now)) {
                None => {}
                Some(Ok(reference)) => back(reference),
                Some(Err((granted, by))) => {
                    *place = Some(granted);
                    in_use = in_use.or(Some(by));
                }
            }
        }
        match in_use {
            Some(by) => Err((self, by)),
            // Nobody uses a page of it any more.
            None => Ok(ManuallyDrop::into_inner(self.lender)),
        }
    }
}

/// What is to be done when a value is dropped that was not taken out before.
pub(super) trait Last {
    fn last(self);
}

/// A value with a [last](Last) will.
pub(super) struct Ending<L: Last>(ManuallyDrop<L>);

impl<L: Last> Ending<L> {
    pub(super) const fn new(value: L) -> Self {
        Self(ManuallyDrop::new(value))
    }

    pub(super) fn into_inner(self) -> L {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: this is the last of it.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }
}

impl<L: Last> Drop for Ending<L> {
    fn drop(&mut self) {
        // SAFETY: this is the last of it.
        unsafe { ManuallyDrop::take(&mut self.0) }.last();
    }
}

impl<L: Last> Deref for Ending<L> {
    type Target = L;

    fn deref(&self) -> &L {
        &self.0
    }
}

impl<L: Last> DerefMut for Ending<L> {
    fn deref_mut(&mut self) -> &mut L {
        &mut self.0
    }
}
