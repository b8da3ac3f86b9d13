//! What is handed to a spawn crosses over to the run, so it is `Send`, even where futures need not be.

use std::rc::Rc;

use kexec::{Budget, Executor, Pool, irql::Dispatch, platform::thread::Thread};

static POOL: Pool<64, 1> = Pool::new();
static EXECUTOR: Executor<Thread<Dispatch>> = Executor::new(Thread::new(), Budget::DEFAULT);

fn main() {
    let shared = Rc::new(0);
    EXECUTOR.spawn(&POOL, async move |_: &mut Dispatch, ()| drop(shared), ()).unwrap().detach();
}
