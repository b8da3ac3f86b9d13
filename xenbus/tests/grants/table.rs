//! The table and its references.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeSet,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use kexec::platform::mock::keep;
use xen_abi::{Errno, GrantRef};
use xen_sim::{Suspend as Becomes, Tally};
use xenbus::{
    grant::{
        CacheCounters, Counters, Frame, GrantCache, Grants, RESERVED, Rights, ShareError, Shared,
        StillGranted,
    },
    page::{MapError, Ram},
    suspend::{ResumeError, Suspended},
};

use crate::{
    platform::Mood,
    world::{DOM0, World, dispatch, frames, word},
};

/// All that a table of so many frames has.
fn all(frames: u32) -> usize {
    (frames * 512 - RESERVED) as usize
}

/// The whole table, one reference at a time: each is given out once, none of those that are others', over the
/// boundaries of words and frames; then it is full, and says so each time; and all come back.
#[test]
fn every_reference_once() {
    let world = World::new(3, 3);
    let mut cache = GrantCache::<_, 16>::new(world.grants);
    let shares: Vec<_> = (0..all(3)).map(|_| world.share(&mut cache)).collect();
    let numbers: BTreeSet<_> = shares.iter().map(|share| share.reference().0).collect();
    assert_eq!(numbers, (RESERVED..3 * 512).collect());
    for refused in 1..3 {
        let page = Ram::allocate(&world.platform).expect("there is RAM");
        let full = dispatch(|at| Shared::new(&mut cache, at, DOM0, page, Rights::Read));
        assert_eq!(full.map_err(|refused| refused.error).err(), Some(ShareError::Full));
        assert_eq!(world.grants.counters().growth_refused, refused);
    }
    assert_eq!(world.grants.counters().taken as usize, all(3));
    for share in shares {
        drop(dispatch(|at| share.end(&mut cache, at)).expect("nobody uses it"));
    }
    drop(cache);
    assert_eq!(world.grants.counters(), Counters { frames: 3, growth_refused: 2, ..Counters::default() });
    world.is_clean();
}

/// The driver may have lent more frames than Xen allows, or fewer: the table grows by one at a time, when it must,
/// up to the fewer.
#[test]
fn grows_as_far_as_it_may() {
    for (lent, allowed) in [(1, 4), (2, 1), (2, 2), (4, 2)] {
        let world = World::new(lent, allowed);
        let most = u32::try_from(lent).expect("a few").min(allowed);
        let mut cache = GrantCache::<_, 2048>::new(world.grants);
        assert_eq!(world.grants.counters().frames, 0);
        for frames in 1..=most {
            dispatch(|at| cache.reserve(at, all(frames))).expect("there are so many");
            assert_eq!(world.grants.counters().frames, frames);
        }
        drop(cache);
        let mut cache = GrantCache::<_, 2048>::new(world.grants);
        dispatch(|at| cache.reserve(at, 10)).expect("there are so many");
        assert_eq!(dispatch(|at| cache.reserve(at, all(most) + 1)), Err(ShareError::Full));
        let taken = world.grants.counters().taken as usize;
        assert!((10..=64).contains(&taken), "all or nothing: {taken}");
        drop(cache);
        world.is_clean();
    }
}

