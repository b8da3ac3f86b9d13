//! A task that is larger than a slot of its store does not compile: it is the build that says so.

use kexec::{Budget, Executor, Pool, platform::polling::Polling, yield_now};

static POOL: Pool<64, 1> = Pool::new();
static EXECUTOR: Executor<Polling> = Executor::new(Polling::new(), Budget::DEFAULT);

async fn read() -> u8 {
    let sector = [0; 512];
    yield_now().await;
    sector[0]
}

fn main() {
    EXECUTOR.spawn_with(&POOL, read).unwrap().detach();
}
