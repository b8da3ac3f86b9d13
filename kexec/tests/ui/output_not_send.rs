//! The output of a task that can be joined crosses over to whoever joins it, so it is `Send`.

use std::rc::Rc;

use kexec::{Budget, Executor, Pool, irql::Dispatch, platform::thread::Thread};

static POOL: Pool<64, 1> = Pool::new();
static EXECUTOR: Executor<Thread<Dispatch>> = Executor::new(Thread::new(), Budget::DEFAULT);

async fn shared(_: &mut Dispatch, value: u8) -> Rc<u8> {
    Rc::new(value)
}

fn main() {
    EXECUTOR.spawn(&POOL, shared, 1).unwrap().detach();
}
