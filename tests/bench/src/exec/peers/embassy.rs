//! `embassy-executor`, its raw core without a platform: static task storage, nothing on the heap.
#![expect(unsafe_code, reason = "the pender is a symbol by contract, and `poll` must not be re-entered")]

use std::mem::size_of;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use embassy_executor::raw::{self, TaskPool, TaskStorage};

use crate::exec::cases::{Executor, FAN, TaskFuture};
use crate::exec::futures::Trivial;

static DOORBELLS: AtomicU64 = AtomicU64::new(0);

/// Called by the executor to say that it wants to be polled. A load and a store: no locked instruction
/// is the harness's.
// Sound to export: embassy-executor declares the symbol so, and nothing else in a bench defines it.
#[unsafe(export_name = "__pender")]
fn pender(_context: *mut ()) {
    DOORBELLS.store(DOORBELLS.load(Relaxed) + 1, Relaxed);
}

/// A raw executor, and how many doorbells `run` has answered.
pub(in crate::exec) struct Embassy {
    executor: &'static raw::Executor,
    answered: u64,
}

impl Executor for Embassy {
    const NAME: &'static str = "embassy-executor";
    type Pool<F: TaskFuture> = &'static TaskPool<F, FAN>;

    fn new() -> Self {
        let executor = Box::leak(Box::new(raw::Executor::new(ptr::null_mut())));
        Self { executor, answered: DOORBELLS.load(Relaxed) }
    }

    fn pool<F: TaskFuture>() -> Self::Pool<F> {
        Box::leak(Box::new(TaskPool::new()))
    }

    fn spawn<F: TaskFuture>(&mut self, pool: &Self::Pool<F>, future: F) {
        let token = pool.spawn(|| future).expect("the pool has room");
        self.executor.spawner().spawn(token);
    }

    fn run(&mut self) {
        loop {
            let doorbells = DOORBELLS.load(Relaxed);
            if doorbells == self.answered {
                break;
            }
            self.answered = doorbells;
            // SAFETY: not re-entered. `&mut self` is the only way here, no task has it, and the pender
            // only counts.
            unsafe { self.executor.poll() };
        }
    }

    fn task_bytes() -> u64 {
        size_of::<TaskStorage<Trivial>>() as u64
    }

    fn doorbells() -> Option<u64> {
        Some(DOORBELLS.load(Relaxed))
    }
}
