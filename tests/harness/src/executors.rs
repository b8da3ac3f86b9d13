//! Where a world's executors come from.
#![forbid(unsafe_code)]

use kexec::{Executor, Table, platform::mock::Mock, testing::Sim};

/// Who makes a world's executors, and runs them.
pub trait Executors {
    /// An executor of the guest's.
    fn driver(&mut self, name: &'static str) -> &'static Executor<Mock>;

    /// An executor of what the guest talks to.
    fn device(&mut self, name: &'static str) -> &'static Executor<Mock>;

    /// A store of tasks.
    fn pool<const S: usize, const N: usize>(&mut self) -> &'static Table<S>;

    /// From which everything that happens by chance is drawn.
    fn seed(&self) -> u64;
}

impl Executors for Sim {
    fn driver(&mut self, name: &'static str) -> &'static Executor<Mock> {
        self.executor(name)
    }

    fn device(&mut self, name: &'static str) -> &'static Executor<Mock> {
        Self::device(self, name)
    }

    fn pool<const S: usize, const N: usize>(&mut self) -> &'static Table<S> {
        Self::pool::<S, N>(self)
    }

    fn seed(&self) -> u64 {
        Self::seed(self)
    }
}
