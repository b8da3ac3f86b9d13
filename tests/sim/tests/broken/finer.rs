//! What else is found, what is not, and how it is shown.

use xen_abi::{
    DomId, GrantRef,
    grant_table::{FLAGS, FRAME, GTF_PERMIT_ACCESS, GTF_READONLY},
    memory::{
        XENMAPSPACE_GMFN, XENMAPSPACE_SHARED_INFO, XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP,
    },
    seam::{Access as _, Gfn, Place},
};
use xen_sim::{Access, GuestConfig, GuestFrame, Mistake};

use crate::{
    kernel::{Kernel, grant, revoke},
    others::map,
};

const REF: GrantRef = GrantRef(9);
const WORD: Place<u32> = Place::new(0);

fn kernel() -> Kernel {
    Kernel::new(GuestConfig::default())
}

/// What was found so far, in its order; what is left comes last, and is not asked for here.
fn found(kernel: &Kernel) -> Vec<Mistake> {
    let audit = kernel.machine.audit(&kernel.guest);
    let is_left = |mistake: &Mistake| mistake.sentence().contains("never");
    audit.findings().iter().map(|finding| finding.mistake).filter(|mistake| !is_left(mistake)).collect()
}

type Way = fn(&Kernel, Gfn);

/// There are more ways to lose a page than to give it back: each of them is found if the page is granted.
#[test]
fn a_granted_page_is_lost_in_many_ways() {
    let ways: [(&str, Way); 5] = [
        ("given to Xen", |kernel, gfn| {
            assert_eq!(kernel.extents(XENMEM_DECREASE_RESERVATION, 0, &[gfn.0]), 1);
        }),
        ("replaced by new RAM", |kernel, gfn| {
            let other = kernel.page().gfn();
            assert_eq!(kernel.extents(XENMEM_DECREASE_RESERVATION, 0, &[other.0]), 1);
            assert_eq!(kernel.extents(XENMEM_POPULATE_PHYSMAP, 0, &[gfn.0]), 1);
        }),
        ("covered by a page of Xen's", |kernel, gfn| {
            assert_eq!(kernel.place(XENMAPSPACE_SHARED_INFO, 0, gfn), Ok(0));
        }),
        ("taken out", |kernel, gfn| assert_eq!(kernel.remove(gfn), Ok(0))),
        ("covered by another domain's", |kernel, gfn| {
            let other = kernel.beside();
            let (table, page) = (other.table(), other.page());
            grant(&table, REF, kernel.guest.domain(), page.gfn(), 0);
            map(kernel, &other, REF, gfn, Access::Read).expect("it is granted");
        }),
    ];
    for (way, lose) in ways {
        let kernel = kernel();
        let (table, page) = (kernel.table(), kernel.page());
        lose(&kernel, kernel.page().gfn());
        assert_eq!(found(&kernel), [], "{way}: nobody can use it");
        grant(&table, REF, 0, page.gfn(), 0);
        if way == "covered by a page of Xen's" {
            // What was covered first is a place of Xen's page now: it is moved.
            assert_eq!(kernel.place(XENMAPSPACE_SHARED_INFO, 0, page.gfn()), Ok(0));
        } else {
            lose(&kernel, page.gfn());
        }
        assert_eq!(found(&kernel), [Mistake::FreedGranted], "{way}");
    }
}

/// A page that is moved is where it was granted no longer.
#[test]
fn a_granted_page_is_not_moved() {
    let kernel = kernel();
    let (table, page, hole) = (kernel.table(), kernel.page(), kernel.hole());
    grant(&table, REF, 0, page.gfn(), 0);
    assert_eq!(kernel.place(XENMAPSPACE_GMFN, page.gfn().0, hole.gfn()), Ok(0));
    assert_eq!(found(&kernel), [Mistake::FreedGranted]);
}

/// What the toolstack has put into the guest, the toolstack grants.
#[test]
fn a_page_of_the_toolstacks_is_not_the_guests_to_grant() {
    let kernel = kernel();
    let table = kernel.table();
    let ring = kernel.existing(Gfn(0xF_EFFC));
    grant(&table, REF, 0, ring.gfn(), 0);
    assert_eq!(found(&kernel), [Mistake::GrantedForeign]);
}

type Change = fn(&GuestFrame, Place<u16>);

/// A valid entry's domain is changed; it is made read-only without looking, or while it is written to. To make it writable
/// needs no care, and to make it read-only may be done, too.
#[test]
fn a_valid_entry_is_changed_with_care() {
    let place = FLAGS.get(9).expect("it is in the first page");
    let changes: [(&str, bool, Change); 5] = [
        ("another domain", false, |table, _| table.store(Place::<u16>::new(9 * 8 + 2), DomId(7).0)),
        ("read-only, blindly", false, |table, place| _ = table.fetch_or(place, GTF_READONLY)),
        ("read-only, in use", false, |table, place| {
            let old = table.load(place);
            table.compare_exchange(place, old, old | GTF_READONLY).expect("nobody else writes it");
        }),
        ("read-only, with care", true, |table, place| {
            let readonly = GTF_PERMIT_ACCESS | GTF_READONLY;
            table.compare_exchange(place, GTF_PERMIT_ACCESS, readonly).expect("nobody uses it");
        }),
        ("writable", true, |table, place| {
            let readonly = GTF_PERMIT_ACCESS | GTF_READONLY;
            table.compare_exchange(place, GTF_PERMIT_ACCESS, readonly).expect("nobody uses it");
            table.fetch_and(place, !GTF_READONLY);
        }),
    ];
    for (what, right, change) in changes {
        let kernel = kernel();
        let (table, page) = (kernel.table(), kernel.page());
        grant(&table, REF, 0, page.gfn(), 0);
        if what == "read-only, in use" {
            kernel.machine.dom0().map(&kernel.guest, REF, Access::Write).expect("it is granted");
        }
        change(&table, place);
        let expected: &[Mistake] = if right { &[] } else { &[Mistake::EntryChanged] };
        let found: Vec<_> =
            found(&kernel).into_iter().filter(|mistake| *mistake != Mistake::BackendLeft).collect();
        assert_eq!(found, expected, "{what}");
    }
}

