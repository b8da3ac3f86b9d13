//! `GNTTABOP_map_grant_ref` and `GNTTABOP_unmap_grant_ref`, between two guests.

use xen_abi::{
    DomId, Errno, GrantRef,
    domid::DOMID_SELF,
    grant_table::{
        FLAGS, GTF_ACCEPT_TRANSFER, GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY, GTF_SUB_PAGE, GTF_WRITING,
        op::{
            GNTMAP_APPLICATION_MAP, GNTMAP_CONTAINS_PTE, GNTMAP_DEVICE_MAP, GNTMAP_HOST_MAP, GNTMAP_READONLY,
            GNTTABOP_MAP_GRANT_REF, GNTTABOP_UNMAP_GRANT_REF, GrantHandle, MapGrantRef, UnmapGrantRef,
        },
        status::GrantError,
    },
    hypercall::GRANT_TABLE_OP,
    memory::{
        XENMAPSPACE_GMFN, XENMAPSPACE_SHARED_INFO, XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP,
    },
    seam::{Access as _, Gfn, Place},
};
use xen_sim::{Access, Arena, GuestFrame};

use crate::{
    kernel::{ARGUMENTS, Kernel, LENGTH, grant, revoke},
    small,
};

const REF: GrantRef = GrantRef(9);
const WORD: Place<u32> = Place::new(8);

/// One guest that grants, and one that maps.
struct Two {
    granter: Kernel,
    mapper: Kernel,
    table: GuestFrame,
    page: GuestFrame,
}

impl Two {
    fn new(flags: u16) -> Self {
        let mapper = small();
        let granter = mapper.beside();
        let (table, page) = (granter.table(), granter.page());
        grant(&table, REF, mapper.guest.domain(), page.gfn(), flags);
        Self { granter, mapper, table, page }
    }

    fn op(&self, at: Gfn) -> MapGrantRef {
        MapGrantRef {
            host_addr: at.0 << 12,
            flags: GNTMAP_HOST_MAP,
            r#ref: REF,
            dom: DomId(self.granter.guest.domain()),
            status: 1,
            ..Default::default()
        }
    }

    fn map(&self, mut op: MapGrantRef) -> Result<GrantHandle, GrantError> {
        assert_eq!(self.mapper.grant_op(GNTTABOP_MAP_GRANT_REF, &mut op), Ok(0));
        assert_eq!(self.mapper.machine.check(), Ok(()));
        GrantError::check(op.status).map(|()| op.handle)
    }

    fn unmap(&self, handle: GrantHandle, host_addr: u64) -> Result<(), GrantError> {
        let mut op = UnmapGrantRef { host_addr, handle, status: 1, ..Default::default() };
        assert_eq!(self.mapper.grant_op(GNTTABOP_UNMAP_GRANT_REF, &mut op), Ok(0));
        assert_eq!(self.mapper.machine.check(), Ok(()));
        GrantError::check(op.status)
    }

    fn flags(&self) -> u16 {
        self.table.load(FLAGS.get(REF.0 as usize).expect("it is in the first page"))
    }
}

/// Both guests see the same bytes, and the granter sees by two bits of the entry what its page is used for.
#[test]
fn a_mapped_page_is_the_granters() {
    let two = Two::new(0);
    let hole = two.mapper.hole();
    two.page.store(WORD, 1);
    let handle = two.map(two.op(hole.gfn())).expect("it is granted");
    assert_eq!(two.flags(), GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING);
    assert_eq!(hole.load(WORD), 1);
    hole.store(WORD, 2);
    assert_eq!(two.page.load(WORD), 2);
    assert_eq!(revoke(&two.table, REF), Err(GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING));
    two.unmap(handle, hole.gfn().0 << 12).expect("it is mapped");
    assert_eq!(two.flags(), GTF_PERMIT_ACCESS);
    assert_eq!(hole.load(WORD), !0, "there is nothing any more");
}

/// The bits say what the page is used for by all who use it: the one for writing goes with the last who may write.
#[test]
fn the_bits_of_an_entry_are_those_of_all_its_mappings() {
    let two = Two::new(0);
    let holes = [two.mapper.hole(), two.mapper.hole(), two.mapper.hole()];
    let read =
        |hole: &GuestFrame| MapGrantRef { flags: GNTMAP_HOST_MAP | GNTMAP_READONLY, ..two.op(hole.gfn()) };
    let first = two.map(read(&holes[0])).expect("it is granted");
    assert_eq!(two.flags(), GTF_PERMIT_ACCESS | GTF_READING);
    let second = two.map(two.op(holes[1].gfn())).expect("it is granted");
    let third = two.map(read(&holes[2])).expect("it is granted");
    assert_eq!(two.flags(), GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING);
    two.unmap(first, holes[0].gfn().0 << 12).expect("it is mapped");
    assert_eq!(two.flags(), GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING);
    two.unmap(second, holes[1].gfn().0 << 12).expect("it is mapped");
    assert_eq!(two.flags(), GTF_PERMIT_ACCESS | GTF_READING);
    let first = two.map(read(&holes[0])).expect("it is granted");
    two.unmap(first, holes[0].gfn().0 << 12).expect("it is mapped");
    assert_eq!(two.flags(), GTF_PERMIT_ACCESS | GTF_READING);
    two.unmap(third, holes[2].gfn().0 << 12).expect("it is mapped");
    assert_eq!(two.flags(), GTF_PERMIT_ACCESS);
}

