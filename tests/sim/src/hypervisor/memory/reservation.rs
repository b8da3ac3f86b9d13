//! How much RAM a guest has.
//!
//! These commands answer no error: they answer with how many extents they are done, which is where the guest goes on or gives up.
#![forbid(unsafe_code)]

use xen_abi::{
    memory::{
        Reservation, XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP, XENMEMF_EXACT_NODE_REQUEST,
        XENMEMF_POPULATE_ON_DEMAND, XENMEMF_VNODE,
    },
    seam::{Gfn, PAGE_SIZE},
};

use crate::{
    audit::Mistake,
    hypervisor::{Hypervisor, call::Call, domain::Domain},
    ram::{Backing, Event, Moment, Page, Physmap},
};

/// The largest extent that a guest may ask for: 2 MiB (`CONFIG_DOMU_MAX_ORDER`).
const MOST_ORDER: u32 = 9;
/// More extents cannot be counted in a command that goes on.
const MOST_EXTENTS: u64 = u32::MAX as u64 >> super::COMMAND_BITS;

impl Hypervisor {
    /// `XENMEM_increase_reservation`, `XENMEM_decrease_reservation` and `XENMEM_populate_physmap`: answers the number of extents that
    /// are done, those before `start` included.
    pub(super) fn change_reservation(
        &mut self,
        call: &mut Call<'_>,
        command: u64,
        argument: u64,
        start: u64,
    ) -> u64 {
        let Ok(op) = call.memory.get::<Reservation>(argument) else { return start };
        if op.nr_extents > MOST_EXTENTS || start >= op.nr_extents || !are_flags_possible(op.mem_flags) {
            return start;
        }
        let moment = self.moment(call);
        let Ok(domain) = self.itself_of(call, op.domid) else { return start };
        if op.extent_order > MOST_ORDER {
            return start;
        }
        let pages = 1 << op.extent_order;
        for index in start..op.nr_extents {
            let extent = || {
                let address = op.extent_start.checked_add(index * 8)?;
                call.memory.get::<u64>(address).ok().map(Gfn)
            };
            let done = match command {
                XENMEM_DECREASE_RESERVATION => {
                    extent().is_some_and(|gfn| domain.surrender(gfn, pages, moment))
                }
                XENMEM_POPULATE_PHYSMAP if op.mem_flags & XENMEMF_POPULATE_ON_DEMAND != 0 => false,
                XENMEM_POPULATE_PHYSMAP => extent().is_some_and(|gfn| domain.populate(gfn, pages, moment)),
                // It is the guest's, and nowhere in its memory; where it is in the machine, only a PV guest is told.
                _ => domain.ram.reserve(pages),
            };
            if !done {
                return index;
            }
        }
        op.nr_extents
    }
}

/// Whether what is asked for can be had by a guest: addresses of more bits than a page has, and no certain node of the machine.
const fn are_flags_possible(flags: u32) -> bool {
    const PAGE_BITS: u32 = PAGE_SIZE.trailing_zeros();
    const NODE: u32 = 0xFF << 8;
    let address_bits = flags & 0xFF;
    let is_on_node =
        flags & XENMEMF_VNODE == 0 && flags & NODE != 0 && flags & XENMEMF_EXACT_NODE_REQUEST != 0;
    (address_bits == 0 || address_bits > PAGE_BITS) && !is_on_node
}

impl Domain {
    /// Gives an extent to Xen. Whether all of it could be; what comes before a page that could not is gone.
    fn surrender(&mut self, first: Gfn, pages: u64, moment: Moment) -> bool {
        (0..pages).all(|index| self.surrender_page(Gfn(first.0.wrapping_add(index)), moment))
    }

    fn surrender_page(&mut self, gfn: Gfn, moment: Moment) -> bool {
        match self.ram.physmap.get(gfn) {
            None | Some(Backing::Foreign(_)) => return false,
            Some(Backing::Xen(_)) => self.ram.books.note(gfn, Event::Emptied, moment),
            Some(Backing::Ram(page)) => {
                let page = page.clone();
                self.judge_loss(gfn, &page, moment);
                self.ram.surrender();
                self.ram.books.note(gfn, Event::Surrendered, moment);
            }
        }
        self.ram.physmap.take(gfn);
        true
    }

    /// Fills an extent with RAM. Whether there was so much.
    fn populate(&mut self, first: Gfn, pages: u64, moment: Moment) -> bool {
        let Some(last) = first.0.checked_add(pages - 1) else { return false };
        if !Physmap::reaches(Gfn(last)) {
            return false;
        }
        let places = || (first.0..=last).map(Gfn);
        if let Some(gfn) =
            places().find(|gfn| matches!(self.ram.physmap.get(*gfn), Some(Backing::Foreign(_))))
        {
            self.ram.books.find_at(gfn, Mistake::Crash, "RAM populated over another domain's page", moment);
            return false;
        }
        if !self.ram.reserve(pages) {
            return false;
        }
        for gfn in places() {
            // RAM that was there is still the domain's, and nowhere any more.
            if let Some(Backing::Ram(page)) = self.ram.physmap.put(gfn, Backing::Ram(Page::zeroed())) {
                self.judge_loss(gfn, &page, moment);
            }
            self.ram.books.note(gfn, Event::Populated, moment);
        }
        true
    }
}
