//! The ring that a domain shares with xenstored: `docs/misc/xenstore-ring.txt`.
#![forbid(unsafe_code)]

use core::fmt;

use kexec::{irql::Dispatch, sync::AutoEvent};
use xen_abi::{
    io::xs_wire::{REQ, REQ_CONS, REQ_PROD, RSP, RSP_CONS, RSP_PROD, XENSTORE_RING_SIZE},
    seam::{Access, Place, Places},
};

use super::Wire;

/// A [`Wire`] through the page of the ring.
///
/// It believes what is in the page: it is for tests, and no driver's.
pub struct Ring<F, N> {
    page: F,
    notify: N,
    bell: AutoEvent,
}

impl<F: Access, N: Fn()> Ring<F, N> {
    /// The page that `HVM_PARAM_STORE_PFN` names, and what signals the port that `HVM_PARAM_STORE_EVTCHN` names.
    pub const fn new(page: F, notify: N) -> Self {
        Self { page, notify, bell: AutoEvent::new(false) }
    }

    /// Xenstored's event has come. Callable at any level.
    pub fn notify(&self) {
        self.bell.set();
    }

    /// Writes as many bytes as there is room for, and says how many that were.
    fn put(&self, bytes: &[u8]) -> usize {
        let (consumed, produced) = (self.page.load(REQ_CONS), self.page.load(REQ_PROD));
        let room = XENSTORE_RING_SIZE.saturating_sub(produced.wrapping_sub(consumed));
        let (place, length) = run(REQ, produced, room, bytes.len());
        let is_written = self.page.write_bytes(place, &bytes[..length]);
        debug_assert!(is_written.is_ok(), "a ring lies in its page");
        self.page.store(REQ_PROD, advanced(produced, length));
        length
    }

    /// Takes as many bytes as there are, and fit.
    fn take(&self, into: &mut [u8]) -> usize {
        let (consumed, produced) = (self.page.load(RSP_CONS), self.page.load(RSP_PROD));
        let there = produced.wrapping_sub(consumed);
        let (place, length) = run(RSP, consumed, there, into.len());
        let is_read = self.page.read_bytes(place, &mut into[..length]);
        debug_assert!(is_read.is_ok(), "a ring lies in its page");
        self.page.store(RSP_CONS, advanced(consumed, length));
        length
    }
}

/// Where the byte of an index is, and how many there are from there in a row, of so many that can be had and so many
/// that are wanted.
fn run(ring: Places<u8>, index: u32, there: u32, wanted: usize) -> (usize, usize) {
    let start = index % XENSTORE_RING_SIZE;
    let place = ring.get(start as usize).map_or(0, Place::offset);
    (place, wanted.min(there.min(XENSTORE_RING_SIZE - start) as usize))
}

fn advanced(index: u32, bytes: usize) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "at most a ring's size")]
    index.wrapping_add(bytes as u32)
}

impl<F: Access, N: Fn()> Wire for Ring<F, N> {
    async fn send(&self, _: &Dispatch, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.put(bytes) {
                0 => self.bell.wait().await,
                put => {
                    bytes = &bytes[put..];
                    (self.notify)();
                }
            }
        }
    }

    async fn receive(&self, _: &Dispatch, mut into: &mut [u8]) {
        while !into.is_empty() {
            match self.take(into) {
                0 => self.bell.wait().await,
                taken => {
                    into = &mut into[taken..];
                    (self.notify)();
                }
            }
        }
    }
}

impl<F, N> fmt::Debug for Ring<F, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}