/// A reservation is what a queue counts on: so many pages can be shared at a time, and again, whatever others have
/// taken meanwhile.
#[test]
fn a_reservation_holds() {
    let world = World::new(1, 1);
    let mut queue = GrantCache::<_, 40>::new(world.grants);
    assert_eq!(dispatch(|at| queue.reserve(at, 41)), Err(ShareError::NoRoom(40)));
    dispatch(|at| queue.reserve(at, 32)).expect("there are so many");
    let mut other = GrantCache::<_, 512>::new(world.grants);
    while dispatch(|at| other.reserve(at, usize::try_from(world.grants.counters().taken).expect("few")))
        .is_ok()
    {}
    let rest: Vec<_> = std::iter::from_fn(|| {
        let page = Ram::allocate(&world.platform).expect("there is RAM");
        dispatch(|at| Shared::new(&mut other, at, DOM0, page, Rights::Read)).ok()
    })
    .collect();
    for _ in 0..3 {
        let shares: Vec<_> = (0..32).map(|_| world.share(&mut queue)).collect();
        for share in shares {
            drop(dispatch(|at| share.end(&mut queue, at)).expect("nobody uses it"));
        }
    }
    drop(other);
    // What others bring goes back to the table, and not what is reserved.
    let mut left = rest.len();
    for share in rest {
        drop(dispatch(|at| share.end(&mut queue, at)).expect("nobody uses it"));
        left -= 1;
        let kept = world.grants.counters().taken as usize - left;
        assert!((32..=40).contains(&kept), "{kept} are kept");
    }
    drop(queue);
    world.is_clean();
}

/// A queue does its work with its own references: the table is asked once, and neither granting nor revoking takes
/// a hypercall.
#[test]
fn a_cache_is_asked_alone() {
    let world = World::new(1, 1);
    let mut cache = GrantCache::<_, 8>::new(world.grants);
    dispatch(|at| cache.reserve(at, 8)).expect("there are so many");
    let before = world.platform.calls();
    for _ in 0..100 {
        let shares: Vec<_> = (0..8).map(|_| world.share(&mut cache)).collect();
        for share in shares {
            drop(dispatch(|at| share.end(&mut cache, at)).expect("nobody uses it"));
        }
    }
    assert_eq!(world.platform.calls(), before, "neither takes a hypercall");
    let expected = CacheCounters { granted: 800, revoked: 800, in_use: 0, refills: 1 };
    assert_eq!(cache.counters(), expected);
    drop(cache);
    world.is_clean();
}

/// A table that is in use is not taken away from under who uses it; and grows again, once it was.
#[test]
fn close_and_begin_again() {
    let world = World::new(2, 2);
    let mut cache = GrantCache::<_, 8>::new(world.grants);
    let share = world.share(&mut cache);
    assert_eq!(
        dispatch(|at| world.grants.close(at)),
        Err(StillGranted { references: 8, frame: 0 }),
        "one is granted, and seven are in the cache"
    );
    drop(cache);
    assert_eq!(dispatch(|at| world.grants.close(at)), Err(StillGranted { references: 1, frame: 0 }));
    assert_eq!(world.grants.counters().frames, 1);
    drop(share);
    world.is_clean();
    assert_eq!(world.grants.counters().frames, 0);
    drop(world.share(&mut GrantCache::<_, 1>::new(world.grants)));
    world.is_clean();
}

/// Somebody tries to close the table while queues are at work: none of them notices.
#[test]
fn close_at_any_time() {
    let world: &World = keep(World::new(2, 2));
    let is_over = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                let _ = dispatch(|at| world.grants.close(at));
            }
        });
        let queues = [0, 1].map(|_| {
            scope.spawn(|| {
                let mut cache = GrantCache::<_, 4>::new(world.grants);
                for _ in 0..2000 {
                    let shares = [world.share(&mut cache), world.share(&mut cache)];
                    for share in shares {
                        drop(dispatch(|at| share.end(&mut cache, at)).expect("nobody uses it"));
                    }
                }
            })
        });
        let ended = queues.map(|queue| queue.join().is_ok());
        is_over.store(true, Relaxed);
        assert_eq!(ended, [true; 2]);
    });
    world.is_clean();
}

