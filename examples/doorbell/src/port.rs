//! The storage port: hands requests to the driver, books their completions, and loses patience.

use std::{
    sync::{Condvar, Mutex, MutexGuard},
    time::Duration,
};

use kexec::{Cancelled, SpawnError, TaskRef, irql::Dispatch};

use crate::driver::{self, EXECUTOR, READS, RESETS};

/// How long nothing may be completed before the disk is reset.
const PATIENCE: Duration = Duration::from_millis(200);

/// A request that the port has handed over, to get it back completed.
pub(crate) struct Srb {
    number: usize,
}

impl Srb {
    /// The driver's last touch.
    fn complete(self, outcome: Result<u64, Cancelled>) {
        let mut books = books();
        books.outcomes[self.number].push(outcome);
        books.completions += 1;
        COMPLETED.notify_one();
    }
}

pub(crate) struct Books {
    /// Of each request, with which outcomes it was completed.
    pub(crate) outcomes: Vec<Vec<Result<u64, Cancelled>>>,
    completions: u64,
}

static COMPLETED: Condvar = Condvar::new();

pub(crate) fn books() -> MutexGuard<'static, Books> {
    static BOOKS: Mutex<Books> = Mutex::new(Books { outcomes: Vec::new(), completions: 0 });
    BOOKS.lock().expect("neither side panics")
}

/// What the port has done.
#[derive(Default)]
pub(crate) struct Port {
    pub(crate) tasks: Vec<TaskRef>,
    pub(crate) refused: u64,
    pub(crate) resets: u64,
    pub(crate) aborted: u64,
}

impl Port {
    /// Starts the next request. While the driver has no slot for it, waits for a completion and tries again.
    pub(crate) fn start(&mut self, lba: u64) {
        let srb = Srb { number: self.tasks.len() };
        books().outcomes.push(Vec::with_capacity(1));
        let mut epilogue = move |_at: &mut Dispatch, outcome| srb.complete(outcome);
        loop {
            let before = books().completions;
            match EXECUTOR.submit(&READS, driver::read, lba, epilogue) {
                Ok(task) => return self.tasks.push(task),
                Err(SpawnError::Closed(_)) => unreachable!("it is the port that closes the executor"),
                // Nothing is lost: here is the epilogue again, with the request in it.
                Err(SpawnError::Full((_, _, back))) => epilogue = back,
            }
            self.refused += 1;
            let waited = COMPLETED.wait_timeout_while(books(), PATIENCE, |books| books.completions == before);
            if waited.expect("neither side panics").1.timed_out() {
                self.reset();
            }
        }
    }

    /// Has every request that is outstanding aborted, by the names of their tasks.
    fn reset(&mut self) {
        let outstanding = self.tasks.iter().copied().filter(|task| task.is_live()).collect();
        let reset = EXECUTOR.spawn(&RESETS, driver::reset, outstanding).expect("there is one at a time");
        self.aborted += pollster::block_on(reset).expect("nobody cancels it");
        self.resets += 1;
    }
}
