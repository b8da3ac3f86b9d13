//! The domain's end of the ring page: `docs/misc/xenstore-ring.txt`.
//!
//! The indices that the domain moves are kept here and only written to the page; those of xenstored are read once,
//! and judged before a byte is touched.
#![forbid(unsafe_code)]

use core::{fmt, ops::Deref};

use xen_abi::{
    io::xs_wire::{REQ, REQ_CONS, REQ_PROD, RSP, RSP_CONS, RSP_PROD, XENSTORE_RING_SIZE},
    seam::{Access, Places},
};

/// Xenstored did what no xenstored does. Nothing that it says after this can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// It has taken bytes that were never sent: this many more than were.
    Requests {
        /// Its index.
        consumed: u32,
        /// Ours.
        produced: u32,
    },
    /// It has written more bytes than there is room for.
    Replies {
        /// Ours.
        consumed: u32,
        /// Its index.
        produced: u32,
    },
    /// It announced a message of this length, which no message has.
    Length(u32),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requests { consumed, produced } => {
                write!(f, "xenstored's req_cons is {consumed:#x}, where req_prod is {produced:#x}")
            }
            Self::Replies { consumed, produced } => {
                write!(f, "xenstored's rsp_prod is {produced:#x}, where rsp_cons is {consumed:#x}")
            }
            Self::Length(length) => {
                write!(f, "xenstored sends a message of {length} bytes; 4096 is the most")
            }
        }
    }
}

impl core::error::Error for Violation {}

/// The page, and the indices that are ours.
#[derive(Debug)]
pub(super) struct Ring<F> {
    page: F,
    /// Bytes that were sent, modulo 2^32.
    sent: u32,
    /// Bytes that were received, modulo 2^32.
    received: u32,
}

impl<F: Deref<Target: Access>> Ring<F> {
    /// Goes on where the page's indices are: they need not begin at zero.
    pub(super) fn new(page: F) -> Self {
        let (sent, received) = (page.load(REQ_PROD), page.load(RSP_CONS));
        Self { page, sent, received }
    }

    pub(super) fn into_page(self) -> F {
        self.page
    }

    /// Writes as many of these bytes as there is room for, and says how many.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let consumed = self.page.load(REQ_CONS);
        let room = SIZE.checked_sub(self.sent.wrapping_sub(consumed));
        let room = room.ok_or(Violation::Requests { consumed, produced: self.sent })?;
        let (now, _) = bytes.split_at_checked(room as usize).unwrap_or((bytes, &[]));
        let (start, until_end) = place(self.sent);
        let (head, tail) = now.split_at_checked(until_end).unwrap_or((now, &[]));
        // They lie in the ring, and that lies in the page.
        let _ = self.page.write_bytes(offset(REQ).saturating_add(start), head);
        let _ = self.page.write_bytes(offset(REQ), tail);
        self.sent = advanced(self.sent, now.len());
        // Release: the bytes are there before the index says so.
        self.page.store(REQ_PROD, self.sent);
        Ok(now.len())
    }

    /// Reads as many bytes as there are and fit, and says how many.
    pub(super) fn receive(&mut self, into: &mut [u8]) -> Result<usize, Violation> {
        // Acquire: the bytes are there that the index tells of.
        let produced = self.page.load(RSP_PROD);
        let there = produced.wrapping_sub(self.received);
        if there > SIZE {
            return Err(Violation::Replies { consumed: self.received, produced });
        }
        let length = into.len().min(there as usize);
        let (start, until_end) = place(self.received);
        let (now, _) = into.split_at_mut(length);
        let (head, tail) = now.split_at_mut(length.min(until_end));
        let _ = self.page.read_bytes(offset(RSP).saturating_add(start), head);
        let _ = self.page.read_bytes(offset(RSP), tail);
        self.received = advanced(self.received, length);
        // Release: they have been read before xenstored may write others there.
        self.page.store(RSP_CONS, self.received);
        Ok(length)
    }
}

const SIZE: u32 = XENSTORE_RING_SIZE;

/// Where in a ring the byte of this index is, and how many there are from there to the ring's end.
fn place(index: u32) -> (usize, usize) {
    let start = index % SIZE;
    (start as usize, SIZE.saturating_sub(start) as usize)
}

/// Where in the page a ring begins.
const fn offset(ring: Places<u8>) -> usize {
    match ring.get(0) {
        Some(first) => first.offset(),
        None => 0,
    }
}

/// An index after so many bytes, which are less than a ring.
fn advanced(index: u32, bytes: usize) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "at most a ring's size")]
    index.wrapping_add(bytes as u32)
}
