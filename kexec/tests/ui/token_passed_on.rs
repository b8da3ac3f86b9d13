//! A task does not pass its token on to another task.

use kexec::{Budget, Executor, Pool, irql::Dispatch, platform::thread::Thread};

static POOL: Pool<64, 1> = Pool::new();
static EXECUTOR: Executor<Thread<Dispatch>> = Executor::new(Thread::new(), Budget::DEFAULT);

async fn wrong(at: &mut Dispatch, (): ()) {
    EXECUTOR.spawn(&POOL, async |_: &mut Dispatch, _second: &mut Dispatch| (), at).unwrap().detach();
}

fn main() {}