/// The crash path has references that nobody else is given, in a table of its own driver's: it needs no page but one.
#[test]
fn the_crash_path() {
    let world = World::new(1, 4);
    let mut cache = GrantCache::<_, 512>::new(world.grants);
    dispatch(|at| cache.reserve(at, all(1))).expect("there are so many");
    // As the dump driver comes up: the other does not run any more.
    let frame: &Frame<_> = keep(Frame::new());
    let crash =
        Grants::for_crash(world.platform.clone(), world.suspend.epochs(), frame).expect("Xen has a table");
    let crash: &Grants<_> = keep(crash);
    let mut own = GrantCache::<_, 32>::new(crash);
    let dump = World { grants: crash, ..world };
    let shares: Vec<_> = (8..RESERVED).map(|_| dump.share(&mut own)).collect();
    let numbers: BTreeSet<_> = shares.iter().map(|share| share.reference().0).collect();
    assert_eq!(numbers, (8..RESERVED).collect());
    let page = Ram::allocate(&dump.platform).expect("there is RAM");
    let full = dispatch(|at| Shared::new(&mut own, at, DOM0, page, Rights::Read));
    assert_eq!(full.map_err(|refused| refused.error).err(), Some(ShareError::Full));
    // A backend that the dump is written by.
    let mapping = dump.map(GrantRef(8));
    dump.dom0().write(mapping, 0, &[1]).expect("it is mapped");
    dump.dom0().unmap(mapping).expect("it is mapped");
    drop((shares, own));
    assert_eq!(dispatch(|at| crash.close(at)), Ok(()));
}

/// A driver that is loaded again may find entries of the last one's that are in use: they are nobody's.
#[test]
fn what_was_left_is_left_alone() {
    let world = World::new(1, 1);
    let mut cache = GrantCache::<_, 4>::new(world.grants);
    let left = world.share(&mut cache);
    let number = left.reference();
    let mapping = world.map(number);
    let _left = std::mem::ManuallyDrop::new(left);
    // Another driver, in the same domain.
    let grants =
        Grants::new(world.platform.clone(), world.suspend.epochs(), frames(1)).expect("Xen has a table");
    let next = World { grants: keep(grants), ..world };
    let mut own = GrantCache::<_, 512>::new(next.grants);
    assert_eq!(dispatch(|at| own.reserve(at, all(1))), Err(ShareError::Full));
    dispatch(|at| own.reserve(at, all(1) - 1)).expect("all but that one");
    let shares: Vec<_> = (1..all(1)).map(|_| next.share(&mut own)).collect();
    assert!(shares.iter().all(|share| share.reference() != number));
    next.dom0().unmap(mapping).expect("it is mapped");
    drop((shares, own));
    assert_eq!(dispatch(|at| next.grants.close(at)), Ok(()));
}

/// There is no place for the table, or none for its second page: an error with a name, and nothing is lost.
#[test]
fn low_memory() {
    let world = World::new(2, 2);
    let mut cache = GrantCache::<_, 512>::new(world.grants);
    for (frames, wanted) in [(1, 1), (2, all(1) + 1)] {
        world.guest.fail_allocation(1);
        let refused = dispatch(|at| cache.reserve(at, wanted));
        assert_eq!(refused, Err(ShareError::Table(MapError::NoMemory)));
        assert_eq!(world.grants.counters().growth_refused, frames);
        dispatch(|at| cache.reserve(at, wanted)).expect("there is memory again");
        assert_eq!(world.grants.counters().frames, frames);
    }
    drop(cache);
    world.is_clean();
}