/// Eight entries are the toolstack's, though it uses two of them today.
#[test]
fn the_first_eight_entries_are_reserved() {
    for (reference, expected) in [(7, vec![Mistake::ReservedEntry]), (8, vec![])] {
        let kernel = kernel();
        let (table, page) = (kernel.table(), kernel.page());
        let frame = FRAME.get(reference).expect("it is in the first page");
        table.store(frame, u32::try_from(page.gfn().0).expect("it is low"));
        assert_eq!(found(&kernel), expected, "{reference}");
    }
}

/// Several grants of a page, to several domains, are no mistake: a page can hold what several may see.
#[test]
fn a_page_may_be_granted_more_than_once() {
    let kernel = kernel();
    let (table, page) = (kernel.table(), kernel.page());
    for (reference, to) in [(9, 0), (10, 0), (11, 3)] {
        grant(&table, GrantRef(reference), to, page.gfn(), 0);
    }
    for reference in [9, 10, 11] {
        revoke(&table, GrantRef(reference)).expect("nobody uses it");
    }
    kernel.free(page);
    kernel.end(table);
    assert_eq!(kernel.machine.audit(&kernel.guest).findings().len(), 0);
}

/// To be refused is no mistake where the guest says that it asks on purpose; and by another rule it still is.
#[test]
fn a_guest_may_be_refused_on_purpose() {
    let kernel = kernel();
    kernel.guest.tolerate("SPACE_PAGE");
    assert!(kernel.place(XENMAPSPACE_SHARED_INFO, 1, Gfn(1)).is_err());
    assert_eq!(found(&kernel), []);
    assert!(kernel.remove(Gfn(1)).is_err());
    assert_eq!(found(&kernel), [Mistake::CallRefused]);
}

/// The verdict counts what there was at once, and is one line.
#[test]
fn the_verdict_counts_the_most_that_there_was() {
    let kernel = kernel();
    let table = kernel.table();
    for first in [9, 19, 29] {
        let pages = [kernel.page(), kernel.page()];
        for (reference, page) in (first..).map(GrantRef).zip(&pages) {
            grant(&table, reference, 0, page.gfn(), 0);
        }
        for reference in [first, first + 1] {
            revoke(&table, GrantRef(reference)).expect("nobody uses it");
        }
        for page in pages {
            kernel.free(page);
        }
    }
    kernel.end(table);
    let audit = kernel.machine.audit(&kernel.guest).to_string();
    assert_eq!(audit, "audit: clean: 2 grants, 0 mappings, 2 pages, 2 ports, 1 poll boundary\n");
}

/// A finding says what is wrong, which page it is about, where it was done, and what had happened to the page, and where.
#[test]
fn a_finding_tells_the_history_of_the_page() {
    let kernel = kernel();
    let table = kernel.table();
    let page = kernel.page();
    let allocated = line!() - 1;
    grant(&table, REF, 0, page.gfn(), 0);
    let granted = line!() - 1;
    kernel.free(page);
    let freed = line!() - 1;
    let audit = kernel.machine.audit(&kernel.guest).to_string();
    let file = file!();
    let expected = format!(
        "FreedGranted: a page was given up that is still granted\n  \
         ref 9: page 0x100001, read-write to domain 0\n  \
         0ns at {file}:{freed}:12\n  \
         page 0x100001:\n    \
         allocated, 0ns at {file}:{allocated}:23\n    \
         granted as ref 9 to domain 0, read-write, 0ns at {file}:{granted}:5\n"
    );
    assert!(audit.contains(&expected), "{audit}");
}

/// Who makes a mistake a thousand times makes one, a thousand times; who makes very many different ones is not kept a list of.
#[test]
fn findings_do_not_grow_without_end() {
    let kernel = kernel();
    let page = kernel.page();
    let again = kernel.again(&page);
    kernel.free(page);
    for _ in 0..1000 {
        again.store(WORD, 1);
    }
    for offset in 0..300_u16 {
        again.load(Place::<u8>::new(offset.into()));
    }
    let audit = kernel.machine.audit(&kernel.guest);
    assert_eq!(audit.findings().first().map(|finding| finding.times), Some(1000));
    assert_eq!(audit.findings().len(), 256);
    assert!(
        audit.to_string().starts_with("audit: 256 of the guest's, 0 of a backend's, 45 not kept"),
        "{audit}"
    );
}
