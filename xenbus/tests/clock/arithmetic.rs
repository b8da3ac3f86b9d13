//! What counters, and wall clocks, come to: compared with the header's formula, bit by bit.
#![forbid(unsafe_code)]

use proptest::prelude::*;
use xen_abi::{
    seam::{Access as _, Memory as _},
    shared_info::{VcpuTimeInfo, WC_NSEC, WC_SEC, WC_SEC_HI},
};
use xen_sim::{GuestConfig, Machine};
use xenbus::clock::{SystemTime, WallTime, Zone, wall_clock};

use crate::at_dispatch;

/// A number as large as it has to be: its bits, from the lowest.
#[derive(Clone, Debug)]
struct Bits(Vec<bool>);

impl Bits {
    fn of(number: u64) -> Self {
        Self((0..64).map(|bit| number >> bit & 1 == 1).collect())
    }

    /// Multiplied by this power of two, and rounded down.
    fn shifted(mut self, by: i32) -> Self {
        if by < 0 {
            self.0.drain(..usize::try_from(-by).unwrap().min(self.0.len()));
            return self;
        }
        let zeros = vec![false; usize::try_from(by).unwrap()];
        Self([zeros, self.0].concat())
    }

    fn plus(self, other: &Self) -> Self {
        let mut carry = false;
        let length = self.0.len().max(other.0.len()) + 1;
        let bit = |number: &Self, at: usize| number.0.get(at).copied().unwrap_or(false);
        let sum = |at| {
            let ones = [bit(&self, at), bit(other, at), carry].into_iter().filter(|bit| *bit).count();
            carry = ones > 1;
            ones % 2 == 1
        };
        Self((0..length).map(sum).collect())
    }

    fn times(&self, factor: u32) -> Self {
        let powers = (0..32).filter(|bit| factor >> bit & 1 == 1);
        powers.fold(Self(Vec::new()), |sum, power| sum.plus(&self.clone().shifted(power)))
    }

    /// The number, or the largest of 64 bits.
    fn saturated(&self) -> u64 {
        if self.0.iter().skip(64).any(|bit| *bit) {
            return u64::MAX;
        }
        (0..64).zip(&self.0).map(|(place, bit)| u64::from(*bit) << place).sum()
    }
}

/// `system_time + ((((tsc - tsc_timestamp) << tsc_shift) * tsc_to_system_mul) >> 32)`, as `xen.h` has it, with all bits
/// there are.
fn reference(clock: &VcpuTimeInfo, ticks: u64) -> u64 {
    let shifted = Bits::of(ticks).shifted(clock.tsc_shift.into());
    let since = shifted.times(clock.tsc_to_system_mul).shifted(-32);
    since.plus(&Bits::of(clock.system_time)).saturated()
}

prop_compose! {
    fn clock()(
        tsc_timestamp: u64,
        system_time in prop_oneof![any::<u64>(), 0..1_u64 << 50],
        tsc_to_system_mul in prop_oneof![any::<u32>(), Just(0), Just(1), Just(u32::MAX)],
        tsc_shift in prop_oneof![any::<i8>(), -4..8_i8, Just(i8::MIN), Just(i8::MAX)],
    ) -> VcpuTimeInfo {
        VcpuTimeInfo { tsc_timestamp, system_time, tsc_to_system_mul, tsc_shift, ..VcpuTimeInfo::default() }
    }
}

/// Steps of a counter that is ahead.
fn ticks() -> impl Strategy<Value = u64> {
    (any::<u64>(), 1..64_u32).prop_map(|(number, shift)| number >> shift)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1024, ..ProptestConfig::default() })]

    /// Whatever Xen writes: no bit is lost on the way, and what does not fit is the most that does.
    #[test]
    fn system_time_is_the_headers(clock in clock(), ticks in ticks()) {
        let time = SystemTime::at(&clock, clock.tsc_timestamp.wrapping_add(ticks));
        prop_assert_eq!(time.0, reference(&clock, ticks));
    }

    /// Time does not go back while the counter goes on, over its wrap too.
    #[test]
    fn system_time_is_monotonic(clock in clock(), ticks in ticks(), more in ticks()) {
        let later = SystemTime::at(&clock, clock.tsc_timestamp.wrapping_add(ticks.max(more)));
        let earlier = SystemTime::at(&clock, clock.tsc_timestamp.wrapping_add(ticks.min(more)));
        prop_assert!(earlier <= later);
        prop_assert_eq!(earlier.since(later).as_nanos(), 0);
        prop_assert_eq!(u128::from(later.0 - earlier.0), later.since(earlier).as_nanos());
    }

    /// The counter of another virtual CPU may be behind: then it is as late as the clock said.
    #[test]
    fn a_counter_that_is_behind(clock in clock(), ticks in ticks()) {
        let time = SystemTime::at(&clock, clock.tsc_timestamp.wrapping_sub(ticks));
        prop_assert_eq!(time.0, clock.system_time);
    }
}