/// In a new domain each page of the table is where it was, and grants work as before; what was granted is gone, and
/// its references can be used again without a look at entries that are none. A cancelled suspend changes nothing.
#[test]
fn a_new_domain() {
    for becomes in [Becomes::Cancelled, Becomes::Migrated] {
        let world = World::new(3, 3);
        let mut cache = GrantCache::<_, 64>::new(world.grants);
        let shares: Vec<_> = (0..all(2)).map(|_| world.share(&mut cache)).collect();
        let used = &shares[600];
        let mapping = world.map(used.reference());
        let before = world.grants.counters();
        let suspended = world.suspend(becomes);
        assert_eq!(suspended == Suspended::Cancelled, becomes == Becomes::Cancelled, "{suspended}");
        assert!(!suspended.to_string().contains("fail"), "{suspended}");
        assert_eq!(world.grants.counters(), before);
        let mut in_use = 0;
        for share in shares {
            if let Err(held) = dispatch(|at| share.end(&mut cache, at)) {
                in_use += 1;
                assert_eq!(held.by.flags, 0x19, "valid, and Xen's bits");
                world.dom0().unmap(mapping).expect("it is mapped");
                drop(dispatch(|at| held.what.end(&mut cache, at)).expect("nobody uses it"));
            }
        }
        assert_eq!(in_use, u32::from(becomes == Becomes::Cancelled));
        if becomes == Becomes::Migrated {
            // It is another domain's, which is no more.
            world.dom0().unmap(mapping).expect("it is mapped");
        }
        let again: Vec<_> = (0..all(3)).map(|_| world.share(&mut cache)).collect();
        let mapping = world.map(again[1200].reference());
        world.dom0().write(mapping, 0, &[7]).expect("it is mapped for writing");
        assert_eq!(word(again[1200].page()), 7, "each entry is where Xen looks for it");
        world.dom0().unmap(mapping).expect("it is mapped");
        drop((again, cache));
        world.is_clean();
    }
}

/// The table of a new domain may be smaller than it was, or Xen has no memory for a page of it just now: the
/// references that are gone, in caches too, are not used, and those before them are; what was granted with them
/// ends. The table grows again when it can.
#[test]
fn a_smaller_table() {
    for (mood, failed) in [
        (Mood::NoPageAfter(1), ResumeError::Map(MapError::Xen(Errno::ENOMEM))),
        (Mood::MostFrames(1), ResumeError::Other("the grant table may have fewer frames than it had")),
    ] {
        let world = World::new(3, 3);
        world.guest.tolerate("NOTHING_THERE");
        let mut cache = GrantCache::<_, 1024>::new(world.grants);
        let shares: Vec<_> = (0..all(3)).map(|_| world.share(&mut cache)).collect();
        world.platform.mood(mood);
        let Suspended::Resumed(resumed) = world.suspend(Becomes::Migrated) else {
            panic!("it was not cancelled")
        };
        assert_eq!(resumed.first.map(|first| first.error), Some(failed));
        assert_eq!(world.grants.counters().frames, 1);
        for share in shares {
            drop(dispatch(|at| share.end(&mut cache, at)).expect("it is granted to nobody"));
        }
        let some: Vec<_> = (0..all(1)).map(|_| world.share(&mut cache)).collect();
        assert!(some.iter().all(|share| share.reference().0 < 512));
        let can_grow = mood != Mood::MostFrames(1);
        let page = Ram::allocate(&world.platform).expect("there is RAM");
        let more = dispatch(|at| Shared::new(&mut cache, at, DOM0, page, Rights::Write));
        assert_eq!(more.as_ref().is_ok_and(|share| share.reference().0 >= 512), can_grow);
        if let Ok(share) = &more {
            let mapping = world.map(share.reference());
            world.dom0().unmap(mapping).expect("it is mapped");
        }
        drop((more, some, cache));
        world.is_clean();
    }
}

/// Several queues find the table empty at the same moment: it grows once, for all of them.
#[test]
fn grows_once_for_all() {
    let world: &World = keep(World::new(4, 4));
    for _ in 0..200 {
        let all = &Barrier::new(3);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut cache = GrantCache::<_, 1>::new(world.grants);
                    all.wait();
                    dispatch(|at| cache.reserve(at, 1)).expect("there are so many");
                });
            }
        });
        assert_eq!(world.grants.counters(), Counters { frames: 1, ..Counters::default() });
        world.is_clean();
    }
}

/// What the auditor counts is there: the simulation sees the grants.
#[test]
fn the_auditor_looks() {
    let world = World::new(1, 1);
    let mut cache = GrantCache::<_, 4>::new(world.grants);
    drop((world.share(&mut cache), world.share(&mut cache)));
    drop(cache);
    world.is_clean();
    let audit = world.machine.audit(&world.guest);
    assert!(audit.tallies().contains(&Tally { count: 2, of: ["grant", "grants"] }), "{audit}");
}
