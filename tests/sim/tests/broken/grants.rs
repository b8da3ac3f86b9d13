//! Guests that do something wrong with their grant table.

use xen_abi::{
    DomId, GrantRef,
    grant_table::{ENTRIES, FLAGS, FRAME, GTF_PERMIT_ACCESS, GTF_READING, GTF_WRITING, GrantEntryV1},
    seam::{Access as _, Place},
};
use xen_sim::Access;

use crate::kernel::{Kernel, grant, revoke};

const REF: GrantRef = GrantRef(9);
const INDEX: usize = 9;

fn flags() -> Place<u16> {
    FLAGS.get(INDEX).expect("it is in the first page")
}

pub(crate) fn granted_freed(kernel: &Kernel, wrong: bool) {
    let table = kernel.table();
    let page = kernel.page();
    let gfn = page.gfn();
    if wrong {
        kernel.free(page);
        grant(&table, REF, 0, gfn, 0);
        revoke(&table, REF).expect("nobody uses it");
    } else {
        grant(&table, REF, 0, gfn, 0);
        revoke(&table, REF).expect("nobody uses it");
        kernel.free(page);
    }
    kernel.end(table);
}

pub(crate) fn granted_foreign(kernel: &Kernel, wrong: bool) {
    let table = kernel.table();
    let page = if wrong { kernel.hole() } else { kernel.page() };
    grant(&table, REF, 0, page.gfn(), 0);
    revoke(&table, REF).expect("nobody uses it");
    kernel.free(page);
    kernel.end(table);
}

pub(crate) fn granted_in_pieces(kernel: &Kernel, wrong: bool) {
    let table = kernel.table();
    let page = kernel.page();
    let frame = u32::try_from(page.gfn().0).expect("it is low");
    let entry = GrantEntryV1 { flags: GTF_PERMIT_ACCESS, domid: DomId(0), frame };
    let place = ENTRIES.get(INDEX).expect("it is in the first page");
    if wrong {
        table.write(Place::<GrantEntryV1>::new(INDEX * 8), &entry);
    } else {
        table.store(place, u64::from(entry.flags) | u64::from(frame) << 32);
    }
    revoke(&table, REF).expect("nobody uses it");
    kernel.free(page);
    kernel.end(table);
}

pub(crate) fn entry_changed(kernel: &Kernel, wrong: bool) {
    let table = kernel.table();
    let (page, other) = (kernel.page(), kernel.page());
    grant(&table, REF, 0, page.gfn(), 0);
    if !wrong {
        revoke(&table, REF).expect("nobody uses it");
    }
    let frame = FRAME.get(INDEX).expect("it is in the first page");
    table.store(frame, u32::try_from(other.gfn().0).expect("it is low"));
    if wrong {
        revoke(&table, REF).expect("nobody uses it");
    }
    kernel.free(page);
    kernel.free(other);
    kernel.end(table);
}

pub(crate) fn xen_bits(kernel: &Kernel, wrong: bool) {
    let table = kernel.table();
    let page = kernel.page();
    let bits = if wrong { GTF_READING } else { 0 };
    grant(&table, REF, 0, page.gfn(), bits);
    table.compare_exchange(flags(), GTF_PERMIT_ACCESS | bits, 0).expect("nobody else writes it");
    kernel.free(page);
    kernel.end(table);
}

pub(crate) fn revoked_in_use(kernel: &Kernel, wrong: bool) {
    let dom0 = kernel.machine.dom0();
    let table = kernel.table();
    let page = kernel.page();
    grant(&table, REF, 0, page.gfn(), 0);
    let mapping = dom0.map(&kernel.guest, REF, Access::Write).expect("it is granted");
    if wrong {
        let used = GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING;
        table.compare_exchange(flags(), used, 0).expect("the backend uses it");
    } else {
        revoke(&table, REF).expect_err("the backend uses it");
    }
    dom0.unmap(mapping).expect("it is mapped");
    if !wrong {
        revoke(&table, REF).expect("nobody uses it");
    }
    kernel.free(page);
    kernel.end(table);
}

pub(crate) fn revoked_blindly(kernel: &Kernel, wrong: bool) {
    let table = kernel.table();
    let page = kernel.page();
    grant(&table, REF, 0, page.gfn(), 0);
    if wrong {
        table.store(flags(), 0);
    } else {
        revoke(&table, REF).expect("nobody uses it");
    }
    kernel.free(page);
    kernel.end(table);
}

pub(crate) fn reserved_entry(kernel: &Kernel, wrong: bool) {
    let table = kernel.table();
    let store = FLAGS.get(1).expect("it is in the first page");
    assert_eq!(table.load(store), GTF_PERMIT_ACCESS, "the toolstack has granted it");
    if wrong {
        table.store(store, 0);
    }
    kernel.end(table);
}
