//! Where one thread after another may poll, a future that holds an `Rc` across an await is not spawned.

use std::rc::Rc;

use kexec::{Budget, Executor, Pool, platform::polling::Polling, yield_now};

thread_local!(static SHARED: Rc<u8> = Rc::new(0));
static POOL: Pool<64, 1> = Pool::new();
static EXECUTOR: Executor<Polling> = Executor::new(Polling::new(), Budget::DEFAULT);

async fn held_across_an_await() {
    let shared = SHARED.with(Rc::clone);
    yield_now().await;
    drop(shared);
}

fn main() {
    EXECUTOR.spawn_with(&POOL, held_across_an_await).unwrap().detach();
}
