//! A task that is lent a token is not `Send`, so it is spawned only where that does not matter.

use kexec::{Budget, Executor, Pool, platform::polling::Polling};

static POOL: Pool<64, 1> = Pool::new();
static EXECUTOR: Executor<Polling> = Executor::new(Polling::new(), Budget::DEFAULT);

async fn double(_: &mut (), value: u8) -> u8 {
    value * 2
}

fn main() {
    EXECUTOR.spawn(&POOL, double, 1).unwrap().detach();
}
