//! `XENMEM_add_to_physmap`, its batch, and `XENMEM_remove_from_physmap`.

use xen_abi::{
    DomId, Errno,
    domid::DOMID_SELF,
    grant_table::op::{GNTTABOP_QUERY_SIZE, QuerySize},
    hypercall::MEMORY_OP,
    memory::{
        AddToPhysmap, AddToPhysmapBatch, Domain, MemoryMap, RemoveFromPhysmap, XENMAPSPACE_DEV_MMIO,
        XENMAPSPACE_GMFN, XENMAPSPACE_GMFN_FOREIGN, XENMAPSPACE_GMFN_RANGE, XENMAPSPACE_GRANT_TABLE,
        XENMAPSPACE_SHARED_INFO, XENMEM_ADD_TO_PHYSMAP, XENMEM_ADD_TO_PHYSMAP_BATCH,
        XENMEM_CURRENT_RESERVATION, XENMEM_MAXIMUM_GPFN, XENMEM_MAXIMUM_RESERVATION, XENMEM_MEMORY_MAP,
        XENMEM_REMOVE_FROM_PHYSMAP,
    },
    seam::{Access as _, Gfn, Place},
};
use xen_sim::{Arena, GuestFrame};

use crate::{
    kernel::{ARGUMENTS, ARRAYS, Kernel, LENGTH},
    small,
};

const WORD: Place<u32> = Place::new(0);
/// The command goes on at the n-th extent.
const fn from(nth: u64) -> u64 {
    nth << 6
}

fn own() -> AddToPhysmap {
    AddToPhysmap { domid: DOMID_SELF, ..Default::default() }
}

fn reserved(kernel: &Kernel) -> u64 {
    kernel.memory_op(XENMEM_CURRENT_RESERVATION, Domain { domid: DOMID_SELF }).expect("it is known")
}

/// A page of Xen's is at one place: to put it elsewhere empties the old one, and what is in it goes along.
#[test]
fn a_page_of_xens_has_one_place() {
    for (space, idx) in
        [(XENMAPSPACE_SHARED_INFO, 0), (XENMAPSPACE_GRANT_TABLE, 0), (XENMAPSPACE_GRANT_TABLE, 1)]
    {
        let kernel = small();
        let (one, other) = (kernel.hole(), kernel.hole());
        assert_eq!(one.load(WORD), !0, "there is nothing yet");
        assert_eq!(kernel.place(space, idx, one.gfn()), Ok(0));
        one.store(Place::<u32>::new(0xFF0), 5);
        assert_eq!(kernel.place(space, idx, one.gfn()), Ok(0), "it is there already");
        assert_eq!(kernel.place(space, idx, other.gfn()), Ok(0));
        assert_eq!(other.load(Place::<u32>::new(0xFF0)), 5);
        assert_eq!(one.load(WORD), !0);
        assert_eq!(kernel.remove(other.gfn()), Ok(0));
        assert_eq!(other.load(WORD), !0);
        assert_eq!(kernel.place(space, idx, one.gfn()), Ok(0));
        assert_eq!(one.load(Place::<u32>::new(0xFF0)), 5, "it has been Xen's all the time");
        assert_eq!(kernel.machine.check(), Ok(()));
    }
}

/// Two pages of Xen's at one place: the second takes it, and the first is nowhere.
#[test]
fn a_page_of_xens_is_put_over_another() {
    let kernel = small();
    let (place, other) = (kernel.hole(), kernel.hole());
    assert_eq!(kernel.place(XENMAPSPACE_SHARED_INFO, 0, place.gfn()), Ok(0));
    place.store(WORD, 3);
    assert_eq!(kernel.place(XENMAPSPACE_GRANT_TABLE, 1, place.gfn()), Ok(0));
    assert_eq!(place.load(WORD), 0);
    assert_eq!(kernel.place(XENMAPSPACE_SHARED_INFO, 0, other.gfn()), Ok(0));
    assert_eq!((place.load(WORD), other.load(WORD)), (0, 3));
    assert_eq!(kernel.machine.check(), Ok(()));
}

