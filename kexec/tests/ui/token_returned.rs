//! A token does not leave its task as the output.

use kexec::{Budget, Executor, Pool, irql::Dispatch, platform::thread::Thread};

static POOL: Pool<64, 1> = Pool::new();
static EXECUTOR: Executor<Thread<Dispatch>> = Executor::new(Thread::new(), Budget::DEFAULT);

fn main() {
    EXECUTOR.submit(&POOL, async |at: &mut Dispatch, ()| at, (), |_at, _token| ()).unwrap();
}
