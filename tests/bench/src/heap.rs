//! The allocator of every bench binary: the system's, with a count.
//!
//! Each thread counts its own, in a cell without a lock or an atomic, so that counting adds no locked
//! instruction to a peer that allocates, and no thread disturbs another's count.
#![expect(unsafe_code, reason = "a global allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    // Neither initialised at run time nor dropped: the allocator can reach it at any moment of a thread's life.
    static USAGE: Cell<Usage> = const { Cell::new(Usage { allocations: 0, bytes: 0 }) };
}

/// The system allocator, counted.
#[derive(Debug)]
pub struct Counting;

/// What a thread has allocated. Freeing takes nothing away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Calls that allocated or grew a block.
    pub allocations: u64,
    /// Bytes asked for in those calls.
    pub bytes: u64,
}

/// What this thread has allocated so far.
#[must_use]
pub fn usage() -> Usage {
    USAGE.get()
}

/// Bytes that `operation` allocates on this thread.
pub fn bytes_allocated_by(operation: impl FnOnce()) -> u64 {
    let before = usage().bytes;
    operation();
    usage().bytes - before
}

fn count(size: usize) {
    let Usage { allocations, bytes } = USAGE.get();
    USAGE.set(Usage { allocations: allocations + 1, bytes: bytes + size as u64 });
}

// SAFETY: every call goes unchanged to the system allocator, which keeps the contract; counting touches
// only a cell of the thread's, and does not allocate.
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
        assert_eq!(bytes_allocated_by(|| drop(std::hint::black_box(Box::new([0_u8; 1234])))), 1234);
    }

    /// The tests of a program run on many threads, and each would lose the others' counts.
    #[test]
    fn another_thread_does_not_count() {
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    drop(std::hint::black_box(Box::new([0_u8; 99])));
                }
            });
            let boxed = || drop(std::hint::black_box(Box::new(0_u64)));
            let exact = (0..10_000).all(|_| bytes_allocated_by(boxed) == 8);
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(exact);
        });
    }
}
