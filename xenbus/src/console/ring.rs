//! The domain's end of the console's page: `xen/include/public/io/console.h`.
//!
//! The indices that the domain moves are kept here and only written to the page; those of the backend are read once,
//! and judged before a byte is touched.
#![forbid(unsafe_code)]

use core::{fmt, ops::Deref};

use xen_abi::{
    io::console::{IN, IN_CONS, IN_PROD, IN_SIZE, OUT, OUT_CONS, OUT_PROD, OUT_SIZE},
    seam::{Access, Places},
};

use super::LineEnds;

/// The console's backend did what none does. Nothing that it says after this can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// It has taken bytes that were never written.
    Output {
        /// Its index, `out_cons`.
        consumed: u32,
        /// Ours, `out_prod`.
        produced: u32,
    },
    /// It has given more bytes than there is room for.
    Input {
        /// Ours, `in_cons`.
        consumed: u32,
        /// Its index, `in_prod`.
        produced: u32,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Output { consumed, produced } => {
                write!(f, "the console's out_cons is {consumed:#x}, where out_prod is {produced:#x}")
            }
            Self::Input { consumed, produced } => {
                write!(f, "the console's in_prod is {produced:#x}, where in_cons is {consumed:#x}")
            }
        }
    }
}

impl core::error::Error for Violation {}

/// The page, and the indices that are ours.
#[derive(Debug)]
pub(super) struct Ring<F> {
    page: F,
    /// Bytes that were written, modulo 2^32.
    written: u32,
    /// Bytes that were read, modulo 2^32.
    read: u32,
    /// The last byte that was written ends a line half.
    after_cr: bool,
}

impl<F: Deref<Target: Access>> Ring<F> {
    /// Goes on where the page's indices are: they need not begin at zero.
    pub(super) fn new(page: F) -> Self {
        let (written, read) = (page.load(OUT_PROD), page.load(IN_CONS));
        Self { page, written, read, after_cr: false }
    }

    pub(super) fn into_page(self) -> F {
        self.page
    }

    /// Writes as many of these bytes as there is room for, and says how many.
    pub(super) fn write(&mut self, bytes: &[u8], ends: LineEnds) -> Result<usize, Violation> {
        let consumed = self.page.load(OUT_CONS);
        let there = self.written.wrapping_sub(consumed) as usize;
        let mut room =
            OUT_SIZE.checked_sub(there).ok_or(Violation::Output { consumed, produced: self.written })?;
        let mut taken = 0_usize;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, is_line) = match piece.split_last() {
                Some((b'\n', text)) if ends == LineEnds::CrLf => (text, true),
                _ => (piece, false),
            };
            let (now, later) = text.split_at_checked(room).unwrap_or((text, &[]));
            room = room.saturating_sub(self.put(now));
            taken = taken.saturating_add(now.len());
            if !later.is_empty() {
                break;
            }
            if is_line {
                // Both or none: a line is not ended twice when it is gone on with.
                let end = if self.after_cr { &b"\n"[..] } else { b"\r\n" };
                if end.len() > room {
                    break;
                }
                room = room.saturating_sub(self.put(end));
                taken = taken.saturating_add(1);
            }
        }
        // Release: the bytes are there before the index says so.
        self.page.store(OUT_PROD, self.written);
        Ok(taken)
    }

    /// Puts bytes, for which there is room, behind those that were written, and says how many.
    fn put(&mut self, bytes: &[u8]) -> usize {
        let (start, until_end) = place(self.written, OUT_SIZE);
        let (head, tail) = bytes.split_at_checked(until_end).unwrap_or((bytes, &[]));
        // They lie in the ring, and that lies in the page.
        let _ = self.page.write_bytes(offset(OUT).saturating_add(start), head);
        let _ = self.page.write_bytes(offset(OUT), tail);
        self.written = advanced(self.written, bytes.len());
        if let Some(last) = bytes.last() {
            self.after_cr = *last == b'\r';
        }
        bytes.len()
    }

    /// Reads as many bytes as there are and fit, and says how many.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<usize, Violation> {
        // Acquire: the bytes are there that the index tells of.
        let produced = self.page.load(IN_PROD);
        let there = produced.wrapping_sub(self.read) as usize;
        if there > IN_SIZE {
            return Err(Violation::Input { consumed: self.read, produced });
        }
        let length = into.len().min(there);
        let (start, until_end) = place(self.read, IN_SIZE);
        let (now, _) = into.split_at_mut(length);
        let (head, tail) = now.split_at_mut(length.min(until_end));
        let _ = self.page.read_bytes(offset(IN).saturating_add(start), head);
        let _ = self.page.read_bytes(offset(IN), tail);
        self.read = advanced(self.read, length);
        // Release: they have been read before the backend may write others there.
        self.page.store(IN_CONS, self.read);
        Ok(length)
    }
}

/// Where in a ring of this size the byte of an index is, and how many there are from there to the ring's end.
fn place(index: u32, size: usize) -> (usize, usize) {
    let start = (index as usize).checked_rem(size).unwrap_or(0);
    (start, size.saturating_sub(start))
}

/// Where in the page a ring begins.
const fn offset(ring: Places<u8>) -> usize {
    match ring.get(0) {
        Some(first) => first.offset(),
        None => 0,
    }
}

/// An index after so many bytes, which are less than a page.
fn advanced(index: u32, bytes: usize) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "at most a ring's size")]
    index.wrapping_add(bytes as u32)
}
