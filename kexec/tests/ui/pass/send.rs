//! What is not `Send` stays inside a task: between two awaits where any thread may poll, else for its whole life.

use std::rc::Rc;

use kexec::{
    Budget, Executor, Pool,
    irql::Dispatch,
    platform::{polling::Polling, thread::Thread},
    yield_now,
};

static POOL: Pool<64, 3> = Pool::new();
static ANY_THREAD: Executor<Polling> = Executor::new(Polling::new(), Budget::DEFAULT);
static ONE_THREAD: Executor<Thread<Dispatch>> = Executor::new(Thread::new(), Budget::DEFAULT);

async fn between_two_awaits() -> u8 {
    let value = *Rc::new(1);
    yield_now().await;
    value
}

async fn across_an_await(_: &mut Dispatch, value: u8) -> u8 {
    let shared = Rc::new(value);
    yield_now().await;
    *shared
}

fn main() {
    let first = ANY_THREAD.spawn_with(&POOL, between_two_awaits).unwrap();
    ANY_THREAD.try_run(&mut ());
    assert_eq!(first.try_take().unwrap(), Ok(1));

    ONE_THREAD.start().unwrap();
    let second = ONE_THREAD.spawn(&POOL, across_an_await, 2).unwrap();
    assert_eq!(pollster::block_on(second), Ok(2));
    // An output that goes to an epilogue stays where it is, too.
    ONE_THREAD.submit(&POOL, async |_: &mut Dispatch, ()| Rc::new(3), (), |_at, _shared| ()).unwrap();
}
