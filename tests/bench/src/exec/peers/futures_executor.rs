//! `futures-executor`'s `LocalPool`: `FuturesUnordered` with boxed futures.

use futures_executor::{LocalPool, LocalSpawner};
use futures_task::{FutureObj, Spawn};

use super::bytes_of_a_spawn;
use crate::exec::cases::{Executor, TaskFuture};
use crate::exec::futures::Trivial;

pub(in crate::exec) struct Pool {
    pool: LocalPool,
    spawner: LocalSpawner,
}

impl Executor for Pool {
    const NAME: &'static str = "futures-executor";
    type Pool<F: TaskFuture> = ();

    fn new() -> Self {
        let pool = LocalPool::new();
        let spawner = pool.spawner();
        Self { pool, spawner }
    }

    fn pool<F: TaskFuture>() -> Self::Pool<F> {}

    fn spawn<F: TaskFuture>(&mut self, (): &(), future: F) {
        self.spawner.spawn_obj(FutureObj::new(Box::new(future))).expect("the pool is there");
    }

    fn run(&mut self) {
        self.pool.run_until_stalled();
    }

    fn task_bytes() -> u64 {
        let mut pool = Self::new();
        bytes_of_a_spawn(|| {
            pool.spawn(&(), Trivial::default());
            pool.run();
        })
    }
}
