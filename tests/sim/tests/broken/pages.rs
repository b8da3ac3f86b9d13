//! Guests that do something wrong with their pages.

use xen_abi::{
    GrantRef,
    memory::{XENMAPSPACE_SHARED_INFO, XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP},
    seam::{Access as _, Place},
};
use xen_sim::Access;

use crate::{
    kernel::{Kernel, grant, revoke},
    others::{map, unmap},
};

const REF: GrantRef = GrantRef(9);
const WORD: Place<u32> = Place::new(0);

pub(crate) fn freed_granted(kernel: &Kernel, wrong: bool) {
    let table = kernel.table();
    let page = kernel.page();
    grant(&table, REF, 0, page.gfn(), 0);
    if wrong {
        kernel.free(page);
        revoke(&table, REF).expect("nobody uses it");
    } else {
        revoke(&table, REF).expect("nobody uses it");
        kernel.free(page);
    }
    kernel.end(table);
}

pub(crate) fn freed_mapped(kernel: &Kernel, wrong: bool) {
    let dom0 = kernel.machine.dom0();
    let table = kernel.table();
    let page = kernel.page();
    grant(&table, REF, 0, page.gfn(), 0);
    let mapping = dom0.map(&kernel.guest, REF, Access::Write).expect("it is granted");
    if wrong {
        kernel.free(page);
        dom0.write(mapping, 0, b"for whoever has it now").expect("a backend does not know");
        dom0.unmap(mapping).expect("it is mapped");
        revoke(&table, REF).expect("nobody uses it");
    } else {
        dom0.unmap(mapping).expect("it is mapped");
        revoke(&table, REF).expect("nobody uses it");
        kernel.free(page);
    }
    kernel.end(table);
}

pub(crate) fn freed_backed(kernel: &Kernel, wrong: bool) {
    let hole = kernel.hole();
    let gfn = hole.gfn();
    assert_eq!(kernel.place(XENMAPSPACE_SHARED_INFO, 0, gfn), Ok(0));
    if !wrong {
        assert_eq!(kernel.remove(gfn), Ok(0));
    }
    kernel.free(hole);
}

pub(crate) fn freed_hollow(kernel: &Kernel, wrong: bool) {
    let page = kernel.page();
    assert_eq!(kernel.extents(XENMEM_DECREASE_RESERVATION, 0, &[page.gfn().0]), 1);
    if !wrong {
        assert_eq!(kernel.extents(XENMEM_POPULATE_PHYSMAP, 0, &[page.gfn().0]), 1);
    }
    kernel.free(page);
}

pub(crate) fn freed_twice(kernel: &Kernel, wrong: bool) {
    let page = kernel.page();
    let again = kernel.again(&page);
    kernel.free(page);
    if wrong {
        kernel.free(again);
    }
}

pub(crate) fn freed_foreign(kernel: &Kernel, wrong: bool) {
    let page = kernel.beside().page();
    if wrong {
        kernel.free(page);
    }
}

pub(crate) fn touched_freed(kernel: &Kernel, wrong: bool) {
    let page = kernel.page();
    let again = kernel.again(&page);
    page.store(WORD, 1);
    kernel.free(page);
    if wrong {
        again.store(WORD, 2);
    }
}

pub(crate) fn touched_hole(kernel: &Kernel, wrong: bool) {
    let hole = kernel.hole();
    if wrong {
        hole.store(WORD, 1);
        assert_eq!(hole.load(WORD), !0, "nothing is there");
    }
    kernel.free(hole);
}

pub(crate) fn wrote_read_only(kernel: &Kernel, wrong: bool) {
    let other = kernel.beside();
    let (table, page, hole) = (other.table(), other.page(), kernel.hole());
    grant(&table, REF, kernel.guest.domain(), page.gfn(), 0);
    let handle = map(kernel, &other, REF, hole.gfn(), Access::Read).expect("it is granted");
    assert_eq!(hole.load(WORD), 0);
    if wrong {
        hole.store(WORD, 7);
        assert_eq!(page.load(WORD), 0, "what is written is gone");
    }
    unmap(kernel, handle, hole.gfn()).expect("it is mapped");
    kernel.free(hole);
}