/// What a request says decides before what the granter's table says, in the order of the argument's fields.
#[test]
fn a_request_that_cannot_be() {
    let two = Two::new(0);
    let op = two.op(two.mapper.hole().gfn());
    for (flags, status) in [
        // Neither for processors nor for devices.
        (0, GrantError::BAD_GNTREF),
        (GNTMAP_READONLY, GrantError::BAD_GNTREF),
        // What an HVM guest has no use for.
        (GNTMAP_DEVICE_MAP, GrantError::GENERAL_ERROR),
        (GNTMAP_HOST_MAP | GNTMAP_DEVICE_MAP, GrantError::GENERAL_ERROR),
        (GNTMAP_HOST_MAP | GNTMAP_APPLICATION_MAP, GrantError::GENERAL_ERROR),
        (GNTMAP_HOST_MAP | GNTMAP_CONTAINS_PTE, GrantError::GENERAL_ERROR),
        (GNTMAP_HOST_MAP | 1 << 16, GrantError::GENERAL_ERROR),
    ] {
        assert_eq!(two.map(MapGrantRef { flags, ..op }), Err(status), "{flags:#x}");
    }
    for (dom, status) in [
        (DomId(9), GrantError::BAD_DOMAIN),
        (DOMID_SELF, GrantError::BAD_DOMAIN),
        // The control domain grants nothing.
        (DomId(0), GrantError::GENERAL_ERROR),
    ] {
        assert_eq!(two.map(MapGrantRef { dom, ..op }), Err(status), "{dom}");
    }
    assert_eq!(
        two.map(MapGrantRef { dom: DomId(0), r#ref: GrantRef(512), ..op }),
        Err(GrantError::BAD_GNTREF)
    );
    assert_eq!(two.flags(), GTF_PERMIT_ACCESS, "nothing was left in use");
}

/// The entry decides: that it is there, that it is for this domain, for this use, and that it is about a page.
#[test]
fn an_entry_that_does_not_permit_it() {
    let two = Two::new(GTF_READONLY);
    let op = two.op(two.mapper.hole().gfn());
    let at = |reference| MapGrantRef { r#ref: GrantRef(reference), ..op };
    assert_eq!(two.map(at(512)), Err(GrantError::BAD_GNTREF), "the table has one page");
    assert_eq!(two.map(at(u32::MAX)), Err(GrantError::BAD_GNTREF));
    assert_eq!(two.map(op), Err(GrantError::GENERAL_ERROR), "it is read-only");
    assert_eq!(two.map(at(10)), Err(GrantError::GENERAL_ERROR), "it is not valid");

    let me = two.mapper.guest.domain();
    let entry = |reference, to, page, flags| grant(&two.table, GrantRef(reference), to, page, flags);
    entry(11, 0, two.page.gfn(), 0);
    assert_eq!(two.map(at(11)), Err(GrantError::GENERAL_ERROR), "it is for another");
    entry(12, me, two.page.gfn(), GTF_ACCEPT_TRANSFER);
    assert_eq!(two.map(at(12)), Err(GrantError::GENERAL_ERROR), "it is of another type");
    entry(13, me, two.page.gfn(), GTF_SUB_PAGE);
    assert_eq!(two.map(at(13)), Err(GrantError::GENERAL_ERROR), "it is for a part of the page");
    entry(14, me, two.granter.hole().gfn(), 0);
    assert_eq!(two.map(at(14)), Err(GrantError::BAD_PAGE), "it is about nothing");
    for reference in [9, 11, 12, 13, 14] {
        let flags = two.table.load(FLAGS.get(reference).expect("it is in the first page"));
        assert_eq!(flags & (GTF_READING | GTF_WRITING), 0, "{reference} was left in use");
    }
}

/// Who uses an entry for reading may use it for writing later, if it permits that now; another domain may not use it at all.
#[test]
fn an_entry_in_use_is_asked_again_only_for_writing() {
    let two = Two::new(0);
    let holes = [two.mapper.hole(), two.mapper.hole(), two.mapper.hole()];
    let read = MapGrantRef { flags: GNTMAP_HOST_MAP | GNTMAP_READONLY, ..two.op(holes[0].gfn()) };
    two.map(read).expect("it is granted");
    assert_eq!(
        two.granter.machine.dom0().map(&two.granter.guest, REF, Access::Read),
        Err(GrantError::GENERAL_ERROR)
    );
    let place = FLAGS.get(REF.0 as usize).expect("it is in the first page");
    two.table.fetch_or(place, GTF_READONLY);
    assert_eq!(two.map(two.op(holes[1].gfn())), Err(GrantError::GENERAL_ERROR), "it is read-only now");
    let more = MapGrantRef { host_addr: holes[2].gfn().0 << 12, ..read };
    let handle = two.map(more).expect("to be read is not to be written to");
    two.unmap(handle, more.host_addr).expect("it is mapped");
    two.table.fetch_and(place, !GTF_READONLY);
    two.map(two.op(holes[1].gfn())).expect("it is writable again");
    // Even what is no longer valid: it is in use.
    two.table.store(place, 0);
    two.map(more).expect("it is in use, and known");
}

/// A page that is not the granter's own cannot be mapped on; but it can be copied.
#[test]
fn a_mapped_page_cannot_be_mapped_on() {
    let two = Two::new(0);
    let (hole, table) = (two.mapper.hole(), two.mapper.table());
    two.map(two.op(hole.gfn())).expect("it is granted");
    grant(&table, REF, 0, hole.gfn(), 0);
    let third = two.mapper.machine.dom0().map(&two.mapper.guest, REF, Access::Read);
    assert_eq!(third, Err(GrantError::GENERAL_ERROR));
    two.page.store(WORD, 0x0403_0201);
    let mut bytes = [0; 4];
    let dom0 = two.mapper.machine.dom0();
    dom0.copy_from(&two.mapper.guest, REF, WORD.offset(), &mut bytes).expect("it is granted");
    assert_eq!(bytes, [1, 2, 3, 4]);
}

/// A page is mapped at a place that there is, over whatever was there, but not over another mapping; what was RAM is lost.
#[test]
fn the_place_of_a_mapping() {
    let two = Two::new(0);
    let (hole, page) = (two.mapper.hole(), two.mapper.page());
    for address in [1 << 48, u64::MAX] {
        let op = MapGrantRef { host_addr: address, ..two.op(hole.gfn()) };
        assert_eq!(two.map(op), Err(GrantError::GENERAL_ERROR), "{address:#x}");
    }
    let op = two.op(hole.gfn());
    let inside =
        two.map(MapGrantRef { host_addr: op.host_addr + 0x123, ..op }).expect("a page's address is enough");
    assert_eq!(two.map(op), Err(GrantError::GENERAL_ERROR), "something is mapped there");
    two.page.store(WORD, 5);
    let over = two.map(two.op(page.gfn())).expect("it is granted");
    assert_eq!((hole.load(WORD), page.load(WORD)), (5, 5));
    two.unmap(over, page.gfn().0 << 12).expect("it is mapped");
    assert_eq!(page.load(WORD), !0, "the RAM that was there is nowhere");
    two.unmap(inside, op.host_addr).expect("it is mapped");
}

/// A domain can have so many mappings, and an entry 128 of each kind.
#[test]
fn there_is_room_for_so_many_mappings() {
    let two = Two::new(0);
    let holes = [two.mapper.hole(), two.mapper.hole(), two.mapper.hole(), two.mapper.hole()];
    let handles = holes[..3].iter().map(|hole| two.map(two.op(hole.gfn())).expect("there is room for three"));
    let handles: Vec<_> = handles.collect();
    assert_eq!(two.map(two.op(holes[3].gfn())), Err(GrantError::NO_SPACE));
    two.unmap(handles[0], holes[0].gfn().0 << 12).expect("it is mapped");
    two.map(two.op(holes[3].gfn())).expect("there is room again");

    let kernel = small();
    let (table, page, dom0) = (kernel.table(), kernel.page(), kernel.machine.dom0());
    grant(&table, REF, 0, page.gfn(), 0);
    for access in [Access::Read, Access::Write] {
        for _ in 0..128 {
            dom0.map(&kernel.guest, REF, access).expect("its counter has eight bits, and one more must fit");
        }
        assert_eq!(dom0.map(&kernel.guest, REF, access), Err(GrantError::GENERAL_ERROR));
    }
}

/// What is unmapped has to be a mapping, and where it is said to be. A place of zero is none, and does nothing.
#[test]
fn unmapping_what_is_not_mapped() {
    let two = Two::new(0);
    let (hole, other) = (two.mapper.hole(), two.mapper.page());
    let handle = two.map(two.op(hole.gfn())).expect("it is granted");
    let at = hole.gfn().0 << 12;
    for bad in [handle.0 + 1, u32::MAX] {
        assert_eq!(two.unmap(GrantHandle(bad), at), Err(GrantError::BAD_HANDLE), "{bad}");
    }
    for place in [other.gfn().0 << 12, two.mapper.hole().gfn().0 << 12, u64::MAX] {
        assert_eq!(two.unmap(handle, place), Err(GrantError::GENERAL_ERROR), "{place:#x}");
    }
    let another = two.granter.page();
    grant(&two.table, GrantRef(10), two.mapper.guest.domain(), another.gfn(), 0);
    let elsewhere = two.mapper.hole();
    let op = MapGrantRef { r#ref: GrantRef(10), ..two.op(elsewhere.gfn()) };
    two.map(op).expect("it is granted");
    assert_eq!(two.unmap(handle, op.host_addr), Err(GrantError::GENERAL_ERROR), "another page is there");
    assert_eq!(two.unmap(handle, 0), Ok(()));
    assert_eq!(two.flags(), GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING, "it is mapped as before");
    assert_eq!(two.unmap(handle, at), Ok(()));
    assert_eq!(two.unmap(handle, at), Err(GrantError::BAD_HANDLE), "only once");
}

/// A place that the guest has emptied by other means is no longer the mapping's: it cannot be unmapped any more.
#[test]
fn a_mapping_that_was_taken_out_by_other_means_is_lost() {
    let two = Two::new(0);
    let hole = two.mapper.hole();
    let handle = two.map(two.op(hole.gfn())).expect("it is granted");
    assert_eq!(
        two.mapper.extents(XENMEM_DECREASE_RESERVATION, 0, &[hole.gfn().0]),
        0,
        "it is not the guest's"
    );
    assert_eq!(two.mapper.remove(hole.gfn()), Ok(0));
    assert_eq!(two.unmap(handle, hole.gfn().0 << 12), Err(GrantError::GENERAL_ERROR));
    assert_eq!(two.flags(), GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING);
}

/// Nothing else can be put where another domain's page is mapped.
#[test]
fn a_mapping_is_not_overwritten() {
    let two = Two::new(0);
    let (hole, page) = (two.mapper.hole(), two.mapper.page());
    let handle = two.map(two.op(hole.gfn())).expect("it is granted");
    for (space, idx) in [(XENMAPSPACE_SHARED_INFO, 0), (XENMAPSPACE_GMFN, page.gfn().0)] {
        assert_eq!(two.mapper.place(space, idx, hole.gfn()), Err(Errno::ENXIO), "{space}");
    }
    assert_eq!(two.mapper.place(XENMAPSPACE_GMFN, hole.gfn().0, page.gfn()), Err(Errno::EACCES), "nor moved");
    assert_eq!(two.mapper.extents(XENMEM_POPULATE_PHYSMAP, 0, &[hole.gfn().0]), 0);
    two.unmap(handle, hole.gfn().0 << 12).expect("it is mapped");
}

/// Each argument of a batch has its own outcome, and the call succeeds; one that is not there ends it, and what was done before
/// stays done.
#[test]
fn a_batch_goes_on_after_an_error_and_ends_at_a_fault() {
    let two = Two::new(0);
    let (first, last) = (two.mapper.hole(), two.mapper.hole());
    let mut arena = Arena::new(ARGUMENTS, LENGTH);
    let bad = MapGrantRef { r#ref: GrantRef(10), ..two.op(first.gfn()) };
    let mut ops = [two.op(first.gfn()), bad, two.op(last.gfn())];
    let answer = two.mapper.call(GRANT_TABLE_OP, GNTTABOP_MAP_GRANT_REF, 3, &mut ops, &mut arena);
    assert_eq!(answer, Ok(0));
    assert_eq!(ops.map(|op| op.status), [0, GrantError::GENERAL_ERROR.number(), 0]);
    assert_ne!(ops[0].handle, ops[2].handle);

    let mut unmaps = [&ops[0], &ops[2]].map(|op| UnmapGrantRef {
        host_addr: op.host_addr,
        handle: op.handle,
        status: 1,
        ..Default::default()
    });
    // There is room for one and a half.
    let mut arena = Arena::new(ARGUMENTS, 36);
    arena.put(ARGUMENTS, &unmaps[0]).expect("it fits");
    let arguments = [GNTTABOP_UNMAP_GRANT_REF, ARGUMENTS, 2, 0, 0];
    assert_eq!(two.mapper.guest.call_in(&mut arena, GRANT_TABLE_OP, arguments), -14);
    unmaps[0] = arena.get(ARGUMENTS).expect("it is there");
    assert_eq!(unmaps[0].status, 0);
    assert_eq!(last.load(WORD), 0, "it is mapped still");
    assert_eq!(two.mapper.machine.check(), Ok(()));
}
