//! The bitmaps in the page that Xen shares, which every Xen has: a bit for each port, and above them a selector for
//! each virtual CPU.
//!
//! An event sets its port's bit of `evtchn_pending`. If that is not masked, it also sets the bit of that word in the
//! virtual CPU's `evtchn_pending_sel`, and then `evtchn_upcall_pending`, which is an interrupt. The guest goes the
//! other way.
//!
//! Whoever clears a pending bit has the event: the interrupt, or the task that finds it while it unmasks the port.
//!
//! Source: `xen/include/public/xen.h`, `vcpu_info` and `shared_info`; `xen/common/event_2l.c`.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use xen_abi::{
    event_channel::EvtchnPort,
    seam::{Access, Place},
    shared_info::{EVTCHN_MASK, EVTCHN_PENDING},
};

use super::port::Armed;

/// Masks every port: nothing comes before somebody wants it.
pub(super) fn mask_all<F: Access>(shared: &F) {
    for word in (0..EVTCHN_MASK.count()).filter_map(|word| EVTCHN_MASK.get(word)) {
        shared.store(word, u64::MAX);
    }
}

/// A port's bits.
pub(super) struct Bits<'a, F> {
    shared: &'a F,
    pending: Place<u64>,
    mask: Place<u64>,
    bit: u64,
}

impl<'a, F: Access> Bits<'a, F> {
    /// None, for a port that the bitmaps do not have.
    pub(super) fn of(shared: &'a F, port: EvtchnPort) -> Option<Self> {
        let word = usize::try_from(port.0 / u64::BITS).ok()?;
        let (pending, mask) = (EVTCHN_PENDING.get(word)?, EVTCHN_MASK.get(word)?);
        Some(Self { shared, pending, mask, bit: 1 << (port.0 % u64::BITS) })
    }

    pub(super) fn mask(&self) {
        self.shared.fetch_or(self.mask, self.bit);
    }

    /// Unmasks the port, unless there is an event.
    pub(super) fn arm(&self) -> Armed {
        if self.shared.load(self.mask) & self.bit == 0 {
            return Armed::Yes;
        }
        if !self.is_pending() {
            self.shared.fetch_and(self.mask, !self.bit);
            // What came before that makes no upcall.
            if !self.is_pending() {
                return Armed::Yes;
            }
            self.mask();
        }
        Armed::Pending
    }

    /// Takes the event of a masked port, if it has one that the interrupt has not taken.
    pub(super) fn take(&self) -> bool {
        self.shared.fetch_and(self.pending, !self.bit) & self.bit != 0
    }

    fn is_pending(&self) -> bool {
        self.shared.load(self.pending) & self.bit != 0
    }
}

/// A virtual CPU's selector, as far as it was not worked off.
#[derive(Debug)]
pub(super) struct Selector {
    words: AtomicU64,
    /// Where the next visit begins, so that each word has its turn.
    next: AtomicU32,
}

impl Selector {
    pub(super) const fn new() -> Self {
        Self { words: AtomicU64::new(0), next: AtomicU32::new(0) }
    }

    pub(super) fn clear(&self) {
        self.words.store(0, Relaxed);
    }

    /// Takes what is pending, masks it, and tells of it, as often as is `left`. By one at a time.
    pub(super) fn visit<F: Access>(
        &self,
        shared: &F,
        (info, selector): (&F, Place<u64>),
        left: &mut u32,
        mut tell: impl FnMut(EvtchnPort),
    ) {
        let first = self.next.load(Relaxed);
        let mut selected = self.words.load(Relaxed) | info.swap(selector, 0);
        for word in ones(selected.rotate_right(first)) {
            if *left == 0 {
                break;
            }
            let word = word.wrapping_add(first) % u64::BITS;
            let due = take_due(shared, word, left);
            for bit in ones(due.taken) {
                tell(EvtchnPort(word.wrapping_mul(u64::BITS).wrapping_add(bit)));
            }
            if !due.is_rest {
                selected &= !(1 << (word % u64::BITS));
            }
            self.next.store(word.wrapping_add(1), Relaxed);
        }
        self.words.store(selected, Relaxed);
    }
}

/// What was taken of a word, and whether there is more for which there was no time.
struct Due {
    taken: u64,
    is_rest: bool,
}

/// Takes and masks the events of a word, as many as are `left`.
fn take_due<F: Access>(shared: &F, word: u32, left: &mut u32) -> Due {
    let word = usize::try_from(word).unwrap_or(usize::MAX);
    let (Some(pending), Some(mask)) = (EVTCHN_PENDING.get(word), EVTCHN_MASK.get(word)) else {
        return Due { taken: 0, is_rest: false };
    };
    let due = shared.load(pending) & !shared.load(mask);
    let mut now = 0;
    for bit in ones(due) {
        let Some(less) = left.checked_sub(1) else { break };
        *left = less;
        now |= 1 << (bit % u64::BITS);
    }
    let mut taken = 0;
    if now != 0 {
        shared.fetch_or(mask, now);
        taken = shared.fetch_and(pending, !now) & now;
    }
    Due { taken, is_rest: due != now }
}

/// The bits of a word that are set, from the lowest.
pub(super) fn ones(mut word: u64) -> impl Iterator<Item = u32> {
    core::iter::from_fn(move || {
        let bit = word.trailing_zeros();
        word &= word.checked_sub(1)?;
        Some(bit)
    })
}
