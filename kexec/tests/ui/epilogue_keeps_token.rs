//! The token that an epilogue is lent does not outlive it.

use std::cell::RefCell;

use kexec::{Budget, Executor, Pool, irql::Dispatch, platform::thread::Thread};

static POOL: Pool<64, 1> = Pool::new();
static EXECUTOR: Executor<Thread<Dispatch>> = Executor::new(Thread::new(), Budget::DEFAULT);

thread_local!(static KEPT: RefCell<Option<&'static mut Dispatch>> = const { RefCell::new(None) });

fn main() {
    let epilogue = |at: &mut Dispatch, _outcome| KEPT.with_borrow_mut(|kept| *kept = Some(at));
    EXECUTOR.submit(&POOL, async |_: &mut Dispatch, ()| (), (), epilogue).unwrap();
}
