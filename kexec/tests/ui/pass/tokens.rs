//! A task uses its token for as long as it lives, lends it to what it awaits, and returns what it found out.

use kexec::{Budget, Executor, Pool, irql::Dispatch, platform::thread::Thread, task_size, yield_now};

static POOL: Pool<{ task_size(&sum) }, 1> = Pool::new();
static EXECUTOR: Executor<Thread<Dispatch>> = Executor::new(Thread::new(), Budget::DEFAULT);

async fn read(_ring: &Dispatch, value: u8) -> u8 {
    yield_now().await;
    value
}

async fn sum(at: &mut Dispatch, (): ()) -> u8 {
    let (first, second) = (read(at, 1), read(at, 2));
    first.await + second.await
}

fn main() {
    EXECUTOR.start().unwrap();
    let handle = EXECUTOR.spawn(&POOL, sum, ()).unwrap();
    assert_eq!(pollster::block_on(handle), Ok(3));
}
