//! How much RAM a guest has: of Xen, and of its kernel.

use xen_abi::{
    DomId,
    domid::DOMID_SELF,
    hypercall::MEMORY_OP,
    memory::{
        Domain, Reservation, XENMAPSPACE_SHARED_INFO, XENMEM_CURRENT_RESERVATION,
        XENMEM_DECREASE_RESERVATION, XENMEM_INCREASE_RESERVATION, XENMEM_MAXIMUM_RESERVATION,
        XENMEM_POPULATE_PHYSMAP, XENMEMF_EXACT_NODE_REQUEST, XENMEMF_POPULATE_ON_DEMAND,
    },
    seam::{Access as _, Memory as _, NoMemory, Place},
};
use xen_sim::Arena;

use crate::{
    kernel::{ARGUMENTS, ARRAYS, Kernel, LENGTH},
    small,
};

const WORD: Place<u32> = Place::new(0);

fn asked(kernel: &Kernel, command: u64) -> u64 {
    kernel.memory_op(command, Domain { domid: DOMID_SELF }).expect("it is known")
}

fn reserved(kernel: &Kernel) -> u64 {
    asked(kernel, XENMEM_CURRENT_RESERVATION)
}

/// RAM that is given to Xen is gone; what comes for it is zero, and no more than what was given.
#[test]
fn ram_goes_and_comes() {
    let kernel = small();
    let before = reserved(&kernel);
    assert_eq!(asked(&kernel, XENMEM_MAXIMUM_RESERVATION), before);
    let pages = [kernel.page(), kernel.page()];
    let gfns = pages.each_ref().map(|page| page.gfn().0);
    pages[0].store(WORD, 7);
    assert_eq!(kernel.extents(XENMEM_DECREASE_RESERVATION, 0, &gfns), 2);
    assert_eq!((pages[0].load(WORD), reserved(&kernel)), (!0, before - 2));
    let hole = kernel.hole();
    assert_eq!(kernel.extents(XENMEM_POPULATE_PHYSMAP, 0, &[gfns[0], gfns[1], hole.gfn().0]), 2, "no more");
    assert_eq!((pages[0].load(WORD), hole.load(WORD), reserved(&kernel)), (0, !0, before));
}

/// It ends at the first extent that cannot be given, and answers how many were: what is not there, or not the guest's.
#[test]
fn giving_ends_at_what_is_not_there() {
    let kernel = small();
    let pages = [kernel.page(), kernel.page()];
    let hole = kernel.hole().gfn().0;
    let extents = [pages[0].gfn().0, hole, pages[1].gfn().0];
    assert_eq!(kernel.extents(XENMEM_DECREASE_RESERVATION, 0, &extents), 1);
    assert_eq!((pages[0].load(WORD), pages[1].load(WORD)), (!0, 0));
    assert_eq!(kernel.extents(XENMEM_DECREASE_RESERVATION, 0, &[u64::MAX]), 0);
    // An extent that cannot be given as a whole is not counted; its beginning is gone nevertheless.
    let four = [kernel.page(), kernel.page(), kernel.page()];
    let before = reserved(&kernel);
    assert_eq!(kernel.extents(XENMEM_DECREASE_RESERVATION, 2, &[four[0].gfn().0]), 0);
    assert_eq!((four[2].load(WORD), reserved(&kernel)), (!0, before - 3));
}

/// A page of Xen's is taken out, and is no RAM.
#[test]
fn a_page_of_xens_is_not_ram() {
    let kernel = small();
    let hole = kernel.hole();
    let before = reserved(&kernel);
    assert_eq!(kernel.place(XENMAPSPACE_SHARED_INFO, 0, hole.gfn()), Ok(0));
    assert_eq!(kernel.extents(XENMEM_DECREASE_RESERVATION, 0, &[hole.gfn().0]), 1);
    assert_eq!((hole.load(WORD), reserved(&kernel)), (!0, before));
    assert_eq!(kernel.machine.check(), Ok(()));
}

/// Extents are up to 2 MiB; a larger one is not done.
#[test]
fn extents_have_a_largest_size() {
    let kernel = Kernel::new(xen_sim::GuestConfig { pages: 2048, ..Default::default() });
    let pages: Vec<_> = (0..1024).map(|_| kernel.page()).collect();
    let first = pages[0].gfn().0;
    let before = reserved(&kernel);
    assert_eq!(kernel.extents(XENMEM_DECREASE_RESERVATION, 10, &[first]), 0);
    assert_eq!(kernel.extents(XENMEM_DECREASE_RESERVATION, 9, &[first, first + 512]), 2);
    assert_eq!(reserved(&kernel), before - 1024);
    for order in [10, 63, 64, u32::MAX] {
        assert_eq!(kernel.extents(XENMEM_POPULATE_PHYSMAP, order, &[first]), 0, "{order}");
    }
    assert_eq!(kernel.extents(XENMEM_POPULATE_PHYSMAP, 9, &[first]), 1);
    assert_eq!(kernel.extents(XENMEM_POPULATE_PHYSMAP, 9, &[1 << 36, first]), 0, "there is no such place");
    assert_eq!(kernel.extents(XENMEM_POPULATE_PHYSMAP, 9, &[u64::MAX - 3]), 0);
    assert_eq!(reserved(&kernel), before - 512);
}

