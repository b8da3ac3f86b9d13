//! The guests' consoles, and the daemon that is at their other end: it keeps what a guest writes, and feeds what is
//! typed.
//!
//! It takes and gives in pieces of any size, as chance has it, so that a guest sees its rings in every state.
#![forbid(unsafe_code)]

use std::{collections::VecDeque, mem};

use xen_abi::io::console::{IN, IN_CONS, IN_PROD, IN_SIZE, OUT, OUT_CONS, OUT_PROD, OUT_SIZE};

use crate::{
    hypervisor::{DOM0, Dom0Port, domain::CONSOLE_RING},
    machine::GuestId,
    rule::rules,
    world::{ToolstackPage, World},
    xenstored::RingPage as _,
};

rules! {
    /// The daemon maps the ring of each new domain, and connects with the port that waits for it.
    CONNECTED: "docs/misc/console.txt", "Xen PV Console notes";
    /// Byte _i_ of a ring is at _i_ modulo its size; what is there lies between consumer and producer.
    INDICES: "xen/include/public/io/console.h", "MASK_XENCONS_IDX";
    /// There is a ring to the guest and one from it; each end moves its own indices and reads the other's.
    TWO_RINGS: "xen/include/public/io/console.h", "struct xencons_interface";
    /// The daemon looks when it is notified, and notifies when it has taken or given something.
    NOTIFIES: "docs/misc/console.txt", "Xen PV Console notes";
    /// From a ring that is said to hold more than fits nothing is taken, and into one nothing is put.
    IMPOSSIBLE: "tools/console/daemon/io.c", "buffer_append";
}

/// Bytes that are kept of what a guest writes.
const KEPT: usize = 1 << 20;

/// The console of a guest.
#[derive(Debug, Default)]
pub(crate) struct Console {
    /// The daemon's end of the channel, while it is connected.
    port: Option<Dom0Port>,
    mood: Mood,
    /// It has not seen all that there is.
    is_busy: bool,
    /// What the guest has written, in whichever domain.
    output: Vec<u8>,
    /// What is to be fed to it.
    input: VecDeque<u8>,
}

/// How the daemon is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mood {
    #[default]
    Well,
    /// It says nonsense, the next time.
    Raving,
    /// It does nothing any more.
    Silent,
}

impl World {
    fn console(&mut self, id: GuestId) -> &mut Console {
        self.consoles.entry(id).or_default()
    }

    /// What a guest has written.
    pub(crate) fn console_output(&mut self, id: GuestId) -> &[u8] {
        &self.console(id).output
    }

    /// Somebody types something.
    pub(crate) fn type_in(&mut self, id: GuestId, text: &[u8]) {
        let console = self.console(id);
        console.input.extend(text);
        console.is_busy = true;
    }

    /// The daemon connects with a new domain.
    pub(crate) fn connect_console(&mut self, id: GuestId, port: u32) {
        let domain = self.guests[&id].domain;
        let own =
            self.xen.bind_interdomain(DOM0, domain, port).expect("the domain is new, and so is its port");
        let console = self.console(id);
        console.port = Some(own);
        console.mood = Mood::Well;
        // The ring is empty; what was typed waits.
        console.is_busy = !console.input.is_empty();
    }

    /// The domain is no more, or the daemon.
    pub(crate) fn disconnect_console(&mut self, id: GuestId) {
        if let Some(port) = self.console(id).port.take() {
            self.xen.notified.remove(&port);
            // It is open: it was bound when the daemon connected.
            let _ = self.xen.close(DOM0, port);
        }
    }

    /// The daemon does nothing any more.
    pub(crate) fn wedge_console(&mut self, id: GuestId) {
        self.console(id).mood = Mood::Silent;
    }

    /// The daemon moves one of its indices to where it cannot be.
    pub(crate) fn garble_console(&mut self, id: GuestId) {
        let console = self.console(id);
        if console.mood == Mood::Well {
            console.mood = Mood::Raving;
        }
    }

    /// The guests for whose consoles the daemon has something to do.
    pub(crate) fn busy_consoles(&self) -> impl Iterator<Item = GuestId> {
        let busy = self.consoles.iter().filter(|(_, console)| {
            let has_work = console.is_busy || console.mood == Mood::Raving;
            let port = console.port.filter(|_| console.mood != Mood::Silent);
            port.is_some_and(|port| has_work || self.xen.notified.contains(&port))
        });
        busy.map(|(id, _)| *id)
    }

