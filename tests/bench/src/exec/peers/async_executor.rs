//! `async-executor`'s `LocalExecutor`, ticked from outside: no root future is needed.

use async_executor::LocalExecutor;

use super::bytes_of_a_spawn;
use crate::exec::cases::{Executor, TaskFuture};
use crate::exec::futures::Trivial;

pub(in crate::exec) struct Local(LocalExecutor<'static>);

impl Executor for Local {
    const NAME: &'static str = "async-executor";
    type Pool<F: TaskFuture> = ();

    fn new() -> Self {
        Self(LocalExecutor::new())
    }

    fn pool<F: TaskFuture>() -> Self::Pool<F> {}

    fn spawn<F: TaskFuture>(&mut self, (): &(), future: F) {
        self.0.spawn(future).detach();
    }

    fn run(&mut self) {
        while self.0.try_tick() {}
    }

    fn task_bytes() -> u64 {
        let mut local = Self::new();
        bytes_of_a_spawn(|| {
            local.spawn(&(), Trivial::default());
            local.run();
        })
    }
}
