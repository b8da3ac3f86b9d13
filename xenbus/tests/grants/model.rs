//! Anything, in any order, against a model that is a list.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use xen_abi::GrantRef;
use xen_sim::{Access, Dice, Mapping, Suspend as Becomes};
use xenbus::grant::{GrantCache, QUARANTINE, Rights, Shared};

use crate::{
    platform::Platform,
    world::{World, dispatch, word},
};

/// What has been granted, and who has it mapped.
struct Model {
    world: World,
    small: GrantCache<Platform, 5>,
    large: GrantCache<Platform, 70>,
    shares: Vec<Shared<Platform>>,
    /// What was dropped while it was mapped.
    dropped: Vec<GrantRef>,
    /// By the control domain, and whether in the domain that the guest is now.
    mapped: Vec<(GrantRef, Mapping, bool)>,
    met: Met,
}

/// What has happened, so that it is known to.
#[derive(Debug, Default)]
struct Met {
    shared: u32,
    full: u32,
    ended: u32,
    in_use: u32,
    quarantined: u32,
    freed: u32,
    migrated: u32,
}

impl Model {
    fn new() -> Self {
        let world = World::new(1, 1);
        let (small, large) = (GrantCache::new(world.grants), GrantCache::new(world.grants));
        Self {
            world,
            small,
            large,
            shares: Vec::new(),
            dropped: Vec::new(),
            mapped: Vec::new(),
            met: Met::default(),
        }
    }

    fn is_mapped(&self, reference: GrantRef) -> bool {
        self.mapped.iter().any(|(mapped, _, is_here)| *mapped == reference && *is_here)
    }

    fn step(&mut self, dice: &mut Dice) {
        match dice.below(100) {
            0..35 => self.share(dice),
            35..60 => self.end(dice),
            60..65 => self.drop_one(dice),
            65..80 => self.map(dice),
            80..93 => self.unmap(dice),
            93..97 => self.tend(),
            97 => self.suspend(Becomes::Cancelled),
            98 => self.suspend(Becomes::Migrated),
            _ => {
                let refused = dispatch(|at| self.world.grants.close(at));
                self.tend();
                // The caches are never empty for long.
                assert!(refused.is_err() || self.shares.is_empty() && self.dropped.is_empty());
            }
        }
    }

    fn share(&mut self, dice: &mut Dice) {
        // Whole words at a time, so that the boundaries are met.
        for _ in 0..=dice.below(70) {
            let rights = *dice.choose(&[Rights::Read, Rights::Write]).expect("two");
            let (world, is_small) = (&self.world, dice.below(2) == 0);
            let shared = if is_small {
                world.try_share(&mut self.small, rights)
            } else {
                world.try_share(&mut self.large, rights)
            };
            let Some(shared) = shared else {
                self.met.full += 1;
                let (cached, held) = (5 + 70, self.shares.len() + self.dropped.len());
                assert!(held + cached >= 480, "{held} are granted");
                continue;
            };
            self.met.shared += 1;
            let number = shared.reference();
            assert!((32..512).contains(&number.0));
            assert!(self.shares.iter().all(|other| other.reference() != number), "{number} is granted twice");
            assert!(!self.dropped.contains(&number), "{number} is in use");
            self.shares.push(shared);
        }
    }

    fn end(&mut self, dice: &mut Dice) {
        for _ in 0..=dice.below(70).min(self.shares.len() as u64) {
            let Some(share) = self.any_share(dice) else { return };
            let number = share.reference();
            let is_small = dice.below(2) == 0;
            let ended = dispatch(|at| {
                if is_small { share.end(&mut self.small, at) } else { share.end(&mut self.large, at) }
            });
            match ended {
                Ok(_) => {
                    assert!(!self.is_mapped(number), "{number} is mapped, and was revoked");
                    self.met.ended += 1;
                }
                Err(held) => {
                    assert!(self.is_mapped(number), "{number} is not mapped, and {held}");
                    assert_eq!(held.by.grant, number);
                    self.shares.push(held.what);
                    self.met.in_use += 1;
                }
            }
        }
    }

    fn any_share(&mut self, dice: &mut Dice) -> Option<Shared<Platform>> {
        let which = usize::try_from(dice.below(self.shares.len().max(1) as u64)).expect("an index");
        (which < self.shares.len()).then(|| self.shares.swap_remove(which))
    }