/// The grant table grows to the page that is put somewhere, and no further than it may.
#[test]
fn the_grant_table_grows_by_being_placed() {
    let kernel = small();
    let frames = || {
        let mut op = QuerySize { dom: DOMID_SELF, ..Default::default() };
        kernel.grant_op(GNTTABOP_QUERY_SIZE, &mut op).expect("it is known");
        op.nr_frames
    };
    let hole = kernel.hole();
    assert_eq!(frames(), 1);
    for beyond in [2, 3, 0x8000_0000, 0xFFFF_FFFF] {
        assert_eq!(
            kernel.place(XENMAPSPACE_GRANT_TABLE, beyond, hole.gfn()),
            Err(Errno::EINVAL),
            "{beyond:#x}"
        );
    }
    assert_eq!(frames(), 1);
    assert_eq!(kernel.place(XENMAPSPACE_GRANT_TABLE, 1, hole.gfn()), Ok(0));
    assert_eq!(frames(), 2);
    assert_eq!(kernel.place(XENMAPSPACE_GRANT_TABLE, 1 << 32, hole.gfn()), Ok(0), "32 bits of it count");
}

/// RAM is moved with what is in it; RAM that was where something is put is given to Xen.
#[test]
fn ram_is_moved_and_given_up() {
    let kernel = small();
    let (page, hole, covered) = (kernel.page(), kernel.hole(), kernel.page());
    let before = reserved(&kernel);
    page.store(WORD, 8);
    assert_eq!(kernel.place(XENMAPSPACE_GMFN, page.gfn().0, hole.gfn()), Ok(0));
    assert_eq!((page.load(WORD), hole.load(WORD)), (!0, 8));
    assert_eq!(kernel.place(XENMAPSPACE_GMFN, hole.gfn().0, hole.gfn()), Ok(0));
    assert_eq!((hole.load(WORD), reserved(&kernel)), (8, before));
    assert_eq!(kernel.place(XENMAPSPACE_GMFN, hole.gfn().0, covered.gfn()), Ok(0));
    assert_eq!((covered.load(WORD), reserved(&kernel)), (8, before - 1));
    assert_eq!(kernel.place(XENMAPSPACE_SHARED_INFO, 0, covered.gfn()), Ok(0));
    assert_eq!(reserved(&kernel), before - 2);
    assert_eq!(kernel.place(XENMAPSPACE_GMFN, covered.gfn().0, hole.gfn()), Ok(0), "so is a page of Xen's");
    assert_eq!(
        kernel.place(XENMAPSPACE_GMFN, page.gfn().0, hole.gfn()),
        Err(Errno::EACCES),
        "nothing is there"
    );
    assert_eq!(kernel.machine.check(), Ok(()));
}

/// What cannot be put somewhere, and where nothing can be.
#[test]
fn what_cannot_be_placed() {
    let kernel = small();
    let gfn = kernel.hole().gfn();
    for (space, idx, error) in [
        (XENMAPSPACE_SHARED_INFO, 1, Errno::EINVAL),
        (XENMAPSPACE_GMFN_FOREIGN, 0, Errno::ENOSYS),
        (XENMAPSPACE_DEV_MMIO, 0, Errno::EACCES),
        (6, 0, Errno::EINVAL),
        (u32::MAX, u64::MAX, Errno::EINVAL),
        (XENMAPSPACE_GMFN, u64::MAX, Errno::EACCES),
    ] {
        assert_eq!(kernel.place(space, idx, gfn), Err(error), "{space} {idx:#x}");
    }
    for place in [1 << 36, !0, !0 - 1] {
        assert_eq!(kernel.place(XENMAPSPACE_SHARED_INFO, 0, Gfn(place)), Err(Errno::EINVAL), "{place:#x}");
    }
    for (domid, error) in [(DomId(0), Errno::EPERM), (DomId(9), Errno::ESRCH)] {
        let op = AddToPhysmap { domid, gpfn: gfn.0, ..own() };
        assert_eq!(kernel.memory_op(XENMEM_ADD_TO_PHYSMAP, op), Err(error));
        let op = RemoveFromPhysmap { domid, gpfn: gfn.0, ..Default::default() };
        assert_eq!(kernel.memory_op(XENMEM_REMOVE_FROM_PHYSMAP, op), Err(error));
        for question in [XENMEM_CURRENT_RESERVATION, XENMEM_MAXIMUM_RESERVATION, XENMEM_MAXIMUM_GPFN] {
            assert_eq!(kernel.memory_op(question, Domain { domid }), Err(error));
        }
    }
    assert_eq!(kernel.remove(gfn), Err(Errno::ENOENT), "nothing is there");
}

