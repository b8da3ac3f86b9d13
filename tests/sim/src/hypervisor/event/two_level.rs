//! The two-level ABI: a bit for each port in the shared info page, and above them a selector for each virtual CPU.
//!
//! ```text
//! vcpu_info.evtchn_upcall_pending   1 byte
//!           evtchn_pending_sel      64 bits: a word below that has something new
//! shared_info.evtchn_pending        64 × 64 bits: an event came
//!             evtchn_mask           64 × 64 bits: and is to be kept quiet
//! ```
//!
//! An event goes from the bottom up and stops at the first bit that it finds set, or masked: whoever set that bit has
//! seen to what is above.
#![forbid(unsafe_code)]

use xen_abi::{
    seam::Places,
    shared_info::{EVTCHN_MASK, EVTCHN_PENDING},
};

use crate::{
    hypervisor::{
        domain::Domain,
        shared::{Area, Shared},
    },
    ram::Ram,
};

/// Ports in a word, and words in a selector.
const BITS: u32 = u64::BITS;

/// A port's bit in one of the two bitmaps.
#[derive(Clone, Copy)]
struct Bit {
    word: Shared<u64>,
    mask: u64,
}

impl Bit {
    /// There is none for a port beyond the ABI's.
    fn of(port: u32, bitmap: Places<u64>) -> Option<Self> {
        let word = bitmap.get((port / BITS) as usize)?;
        Some(Self { word: Area::SharedInfo.at(word), mask: 1 << (port % BITS) })
    }

    fn is_set(self, ram: &Ram) -> bool {
        ram.load(self.word).is_some_and(|word| word & self.mask != 0)
    }

    /// Sets it, and says whether it was set.
    fn set(self, ram: &mut Ram) -> bool {
        ram.update(self.word, |word| word | self.mask).is_some_and(|word| word & self.mask != 0)
    }

    /// Clears it, and says whether it was set.
    fn clear(self, ram: &mut Ram) -> bool {
        ram.update(self.word, |word| word & !self.mask).is_some_and(|word| word & self.mask != 0)
    }
}

impl Domain {
    pub(super) fn two_level_raise(&mut self, port: u32, vcpu: u32) {
        let (Some(pending), Some(masked)) = (Bit::of(port, EVTCHN_PENDING), Bit::of(port, EVTCHN_MASK))
        else {
            return;
        };
        if !pending.set(&mut self.ram) && !masked.is_set(&self.ram) {
            self.two_level_select(port, vcpu);
        }
    }

    pub(super) fn two_level_unmask(&mut self, port: u32, vcpu: u32) {
        let (Some(pending), Some(masked)) = (Bit::of(port, EVTCHN_PENDING), Bit::of(port, EVTCHN_MASK))
        else {
            return;
        };
        if masked.clear(&mut self.ram) && pending.is_set(&self.ram) {
            self.two_level_select(port, vcpu);
        }
    }

    /// A virtual CPU without a `vcpu_info` has neither selector nor upcall.
    fn two_level_select(&mut self, port: u32, vcpu: u32) {
        let Some(info) = self.info(vcpu) else { return };
        let bit = 1 << (port / BITS);
        let selected = self.ram.update(info.pending_sel(), |selector| selector | bit);
        if selected.is_some_and(|selector| selector & bit == 0) {
            self.upcall(vcpu);
        }
    }

    pub(super) fn two_level_clear(&mut self, port: u32) {
        if let Some(pending) = Bit::of(port, EVTCHN_PENDING) {
            pending.clear(&mut self.ram);
        }
    }

    pub(super) fn two_level_is_pending(&self, port: u32) -> bool {
        Bit::of(port, EVTCHN_PENDING).is_some_and(|pending| pending.is_set(&self.ram))
    }
}
