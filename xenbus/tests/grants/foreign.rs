//! Pages of another guest's.
#![forbid(unsafe_code)]

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use kexec::irql::Dispatch;
use xen_abi::{
    DomId, Errno, GrantRef,
    grant_table::status::GrantError,
    seam::{Access as _, Place},
};
use xen_sim::{GuestConfig, Suspend as Becomes};
use xenbus::{
    grant::{GrantCache, Grants, Peer, Rights, Shared},
    hypercall::ATTEMPTS,
    page::{Foreign, MapError, Ram, Unreachable},
};

use crate::{
    platform::{Mood, Platform},
    world::{World, dispatch, frames, word},
};

const FIRST: Place<u64> = Place::new(0);

/// Polls until it is ready, and says how often.
fn outcome<T>(future: impl Future<Output = T>) -> (T, u32) {
    let mut future = pin!(future);
    for polls in 1..1000 {
        if let Poll::Ready(outcome) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return (outcome, polls);
        }
    }
    panic!("it does not end");
}

/// Another guest, which shares pages with the first one.
struct Other {
    grants: &'static Grants<Platform>,
    shares: Vec<Shared<Platform>>,
    domain: DomId,
}

impl Other {
    fn new(world: &World, count: usize, rights: Rights) -> Self {
        let guest = world.machine.create(GuestConfig::default());
        let platform = Platform::new(guest.clone());
        let grants =
            Grants::new(platform.clone(), world.suspend.epochs(), frames(1)).expect("Xen has a table");
        let grants: &Grants<_> = kexec::platform::mock::keep(grants);
        let to = Peer::trusted(DomId(world.guest.domain()));
        let mut cache = GrantCache::<_, 8>::new(grants);
        let share = |number| {
            let page = Ram::allocate(&platform).expect("there is RAM");
            page.store(FIRST, number);
            dispatch(|at| Shared::new(&mut cache, at, to, page, rights)).expect("there is a reference")
        };
        let shares = (0..count as u64).map(share).collect();
        Self { grants, shares, domain: DomId(guest.domain()) }
    }

    fn numbers<const N: usize>(&self) -> [GrantRef; N] {
        std::array::from_fn(|index| self.shares[index].reference())
    }
}

fn map(
    world: &World,
    at: &Dispatch,
    other: &Other,
    index: usize,
    rights: Rights,
) -> (Result<Foreign<Platform>, MapError>, u32) {
    outcome(world.grants.map_foreign(at, other.domain, other.shares[index].reference(), rights))
}

/// Both see what the other writes, while it is mapped; what is mapped for reading only cannot be asked to be
/// written to.
#[test]
fn a_page_of_both() {
    let world = World::new(1, 1);
    let other = Other::new(&world, 2, Rights::Write);
    dispatch(|at| {
        let page = map(&world, at, &other, 1, Rights::Write).0.expect("it is granted");
        assert_eq!(page.load(FIRST), Ok(1));
        page.writable().expect("it is mapped for writing").store(FIRST, 5);
        assert_eq!(word(other.shares[1].page()), 5);
        let read = map(&world, at, &other, 0, Rights::Read).0.expect("it is granted");
        let error = read.writable().map(drop).expect_err("it is mapped for reading");
        assert!(
            matches!(error, Unreachable::ReadOnly(_)) && error.to_string().contains("reading only"),
            "{error}"
        );
        let mut bytes = [1; 8];
        read.read_bytes(0, &mut bytes).expect("they are in the page");
        assert_eq!(bytes, [0; 8]);
        assert!(matches!(read.read_bytes(4089, &mut bytes), Err(Unreachable::Beyond(_))));
        assert_eq!(page.unmap(), Ok(()));
    });
    drop(other.shares);
    dispatch(|at| other.grants.close(at)).expect("nothing is granted");
    world.is_clean();
}

