//! `io/ring.h`: a ring of slots, each for a request or a response, in one or more pages.
//!
//! The frontend makes requests and the backend responses, both in the same slots. Indices count all that ever were:
//! number _i_ is in slot _i_ modulo the number of slots, which is a power of two. A producer publishes by moving its
//! `prod`; it makes the other side pending if that moved past the other's `event`.
//!
//! | | `req_prod` | `rsp_event` | `rsp_prod` | `req_event` |
//! |---|---|---|---|---|
//! | written by | frontend | frontend | backend | backend |
#![forbid(unsafe_code)]

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::seam::{PAGE_SIZE, Place, Places};

/// `struct blkif_sring`, as `DEFINE_RING_TYPES` makes it for every kind of ring: what is before the slots.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Sring {
    /// Requests that there ever were.
    pub req_prod: u32,
    /// The backend is to be made pending when `req_prod` gets here.
    pub req_event: u32,
    /// Responses that there ever were.
    pub rsp_prod: u32,
    /// The frontend is to be made pending when `rsp_prod` gets here.
    pub rsp_event: u32,
    /// Zero.
    pub pvt: [u8; 4],
    /// `__pad`: zero.
    pub pad: [u8; 44],
}

/// A ring that nobody has used: each side wants to hear of the first thing that the other makes.
pub const NEW: Sring =
    Sring { req_prod: 0, req_event: 1, rsp_prod: 0, rsp_event: 1, pvt: [0; 4], pad: [0; 44] };

const _: () = assert!(size_of::<Sring>() == 64);

/// All of it, at the beginning of the first page.
pub const SRING: Place<Sring> = Place::new(0);
/// See [`Sring::req_prod`].
pub const REQ_PROD: Place<u32> = Place::new(offset_of!(Sring, req_prod));
/// See [`Sring::req_event`].
pub const REQ_EVENT: Place<u32> = Place::new(offset_of!(Sring, req_event));
/// See [`Sring::rsp_prod`].
pub const RSP_PROD: Place<u32> = Place::new(offset_of!(Sring, rsp_prod));
/// See [`Sring::rsp_event`].
pub const RSP_EVENT: Place<u32> = Place::new(offset_of!(Sring, rsp_event));

/// How many slots of `slot` bytes a ring of `size` bytes has (`__CONST_RING_SIZE`): as many as there is room for, down
/// to a power of two. None, if there is no room for one.
#[must_use]
pub const fn slots(size: usize, slot: usize) -> usize {
    match size.saturating_sub(size_of::<Sring>()).checked_div(slot) {
        Some(fit) if fit > 0 => 1 << fit.ilog2(),
        _ => 0,
    }
}

/// Where slot `index` begins, in bytes from the beginning of the first page, the pages being one behind the other. In a
/// ring of several pages a slot may begin in one and end in the next.
#[must_use]
pub const fn slot_offset(slot: usize, index: usize) -> usize {
    size_of::<Sring>() + slot * index
}

/// The slots of a ring of one page, each `slot` bytes large, seen as requests or as responses.
///
/// # Panics
///
/// A `T` is no slot. In a constant that is an error of the compiler's.
#[must_use]
pub const fn in_one_page<T>(slot: usize) -> Places<T> {
    Places::new(slot_offset(slot, 0), slot, slots(PAGE_SIZE, slot))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the header cannot say: sizes in which there is no slot at all.
    #[test]
    fn nothing_fits_into_nothing() {
        for size in [0, 63, 64, 64 + 111] {
            assert_eq!(slots(size, 112), 0, "{size}");
        }
        assert_eq!(slots(64 + 112, 112), 1);
        assert_eq!(slots(4096, 0), 0);
    }
}
