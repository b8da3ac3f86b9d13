//! Chance, and who goes next: all of a run follows from its seed.
#![forbid(unsafe_code)]

/// How the next CPU is chosen among those that can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// All alike, at each step.
    Uniform,
    /// The one whose work has the highest priority. Priorities are drawn, and drawn anew every 20 to 170 steps:
    /// that leaves somebody behind for long, which all alike at each step hardly ever does (Burckhardt et al.,
    /// "A randomized scheduler with probabilistic guarantees of finding bugs", 2010).
    Priority,
}

/// One step in so many ignores priorities, so that a loop that waits for somebody else comes to its end.
const FAIR: u64 = 64;

/// A seeded generator (splitmix64): the model's only source of chance.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    /// An index into something of this length, which is not zero.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("less than a usize")
    }

    /// One chance in so many.
    pub(crate) fn hits(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }
}

const fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// Chooses among those that can go.
#[derive(Debug)]
pub(crate) struct Scheduler {
    schedule: Schedule,
    /// What priorities are made from.
    salt: u64,
    /// Steps until they are drawn anew.
    left: u64,
}

impl Scheduler {
    pub(crate) fn new(schedule: Schedule) -> Self {
        Self { schedule, salt: 0, left: 0 }
    }

    /// One of several, each given by a number that says whose work it is.
    pub(crate) fn pick(&mut self, dice: &mut Dice, work: &[u64]) -> usize {
        if self.left == 0 {
            self.salt = dice.roll();
            self.left = 20 + dice.below(151);
        }
        self.left -= 1;
        if self.schedule == Schedule::Uniform || dice.hits(FAIR) {
            return dice.index(work.len());
        }
        let priority = |&index: &usize| mix(self.salt ^ work[index].wrapping_mul(0x9E37_79B9_7F4A_7C15));
        (0..work.len()).max_by_key(priority).expect("somebody can go")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(schedule: Schedule) -> Vec<usize> {
        let (mut dice, mut scheduler) = (Dice::new(1), Scheduler::new(schedule));
        (0..2_000).map(|_| scheduler.pick(&mut dice, &[10, 11, 12, 13])).collect()
    }

    /// The longest time for which one of the four was left out.
    fn longest_wait(picks: &[usize]) -> usize {
        let wait = |one: usize| picks.split(move |&pick| pick == one).map(<[usize]>::len).max();
        (0..4).filter_map(wait).max().expect("there are four")
    }

    #[test]
    fn everybody_goes_some_time_under_both() {
        for schedule in [Schedule::Uniform, Schedule::Priority] {
            let picks = picks(schedule);
            assert!((0..4).all(|one| picks.contains(&one)), "{schedule:?}");
        }
    }

    #[test]
    fn priorities_leave_somebody_behind_for_long_and_not_for_ever() {
        assert!(longest_wait(&picks(Schedule::Uniform)) < 100);
        let longest = longest_wait(&picks(Schedule::Priority));
        assert!((100..1_500).contains(&longest), "{longest}");
    }
}
