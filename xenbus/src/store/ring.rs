//! The domain's end of the ring page: `docs/misc/xenstore-ring.txt`.
//!
//! The indices that the domain moves are kept in its [`Framing`] and only written to the page; those of xenstored are
//! read once, and judged before a byte is touched.
#![forbid(unsafe_code)]

use core::{fmt, ops::Deref};

use xen_abi::{
    io::xs_wire::{
        CONNECTION, ERROR, Header, REQ, REQ_CONS, REQ_PROD, RSP, RSP_CONS, RSP_PROD, SERVER_FEATURES,
        XENSTORE_ERROR_NONE, XENSTORE_PAYLOAD_MAX, XENSTORE_RECONNECT, XENSTORE_RING_SIZE,
        XENSTORE_SERVER_FEATURE_ERROR, XENSTORE_SERVER_FEATURE_RECONNECTION,
    },
    seam::{Access, Places},
};

use super::framing::{Framing, HEADER};

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

/// The page. The indices that are the domain's are in its [`Framing`].
#[derive(Debug)]
pub(super) struct Ring<F>(F);

impl<F: Deref<Target: Access>> Ring<F> {
    pub(super) const fn new(page: F) -> Self {
        Self(page)
    }

    pub(super) fn into_page(self) -> F {
        self.0
    }

    /// Goes on where another client of this page was, or else where the page's indices are: they need not begin at
    /// zero.
    pub(super) fn adopt(&self, framing: &Framing, other: Option<&Framing>) {
        if other.and_then(|other| framing.go_on(other).ok()).is_none() {
            framing.begin_anew(self.0.load(REQ_PROD), self.0.load(RSP_CONS));
        }
        // The last store of the other one may be missing here.
        self.0.store(REQ_PROD, framing.sent());
        self.0.store(RSP_CONS, framing.received());
    }

    /// Whether the indices are where the framing says, which it says of the connection before: it is the same
    /// connection.
    pub(super) fn is_of(&self, framing: &Framing) -> bool {
        framing.check().is_ok()
            && self.0.load(REQ_PROD) == framing.sent()
            && self.0.load(RSP_CONS) == framing.received()
    }

    /// Why xenstored has ended the connection, if it says so.
    pub(super) fn error(&self) -> u32 {
        self.0.load(ERROR)
    }

    /// Whether xenstored says that it means what it writes to the page's error.
    pub(super) fn offers_errors(&self) -> bool {
        self.0.load(SERVER_FEATURES) & XENSTORE_SERVER_FEATURE_ERROR != 0
    }

    /// Asks for the connection to begin anew, if xenstored can do that: it does once the page [says
    /// so](Self::is_connected). Xenstored is to be told.
    pub(super) fn reconnect(&self) -> bool {
        let can = self.0.load(SERVER_FEATURES) & XENSTORE_SERVER_FEATURE_RECONNECTION != 0;
        if can {
            // Xenstored leaves it as it is, and the next error may be the same.
            self.0.store(ERROR, XENSTORE_ERROR_NONE);
            self.0.store(CONNECTION, XENSTORE_RECONNECT);
        }
        can
    }

    /// Whether the page means anything: not while the connection begins anew.
    pub(super) fn is_connected(&self) -> bool {
        self.0.load(CONNECTION) != XENSTORE_RECONNECT
    }

    /// Sends as much of the message as there is room for, or a piece of it, and says how much.
    pub(super) fn send(&self, framing: &Framing) -> Result<u32, Violation> {
        let (consumed, sent) = (self.0.load(REQ_CONS), framing.sent());
        let room = SIZE.checked_sub(sent.wrapping_sub(consumed));
        let room = room.ok_or(Violation::Requests { consumed, produced: sent })?;
        let mut piece = [0; PIECE];
        let (piece, _) = piece.split_at_mut(PIECE.min(room as usize));
        let now = framing.next_bytes(piece);
        let (start, until_end) = place(sent);
        let (head, tail) = now.split_at_checked(until_end).unwrap_or((now, &[]));
        // They lie in the ring, and that lies in the page.
        let _ = self.0.write_bytes(offset(REQ).saturating_add(start), head);
        let _ = self.0.write_bytes(offset(REQ), tail);
        let end = advanced(sent, now.len());
        if end != sent {
            framing.set_sent(end);
            // Release: the bytes are there before the index says so.
            self.0.store(REQ_PROD, end);
        }
        Ok(end.wrapping_sub(sent))
    }

    /// The header of the next message, once it is there as a whole. Its bytes are taken, and the message is the one
    /// that is being taken.
    pub(super) fn header(&self, framing: &Framing) -> Result<Option<Header>, Violation> {
        let mut header = [0; HEADER];
        if (self.there(framing)? as usize) < HEADER {
            return Ok(None);
        }
        let start = framing.received();
        self.copy(start, &mut header);
        let header: Header = zerocopy::transmute!(header);
        if header.len > XENSTORE_PAYLOAD_MAX {
            return Err(Violation::Length(header.len));
        }
        let begun = advanced(start, HEADER);
        framing.set_reply_end(begun.wrapping_add(header.len));
        self.taken(framing, begun);
        Ok(Some(header))
    }

    /// Takes as many bytes of the message as are there and fit, and says how many.
    pub(super) fn receive(&self, framing: &Framing, into: &mut [u8]) -> Result<usize, Violation> {
        let there = self.there(framing)?.min(framing.unreceived()) as usize;
        let (now, _) = into.split_at_mut(into.len().min(there));
        let start = framing.received();
        self.copy(start, now);
        if !now.is_empty() {
            self.taken(framing, advanced(start, now.len()));
        }
        Ok(now.len())
    }

    /// How many bytes are in the ring.
    fn there(&self, framing: &Framing) -> Result<u32, Violation> {
        // Acquire: the bytes are there that the index tells of.
        let (consumed, produced) = (framing.received(), self.0.load(RSP_PROD));
        let there = produced.wrapping_sub(consumed);
        if there > SIZE { Err(Violation::Replies { consumed, produced }) } else { Ok(there) }
    }

    /// Reads bytes that are in the ring.
    fn copy(&self, from: u32, into: &mut [u8]) {
        let (start, until_end) = place(from);
        let (head, tail) = into.split_at_mut(into.len().min(until_end));
        let _ = self.0.read_bytes(offset(RSP).saturating_add(start), head);
        let _ = self.0.read_bytes(offset(RSP), tail);
    }

    fn taken(&self, framing: &Framing, end: u32) {
        framing.set_received(end);
        // Release: they have been read before xenstored may write others there.
        self.0.store(RSP_CONS, end);
    }
}

/// Bytes that are sent at a time: they are on the stack meanwhile.
const PIECE: usize = 256;
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