fn words(frames: &[GuestFrame]) -> Vec<u32> {
    frames.iter().map(|frame| frame.load(WORD)).collect()
}

/// A range that overlaps itself is moved so that nothing is overwritten before it was moved, forwards or backwards.
#[test]
fn a_range_is_moved_over_itself() {
    const NOTHING: u32 = !0;
    let kernel = small();
    let frames: Vec<_> = (0..6).map(|_| kernel.page()).collect();
    let first = frames[0].gfn().0;
    for (word, frame) in (0..).zip(&frames) {
        frame.store(WORD, word);
    }
    let range = |idx, gpfn, size| AddToPhysmap { space: XENMAPSPACE_GMFN_RANGE, idx, gpfn, size, ..own() };
    assert_eq!(kernel.memory_op(XENMEM_ADD_TO_PHYSMAP, range(first, first + 1, 4)), Ok(0));
    assert_eq!(words(&frames), [NOTHING, 0, 1, 2, 3, 5]);
    assert_eq!(kernel.memory_op(XENMEM_ADD_TO_PHYSMAP, range(first + 1, first, 4)), Ok(0));
    assert_eq!(words(&frames), [0, 1, 2, 3, NOTHING, 5]);
    assert_eq!(kernel.memory_op(XENMEM_ADD_TO_PHYSMAP, range(first, first + 10, 0)), Ok(0));
    // It ends at what is not there.
    assert_eq!(kernel.memory_op(XENMEM_ADD_TO_PHYSMAP, range(first + 3, first + 10, 3)), Err(Errno::EACCES));
    assert_eq!(words(&frames), [0, 1, 2, NOTHING, NOTHING, 5]);
    for (idx, gpfn) in [(!0 - 1, 0), (0, !0 - 1)] {
        let answer = kernel.memory_op(XENMEM_ADD_TO_PHYSMAP, range(idx, gpfn, 2));
        assert_eq!(answer, Err(Errno::EOVERFLOW), "{idx:#x} {gpfn:#x}");
    }
    // It goes on where it was interrupted, but not behind its end.
    assert_eq!(kernel.memory_op(XENMEM_ADD_TO_PHYSMAP | from(1), range(first, first + 20, 2)), Ok(0));
    assert_eq!(words(&frames), [0, NOTHING, 2, NOTHING, NOTHING, 5]);
    let behind = kernel.memory_op(XENMEM_ADD_TO_PHYSMAP | from(3), range(first, first + 20, 2));
    assert_eq!(behind, Err(Errno::EILSEQ));
    let absurd = kernel.memory_op(XENMEM_ADD_TO_PHYSMAP | from(0x1_0000), range(first, first + 20, 2));
    assert_eq!(absurd, Err(Errno::EDOM));
}

