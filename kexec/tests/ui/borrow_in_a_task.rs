//! A task borrows nothing from whoever spawns it, who need not wait for its end.

use kexec::{Budget, Executor, Pool, irql::Dispatch, platform::thread::Thread};

static POOL: Pool<64, 2> = Pool::new();
static EXECUTOR: Executor<Thread<Dispatch>> = Executor::new(Thread::new(), Budget::DEFAULT);

async fn length(_: &mut Dispatch, text: &[u8]) -> usize {
    text.len()
}

fn main() {
    let text = vec![0; 512];
    EXECUTOR.spawn(&POOL, length, &text).unwrap().detach();
    EXECUTOR.spawn_with(&POOL, || async { text.len() }).unwrap().detach();
}
