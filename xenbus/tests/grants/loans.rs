//! Pages of others.
#![expect(unsafe_code, reason = "a lender promises that its pages stay")]

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use xen_abi::{
    DomId,
    seam::{Access, Gfn, Memory as _},
};
use xen_sim::{Access as Use, Guest, GuestFrame, Mistake, Suspend as Becomes};
use xenbus::grant::{
    Counters, Distrusted, GrantCache, Held, Lender, Loan, Peer, Rights, ShareError, Trusted,
};

use crate::{
    platform::Platform,
    world::{DOM0, World, dispatch},
};

/// A request of Windows's, with pages that are its own. Dropping it completes it.
struct Request {
    guest: Guest,
    pages: Vec<Option<GuestFrame>>,
    completed: Arc<AtomicU32>,
}

impl Request {
    fn new(world: &World, pages: usize) -> (Self, Arc<AtomicU32>) {
        let completed = Arc::default();
        let pages = (0..pages).map(|_| Some(world.guest.allocate().expect("there is RAM"))).collect();
        (Self { guest: world.guest.clone(), pages, completed: Arc::clone(&completed) }, completed)
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a request of {} pages", self.pages.len())
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.completed.fetch_add(1, Relaxed);
        for page in self.pages.drain(..).flatten() {
            // SAFETY: it came from there; that nobody uses it is what the auditor looks at.
            unsafe { self.guest.free(page) };
        }
    }
}

// SAFETY: the pages are given back when the request is dropped.
unsafe impl Lender for Request {
    fn page(&self, index: usize) -> Option<Gfn> {
        self.pages.get(index)?.as_ref().map(Access::gfn)
    }
}

/// Somebody whose pages are where no entry can say.
#[derive(Debug)]
struct HighUp(Arc<AtomicU32>);

// SAFETY: nothing is ever there to be used.
unsafe impl Lender for HighUp {
    fn page(&self, index: usize) -> Option<Gfn> {
        [Gfn(1 << 32), Gfn(u64::MAX)].get(index).copied()
    }
}

