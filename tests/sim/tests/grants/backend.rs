//! What a backend does with a guest's pages.

use xen_abi::{
    GrantRef,
    grant_table::{FLAGS, GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY, GTF_WRITING, status::GrantError},
    memory::XENMEM_DECREASE_RESERVATION,
    seam::{Access as _, Beyond, Place},
};
use xen_sim::{Access, Culprit, GuestFrame, Mistake, Untouchable};

use crate::{
    kernel::{Kernel, grant, revoke},
    small,
};

const REF: GrantRef = GrantRef(9);
const WORD: Place<u32> = Place::new(0);

fn granted(flags: u16) -> (Kernel, GuestFrame, GuestFrame) {
    let kernel = small();
    let (table, page) = (kernel.table(), kernel.page());
    grant(&table, REF, 0, page.gfn(), flags);
    (kernel, table, page)
}

/// A backend's mapping is the guest's page, with the rights of the mapping and the bounds of a page.
#[test]
fn a_backend_touches_what_it_has_mapped() {
    let (kernel, table, page) = granted(0);
    let dom0 = kernel.machine.dom0();
    let place = FLAGS.get(REF.0 as usize).expect("it is in the first page");
    let read = dom0.map(&kernel.guest, REF, Access::Read).expect("it is granted");
    assert_eq!(table.load(place), GTF_PERMIT_ACCESS | GTF_READING);
    let written = dom0.map(&kernel.guest, REF, Access::Write).expect("it is granted");
    assert_eq!(table.load(place), GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING);
    let mut bytes = [0; 4];
    dom0.write(written, 0, &[1, 2, 3, 4]).expect("it is mapped for that");
    dom0.read(read, 0, &mut bytes).expect("it is mapped");
    assert_eq!((bytes, page.load(WORD)), ([1, 2, 3, 4], 0x0403_0201));
    assert_eq!(dom0.write(read, 0, &[9]), Err(Untouchable::ReadOnly(read)));
    let beyond = Untouchable::Beyond(Beyond { offset: 4094, length: 4 });
    assert_eq!(dom0.read(read, 4094, &mut bytes), Err(beyond));
    assert_eq!(dom0.write(written, 4094, &bytes), Err(beyond));
    assert_eq!(dom0.unmap(written), Ok(()));
    assert_eq!(dom0.write(written, 0, &[9]), Err(Untouchable::NotMapped(written)));
    assert_eq!(dom0.unmap(written), Err(GrantError::BAD_HANDLE));
    assert_eq!(dom0.unmap(read), Ok(()));
    assert_eq!(table.load(place), GTF_PERMIT_ACCESS);
    assert_eq!(page.load(WORD), 0x0403_0201);
}

/// A copy uses the entry only while it lasts, and keeps to the same rules as a mapping, and to the page.
#[test]
fn a_backend_copies_without_mapping() {
    let (kernel, table, page) = granted(0);
    let dom0 = kernel.machine.dom0();
    let mut bytes = [0; 4];
    page.store(WORD, 0x0403_0201);
    assert_eq!(dom0.copy_from(&kernel.guest, REF, 0, &mut bytes), Ok(()));
    assert_eq!(bytes, [1, 2, 3, 4]);
    assert_eq!(dom0.copy_to(&kernel.guest, REF, 4092, &bytes), Ok(()));
    assert_eq!(page.load(Place::<u32>::new(4092)), 0x0403_0201);
    assert_eq!(dom0.copy_to(&kernel.guest, REF, 4093, &bytes), Err(GrantError::BAD_COPY_ARG));
    assert_eq!(dom0.copy_from(&kernel.guest, REF, 4097, &mut []), Err(GrantError::BAD_COPY_ARG));
    assert_eq!(dom0.copy_from(&kernel.guest, GrantRef(512), 0, &mut bytes), Err(GrantError::BAD_GNTREF));
    revoke(&table, REF).expect("nobody uses it");
    assert_eq!(dom0.copy_to(&kernel.guest, REF, 0, &bytes), Err(GrantError::GENERAL_ERROR));
    grant(&table, REF, 0, page.gfn(), GTF_READONLY);
    assert_eq!(dom0.copy_to(&kernel.guest, REF, 0, &bytes), Err(GrantError::GENERAL_ERROR));
    assert_eq!(dom0.copy_from(&kernel.guest, REF, 0, &mut bytes), Ok(()));
}

/// A backend keeps what it has mapped, even if the guest revokes the grant, gives the page back, or gives its RAM to Xen:
/// it cannot know, and goes on writing to it.
#[test]
fn a_mapping_outlives_the_guests_use_of_the_page() {
    let (kernel, table, page) = granted(0);
    let dom0 = kernel.machine.dom0();
    let mapping = dom0.map(&kernel.guest, REF, Access::Write).expect("it is granted");
    table.store(FLAGS.get(REF.0 as usize).expect("it is in the first page"), 0);
    dom0.write(mapping, 0, &[1]).expect("it is mapped");
    let again = kernel.again(&page);
    kernel.free(page);
    dom0.write(mapping, 0, &[2]).expect("it is mapped");
    assert_eq!(again.load(WORD), 2, "whoever has the page now sees it");
    assert_eq!(kernel.extents(XENMEM_DECREASE_RESERVATION, 0, &[again.gfn().0]), 1);
    dom0.write(mapping, 0, &[3]).expect("it is mapped");
    let mut byte = [0];
    dom0.read(mapping, 0, &mut byte).expect("it is mapped");
    assert_eq!(byte, [3]);
    assert_eq!(again.load(WORD), !0, "the guest has it no longer");
    dom0.unmap(mapping).expect("it is mapped");
}

/// What a kernel gets back it uses for something else: the bytes are gone, and what is granted then is somebody else's page.
#[test]
fn a_page_that_was_given_back_is_no_longer_as_it_was() {
    let (kernel, _table, page) = granted(0);
    let dom0 = kernel.machine.dom0();
    page.store(WORD, 7);
    kernel.free(page);
    let mut bytes = [0; 4];
    dom0.copy_from(&kernel.guest, REF, 0, &mut bytes).expect("it is granted still");
    assert_eq!(bytes, [0xDB; 4]);
}

/// What a backend does wrong is told apart from what the guest does.
#[test]
fn a_backends_mistake_is_the_backends() {
    let (kernel, table, page) = granted(0);
    let dom0 = kernel.machine.dom0();
    let mapping = dom0.map(&kernel.guest, REF, Access::Write).expect("it is granted");
    dom0.unmap(mapping).expect("it is mapped");
    for _ in 0..3 {
        dom0.read(mapping, 0, &mut [0]).expect_err("it is not mapped");
    }
    table.store(FLAGS.get(REF.0 as usize).expect("it is in the first page"), 0);
    kernel.free(page);
    kernel.end(table);
    let audit = kernel.machine.audit(&kernel.guest);
    let of = |culprit| audit.of(culprit).map(|finding| (finding.mistake, finding.times)).collect::<Vec<_>>();
    assert_eq!(of(Culprit::Backend), [(Mistake::BackendStale, 3)], "{audit}");
    assert_eq!(of(Culprit::Guest), [(Mistake::RevokedBlindly, 1)], "{audit}");
    assert!(!audit.is_clean());
}
