//! `GNTTABOP_copy`, and its order of checks.

use xen_abi::{
    DomId, GrantRef,
    domid::DOMID_SELF,
    grant_table::{
        FLAGS, GTF_PERMIT_ACCESS, GTF_READONLY, GTF_SUB_PAGE,
        op::{CopyPtr, GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF, GNTTABOP_COPY, GrantCopy},
        status::GrantError,
    },
    hypercall::GRANT_TABLE_OP,
    seam::{Access as _, Gfn},
};
use xen_sim::{Arena, GuestFrame};

use crate::{
    kernel::{ARGUMENTS, Kernel, LENGTH, grant},
    small,
};

const REF: GrantRef = GrantRef(9);
const BYTES: &[u8] = b"twelve bytes";

struct Two {
    me: Kernel,
    other: Kernel,
    own: GuestFrame,
    theirs: GuestFrame,
    table: GuestFrame,
}

impl Two {
    fn new(flags: u16) -> Self {
        let me = small();
        let other = me.beside();
        let (own, theirs, table) = (me.page(), other.page(), other.table());
        grant(&table, REF, me.guest.domain(), theirs.gfn(), flags);
        Self { me, other, own, theirs, table }
    }

    fn granted(&self, reference: u32, offset: u16) -> CopyPtr {
        CopyPtr::granted(GrantRef(reference), DomId(self.other.guest.domain()), offset)
    }

    fn own(&self, offset: u16) -> CopyPtr {
        CopyPtr::frame(self.own.gfn().0, DOMID_SELF, offset)
    }

    fn copy(&self, source: CopyPtr, dest: CopyPtr, len: u16, flags: u16) -> Result<(), GrantError> {
        let mut op = GrantCopy { source, dest, len, flags, status: 1, padding: 0 };
        assert_eq!(self.me.grant_op(GNTTABOP_COPY, &mut op), Ok(0));
        assert_eq!(self.me.machine.check(), Ok(()));
        let place = FLAGS.get(REF.0 as usize).expect("it is in the first page");
        assert_eq!(self.table.load(place) & !GTF_READONLY, GTF_PERMIT_ACCESS, "nothing is left in use");
        GrantError::check(op.status)
    }
}

fn bytes(frame: &GuestFrame, offset: usize) -> [u8; 12] {
    let mut bytes = [0; 12];
    frame.read_bytes(offset, &mut bytes).expect("they lie in the page");
    bytes
}

/// From a grant to an own page, back at another offset, and from page to page of one's own.
#[test]
fn bytes_are_copied_either_way() {
    let two = Two::new(0);
    two.theirs.write_bytes(100, BYTES).expect("they lie in the page");
    assert_eq!(two.copy(two.granted(9, 100), two.own(200), 12, GNTCOPY_SOURCE_GREF), Ok(()));
    assert_eq!(bytes(&two.own, 200), BYTES);
    assert_eq!(two.copy(two.own(200), two.granted(9, 4084), 12, GNTCOPY_DEST_GREF), Ok(()));
    assert_eq!(bytes(&two.theirs, 4084), BYTES);
    assert_eq!(two.copy(two.own(200), two.own(206), 12, 0), Ok(()));
    assert_eq!(bytes(&two.own, 206), BYTES, "overlapping, they are as they were before");
    let (from, to) = (two.granted(9, 100), two.granted(9, 0));
    assert_eq!(two.copy(from, to, 12, GNTCOPY_SOURCE_GREF | GNTCOPY_DEST_GREF), Ok(()));
    assert_eq!(bytes(&two.theirs, 0), BYTES);
}

/// Nothing is to be copied: nothing else is looked at.
#[test]
fn no_bytes_can_always_be_copied() {
    let two = Two::new(0);
    let nobody = CopyPtr::frame(!0, DomId(99), 0xFFFF);
    assert_eq!(two.copy(nobody, nobody, 0, 0), Ok(()));
}

/// Whose it is: another domain is named with a grant only, and is there. The source is looked at first.
#[test]
fn the_domain_of_a_side() {
    let two = Two::new(0);
    let foreign = CopyPtr::frame(two.theirs.gfn().0, DomId(two.other.guest.domain()), 0);
    let nobody = CopyPtr::granted(REF, DomId(99), 0);
    let own_by_number = CopyPtr::frame(two.own.gfn().0, DomId(two.me.guest.domain()), 0);
    assert_eq!(two.copy(foreign, two.own(0), 1, 0), Err(GrantError::PERMISSION_DENIED));
    assert_eq!(two.copy(two.own(0), foreign, 1, 0), Err(GrantError::PERMISSION_DENIED));
    assert_eq!(two.copy(own_by_number, two.own(0), 1, 0), Err(GrantError::PERMISSION_DENIED));
    assert_eq!(two.copy(nobody, two.own(0), 1, GNTCOPY_SOURCE_GREF), Err(GrantError::BAD_DOMAIN));
    assert_eq!(two.copy(two.own(0), nobody, 1, GNTCOPY_DEST_GREF), Err(GrantError::BAD_DOMAIN));
    assert_eq!(two.copy(foreign, nobody, 1, GNTCOPY_DEST_GREF), Err(GrantError::PERMISSION_DENIED));
}

