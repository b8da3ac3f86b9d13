//! The smallest device there is: it answers each number with its complement.
//!
//! It is no device of Xen's: it shows what a frontend and a backend have in common, and nothing else. Backend and
//! frontend find each other as all do. The backend writes `feature-echo` = 1. The frontend writes `ring-ref`, a page
//! with a ring of [`Slot`]s (`xen/include/public/io/ring.h`), and `event-channel`. A response has the number of its
//! request.
#![forbid(unsafe_code)]

use xen_abi::{
    grant_table::GrantRef,
    io::ring::{self, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD},
    seam::{PAGE_SIZE, Place},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Protocol, Side};
use crate::hypervisor::{
    Dom0Port,
    grant::backend::{Access, Mapping},
};

/// A request, and its response.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Slot {
    /// The frontend's, for whatever it likes.
    pub id: u64,
    /// A number; in the response, its complement.
    pub value: u64,
}

/// Slots of a ring.
const SLOTS: u32 = {
    let slots = ring::slots(PAGE_SIZE, size_of::<Slot>());
    assert!(slots == 128);
    128
};

/// So many requests are answered before others get their turn.
const BATCH: u32 = 8;

/// The backend of the smallest device.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo {
    link: Option<Link>,
    garbage: bool,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    page: Mapping,
    port: Dom0Port,
    /// Requests that were answered.
    done: u32,
}

impl Echo {
    /// Not connected.
    #[must_use]
    pub const fn new() -> Self {
        Self { link: None, garbage: false }
    }
}

impl Protocol for Echo {
    fn class(&self) -> &'static str {
        "echo"
    }

    fn offer(&mut self, side: &mut Side<'_>) -> Result<(), String> {
        side.write("feature-echo", "1");
        Ok(())
    }

    fn connect(&mut self, side: &mut Side<'_>) -> Result<(), String> {
        let reference = GrantRef(side.read_number("ring-ref")?);
        let port = side.read_number("event-channel")?;
        let page =
            side.map(reference, Access::Write).map_err(|error| format!("ring-ref {reference}: {error}"))?;
        let port = side.bind(port)?;
        let done = side.load(page, RSP_PROD)?;
        self.link = Some(Link { page, port, done });
        Ok(())
    }

    fn work(&mut self, side: &mut Side<'_>) -> Result<bool, String> {
        let Some(Link { page, port, done }) = self.link else { return Ok(false) };
        let made: u32 = side.load(page, REQ_PROD)?;
        let open = made.wrapping_sub(done);
        if open > SLOTS {
            return Err(format!("req_prod is {made}, and {done} requests were answered"));
        }
        let before = done;
        let mut done = done;
        for _ in 0..open.min(BATCH) {
            let at = ring::slot_offset(size_of::<Slot>(), (done % SLOTS) as usize);
            let mut slot = Slot::default();
            side.read_page(page, at, slot.as_mut_bytes()).map_err(|error| error.to_string())?;
            slot.value = !slot.value;
            if std::mem::take(&mut self.garbage) {
                side.dice().fill(slot.as_mut_bytes());
            }
            side.write_page(page, at, slot.as_bytes()).map_err(|error| error.to_string())?;
            done = done.wrapping_add(1);
        }
        side.store(page, RSP_PROD, done)?;
        let wanted: u32 = side.load(page, RSP_EVENT)?;
        // RING_PUSH_RESPONSES_AND_CHECK_NOTIFY: has it gone past the response that the frontend waits for?
        if done.wrapping_sub(wanted) < done.wrapping_sub(before) {
            side.notify(port);
        }
        self.link = Some(Link { page, port, done });
        // RING_FINAL_CHECK_FOR_REQUESTS: says what it waits for, and looks again.
        side.store(page, REQ_EVENT, done.wrapping_add(1))?;
        Ok(side.load(page, REQ_PROD)? != done)
    }

    fn disconnect(&mut self) {
        self.link = None;
    }

    fn garbage(&mut self) {
        self.garbage = true;
    }
}

impl Side<'_> {
    /// Reads a word of a page that is mapped.
    fn load(&mut self, page: Mapping, place: Place<u32>) -> Result<u32, String> {
        let mut bytes = [0; 4];
        self.read_page(page, place.offset(), &mut bytes).map_err(|error| error.to_string())?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Writes a word of a page that is mapped.
    fn store(&mut self, page: Mapping, place: Place<u32>, value: u32) -> Result<(), String> {
        self.write_page(page, place.offset(), &value.to_le_bytes()).map_err(|error| error.to_string())
    }
}