/// The wall clock of a page with these words in it, at a system time.
fn wall([low, high, nanoseconds]: [u32; 3], time: u64) -> WallTime {
    let guest = Machine::new(1).create(GuestConfig::default());
    let page = guest.allocate().expect("a new guest has memory");
    for (place, word) in [(WC_SEC, low), (WC_SEC_HI, high), (WC_NSEC, nanoseconds)] {
        page.store(place, word);
    }
    let start = at_dispatch(|at| wall_clock(at, &page)).expect("nobody writes");
    start.at(SystemTime(time), Zone::Utc)
}

/// Dates on both sides of where fewer bits would end, by `date -u -d .. +%s`; and as Windows has them, which is
/// documented for 1970 (116444736000000000).
#[test]
fn dates_beyond_every_border() {
    const FROM_1601: i128 = 116_444_736_000_000_000;
    for (words, time, unix) in [
        // 1970-01-01 00:00:00.000000001
        ([0, 0, 1], 0, 1),
        // 2026-02-03 04:05:06.7
        ([1_770_091_506, 0, 500_000_000], 200_000_000, 1_770_091_506_700_000_000),
        // The last second of 31 bits, and the one after it, which system time brings.
        ([0x7FFF_FFFF, 0, 999_999_999], 0, 2_147_483_647_999_999_999),
        ([0x7FFF_FFFF, 0, 999_999_999], 1, 2_147_483_648_000_000_000),
        // Those of 32 bits.
        ([u32::MAX, 0, 0], 1_000_000_000, 4_294_967_296_000_000_000),
        ([0, 1, 0], 0, 4_294_967_296_000_000_000),
        // 64 bits of nanoseconds end in 2554, and 63 in 2262.
        ([0, 5, 7], 99, 21_474_836_480_000_000_106),
        // What system time can be, on top.
        ([0, 1, 0], u64::MAX, 4_294_967_296_000_000_000 + 18_446_744_073_709_551_615),
        // 1969-12-31 23:59:59.25: the offset of a domain may be below zero.
        ([u32::MAX, u32::MAX, 250_000_000], 0, -750_000_000),
    ] {
        let wall = wall(words, time);
        assert_eq!(wall.unix_nanoseconds(), unix, "{words:x?}");
        let filetime = u64::try_from(FROM_1601 + unix.div_euclid(100)).expect("it is after 1601");
        assert_eq!(wall.filetime(), Some(filetime), "{words:x?}");
    }
}

/// What Windows cannot count is no time of Windows's, and none of another day either.
#[test]
fn what_windows_cannot_count() {
    let words = |seconds: i64, nanoseconds| {
        let seconds = seconds.cast_unsigned();
        let half = |shift: u32| u32::try_from(seconds >> shift & u64::from(u32::MAX)).expect("a half");
        [half(0), half(32), nanoseconds]
    };
    for (seconds, nanoseconds, filetime) in [
        (-11_644_473_600, 0, Some(0)),
        (-11_644_473_600, 199, Some(1)),
        (-11_644_473_601, 999_999_999, None),
        // 2^63 - 1 times 100 ns after 1601.
        (910_692_730_085, 477_580_700, Some(i64::MAX.cast_unsigned())),
        (910_692_730_085, 477_580_800, None),
        (i64::MAX, u32::MAX, None),
        (i64::MIN, 0, None),
    ] {
        let wall = wall(words(seconds, nanoseconds), 0);
        assert_eq!(wall.filetime(), filetime, "{seconds} s and {nanoseconds} ns");
        assert_eq!(wall.unix_nanoseconds(), i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds));
    }
}

/// Windows keeps the real time clock, and with it Xen's wall clock, in local time unless it was told otherwise; and a
/// time says which it is.
#[test]
fn a_time_says_its_zone() {
    for (value, zone) in
        [(None, Zone::Local), (Some(0), Zone::Local), (Some(1), Zone::Utc), (Some(u64::MAX), Zone::Utc)]
    {
        assert_eq!(Zone::of_windows(value), zone, "{value:?}");
    }
    let guest = Machine::new(1).create(GuestConfig::default());
    let page = guest.allocate().expect("a new guest has memory");
    page.store(WC_SEC, 1);
    let start = at_dispatch(|at| wall_clock(at, &page)).expect("nobody writes");
    for zone in [Zone::Utc, Zone::Local] {
        assert_eq!(start.at(SystemTime(0), zone).zone(), zone);
    }
}
