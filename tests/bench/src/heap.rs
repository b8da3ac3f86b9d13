//! The allocator of every bench binary: the system's, with a count.
//!
//! The count is a load and a store, not a read-modify-write, so that counting adds no locked
//! instruction to a peer that allocates. Two threads that allocate at once could lose a count; a bench
//! case runs on one thread.
#![expect(unsafe_code, reason = "a global allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

/// The system allocator, counted.
#[derive(Debug)]
pub struct Counting;

/// What was allocated since the program started. Freeing takes nothing away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Calls that allocated or grew a block.
    pub allocations: u64,
    /// Bytes asked for in those calls.
    pub bytes: u64,
}

/// What was allocated so far.
#[must_use]
pub fn usage() -> Usage {
    Usage { allocations: ALLOCATIONS.load(Relaxed), bytes: BYTES.load(Relaxed) }
}

/// Bytes that `operation` allocates.
pub fn bytes_allocated_by(operation: impl FnOnce()) -> u64 {
    let before = usage().bytes;
    operation();
    usage().bytes - before
}

fn count(size: usize) {
    ALLOCATIONS.store(ALLOCATIONS.load(Relaxed) + 1, Relaxed);
    BYTES.store(BYTES.load(Relaxed) + size as u64, Relaxed);
}

// SAFETY: every call goes unchanged to the system allocator, which keeps the contract; counting touches
// only two atomics, neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise about `layout` is the one that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from `System` through this allocator, with this `layout`, says the caller.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size);
        // SAFETY: as in `dealloc`, and the caller vouches for `new_size`.
        unsafe { System.realloc(block, layout, new_size) }
    }
}

#[cfg(test)]
mod tests {
    use super::bytes_allocated_by;

    #[test]
    fn a_box_is_counted_with_its_size() {
        // Other tests of this binary may allocate meanwhile, on their threads.
        assert!(bytes_allocated_by(|| drop(std::hint::black_box(Box::new([0_u8; 1234])))) >= 1234);
    }
}
