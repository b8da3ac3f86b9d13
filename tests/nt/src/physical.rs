//! Physical memory: where the pages are that a driver has asked about, and what the hypervisor writes there.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, btree_map::Entry};

use crate::{
    call::{Answer, Call, Outcome},
    kernel::Kernel,
    memory::PAGE,
    schedule::Dice,
    verdict::{Finding, Verdict},
};

/// The guest has so many frames: 64 GiB.
const FRAMES: u64 = 1 << 24;

/// The frames of the pages that were asked about, scattered, so that whoever takes one page's for its neighbour's is found. Who
/// asks changes nothing else in a run: this has dice of its own.
#[derive(Debug)]
pub(crate) struct Frames {
    dice: Dice,
    /// The pages, by frame.
    pages: BTreeMap<u64, u64>,
}

impl Frames {
    pub(crate) fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed.rotate_left(32)), pages: BTreeMap::new() }
    }

    /// The frame of a page, which it keeps.
    fn of(&mut self, page: u64) -> u64 {
        if let Some((&frame, _)) = self.pages.iter().find(|&(_, &other)| other == page) {
            return frame;
        }
        loop {
            let frame = 1 + self.dice.below(FRAMES - 1);
            if let Entry::Vacant(place) = self.pages.entry(frame) {
                place.insert(page);
                return frame;
            }
        }
    }
}

impl Kernel {
    /// `MmGetPhysicalAddress`: of "a valid nonpaged virtual address".
    pub(crate) fn mm_get_physical_address(&mut self, call: &Call) -> Outcome {
        let address = call.argument(0);
        self.memory.check_nonpaged(address)?;
        let offset = address % PAGE;
        Ok(Answer::Return(self.frames.of(address - offset) * PAGE + offset))
    }

    /// The hypercall page's register is written: the value is a page's physical address and, in its lowest bits, which of
    /// Xen's pages it gets. Xen refuses what it cannot do with a general protection fault (`guest_wrmsr_xen`,
    /// `xen/arch/x86/traps.c`).
    pub(crate) fn fill_hypercall_page(&mut self, value: u64) -> Result<(), Finding> {
        let refused =
            |why| Err(Verdict::Exception.because(format!("#GP: {value:#x} for a hypercall page: {why}")));
        let (frame, index) = (value / PAGE, value % PAGE);
        if index != 0 {
            return refused("there is only the first");
        }
        let Some(&page) = self.frames.pages.get(&frame) else {
            return refused("the driver was never told of memory there");
        };
        let mut bytes = self.memory.read_bytes(page, usize::try_from(PAGE).expect("a page is small"))?;
        self.xen.write_hypercalls(&mut bytes);
        self.memory.write_bytes(page, &bytes)
    }
}
