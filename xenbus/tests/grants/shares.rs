//! Pages of the driver's own.
#![forbid(unsafe_code)]

use kexec::platform::mock::keep;
use xen_abi::{
    DomId, GrantRef,
    grant_table::{
        FLAGS, GTF_PAT, GTF_PCD, GTF_PERMIT_ACCESS, GTF_PWT, GTF_READING, GTF_READONLY, GTF_WRITING,
        status::GrantError,
    },
    seam::{Access as _, Gfn, PAGE_SIZE, Place},
};
use xen_sim::{Access, Mistake, Suspend as Becomes};
use xenbus::{
    grant::{Counters, GrantCache, InUse, Peer, QUARANTINE, Rights, Shared},
    page::Ram,
};

use crate::world::{DOM0, World, dispatch, word};

const FIRST: Place<u64> = Place::new(0);

/// The other domain may do what the grant says, and nobody else anything; afterwards it may do nothing.
#[test]
fn what_a_grant_allows() {
    let world = World::new(1, 1);
    let mut cache = GrantCache::<_, 4>::new(world.grants);
    let dom0 = world.dom0();
    for rights in [Rights::Read, Rights::Write] {
        let page = Ram::allocate(&world.platform).expect("there is RAM");
        page.store(FIRST, 0x1122);
        let shared =
            dispatch(|at| Shared::new(&mut cache, at, DOM0, page, rights)).expect("there is a reference");
        let number = shared.reference();
        let mut seen = [0; 8];
        dom0.copy_from(&world.guest, number, 0, &mut seen).expect("it may read");
        assert_eq!(u64::from_le_bytes(seen), 0x1122);
        let written = dom0.copy_to(&world.guest, number, 0, &[0x33]);
        assert_eq!(written.is_ok(), rights == Rights::Write);
        let page = dispatch(|at| shared.end(&mut cache, at)).expect("nobody uses it");
        assert_eq!(word(&page), if rights == Rights::Write { 0x1133 } else { 0x1122 });
        assert_eq!(dom0.map(&world.guest, number, Access::Read), Err(GrantError::GENERAL_ERROR));
    }
    let other = Peer::trusted(DomId(7));
    let page = Ram::allocate(&world.platform).expect("there is RAM");
    let shared =
        dispatch(|at| Shared::new(&mut cache, at, other, page, Rights::Write)).expect("there is a reference");
    assert_eq!(dom0.map(&world.guest, shared.reference(), Access::Read), Err(GrantError::GENERAL_ERROR));
    drop((shared, cache));
    world.is_clean();
}

/// What is in use is not taken back: the page stays where it is, and the error names the grant, who uses it, and
/// how. Nobody waits; it ends when it is asked again after the other domain has let go.
#[test]
fn in_use() {
    let world = World::new(1, 1);
    let mut cache = GrantCache::<_, 4>::new(world.grants);
    for (rights, access, flags) in [
        (Rights::Read, Access::Read, GTF_PERMIT_ACCESS | GTF_READONLY | GTF_READING),
        (Rights::Write, Access::Read, GTF_PERMIT_ACCESS | GTF_READING),
        (Rights::Write, Access::Write, GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING),
    ] {
        let page = Ram::allocate(&world.platform).expect("there is RAM");
        let shared =
            dispatch(|at| Shared::new(&mut cache, at, DOM0, page, rights)).expect("there is a reference");
        let grant = shared.reference();
        let mapping = world.dom0().map(&world.guest, grant, access).expect("it is granted");
        let held = dispatch(|at| shared.end(&mut cache, at)).expect_err("it is in use");
        assert_eq!(held.by, InUse { grant, domain: DomId(0), flags });
        assert!(held.to_string().contains(&format!("grant {grant}")), "{held}");
        world.dom0().unmap(mapping).expect("it is mapped");
        drop(dispatch(|at| held.what.end(&mut cache, at)).expect("nobody uses it"));
    }
    assert_eq!(cache.counters().in_use, 3);
    drop(cache);
    world.is_clean();
}

