//! The stacks on which driver code runs.
#![expect(unsafe_code, reason = "reads the stacks of suspended driver code by address")]

use std::{
    ops::Range,
    ptr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{Machine, mapping};

/// Each stack lies in a slot of this size, so that a run off its end is unmistakable.
const SLOT: u64 = 64 * 1024;

/// Far from what Linux maps of its own accord, and from the images.
const FIRST: u64 = 0x5b00_0000_0000;

/// More activations than that at a time are a scenario that has gone wrong.
const SLOTS: u64 = 4096;

/// `KERNEL_STACK_SIZE` (ntddk.h, for AMD64).
pub(super) const SIZE: u64 = 24 * 1024;

/// Where the stack begins in its slot: the guard below is larger than the one above, as overruns go down.
const START: u64 = 36 * 1024;

/// How many slots hold memory. They go on doing so for the life of the process.
static COMMITTED: AtomicU64 = AtomicU64::new(0);

/// A kernel stack: 24 KiB at a fixed address, between guard pages. Given back to the machine when dropped.
#[derive(Debug)]
pub struct KernelStack {
    machine: Machine,
    slot: u64,
}

impl KernelStack {
    pub(super) fn new(machine: Machine, slot: u64) -> Self {
        if slot == COMMITTED.load(Relaxed) {
            if slot == 0 {
                mapping::reserve(&(FIRST..FIRST + SLOTS * SLOT))
                    .unwrap_or_else(|error| panic!("no room for stacks at {FIRST:#x}: {error}"));
            }
            assert!(slot < SLOTS, "{slot} stacks are in use: activations are made and never dropped");
            mapping::commit(&usable(slot)).unwrap_or_else(|error| panic!("no memory for a stack: {error}"));
            COMMITTED.store(slot + 1, Relaxed);
        }
        Self { machine, slot }
    }

    /// The stack without its guard pages.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        usable(self.slot)
    }

    /// Whether the address is in the guard below the stack.
    pub(super) fn is_below(&self, address: u64) -> bool {
        (self.range().start - START..self.range().start).contains(&address)
    }

    /// Stores a word, as a `call` does, if that is still on the stack.
    pub(super) fn push(&self, rsp: u64, value: u64) -> Option<()> {
        let range = self.range();
        (range.start <= rsp && rsp + 8 <= range.end).then(|| {
            let word: *mut u64 = ptr::with_exposed_provenance_mut(rsp as usize);
            // SAFETY: on the stack, which is ours, and whose code does not run meanwhile.
            unsafe { word.write_unaligned(value) };
        })
    }

    pub(super) fn machine(&self) -> &Machine {
        &self.machine
    }
}

impl Drop for KernelStack {
    fn drop(&mut self) {
        self.machine.give_back(self.slot);
    }
}

/// Makes all stacks as they were when they were new. None of them is in use.
pub(super) fn clear() {
    for slot in 0..COMMITTED.load(Relaxed) {
        // SAFETY: no activation exists, and nothing else lives on these stacks.
        unsafe { mapping::clear(&usable(slot)) }
            .unwrap_or_else(|error| panic!("could not clear a stack: {error}"));
    }
}

/// The word there, if it is one on a stack.
pub(super) fn read(address: u64) -> Option<u64> {
    let slot = address.checked_sub(FIRST)? / SLOT;
    let is_whole = slot < COMMITTED.load(Relaxed)
        && usable(slot).contains(&address)
        && usable(slot).contains(&(address + 7));
    is_whole.then(|| {
        let word: *const u64 = ptr::with_exposed_provenance(address as usize);
        // SAFETY: committed memory, which stays mapped. The code that writes to it does not run meanwhile: there
        // is one machine, and this is its thread.
        unsafe { word.read_unaligned() }
    })
}

fn usable(slot: u64) -> Range<u64> {
    let start = FIRST + slot * SLOT + START;
    start..start + SIZE
}