    /// The daemon looks at a guest's console.
    pub(crate) fn step_console(&mut self, id: GuestId) {
        if !self.busy_consoles().any(|busy| busy == id) {
            return;
        }
        self.count("turns of the console");
        let mut page = self.toolstack_page(self.guests[&id].domain, CONSOLE_RING);
        let mut console = mem::take(self.console(id));
        let has_moved = if console.mood == Mood::Raving {
            console.mood = Mood::Well;
            self.rave(&mut page);
            true
        } else {
            let taken = console.take_output(&mut page, |most| self.up_to(most));
            let given = console.give_input(&mut page, |most| self.up_to(most));
            taken || given
        };
        // Until it finds nothing.
        console.is_busy = has_moved;
        if let Some(port) = console.port {
            self.xen.notified.remove(&port);
            if has_moved {
                // A guest that has closed its end hears nothing.
                let _ = self.xen.send(DOM0, port);
            }
        }
        *self.console(id) = console;
    }

    /// Any number of these, but none of none.
    fn up_to(&mut self, most: usize) -> usize {
        let most = u64::try_from(most).expect("less than a page");
        usize::try_from(self.dice.below(most) + 1).expect("less than a page")
    }

    fn rave(&mut self, page: &mut ToolstackPage) {
        let (index, other, size) =
            if self.dice.hits(2) { (OUT_CONS, OUT_PROD, OUT_SIZE) } else { (IN_PROD, IN_CONS, IN_SIZE) };
        // Farther ahead than there is, or can be: by one, or by anything.
        let size = u32::try_from(size).expect("less than a page");
        let beyond = if self.dice.hits(2) {
            1
        } else {
            u32::try_from(self.dice.below(u64::from(u32::MAX - size))).expect("32 bits") + 1
        };
        let first = if index == OUT_CONS { 0 } else { size };
        let impossible = page.load_u32(other).wrapping_add(first).wrapping_add(beyond);
        page.store_u32(index, impossible);
    }
}

impl Console {
    /// Takes some of what the guest has written; whether there was anything.
    fn take_output(&mut self, page: &mut ToolstackPage, up_to: impl FnOnce(usize) -> usize) -> bool {
        let (consumed, produced) = (page.load_u32(OUT_CONS), page.load_u32(OUT_PROD));
        let there = possible(produced.wrapping_sub(consumed), OUT_SIZE);
        if there == 0 {
            return false;
        }
        let mut bytes = vec![0; up_to(there)];
        for (byte, index) in bytes.iter_mut().zip(indices(consumed)) {
            let place = OUT.get(index % OUT_SIZE).expect("it is in the ring");
            page.read_bytes(place.offset(), std::slice::from_mut(byte));
        }
        page.store_u32(
            OUT_CONS,
            consumed.wrapping_add(u32::try_from(bytes.len()).expect("less than a page")),
        );
        let room = KEPT.saturating_sub(self.output.len());
        self.output.extend(bytes.into_iter().take(room));
        true
    }

    /// Gives it some of what was typed; whether there was anything, and room for it.
    fn give_input(&mut self, page: &mut ToolstackPage, up_to: impl FnOnce(usize) -> usize) -> bool {
        let (consumed, produced) = (page.load_u32(IN_CONS), page.load_u32(IN_PROD));
        let there = usize::try_from(produced.wrapping_sub(consumed)).expect("32 bits");
        let room = IN_SIZE.saturating_sub(there).min(self.input.len());
        if room == 0 {
            return false;
        }
        let bytes: Vec<_> = self.input.drain(..up_to(room)).collect();
        for (byte, index) in bytes.iter().zip(indices(produced)) {
            let place = IN.get(index % IN_SIZE).expect("it is in the ring");
            page.write_bytes(place.offset(), std::slice::from_ref(byte));
        }
        page.store_u32(IN_PROD, produced.wrapping_add(u32::try_from(bytes.len()).expect("less than a page")));
        true
    }
}

/// The bytes of a ring from this one on.
fn indices(first: u32) -> impl Iterator<Item = usize> {
    (0..).map(move |n| usize::try_from(first.wrapping_add(n)).expect("32 bits"))
}

/// So many bytes, if a ring of this size can hold them.
fn possible(there: u32, size: usize) -> usize {
    usize::try_from(there).ok().filter(|there| *there <= size).unwrap_or(0)
}
