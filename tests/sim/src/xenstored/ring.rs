//! The page that a domain shares with xenstored: `docs/misc/xenstore-ring.txt`.
//!
//! The page is the domain's: whatever is in it may be anything, and may be something else a moment later. An index is read once,
//! then judged, then used; the daemon's own indices are read back, too, as the C daemon does.
#![forbid(unsafe_code)]

use xen_abi::{
    io::xs_wire::{REQ, REQ_CONS, REQ_PROD, RSP, RSP_CONS, RSP_PROD, XENSTORE_RING_SIZE},
    seam::{Place, Places},
};

/// The page as the daemon reaches it: bytes of a guest's memory.
pub trait RingPage {
    /// Reads a word in one piece.
    fn load_u32(&self, place: Place<u32>) -> u32;

    /// Writes a word in one piece, after all that was written before.
    fn store_u32(&mut self, place: Place<u32>, value: u32);

    /// Reads bytes that lie in the page.
    fn read_bytes(&self, offset: usize, into: &mut [u8]);

    /// Writes bytes that lie in the page.
    fn write_bytes(&mut self, offset: usize, from: &[u8]);
}

/// "Inconsistent producer or consumer offset": the producer is more than a ring ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inconsistent;

/// Bytes of one direction that lie in a row.
#[derive(Clone, Copy, Debug)]
struct Run {
    offset: usize,
    length: usize,
    /// The index at which it begins.
    at: u32,
}

/// Whether the domain has written anything.
pub(super) fn has_input(page: &impl RingPage) -> bool {
    page.load_u32(REQ_CONS) != page.load_u32(REQ_PROD)
}

/// Whether the domain has left room.
pub(super) fn has_room(page: &impl RingPage) -> bool {
    page.load_u32(RSP_PROD).wrapping_sub(page.load_u32(RSP_CONS)) != XENSTORE_RING_SIZE
}

/// Takes up to `most` bytes of what the domain has written, as far as they lie in a row.
pub(super) fn take(page: &mut impl RingPage, most: usize) -> Result<Vec<u8>, Inconsistent> {
    let (consumer, producer) = (page.load_u32(REQ_CONS), page.load_u32(REQ_PROD));
    let run = run(REQ, consumer, used(consumer, producer)?.min(most));
    let mut bytes = vec![0; run.length];
    page.read_bytes(run.offset, &mut bytes);
    page.store_u32(REQ_CONS, run.end());
    Ok(bytes)
}

/// Writes as many of the bytes as there is room for in a row, and says how many that were.
pub(super) fn give(page: &mut impl RingPage, bytes: &[u8]) -> Result<usize, Inconsistent> {
    let (consumer, producer) = (page.load_u32(RSP_CONS), page.load_u32(RSP_PROD));
    let room = XENSTORE_RING_SIZE as usize - used(consumer, producer)?;
    let run = run(RSP, producer, room.min(bytes.len()));
    page.write_bytes(run.offset, &bytes[..run.length]);
    page.store_u32(RSP_PROD, run.end());
    Ok(run.length)
}

/// Both directions are empty.
pub(super) fn clear(page: &mut impl RingPage) {
    for index in [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD] {
        page.store_u32(index, 0);
    }
}

const fn used(consumer: u32, producer: u32) -> Result<usize, Inconsistent> {
    let used = producer.wrapping_sub(consumer);
    if used > XENSTORE_RING_SIZE { Err(Inconsistent) } else { Ok(used as usize) }
}

/// Up to `most` bytes from an index on, not beyond the end of the ring.
fn run(ring: Places<u8>, at: u32, most: usize) -> Run {
    let position = (at % XENSTORE_RING_SIZE) as usize;
    let offset = ring.get(position).map_or(0, Place::offset);
    Run { offset, length: most.min(XENSTORE_RING_SIZE as usize - position), at }
}

impl Run {
    #[expect(clippy::cast_possible_truncation, reason = "at most a ring's size")]
    const fn end(self) -> u32 {
        self.at.wrapping_add(self.length as u32)
    }
}
