//! A token does not outlive its task in a static.

use std::cell::RefCell;

use kexec::{Budget, Executor, Pool, irql::Dispatch, platform::thread::Thread};

static POOL: Pool<64, 1> = Pool::new();
static EXECUTOR: Executor<Thread<Dispatch>> = Executor::new(Thread::new(), Budget::DEFAULT);

thread_local!(static KEPT: RefCell<Option<&'static mut Dispatch>> = const { RefCell::new(None) });

async fn keep(at: &mut Dispatch, (): ()) {
    KEPT.with_borrow_mut(|kept| *kept = Some(at));
}

fn main() {
    EXECUTOR.spawn(&POOL, keep, ()).unwrap().detach();
}
