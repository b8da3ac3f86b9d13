//! What is under way, by the number that a response has.
#![forbid(unsafe_code)]

use core::fmt;

/// What up to `N` requests wait with, and the numbers that their responses are to have.
///
/// A number is used by one request at a time, and it is long until it is used again: it has the slot in its lowest
/// bits, and above them how often that was used. So a response that comes twice, or late, or to nothing, is told from
/// one that is waited for.
///
/// A protocol whose numbers are shorter, such as netif's of 16 bits, takes as many of the lowest bits as it has, and
/// asks with [`take_short`](Self::take_short).
#[derive(Debug)]
pub struct Pending<T, const N: usize> {
    slots: [Slot<T>; N],
    /// The slot that was free last, and is so still if it has a successor: the head of the list of free ones.
    free: usize,
    used: usize,
}

#[derive(Debug)]
struct Slot<T> {
    /// How often it was used.
    generation: u64,
    what: What<T>,
}

#[derive(Debug)]
enum What<T> {
    Waits(T),
    /// Free, and so is this one; `N` if there is none.
    Free(usize),
}

/// As many requests are under way as can be; this one is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

/// A response has a number that nobody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotPending(pub u64);

impl<T, const N: usize> Pending<T, N> {
    /// Bits that tell the slots apart.
    const SLOT_BITS: u32 = usize::BITS.wrapping_sub(N.saturating_sub(1).leading_zeros());
    const SLOT_MASK: u64 = (1_u64 << Self::SLOT_BITS).wrapping_sub(1);

    /// Nothing is under way.
    #[must_use]
    pub fn new() -> Self {
        const { assert!(N > 0 && N <= 1 << 16, "each slot has a number of 16 bits") };
        let slot = |index: usize| Slot { generation: 0, what: What::Free(index.saturating_add(1)) };
        Self { slots: core::array::from_fn(slot), free: 0, used: 0 }
    }

    /// How many are under way.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.used
    }

    /// Whether none is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Keeps what a request waits with, and returns the number that its response is to have.
    ///
    /// # Errors
    ///
    /// There is no room.
    pub fn insert(&mut self, what: T) -> Result<u64, Full<T>> {
        let index = self.free;
        let Some(slot) = self.slots.get_mut(index) else { return Err(Full(what)) };
        let What::Free(next) = slot.what else { return Err(Full(what)) };
        slot.what = What::Waits(what);
        self.free = next;
        self.used = self.used.saturating_add(1);
        Ok(slot.generation.wrapping_shl(Self::SLOT_BITS) | index as u64)
    }

    /// What waits for the response with this number.
    #[must_use]
    pub fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let slot = self.slots.get_mut(Self::index(number))?;
        match &mut slot.what {
            What::Waits(what)
                if slot.generation.wrapping_shl(Self::SLOT_BITS) == number & !Self::SLOT_MASK =>
            {
                Some(what)
            }
            _ => None,
        }
    }

    /// What waits for the response with this number, which has come.
    ///
    /// # Errors
    ///
    /// Nobody waits for that.
    pub fn take(&mut self, number: u64) -> Result<T, NotPending> {
        self.take_short(number, u64::BITS)
    }

    /// The same, of a number of which the response has only the `bits` lowest; the others are zero.
    ///
    /// # Errors
    ///
    /// As for [`take`](Self::take).
    pub fn take_short(&mut self, number: u64, bits: u32) -> Result<T, NotPending> {
        let mask = u64::MAX.checked_shr(u64::BITS.saturating_sub(bits)).unwrap_or(0);
        let index = Self::index(number);
        let free = self.free;
        let slot = self.slots.get_mut(index).ok_or(NotPending(number))?;
        let whole = slot.generation.wrapping_shl(Self::SLOT_BITS) | index as u64;
        if whole & mask != number || matches!(slot.what, What::Free(_)) {
            return Err(NotPending(number));
        }
        let What::Waits(what) = core::mem::replace(&mut slot.what, What::Free(free)) else {
            return Err(NotPending(number));
        };
        slot.generation = slot.generation.wrapping_add(1);
        self.free = index;
        self.used = self.used.saturating_sub(1);
        Ok(what)
    }

    /// All that is under way, each with its number, in no order.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        (0..N).filter_map(|index| {
            let generation = self.slots.get(index)?.generation;
            self.take(generation.wrapping_shl(Self::SLOT_BITS) | index as u64).ok()
        })
    }

    #[expect(clippy::cast_possible_truncation, reason = "the mask has 16 bits at most")]
    const fn index(number: u64) -> usize {
        (number & Self::SLOT_MASK) as usize
    }
}

impl<T, const N: usize> Default for Pending<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Display for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("as many requests are under way as can be; wait for a response")
    }
}

impl<T: fmt::Debug> core::error::Error for Full<T> {}

impl fmt::Display for NotPending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the backend has answered {:#x}, which was not asked, or was answered before", self.0)
    }
}

impl core::error::Error for NotPending {}