/// A batch says of each page how it went, and the call succeeds.
#[test]
fn a_batch_says_how_each_went() {
    let kernel = small();
    let (page, hole) = (kernel.page(), kernel.hole());
    let batch = |space: u32, idxs: &[u64], gpfns: &[u64], foreign: u16, start: u64| {
        let mut arena = Arena::new(ARGUMENTS, LENGTH);
        let (gpfns_at, errs) = (ARRAYS + 0x100, ARRAYS + 0x200);
        arena.put(ARRAYS, idxs).expect("they fit");
        arena.put(gpfns_at, gpfns).expect("they fit");
        let mut op = AddToPhysmapBatch {
            domid: DOMID_SELF,
            space: u16::try_from(space).expect("it is small"),
            size: u16::try_from(idxs.len()).expect("they are few"),
            u: DomId(foreign),
            idxs: ARRAYS,
            gpfns: gpfns_at,
            errs,
        };
        let command = XENMEM_ADD_TO_PHYSMAP_BATCH | from(start);
        let answer = kernel.call(MEMORY_OP, command, 0, &mut op, &mut arena);
        let errors = (0..idxs.len() as u64).map(|index| arena.get(errs + index * 4).expect("they fit"));
        (answer, errors.collect::<Vec<i32>>())
    };
    let move_two = batch(XENMAPSPACE_GMFN, &[page.gfn().0, 1], &[hole.gfn().0, hole.gfn().0], 0, 0);
    assert_eq!(move_two, (Ok(0), vec![0, -13]));
    assert_eq!(batch(XENMAPSPACE_SHARED_INFO, &[0], &[!0], 0, 0).0, Err(Errno::EINVAL));
    assert_eq!(batch(XENMAPSPACE_GMFN_RANGE, &[0], &[0], 0, 0).0, Err(Errno::EOPNOTSUPP));
    assert_eq!(batch(XENMAPSPACE_DEV_MMIO, &[0], &[0], 0, 0).0, Err(Errno::EACCES));
    for (foreign, error) in [(0, -1), (kernel.guest.domain(), -1), (9, -3)] {
        let answer = batch(XENMAPSPACE_GMFN_FOREIGN, &[0], &[hole.gfn().0], foreign, 0);
        assert_eq!(answer, (Ok(0), vec![error]), "{foreign}");
    }
    assert_eq!(batch(XENMAPSPACE_SHARED_INFO, &[], &[], 0, 0).0, Ok(0), "nothing is to be done");
    assert_eq!(batch(XENMAPSPACE_SHARED_INFO, &[0], &[0], 0, 1).0, Err(Errno::EILSEQ), "all is done");
    assert_eq!(batch(XENMAPSPACE_SHARED_INFO, &[0], &[0], 0, 1 << 20).0, Err(Errno::EDOM));
    let skipped = batch(XENMAPSPACE_SHARED_INFO, &[7, 0], &[0, hole.gfn().0], 0, 1);
    assert_eq!(skipped, (Ok(0), vec![0, 0]));
}

/// Arguments that are not there are faults, and unknown commands are unknown; an HVM guest finds no memory map.
#[test]
fn other_memory_commands() {
    let kernel = small();
    for command in [
        XENMEM_ADD_TO_PHYSMAP,
        XENMEM_ADD_TO_PHYSMAP_BATCH,
        XENMEM_REMOVE_FROM_PHYSMAP,
        XENMEM_CURRENT_RESERVATION,
        XENMEM_MAXIMUM_RESERVATION,
        XENMEM_MAXIMUM_GPFN,
    ] {
        for address in [0, ARGUMENTS + LENGTH as u64 - 1, u64::MAX] {
            let arena = &mut Arena::new(ARGUMENTS, LENGTH);
            let answer = kernel.guest.call_in(arena, MEMORY_OP, [command, address, 0, 0, 0]);
            assert_eq!(Errno::check(answer), Err(Errno::EFAULT), "{command} {address:#x}");
        }
    }
    for command in [XENMEM_REMOVE_FROM_PHYSMAP, XENMEM_CURRENT_RESERVATION, XENMEM_MAXIMUM_GPFN] {
        assert_eq!(kernel.memory_op(command | from(1), [0_u64; 4]), Err(Errno::EINVAL), "{command}");
    }
    for command in [2, 5, 8, 10, 11, 12, 13, 16, 24, 63] {
        assert_eq!(kernel.memory_op(command, [0_u64; 4]), Err(Errno::ENOSYS), "{command}");
    }
    assert_eq!(kernel.memory_op(XENMEM_MEMORY_MAP, MemoryMap::default()), Err(Errno::ENOSYS));
    let highest = kernel.memory_op(XENMEM_MAXIMUM_GPFN, Domain { domid: DOMID_SELF });
    assert_eq!(highest, Ok(0xF_EFFF), "the console's ring");
    let page = kernel.page();
    let highest = kernel.memory_op(XENMEM_MAXIMUM_GPFN, Domain { domid: DOMID_SELF });
    assert_eq!(highest, Ok(page.gfn().0));
}