/// The page of a side: a grant that permits it, or a frame at which there is something.
#[test]
fn the_page_of_a_side() {
    let two = Two::new(GTF_READONLY);
    let nowhere = CopyPtr::frame(two.me.hole().gfn().0, DOMID_SELF, 0);
    let absurd = CopyPtr::frame(u64::MAX, DOMID_SELF, 0);
    assert_eq!(two.copy(nowhere, two.own(0), 1, 0), Err(GrantError::BAD_PAGE));
    assert_eq!(two.copy(two.own(0), nowhere, 1, 0), Err(GrantError::BAD_PAGE));
    assert_eq!(two.copy(absurd, two.own(0), 1, 0), Err(GrantError::BAD_PAGE));
    let from = |reference| two.copy(two.granted(reference, 0), two.own(0), 1, GNTCOPY_SOURCE_GREF);
    assert_eq!(from(9), Ok(()), "it may be read");
    assert_eq!(from(10), Err(GrantError::GENERAL_ERROR), "it is not valid");
    assert_eq!(from(512), Err(GrantError::BAD_GNTREF), "the table has one page");
    let to = two.copy(two.own(0), two.granted(9, 0), 1, GNTCOPY_DEST_GREF);
    assert_eq!(to, Err(GrantError::GENERAL_ERROR), "it may not be written to");
    grant(&two.table, GrantRef(11), two.me.guest.domain(), Gfn(0x5_0000), 0);
    assert_eq!(from(11), Err(GrantError::BAD_PAGE), "it is about nothing");
    grant(&two.table, GrantRef(12), 0, two.theirs.gfn(), 0);
    assert_eq!(from(12), Err(GrantError::GENERAL_ERROR), "it is for another");
    grant(&two.table, GrantRef(13), two.me.guest.domain(), two.theirs.gfn(), GTF_SUB_PAGE);
    assert_eq!(from(13), Ok(()), "of a part of a page, version 1 knows only that it must not be mapped");
}

/// The bytes lie in one page on either side; that is looked at last.
#[test]
fn the_bytes_of_a_side() {
    let two = Two::new(0);
    let from = |offset, len| two.copy(two.granted(9, offset), two.own(0), len, GNTCOPY_SOURCE_GREF);
    let to = |offset, len| two.copy(two.own(0), two.granted(9, offset), len, GNTCOPY_DEST_GREF);
    for (offset, len) in [(4096, 1), (4095, 2), (0, 4097), (0xFFFF, 0xFFFF), (1, 4096)] {
        assert_eq!(from(offset, len), Err(GrantError::BAD_COPY_ARG), "{offset} {len}");
        assert_eq!(to(offset, len), Err(GrantError::BAD_COPY_ARG), "{offset} {len}");
    }
    assert_eq!(from(0, 4096), Ok(()));
    assert_eq!(to(4095, 1), Ok(()));
    let beyond = two.granted(10, 4096);
    let both = two.copy(beyond, two.own(0), 1, GNTCOPY_SOURCE_GREF);
    assert_eq!(both, Err(GrantError::GENERAL_ERROR), "the grant comes first");
}

/// Only the status is written back, of each argument its own.
#[test]
fn a_batch_of_copies() {
    let two = Two::new(0);
    let op = |source, flags| GrantCopy { source, dest: two.own(0), len: 1, flags, status: 1, padding: 0 };
    let mut ops = [op(two.granted(9, 0), GNTCOPY_SOURCE_GREF), op(two.granted(9, 4096), GNTCOPY_SOURCE_GREF)];
    let before = ops;
    let mut arena = Arena::new(ARGUMENTS, LENGTH);
    assert_eq!(two.me.call(GRANT_TABLE_OP, GNTTABOP_COPY, 2, &mut ops, &mut arena), Ok(0));
    let expected = [GrantCopy { status: 0, ..before[0] }, GrantCopy { status: -10, ..before[1] }];
    assert_eq!(ops, expected);
}