impl Drop for HighUp {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

fn end<T: Lender, const N: usize, const C: usize>(
    loan: Loan<Platform, T, N>,
    cache: &mut GrantCache<Platform, C>,
) -> Result<T, Held<Loan<Platform, T, N>>> {
    dispatch(|at| loan.end(cache, at))
}

/// The lender comes out when the other domain has let go of all its pages, and not before; what can be taken back
/// is at once. Being held is counted while it lasts.
#[test]
fn the_lender_comes_out_last() {
    let world = World::new(1, 1);
    let mut cache = GrantCache::<_, 16>::new(world.grants);
    let (request, completed) = Request::new(&world, 5);
    let mut loan = Loan::<_, _, 5>::new(&cache, DOM0.trust().expect("it is"), request);
    let numbers: Vec<_> = dispatch(|at| {
        (0..5)
            .map(|page| loan.lend(&mut cache, at, page, Rights::Write).expect("there are references"))
            .collect()
    });
    let mut mappings = vec![world.map(numbers[1]), world.map(numbers[4])];
    let mut loan = Ok(loan);
    for left in [2, 1] {
        for _ in 0..2 {
            let held = end(loan.expect("it is still there"), &mut cache).expect_err("pages are in use");
            assert_eq!(held.by.grant, if left == 2 { numbers[1] } else { numbers[4] });
            assert_eq!(world.grants.counters().held, 1);
            assert_eq!(completed.load(Relaxed), 0);
            assert_eq!(cache.counters().revoked, 5 - left);
            loan = Ok::<_, ()>(held.what);
        }
        world.dom0().unmap(mappings.remove(0)).expect("it is mapped");
    }
    let request = end(loan.expect("it is still there"), &mut cache).expect("nobody uses it");
    assert_eq!(world.grants.counters().held, 0);
    drop(request);
    assert_eq!(completed.load(Relaxed), 1);
    drop(cache);
    world.is_clean();
}

/// A loan that is dropped ends: the lender is dropped if it can be, and else it is kept, for ever and counted, with
/// its pages.
#[test]
fn a_loan_that_is_dropped() {
    for (is_in_use, is_held) in [(false, false), (true, false), (true, true), (false, true)] {
        let world = World::new(1, 1);
        let mut cache = GrantCache::<_, 16>::new(world.grants);
        let (request, completed) = Request::new(&world, 2);
        let mut loan = Loan::<_, _, 4>::new(&cache, DOM0.trust().expect("it is"), request);
        let number = dispatch(|at| {
            loan.lend(&mut cache, at, 0, Rights::Read).expect("there is a reference");
            loan.lend(&mut cache, at, 1, Rights::Read).expect("there is a reference")
        });
        let mapping = world.dom0().map(&world.guest, number, Use::Read).expect("it is granted");
        if is_held {
            loan = end(loan, &mut cache).expect_err("a page is in use").what;
            assert_eq!(world.grants.counters().held, 1);
        }
        if !is_in_use {
            world.dom0().unmap(mapping).expect("it is mapped");
        }
        drop(loan);
        assert_eq!(completed.load(Relaxed), u32::from(!is_in_use));
        let counters = world.grants.counters();
        assert_eq!((counters.held, counters.kept), (0, u32::from(is_in_use)));
        drop(cache);
        if is_in_use {
            world.dom0().unmap(mapping).expect("it is mapped");
            let audit = world.machine.audit(&world.guest);
            let guests: Vec<_> = audit.findings().iter().map(|finding| finding.mistake).collect();
            // The table, its place, and the request's two pages, one of them granted.
            assert!(guests.contains(&Mistake::GrantLeft) && guests.contains(&Mistake::PageLeft), "{audit}");
            assert!(
                !guests.contains(&Mistake::FreedGranted) && !guests.contains(&Mistake::FreedMapped),
                "{audit}"
            );
        } else {
            world.is_clean();
        }
    }
}

/// What cannot be lent is an error, and the loan is as it was: the rest can be lent, and the lender comes out. No
/// reference is lost.
#[test]
fn what_cannot_be_lent() {
    let world = World::new(1, 1);
    let mut cache = GrantCache::<_, 16>::new(world.grants);
    let (request, completed) = Request::new(&world, 3);
    let mut loan = Loan::<_, _, 2>::new(&cache, DOM0.trust().expect("it is"), request);
    let mut lend = |page| dispatch(|at| loan.lend(&mut cache, at, page, Rights::Read));
    assert_eq!(lend(3), Err(ShareError::NoPage(3)));
    assert!(lend(2).is_ok() && lend(0).is_ok());
    assert_eq!(lend(1), Err(ShareError::NoRoom(2)));
    drop(end(loan, &mut cache).expect("nobody uses it"));
    assert_eq!(completed.load(Relaxed), 1);
    let dropped = Arc::new(AtomicU32::new(0));
    let mut loan = Loan::<_, _, 2>::new(&cache, DOM0.trust().expect("it is"), HighUp(dropped.clone()));
    for (page, gfn) in [(0, 1 << 32), (1, u64::MAX)] {
        let error = dispatch(|at| loan.lend(&mut cache, at, page, Rights::Read)).expect_err("it is too high");
        assert_eq!(error, ShareError::TooHigh(Gfn(gfn)));
        assert!(error.to_string().contains(&format!("{gfn:#x}")), "{error}");
    }
    drop(end(loan, &mut cache).expect("nothing is lent"));
    assert_eq!(dropped.load(Relaxed), 1);
    assert_eq!(cache.counters().granted, 2);
    drop(cache);
    assert_eq!(world.grants.counters(), Counters { frames: 1, ..Counters::default() });
    world.is_clean();
}

/// Only who is trusted is lent to.
#[test]
fn trust() {
    assert_eq!(Peer::untrusted(DomId(3)).trust(), Err(Distrusted(DomId(3))));
    assert_eq!(Peer::trusted(DomId(3)).trust().map(Trusted::domain), Ok(DomId(3)));
    assert!(Distrusted(DomId(3)).to_string().contains("domain 3"));
}

/// After a migration, a loan with pages in use is held by nobody: it ends, and the request is completed. A loan may
/// have grants of both epochs: only those of this one are looked at.
#[test]
fn a_loan_over_a_migration() {
    let world = World::new(1, 1);
    let mut cache = GrantCache::<_, 16>::new(world.grants);
    let (request, completed) = Request::new(&world, 2);
    let mut loan = Loan::<_, _, 4>::new(&cache, DOM0.trust().expect("it is"), request);
    let old = dispatch(|at| loan.lend(&mut cache, at, 0, Rights::Write)).expect("there is a reference");
    let gone = world.map(old);
    let loan = end(loan, &mut cache).expect_err("it is in use");
    world.suspend(Becomes::Migrated);
    let mut loan = loan.what;
    let new = dispatch(|at| loan.lend(&mut cache, at, 1, Rights::Write)).expect("there is a reference");
    assert_ne!(old, new);
    let mapping = world.map(new);
    let held = end(loan, &mut cache).expect_err("the new one is in use");
    assert_eq!(held.by.grant, new);
    world.dom0().unmap(mapping).expect("it is mapped");
    drop(end(held.what, &mut cache).expect("nobody uses it"));
    assert_eq!(completed.load(Relaxed), 1);
    assert_eq!(world.grants.counters().held, 0);
    world.dom0().unmap(gone).expect("it is mapped");
    drop(cache);
    world.is_clean();
}
