//! How often a place may emit.
#![forbid(unsafe_code)]

use core::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::time::Instant;

/// Without a clock, one event in so many passes, after the first ones.
const SPARSE: u64 = 256;

/// How often a place may emit: so many events at once, and then as many again, evenly, in each interval.
///
/// Time is the output's clock. If that has none, the events of the first interval pass, and then one in 256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Zero: no limit.
    events: u32,
    /// Nanoseconds from one event to the next, in the long run.
    spacing: u64,
}

impl Limit {
    /// 16 events a second.
    pub const DEFAULT: Self = Self::new(16, Duration::from_secs(1));
    /// No limit. For places that cannot be reached often, and for tests.
    pub const NONE: Self = Self { events: 0, spacing: 0 };

    /// So many events (at least one) in an interval.
    #[must_use]
    pub const fn new(events: u32, interval: Duration) -> Self {
        let events = if events == 0 { 1 } else { events };
        let nanos = Instant::START.after(interval).as_nanos();
        Self { events, spacing: nanos.div_ceil(events as u64) }
    }
}

/// A place's account.
///
/// With a clock, `next` is the earliest time at which the account would be as it was in the beginning: each event moves
/// it by the spacing, and none passes that would move it further than a whole interval beyond the present. Without one,
/// it is the number of events.
#[derive(Debug)]
pub(super) struct Limiter {
    next: AtomicU64,
    suppressed: AtomicU32,
}

impl Limiter {
    pub(super) const fn new() -> Self {
        Self { next: AtomicU64::new(0), suppressed: AtomicU32::new(0) }
    }

    /// Whether an event passes; how many were suppressed since the last one that did.
    pub(super) fn admit(&self, limit: Limit, time: Option<Instant>) -> Option<u32> {
        let passes = limit.events == 0
            || match time {
                Some(time) => self.passes_at(limit, time.as_nanos()),
                None => self.passes_by_number(limit),
            };
        if !passes {
            self.suppress(1);
            return None;
        }
        Some(self.suppressed.swap(0, Relaxed))
    }

    /// Counts events that were suppressed: told by the next one that passes.
    pub(super) fn suppress(&self, events: u32) {
        let more = |count: u32| Some(count.saturating_add(events));
        // Always some.
        let _before = self.suppressed.fetch_update(Relaxed, Relaxed, more);
    }

    fn passes_at(&self, limit: Limit, now: u64) -> bool {
        let Limit { events, spacing } = limit;
        let interval = spacing.saturating_mul(events.into());
        let latest = now.saturating_add(interval);
        let mut seen = self.next.load(Relaxed);
        loop {
            // Further in the future than it can have been moved: the clock was put back.
            let next = if seen > latest { now } else { seen.max(now) }.saturating_add(spacing);
            if next > latest {
                return false;
            }
            match self.next.compare_exchange_weak(seen, next, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(other) => seen = other,
            }
        }
    }

    fn passes_by_number(&self, limit: Limit) -> bool {
        let number = self.next.fetch_add(1, Relaxed);
        number < limit.events.into() || number.is_multiple_of(SPARSE)
    }
}
