//! The frontend's end of a shared ring: `io/ring.h`.
//!
//! A frontend [puts](Front::put) requests into free slots and [publishes](Front::publish) them together, which says
//! whether the backend wants to be notified; it [takes](Front::take) responses until there are none, and
//! [rests](Front::rest) before it waits for an event. None of this waits: async code decides only when.
//!
//! The backend can write to every byte of the ring at any time. Of what is there, the frontend reads its producer index
//! and the responses, each once, and judges the index before anything else; its own indices it keeps to itself.
//! [`Pending`] is what a response is matched with.
//!
//! | operation | of the shared page |
//! |---|---|
//! | put | the slot |
//! | publish | `req_prod` (a barrier), `req_event` |
//! | take | the slot; `rsp_prod`, if all that was known of is taken |
//! | rest | `rsp_event` (a barrier), `rsp_prod` |
#![forbid(unsafe_code)]

mod pending;
#[cfg(test)]
mod tests;

use core::{fmt, marker::PhantomData, ops::Deref};

use heapless::Vec;
use kexec::irql::Dispatch;
use xen_abi::{
    io::ring::{self, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD, SRING},
    seam::{Access, PAGE_SIZE},
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

pub use self::pending::{Full, NotPending, Pending};

/// The frontend's end of a ring in up to `PAGES` pages, for requests `Q` and responses `S`.
///
/// A slot is as large as the larger of them.
#[derive(Debug)]
pub struct Front<F, Q, S, const PAGES: usize = 1> {
    pages: Vec<F, PAGES>,
    slots: u32,
    /// Requests that were put, those that were published, and responses that were taken: all modulo 2^32.
    put: u32,
    published: u32,
    taken: u32,
    /// Responses that the backend is known to have made.
    made: u32,
    what: PhantomData<fn(Q) -> S>,
}

/// The backend's producer index says that there are more responses than requests without one. Nothing in the ring means
/// anything after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun {
    /// What the backend's `rsp_prod` is.
    pub produced: u32,
    /// Responses that were taken,
    pub taken: u32,
    /// and requests that were published, so that the index is between these.
    pub published: u32,
}

