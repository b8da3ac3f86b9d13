//! Events, spans, levels and traced runs allocate nothing.
#![expect(unsafe_code, reason = "an allocator counts")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::Duration,
};

use kexec::{
    Budget, Executor, Pool,
    platform::polling::Polling,
    span,
    trace::{self, Both, InSpan, Level, Limit, Output, Ring, UpTo},
    yield_now,
};

struct Counting;

thread_local!(static ALLOCATIONS: Cell<u32> = const { Cell::new(0) });

// SAFETY: it is the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn nothing_is_allocated() {
    static RING: Ring<8> = Ring::new();
    static SINK: Both<&Ring<8>, UpTo<&Ring<8>>> = Both(&RING, UpTo(Level::Warn, &RING));
    static OUTPUT: Output = Output::new(&SINK);
    static POOL: Pool<256, 2> = Pool::new();
    static EXECUTOR: Executor<Polling> = Executor::new(Polling::new(), Budget::new(8, Duration::MAX));

    drop(std::hint::black_box(vec![1]));
    let before = ALLOCATIONS.get();
    assert_ne!(before, 0, "they are counted");
    trace::set_output(Some(&OUTPUT));
    trace::set_levels("info, trace_alloc = trace").expect("the levels are well formed");
    EXECUTOR.trace_tasks(true);
    for n in 0..100 {
        kexec::trace!(limit: Limit::NONE, "{n} {:?} {:10.3}", Some("text"), 1.5);
        kexec::warn!("limited");
        let task = async {
            yield_now().in_span(span!(Level::Debug, "step")).await;
            let _step = span!("another").enter();
        };
        EXECUTOR.spawn_with(&POOL, || task).expect("a slot is free").detach();
        EXECUTOR.try_run(&mut ());
    }
    trace::set_output(None);
    assert_eq!(ALLOCATIONS.get(), before);
    assert_eq!((RING.totals().events, EXECUTOR.live()), (100 + 2 * 16, 0));
}
