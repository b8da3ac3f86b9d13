//! Work at `PASSIVE_LEVEL` is run once, with its outcome for whoever asked, however many ask and whatever ends first.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use kexec::{
    Budget, Cancelled, Executor, JoinHandle, PassiveWork, Pool, Table,
    irql::{Dispatch, Passive},
    passive_size,
    platform::{
        mock::{Mock, Plan, keep},
        thread::{Thread, passive},
    },
    shielded, yield_now,
};

type Dpc = &'static Executor<Mock>;
type Worker = &'static Executor<Mock<Passive>>;
type Work = &'static PassiveWork<Mock<Passive>, 512>;

fn house(plan: Plan, slots: &'static Table<512>) -> (Dpc, Worker, Work) {
    let dpc = Executor::leak(Mock::new(plan), Budget::new(3, Duration::MAX));
    let worker = Executor::leak(Mock::new(plan), Budget::new(2, Duration::MAX));
    (dpc, worker, keep(PassiveWork::new(worker, slots)))
}

fn tasks() -> &'static Table<1024> {
    keep(Pool::<1024, 9>::new())
}

fn settle(dpc: Dpc, worker: Worker) {
    while dpc.platform().doorbells() + worker.platform().doorbells() != 0 {
        dpc.settle();
        worker.settle();
    }
}

/// There and back: the task is parked meanwhile, and goes on at its own level.
#[test]
fn there_and_back() {
    let (dpc, worker, work) = house(Plan::CALM, keep(Pool::<512, 1>::new()));
    let task = async move |_: &mut Dispatch, base: u32| {
        let first = work
            .run(async move |_: &mut Passive| {
                yield_now().await;
                base + 1
            })
            .await?;
        work.run(async move |_: &mut Passive| first * 2).await
    };
    let handle = dpc.spawn(tasks(), task, 20).expect("a slot is free");
    dpc.settle();
    assert!(!handle.is_finished());
    settle(dpc, worker);
    assert_eq!(handle.try_take().expect("it has ended"), Ok(Ok(42)));
    assert_eq!(worker.live(), 0);
}

/// More is asked for than there are slots, in every schedule: each piece of work is done once, and nobody is forgotten.
#[test]
fn more_than_there_is_room_for() {
    for seed in 0..300 {
        let (dpc, worker, work) = house(Plan::wild(seed), keep(Pool::<512, 2>::new()));
        let tasks = tasks();
        let done: &'static AtomicU32 = keep(AtomicU32::new(0));
        let ask = async move |_: &mut Dispatch, number: u32| {
            let work = work.run(async move |_: &mut Passive| {
                for _ in 0..number % 3 {
                    yield_now().await;
                }
                done.fetch_add(1, SeqCst);
                number
            });
            work.await
        };
        let handles: Vec<_> =
            (0..9).map(|number| dpc.spawn(tasks, ask, number).expect("a slot is free")).collect();
        for handle in &handles {
            dpc.platform().haunt(handle.task());
        }
        settle(dpc, worker);
        for (number, handle) in (0..).zip(handles) {
            assert_eq!(handle.try_take().expect("it has ended"), Ok(Ok(number)), "seed {seed}");
        }
        assert_eq!((done.load(SeqCst), worker.live()), (9, 0), "seed {seed}");
    }
}

/// Counts how often it was dropped.
struct Guard(Arc<Mutex<u32>>);

impl Drop for Guard {
    fn drop(&mut self) {
        *self.0.lock().unwrap() += 1;
    }
}