impl<F, Q, S, const PAGES: usize> Front<F, Q, S, PAGES>
where
    F: Deref<Target: Access>,
    Q: IntoBytes + Immutable,
    S: FromBytes + IntoBytes,
{
    const SLOT: usize = if size_of::<Q>() > size_of::<S>() { size_of::<Q>() } else { size_of::<S>() };

    /// Makes a new ring in these pages, which are one behind the other for the backend.
    ///
    /// Their number is a power of two: that is how it is told to a backend. None, if they are too few for a slot.
    #[must_use]
    pub fn new(pages: impl Into<Vec<F, PAGES>>) -> Option<Self> {
        Self::from(pages.into(), 0)
    }

    /// The same, as it is after so many requests and responses.
    fn from(pages: Vec<F, PAGES>, index: u32) -> Option<Self> {
        let size = pages.len().checked_mul(PAGE_SIZE)?;
        let slots = u32::try_from(ring::slots(size, Self::SLOT)).ok().filter(|slots| *slots > 0)?;
        let next = index.wrapping_add(1);
        let sring =
            ring::Sring { req_prod: index, req_event: next, rsp_prod: index, rsp_event: next, ..ring::NEW };
        pages.first()?.write(SRING, &sring);
        Some(Self {
            pages,
            slots,
            put: index,
            published: index,
            taken: index,
            made: index,
            what: PhantomData,
        })
    }

    /// How many slots there are.
    #[must_use]
    pub const fn slots(&self) -> u32 {
        self.slots
    }

    /// How many of them are free: a slot is in use from its request to the response that is taken.
    #[must_use]
    pub const fn free(&self) -> u32 {
        self.slots.saturating_sub(self.put.wrapping_sub(self.taken))
    }

    /// Puts a request into the next slot; false if none is free. The backend does not look at it before it is
    /// published.
    pub fn put(&mut self, _at: &Dispatch, request: &Q) -> bool {
        if self.free() == 0 {
            return false;
        }
        self.write(self.put, request.as_bytes());
        self.put = self.put.wrapping_add(1);
        true
    }

    /// Publishes what was put, and says whether the backend is to be notified of it.
    #[must_use = "a backend that is not notified may sleep on it"]
    pub fn publish(&mut self, _at: &Dispatch) -> bool {
        let (before, now) = (self.published, self.put);
        let Some(page) = self.pages.first() else { return false };
        if before == now {
            return false;
        }
        // A barrier, both ways: the requests are there before the index says so, and the index before the backend's
        // wish is read.
        page.swap(REQ_PROD, now);
        self.published = now;
        now.wrapping_sub(page.load(REQ_EVENT)) < now.wrapping_sub(before)
    }

    /// Takes the next response, if there is one.
    ///
    /// # Errors
    ///
    /// The backend's index is where it cannot be. It is again with every later call.
    pub fn take(&mut self, _at: &Dispatch) -> Result<Option<S>, Overrun> {
        if self.made == self.taken {
            self.look()?;
        }
        if self.made == self.taken {
            return Ok(None);
        }
        let mut response = S::new_zeroed();
        self.read(self.taken, response.as_mut_bytes());
        self.taken = self.taken.wrapping_add(1);
        Ok(Some(response))
    }

    /// Asks the backend for an event with its next response, and says whether there is one already: then take it
    /// first, as no event comes for that.
    ///
    /// # Errors
    ///
    /// As for [`take`](Self::take).
    pub fn rest(&mut self, _at: &Dispatch) -> Result<bool, Overrun> {
        if let Some(page) = self.pages.first() {
            // A barrier: the wish is there before the backend's index is read.
            page.swap(RSP_EVENT, self.taken.wrapping_add(1));
        }
        self.look()?;
        Ok(self.made != self.taken)
    }

    /// How many requests have no response yet that was taken.
    #[must_use]
    pub const fn open(&self) -> u32 {
        self.put.wrapping_sub(self.taken)
    }

    /// The pages.
    pub fn pages(&self) -> &[F] {
        &self.pages
    }

    /// Lets go of the pages.
    pub fn into_pages(self) -> Vec<F, PAGES> {
        self.pages
    }

    /// Reads and judges the backend's index.
    fn look(&mut self) -> Result<(), Overrun> {
        let Some(page) = self.pages.first() else { return Ok(()) };
        // Acquire: the responses are there that the index tells of.
        let produced = page.load(RSP_PROD);
        let new = produced.wrapping_sub(self.made);
        // It only goes up, and never beyond the requests.
        if new > self.published.wrapping_sub(self.made) {
            return Err(Overrun { produced, taken: self.taken, published: self.published });
        }
        self.made = produced;
        Ok(())
    }

    fn write(&self, index: u32, bytes: &[u8]) {
        let (page, offset, first) = self.place(index, bytes.len());
        let (head, tail) = bytes.split_at_checked(first).unwrap_or((bytes, &[]));
        // A slot lies in the pages, of which there are enough.
        if let Some(page) = self.pages.get(page) {
            let _ = page.write_bytes(offset, head);
        }
        if let Some(next) = self.pages.get(page.saturating_add(1)) {
            let _ = next.write_bytes(0, tail);
        }
    }

    fn read(&self, index: u32, into: &mut [u8]) {
        let (page, offset, first) = self.place(index, into.len());
        let (head, tail) = into.split_at_mut(first);
        if let Some(page) = self.pages.get(page) {
            let _ = page.read_bytes(offset, head);
        }
        if let Some(next) = self.pages.get(page.saturating_add(1)) {
            let _ = next.read_bytes(0, tail);
        }
    }

    /// The page and the offset at which a slot begins, and how many of `length` bytes are in that page.
    fn place(&self, index: u32, length: usize) -> (usize, usize, usize) {
        let slot = index.checked_rem(self.slots).unwrap_or(0);
        let begins = ring::slot_offset(Self::SLOT, slot as usize);
        let (page, offset) = (begins / PAGE_SIZE, begins % PAGE_SIZE);
        (page, offset, length.min(PAGE_SIZE.saturating_sub(offset)))
    }
}

impl fmt::Display for Overrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { produced, taken, published } = self;
        write!(
            f,
            "the backend's rsp_prod is {produced:#x}, where {taken:#x} to {published:#x} is possible; the ring \
             is broken until the device connects again"
        )
    }
}

impl core::error::Error for Overrun {}