/// More RAM than a guest may have is not to be had; what increases the reservation is nowhere in its memory.
#[test]
fn a_reservation_has_a_maximum() {
    let kernel = small();
    let before = reserved(&kernel);
    assert_eq!(kernel.extents(XENMEM_INCREASE_RESERVATION, 0, &[0]), 0);
    assert_eq!(kernel.extents(XENMEM_DECREASE_RESERVATION, 0, &[kernel.page().gfn().0]), 1);
    assert_eq!(kernel.extents(XENMEM_INCREASE_RESERVATION, 0, &[0, 0]), 1);
    assert_eq!(reserved(&kernel), before);
}

/// What cannot be done answers how much was done before, which is nothing, or as much as the call says itself: there is no error.
#[test]
fn nothing_is_done_without_an_error() {
    let kernel = small();
    let page = kernel.page();
    let own = Reservation {
        extent_start: ARRAYS,
        nr_extents: 1,
        extent_order: 0,
        mem_flags: 0,
        domid: DOMID_SELF,
        padding: [0; 3],
    };
    let call = |command, op: Reservation| {
        let mut arena = Arena::new(ARGUMENTS, LENGTH);
        arena.put(ARRAYS, &[page.gfn().0; 4]).expect("they fit");
        kernel.call(MEMORY_OP, command, 0, &mut { op }, &mut arena).expect("it answers a count")
    };
    let commands = [XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP];
    for command in commands {
        for op in [
            Reservation { domid: DomId(0), ..own },
            Reservation { domid: DomId(9), ..own },
            Reservation { nr_extents: 0, ..own },
            Reservation { nr_extents: u64::MAX, ..own },
            Reservation { nr_extents: 1 << 26, ..own },
            Reservation { extent_start: 0, ..own },
            Reservation { extent_start: u64::MAX, ..own },
            Reservation { mem_flags: 12, ..own },
            Reservation { mem_flags: XENMEMF_EXACT_NODE_REQUEST | 1 << 8, ..own },
        ] {
            assert_eq!(call(command, op), 0, "{command} {op:?}");
        }
        // What was done before is done: a call that is interrupted goes on there.
        assert_eq!(call(command | 1 << 6, own), 1, "{command}");
        assert_eq!(call(command | 9 << 6, own), 9, "{command}");
        let arena = &mut Arena::new(ARGUMENTS, 8);
        assert_eq!(kernel.guest.call_in(arena, MEMORY_OP, [command | 3 << 6, ARGUMENTS, 0, 0, 0]), 3);
    }
    assert_eq!(
        call(XENMEM_POPULATE_PHYSMAP, Reservation { mem_flags: XENMEMF_POPULATE_ON_DEMAND, ..own }),
        0
    );
    assert_eq!(page.load(WORD), 0, "it is there as before");
    // These are no obstacles: addresses of 13 bits and more, a node if it is to be had.
    assert_eq!(call(XENMEM_DECREASE_RESERVATION, Reservation { mem_flags: 13, ..own }), 1);
    assert_eq!(call(XENMEM_POPULATE_PHYSMAP, Reservation { mem_flags: 64 | 1 << 8, ..own }), 1);
}

/// The kernel has as many pages as the guest, and has those again that were given back with their RAM.
#[test]
fn the_kernel_runs_out_of_pages() {
    let kernel = small();
    let mut pages: Vec<_> = (0..64).map(|_| kernel.page()).collect();
    assert!(matches!(kernel.guest.allocate(), Err(NoMemory)));
    kernel.hole();
    kernel.free(pages.pop().expect("there are 64"));
    kernel.page();
    let last = pages.pop().expect("there are 63");
    assert_eq!(kernel.extents(XENMEM_DECREASE_RESERVATION, 0, &[last.gfn().0]), 1);
    kernel.free(last);
    assert!(matches!(kernel.guest.allocate(), Err(NoMemory)), "Xen has it");
}

/// A driver must do without the page that it asks for, whichever it is: the n-th request fails, and no other.
#[test]
fn the_nth_request_fails() {
    let kernel = small();
    kernel.guest.fail_allocation(3);
    kernel.page();
    kernel.hole();
    assert!(matches!(kernel.guest.allocate(), Err(NoMemory)));
    kernel.page();
    kernel.guest.fail_allocation(1);
    assert!(matches!(kernel.guest.hole(), Err(NoMemory)));
    kernel.guest.fail_allocation(1);
    kernel.guest.fail_allocation(0);
    kernel.page();
}