/// Whoever asked goes away at any moment: the work is asked to end, its slot comes back, and the next one has it.
#[test]
fn whoever_asked_goes_away() {
    for moment in 0..12 {
        let (dpc, worker, work) = house(Plan::CALM, keep(Pool::<512, 1>::new()));
        let tasks = tasks();
        let dropped = Arc::new(Mutex::new(0));
        let ask = async move |_: &mut Dispatch, guard: Guard| {
            let work = work.run(async move |_: &mut Passive| {
                pending::<()>().await;
                drop(guard);
            });
            work.await
        };
        let handles: [JoinHandle<_>; 2] =
            [(); 2].map(|()| dpc.spawn(tasks, ask, Guard(dropped.clone())).expect("a slot is free"));
        for _ in 0..moment {
            let _doorbell = if moment % 2 == 0 { dpc.step() } else { worker.step() };
        }
        for handle in &handles {
            handle.abort();
        }
        settle(dpc, worker);
        assert_eq!((*dropped.lock().unwrap(), worker.live()), (2, 0), "moment {moment}");
        let quick = async move |_: &mut Dispatch, ()| work.run(async |_: &mut Passive| 7).await;
        let handle = dpc.spawn(tasks, quick, ()).expect("a slot is free");
        settle(dpc, worker);
        assert_eq!(handle.try_take().expect("it has ended"), Ok(Ok(7)), "moment {moment}");
    }
}

/// Shielded work is waited for, though its task was cancelled.
#[test]
fn shielded_work() {
    let (dpc, worker, work) = house(Plan::CALM, keep(Pool::<512, 1>::new()));
    let done: &'static AtomicU32 = keep(AtomicU32::new(0));
    let task = async move |_: &mut Dispatch, ()| {
        let work = work.run(async move |_: &mut Passive| {
            yield_now().await;
            done.fetch_add(1, SeqCst)
        });
        shielded(work).await
    };
    let handle = dpc.spawn(tasks(), task, ()).expect("a slot is free");
    dpc.settle();
    handle.abort();
    settle(dpc, worker);
    assert_eq!(done.load(SeqCst), 1);
    assert_eq!(handle.try_take().expect("it has ended"), Ok(Ok(0)));
}

/// An executor that is closed runs nothing, and says so.
#[test]
fn a_closed_worker() {
    let (dpc, worker, work) = house(Plan::CALM, keep(Pool::<512, 1>::new()));
    let ask = async move |_: &mut Dispatch, ()| work.run(async |_: &mut Passive| pending::<()>().await).await;
    let tasks = tasks();
    // One whose work has begun, one that waits for the slot.
    let handles = [(); 2].map(|()| dpc.spawn(tasks, ask, ()).expect("a slot is free"));
    settle(dpc, worker);
    let mut close = std::pin::pin!(worker.close().expect("nobody else closes it"));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    for _ in 0..3 {
        let _closed = close.as_mut().poll(&mut cx);
        settle(dpc, worker);
    }
    assert!(close.as_mut().poll(&mut cx).is_ready());
    for handle in handles {
        assert_eq!(handle.try_take().expect("it has ended"), Ok(Err(Cancelled)));
    }
    let late = dpc.spawn(tasks, ask, ()).expect("a slot is free");
    settle(dpc, worker);
    assert_eq!(late.try_take().expect("it has ended"), Ok(Err(Cancelled)));
}

/// Real threads, with blocking in between; the size of a slot is told by the work itself.
#[test]
fn on_threads() {
    async fn sum(_at: &mut Passive) -> u32 {
        std::thread::sleep(Duration::from_micros(10));
        (1..=4).sum()
    }
    const SIZE: usize = passive_size(&sum);
    static WORKER: Executor<Thread<Passive>> = Executor::new(Thread::new(), Budget::DEFAULT);
    static DPC: Executor<Thread<Dispatch>> = Executor::new(Thread::new(), Budget::DEFAULT);
    static SLOTS: Pool<SIZE, 3> = Pool::new();
    static WORK: PassiveWork<Thread<Passive>, SIZE> = PassiveWork::new(&WORKER, &SLOTS);
    static TASKS: Pool<512, 40> = Pool::new();
    WORKER.start().expect("this is the first start");
    DPC.start().expect("this is the first start");
    let handles: Vec<_> = (0..40)
        .map(|_| {
            DPC.spawn(&TASKS, async |_: &mut Dispatch, ()| WORK.run(sum).await, ()).expect("a slot is free")
        })
        .collect();
    for handle in handles {
        assert_eq!(pollster::block_on(handle), Ok(Ok(10)));
    }
    let closed = pollster::block_on(DPC.close().expect("nobody else closes it"));
    passive(|passive| closed.silence(passive));
    let closed = pollster::block_on(WORKER.close().expect("nobody else closes it"));
    passive(|passive| closed.silence(passive));
}