    fn drop_one(&mut self, dice: &mut Dice) {
        // One that is mapped, more often than chance would have it.
        let mapped = self.shares.iter().position(|share| self.is_mapped(share.reference()));
        let mapped = mapped.filter(|_| dice.below(3) > 0);
        let share = mapped.map(|index| self.shares.swap_remove(index)).or_else(|| self.any_share(dice));
        let Some(share) = share else { return };
        let number = share.reference();
        if self.is_mapped(number) {
            if self.world.grants.counters().quarantined as usize == QUARANTINE {
                return self.shares.push(share);
            }
            self.dropped.push(number);
            self.met.quarantined += 1;
        }
        drop(share);
        let counters = self.world.grants.counters();
        assert_eq!(counters.leaked, 0);
        assert!(counters.quarantined as usize <= self.dropped.len());
    }

    fn map(&mut self, dice: &mut Dice) {
        let Some(share) = self.any_share(dice) else { return };
        let access = *dice.choose(&[Access::Read, Access::Write]).expect("two");
        let number = share.reference();
        let mapped = self.world.dom0().map(&self.world.guest, number, access);
        // What is mapped for writing is the page that is shared.
        if let Ok(mapping) = mapped {
            let mark = dice.roll().to_le_bytes();
            if self.world.dom0().write(mapping, 0, &mark).is_ok() {
                assert_eq!(word(share.page()).to_le_bytes(), mark, "{number} is another page's");
            }
            self.mapped.push((number, mapping, true));
        }
        self.shares.push(share);
    }

    fn unmap(&mut self, dice: &mut Dice) {
        if !self.mapped.is_empty() {
            let which = usize::try_from(dice.below(self.mapped.len() as u64)).expect("an index");
            let (_, mapping, _) = self.mapped.swap_remove(which);
            self.world.dom0().unmap(mapping).expect("it is mapped");
        }
    }

    fn tend(&mut self) {
        let left = dispatch(|at| self.world.grants.tend(at));
        let before = self.dropped.len();
        let in_use: BTreeSet<_> =
            self.dropped.iter().copied().filter(|number| self.is_mapped(*number)).collect();
        self.dropped.retain(|number| in_use.contains(number));
        self.met.freed += u32::try_from(before - self.dropped.len()).expect("few");
        assert_eq!(left as usize, self.dropped.len());
    }

    fn suspend(&mut self, becomes: Becomes) {
        let suspended = self.world.suspend(becomes);
        assert!(!suspended.to_string().contains("fail"), "{suspended}");
        if becomes == Becomes::Migrated {
            self.met.migrated += 1;
            self.mapped.iter_mut().for_each(|(.., is_here)| *is_here = false);
            // What was granted is granted to nobody; and what is granted next may get the same page's place, but
            // not its number.
            for share in self.shares.drain(..) {
                drop(dispatch(|at| share.end(&mut self.large, at)).expect("it is granted to nobody"));
            }
            self.tend();
        }
    }

    fn finish(mut self) -> Met {
        for (_, mapping, _) in self.mapped.drain(..) {
            self.world.dom0().unmap(mapping).expect("it is mapped");
        }
        self.tend();
        self.shares.clear();
        drop((self.small, self.large));
        self.world.is_clean();
        self.met
    }
}

/// Whatever two queues and a backend do, and wherever the guest goes: what is mapped is not revoked, what is not
/// mapped is, no number is granted twice, no page is another's, and in the end nothing is left.
#[test]
fn anything_in_any_order() {
    let mut met = Met::default();
    for seed in 0..150 {
        println!("seed {seed}");
        let mut dice = Dice::new(seed);
        let mut model = Model::new();
        for _ in 0..120 {
            model.step(&mut dice);
        }
        let once = model.finish();
        met.shared += once.shared;
        met.full += once.full;
        met.ended += once.ended;
        met.in_use += once.in_use;
        met.quarantined += once.quarantined;
        met.freed += once.freed;
        met.migrated += once.migrated;
    }
    println!("{met:?}");
    let floors = [
        (met.shared, 100_000),
        (met.full, 1000),
        (met.ended, 50_000),
        (met.in_use, 500),
        (met.quarantined, 100),
        (met.freed, 100),
        (met.migrated, 100),
    ];
    assert!(floors.iter().all(|(count, floor)| count >= floor), "{met:?}");
}