/// The flags may be others than were written, for whatever reason: what counts is whether somebody uses the page.
#[test]
fn other_flags() {
    let world = World::new(1, 1);
    let mut cache = GrantCache::<_, 4>::new(world.grants);
    // Places are handed out in turn: the next one is the table's.
    let before = Ram::allocate(&world.platform).expect("there is RAM").gfn();
    dispatch(|at| cache.reserve(at, 1)).expect("there is one");
    let table = world.guest.physical(Gfn(before.0 + 1));
    for flags in [GTF_PERMIT_ACCESS | GTF_PAT | GTF_PWT, GTF_PERMIT_ACCESS | GTF_PCD] {
        let shared = world.share(&mut cache);
        let entry =
            FLAGS.get(usize::try_from(shared.reference().0).expect("small")).expect("in the first frame");
        assert_eq!(table.load(entry), GTF_PERMIT_ACCESS);
        table.store(entry, flags);
        drop(dispatch(|at| shared.end(&mut cache, at)).expect("nobody uses it"));
        assert_eq!(table.load(entry), 0);
    }
    drop(cache);
    world.is_clean();
}

/// A page that is dropped while it is in use goes into quarantine, and comes out when the other domain lets go;
/// neither the page nor its reference is anybody's before. What there is no room for is lost, and counted; the
/// auditor sees the same pages as the counters.
#[test]
fn quarantine() {
    let world = World::new(1, 1);
    let mut cache = GrantCache::<_, 128>::new(world.grants);
    let many = QUARANTINE + 3;
    let mut mapped: Vec<_> = (0..many)
        .map(|_| {
            let share = world.share(&mut cache);
            let number = share.reference();
            (number, world.map(number), drop(share))
        })
        .collect();
    let expected = Counters { quarantined: 64, leaked: 3, ..world.grants.counters() };
    assert_eq!(world.grants.counters(), expected);
    assert_eq!(dispatch(|at| world.grants.tend(at)), 64);
    // The other domain goes on writing where nobody else reads.
    for (_, mapping, ()) in &mapped {
        world.dom0().write(*mapping, 0, &[1]).expect("it is mapped");
    }
    let next = world.share(&mut cache);
    assert!(mapped.iter().all(|(number, ..)| *number != next.reference()));
    let (_, mapping, ()) = mapped.remove(10);
    world.dom0().unmap(mapping).expect("it is mapped");
    assert_eq!(dispatch(|at| world.grants.tend(at)), 63);
    drop((next, cache));
    let audit = world.machine.audit(&world.guest);
    let found = |mistake| audit.findings().iter().filter(move |finding| finding.mistake == mistake).count();
    assert_eq!(found(Mistake::BackendLeft), many - 1, "{audit}");
    let others =
        [Mistake::FreedMapped, Mistake::FreedGranted, Mistake::RevokedInUse, Mistake::RevokedBlindly];
    assert_eq!(others.map(found), [0; 4], "{audit}");
    for (_, mapping, ()) in mapped {
        world.dom0().unmap(mapping).expect("it is mapped");
    }
    assert_eq!(dispatch(|at| world.grants.tend(at)), 0);
    let left = dispatch(|at| world.grants.close(at)).expect_err("three are lost");
    assert_eq!(left.references, 3);
    let audit = world.machine.audit(&world.guest);
    let found = |mistake| audit.findings().iter().filter(move |finding| finding.mistake == mistake).count();
    assert_eq!((found(Mistake::GrantLeft), found(Mistake::BackendLeft)), (3, 0), "{audit}");
}

/// In a new domain the quarantine is over: nobody there has the pages.
#[test]
fn quarantine_ends_with_the_domain() {
    let world = World::new(1, 1);
    let mut cache = GrantCache::<_, 4>::new(world.grants);
    let share = world.share(&mut cache);
    let mapping = world.map(share.reference());
    drop(share);
    world.suspend(Becomes::Cancelled);
    assert_eq!(dispatch(|at| world.grants.tend(at)), 1);
    world.suspend(Becomes::Migrated);
    assert_eq!(dispatch(|at| world.grants.tend(at)), 0);
    world.dom0().unmap(mapping).expect("it is mapped");
    drop(cache);
    world.is_clean();
}

