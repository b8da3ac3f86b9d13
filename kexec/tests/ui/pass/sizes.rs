//! A pool whose slots have the size of its tasks, and tasks that own what they need.

use kexec::{
    Budget, Executor, Pool, irql::Dispatch, platform::thread::Thread, request_size, task_size, yield_now,
};

static READS: Pool<{ task_size(&read) }, 1> = Pool::new();
static REQUESTS: Pool<{ request_size(&read, size_of::<&str>()) }, 1> = Pool::new();
static EXECUTOR: Executor<Thread<Dispatch>> = Executor::new(Thread::new(), Budget::DEFAULT);

async fn read(_: &mut Dispatch, block: Vec<u8>) -> usize {
    let sector = [1; 512];
    yield_now().await;
    block.len() + sector.len()
}

fn main() {
    EXECUTOR.start().unwrap();
    let name = "captured by the epilogue";
    EXECUTOR.submit(&REQUESTS, read, vec![0; 512], move |_at, _outcome| _ = name).unwrap();
    let handle = EXECUTOR.spawn(&READS, read, vec![0; 512]).unwrap();
    assert_eq!(pollster::block_on(handle), Ok(1024));
}