/// Several pages are mapped all or none: what was mapped before one that is not is unmapped.
#[test]
fn all_or_none() {
    let world = World::new(1, 1);
    let other = Other::new(&world, 4, Rights::Read);
    let mut places = [const { None }; 4];
    dispatch(|at| {
        let (mapped, _) = outcome(world.grants.map_all_foreign(
            at,
            other.domain,
            &other.numbers(),
            Rights::Read,
            &mut places,
        ));
        assert_eq!(mapped, Ok(()));
        let seen: Vec<_> = places.iter().flatten().map(|page| page.load(FIRST)).collect();
        assert_eq!(seen, [Ok(0), Ok(1), Ok(2), Ok(3)]);
        let mut numbers = other.numbers();
        numbers[2] = GrantRef(400);
        let (mapped, _) =
            outcome(world.grants.map_all_foreign(at, other.domain, &numbers, Rights::Read, &mut places));
        assert_eq!(mapped, Err((GrantRef(400), MapError::Grant(GrantError::GENERAL_ERROR))));
        assert!(places.iter().all(Option::is_none));
        world.guest.fail_allocation(3);
        let (mapped, _) = outcome(world.grants.map_all_foreign(
            at,
            other.domain,
            &other.numbers(),
            Rights::Read,
            &mut places,
        ));
        assert_eq!(mapped, Err((other.shares[2].reference(), MapError::NoMemory)));
    });
    drop(other.shares);
    dispatch(|at| other.grants.close(at)).expect("nothing is granted");
    world.is_clean();
}

/// A page that cannot be mapped just now is tried again, after others have had their turn; not for ever.
#[test]
fn not_now() {
    let world = World::new(1, 1);
    let other = Other::new(&world, 1, Rights::Write);
    dispatch(|at| {
        for times in [1, 5, ATTEMPTS - 1] {
            world.platform.mood(Mood::NotNow(times));
            let (page, polls) = map(&world, at, &other, 0, Rights::Write);
            assert_eq!((page.is_ok(), polls), (true, times + 1));
        }
        world.platform.mood(Mood::NotNow(ATTEMPTS));
        let before = world.platform.calls();
        let (page, polls) = map(&world, at, &other, 0, Rights::Write);
        assert_eq!(page.err(), Some(MapError::Grant(GrantError::EAGAIN)));
        assert_eq!((polls, world.platform.calls() - before), (ATTEMPTS, u64::from(ATTEMPTS)));
    });
    drop(other.shares);
    dispatch(|at| other.grants.close(at)).expect("nothing is granted");
    world.is_clean();
}

/// What Xen does not unmap stays where it is, and its place is not used for anything else; that is counted.
#[test]
fn it_stays_mapped() {
    for by_hand in [true, false] {
        let world = World::new(1, 1);
        let other = Other::new(&world, 1, Rights::Write);
        let page = dispatch(|at| map(&world, at, &other, 0, Rights::Write).0.expect("it is granted"));
        world.platform.mood(Mood::KeepsMapping);
        if by_hand {
            assert_eq!(page.unmap(), Err(MapError::Xen(Errno::EFAULT)));
        } else {
            drop(page);
        }
        assert_eq!(world.grants.counters().holes, 1);
        let audit = world.machine.audit(&world.guest);
        let found: Vec<_> = audit.findings().iter().map(|finding| finding.mistake).collect();
        assert_eq!(found, [xen_sim::Mistake::MappingLeft], "{audit}");
    }
}

/// In a new domain nothing of it is there: no handle is unmapped that may be another's, and the place is free.
#[test]
fn gone_with_the_domain() {
    let world = World::new(1, 1);
    let other = Other::new(&world, 2, Rights::Write);
    let pages = dispatch(|at| {
        [0, 1].map(|index| map(&world, at, &other, index, Rights::Write).0.expect("it is granted"))
    });
    world.suspend(Becomes::Migrated);
    let before = world.platform.calls();
    let [one, two] = pages;
    assert_eq!(one.load(FIRST), Err(Unreachable::Disconnected));
    assert_eq!(two.writable().map(drop), Err(Unreachable::Disconnected));
    drop(one);
    assert_eq!(two.unmap(), Ok(()));
    assert_eq!(world.platform.calls(), before);
    assert_eq!(world.grants.counters().holes, 0);
    world.is_clean();
}