/// A CPU that is not captured when it should be may grant something in the new domain by what it knew of the old one:
/// a page that somebody uses is not given back all the same, whatever epoch it is from.
#[test]
fn granted_by_who_was_not_captured() {
    let world = World::new(1, 1);
    let mut cache = GrantCache::<_, 4>::new(world.grants);
    let shared = world.share(&mut cache);
    world.suspend.epochs().begin();
    let mapping = world.map(shared.reference());
    let held = dispatch(|at| shared.end(&mut cache, at)).expect_err("it is in use");
    world.dom0().unmap(mapping).expect("it is mapped");
    drop(dispatch(|at| held.what.end(&mut cache, at)).expect("nobody uses it"));
    drop(cache);
    world.is_clean();
}

/// A domain that is not trusted sees nothing of what was in the page before; one that is gets it as it is.
#[test]
fn a_page_is_zeroed_for_who_is_not_trusted() {
    let world = World::new(1, 1);
    let mut cache = GrantCache::<_, 4>::new(world.grants);
    for (peer, expected) in [(Peer::untrusted(DomId(0)), 0), (DOM0, 0xA5)] {
        let page = Ram::allocate(&world.platform).expect("there is RAM");
        page.write_bytes(0, &[0xA5; PAGE_SIZE]).expect("they fit");
        let shared = dispatch(|at| Shared::new(&mut cache, at, peer, page, Rights::Read))
            .expect("there is a reference");
        let mut seen = [1; PAGE_SIZE];
        world.dom0().copy_from(&world.guest, shared.reference(), 0, &mut seen).expect("it may read");
        assert_eq!(seen, [expected; PAGE_SIZE]);
        shared.page().store(FIRST, 7);
        world.dom0().copy_from(&world.guest, shared.reference(), 0, &mut seen[..8]).expect("it may read");
        assert_eq!(seen[..8], 7_u64.to_le_bytes());
    }
    drop(cache);
    world.is_clean();
}

/// Caches come and go, and share words with others: no reference is lost and none is given twice, over the
/// boundaries of words, whichever cache ends what another has granted.
#[test]
fn caches_of_one_word() {
    let world = World::new(1, 1);
    let mut one = GrantCache::<_, 7>::new(world.grants);
    let mut other = GrantCache::<_, 65>::new(world.grants);
    for round in 0..20 {
        let mut shares: Vec<_> = (0..100).map(|_| world.share(&mut one)).collect();
        shares.extend((0..100).map(|_| world.share(&mut other)));
        let mut numbers: Vec<GrantRef> = shares.iter().map(Shared::reference).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 200);
        for (index, share) in shares.into_iter().enumerate() {
            match (index + round) % 3 {
                0 => drop(share),
                1 => drop(dispatch(|at| share.end(&mut one, at)).expect("nobody uses it")),
                _ => drop(dispatch(|at| share.end(&mut other, at)).expect("nobody uses it")),
            }
        }
    }
    let cached = world.grants.counters().taken;
    assert!(cached <= 7 + 65, "{cached} are in the caches");
    drop((one, other));
    assert_eq!(world.grants.counters().taken, 0);
    world.is_clean();
}

/// From several threads at a time: the free words are the only thing that they share, and each reference is one
/// thread's at a time.
#[test]
fn many_queues_at_a_time() {
    let world: &World = keep(World::new(2, 2));
    std::thread::scope(|scope| {
        for queue in 0..4 {
            scope.spawn(move || {
                for round in 0..60 {
                    let mut cache = GrantCache::<_, 24>::new(world.grants);
                    let shares: Vec<_> = (0..40).map(|_| world.share(&mut cache)).collect();
                    for share in &shares {
                        // An entry that two had would be said to be changed while it was valid.
                        world
                            .dom0()
                            .copy_to(&world.guest, share.reference(), 0, &[queue])
                            .expect("it is granted");
                        assert_eq!(word(share.page()), u64::from(queue));
                    }
                    for share in shares.into_iter().skip(round % 2) {
                        drop(dispatch(|at| share.end(&mut cache, at)).expect("nobody uses it"));
                    }
                }
            });
        }
    });
    assert_eq!(world.grants.counters(), Counters { frames: 1, ..Counters::default() });
    world.is_clean();
}
