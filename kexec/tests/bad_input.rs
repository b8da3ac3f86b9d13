//! Whatever a caller or a platform does wrong has a defined result; nothing panics and no task is lost.

use std::{
    alloc::{alloc, dealloc},
    cell::Cell,
    future::{Future, pending},
    pin::pin,
    ptr::NonNull,
    rc::Rc,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use kexec::{
    Budget, Cancelled, End, Executor, Lane, Pool, Run, SpawnError, Table, TableError,
    irql::Dispatch,
    platform::{
        mock::{Mock, Plan, Seat, keep},
        polling::Polling,
        thread::{StartError, Thread},
    },
    time::Instant,
    yield_now,
};

type Exec = &'static Executor<Mock>;

fn calm() -> Exec {
    Executor::leak(Mock::new(Plan::CALM), Budget::DEFAULT)
}

fn slots<const N: usize>() -> &'static Pool<256, N> {
    keep(Pool::new())
}

/// A spawn on a busy slot gives back the function, its argument and the epilogue, unharmed and uncalled.
#[test]
fn spawn_on_a_busy_slot() {
    let (executor, slots) = (calm(), slots::<1>());
    let parked = executor.spawn_with(slots, pending::<()>).expect("a slot is free");
    let called = Arc::new(Mutex::new(0));
    let count = called.clone();
    let request = async |_: &mut Dispatch, data: Vec<u8>| data.len();
    let refused = executor.submit(slots, request, vec![1, 2, 3], move |_: &mut Dispatch, outcome| {
        assert_eq!(outcome, Ok(3));
        *count.lock().unwrap() += 1;
    });
    let error = refused.expect_err("the slot is busy");
    assert!(matches!(error, SpawnError::Full(_)));
    assert_eq!(
        error.to_string(),
        "no slot is free; wait for a task of this store to end, or make the store larger"
    );
    let (request, data, epilogue) = error.into_inner();
    assert_eq!(data, [1, 2, 3]);
    parked.abort();
    drop(parked);
    executor.settle();
    executor.submit(slots, request, data, epilogue).expect("the slot is free");
    executor.settle();
    assert_eq!(*called.lock().unwrap(), 1);
}

/// A closed executor gives a task back, and so does one that is still closing; the slot is not lost.
#[test]
fn spawn_on_a_closed_executor() {
    let (executor, slots) = (calm(), slots::<2>());
    let unread = executor.spawn_with(slots, || async { 1 }).expect("a slot is free");
    executor.settle();
    let mut closing = pin!(executor.close().expect("nobody else closes it"));
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..3 {
        assert!(closing.as_mut().poll(&mut cx).is_pending());
        executor.settle();
        let error =
            executor.spawn(slots, async |_: &mut Dispatch, s: &str| s.len(), "kept").expect_err("closing");
        assert!(matches!(error, SpawnError::Closed((_, "kept"))), "{error}");
    }
    assert_eq!(unread.try_take().expect("it has ended"), Ok(1));
    executor.settle();
    assert!(closing.as_mut().poll(&mut cx).is_ready());
    assert!(matches!(executor.spawn_with(slots, || async {}), Err(SpawnError::Closed(_))));
    // Two slots were refused six times between them: both still serve.
    let other = calm();
    for _ in 0..2 {
        other.spawn_with(slots, pending::<()>).expect("a slot is free").detach();
    }
}

/// A name and a handle that are stale, through completion and through reuse of the slot.
#[test]
fn stale_names_after_completion_and_after_reuse() {
    let (executor, slots) = (calm(), slots::<1>());
    let first = executor.spawn_with(slots, || async { 1 }).expect("a slot is free");
    let name = first.task();
    executor.settle();
    assert!(!name.is_live());
    assert!(!name.abort() && !first.abort(), "it has ended");
    name.wake();
    executor.settle();
    assert_eq!(executor.stats().stale, 1, "the wake found nobody");
    assert_eq!(first.try_take().expect("it has ended"), Ok(1), "and did no harm to the output");

    let polls = Rc::new(Cell::new(0));
    let second = executor
        .spawn(
            slots,
            async |_: &mut Dispatch, ()| {
                let polls = Rc::new(Cell::new(0));
                for _ in 0..2 {
                    polls.set(polls.get() + 1);
                    yield_now().await;
                }
                polls.get()
            },
            (),
        )
        .expect("the slot is free");
    assert!(!name.abort(), "the slot has another tenant");
    name.wake();
    executor.settle();
    assert_eq!(second.try_take().expect("it has ended"), Ok(2));
    drop(polls);
}

/// A stale wake has the slot queued when the next tenant moves in, here and on another executor.
#[test]
fn a_slot_that_is_queued_for_nobody() {
    let (here, there, slots) = (calm(), calm(), slots::<1>());
    let first = here.spawn_with(slots, || async {}).expect("a slot is free");
    let name = first.task();
    here.settle();
    drop(first);
    name.wake();
    assert!(matches!(there.spawn_with(slots, || async {}), Err(SpawnError::Full(_))), "it is queued here");
    let rung = here.platform().counts().wakes;
    let second = here.spawn_with(slots, || async { 2 }).expect("its entry serves the next tenant");
    assert_eq!(here.platform().counts().wakes, rung, "whose doorbell has been rung");
    here.settle();
    assert_eq!(second.try_take().expect("it has run"), Ok(2));
    name.wake();
    here.settle();
    let third = there.spawn_with(slots, || async { 3 }).expect("it is queued nowhere");
    there.settle();
    assert_eq!(third.try_take().expect("it has run"), Ok(3));
}

/// A clock that goes backwards is taken for one that stands still: no run is cut short by it, none made endless.
#[test]
fn a_clock_that_goes_backwards() {
    let plan = Plan { clock_goes_back: 1, ..Plan::CALM };
    let executor: Exec = Executor::leak(Mock::new(plan), Budget::new(8, Duration::from_micros(50)));
    let slots = slots::<4>();
    executor.platform().pass(Duration::from_millis(1));
    let task = async move |_: &mut Dispatch, ()| {
        for _ in 0..20 {
            executor.platform().pass(Duration::from_nanos(100));
            yield_now().await;
        }
    };
    let handles: Vec<_> = (0..4).map(|_| executor.spawn(slots, task, ()).expect("a slot is free")).collect();
    executor.settle();
    assert!(handles.iter().all(kexec::JoinHandle::is_finished));
    let stats = executor.stats();
    assert!(stats.clock_went_back > 0, "{stats:?}");
    // 84 turns, 8 in a run at most, and no run without one.
    assert!((11..=84).contains(&stats.runs), "{stats:?}");
}

/// The deadline of a run is counted from the latest time that was ever read, not from the one it went back to.
#[test]
fn a_run_after_the_clock_went_back_has_its_whole_time() {
    let executor: Exec = Executor::leak(Mock::new(Plan::CALM), Budget::new(8, Duration::from_micros(50)));
    let slots = slots::<3>();
    executor.platform().pass(Duration::from_micros(100));
    executor.spawn_with(slots, || async {}).expect("a slot is free").detach();
    executor.settle();
    executor.platform().rewind(Duration::from_micros(100));
    for _ in 0..3 {
        let task = async move |_: &mut Dispatch, ()| executor.platform().pass(Duration::from_micros(60));
        executor.spawn(slots, task, ()).expect("a slot is free").detach();
    }
    // It stands still at 100, so that the run may last until 150: 120 is early enough, 180 would not be.
    assert_eq!(executor.answer(Seat::Cpu(0)), Some(Run { polls: 3, end: End::Parked }));
    assert_eq!(executor.stats().clock_went_back, 1);
}

/// Budgets of nothing, and of more than can be told.
#[test]
fn strange_budgets() {
    for (polls, time) in [(0, Duration::ZERO), (1, Duration::ZERO), (u32::MAX, Duration::MAX)] {
        let executor: Exec = Executor::leak(Mock::new(Plan::CALM), Budget::new(polls, time));
        let handle = executor
            .spawn_with(slots::<1>(), || async {
                for _ in 0..5 {
                    yield_now().await;
                }
            })
            .expect("a slot is free");
        executor.settle();
        assert!(handle.is_finished(), "a run makes one poll at least");
    }
    assert_eq!(Instant::NEVER.after(Duration::MAX), Instant::NEVER);
}

/// A thread that may not poll is turned away, whatever token it has; the work stays for one that may.
#[test]
fn a_run_on_the_wrong_thread() {
    let executor: &'static Executor<Mock<()>> = Executor::leak(Mock::new(Plan::CALM), Budget::DEFAULT);
    let handle = executor.spawn(slots::<1>(), async |(): &mut (), ()| Rc::new(1).as_ref() + 1, ());
    let handle = handle.expect("a slot is free");
    let stranger = thread::spawn(move || executor.try_run_with(&mut (), |()| 5));
    assert_eq!(stranger.join().unwrap(), (5, None));
    assert_eq!(executor.live(), 1);
    executor.settle();
    assert_eq!(handle.try_take().expect("it has run"), Ok(2));
}

/// An executor has one thread for its life.
#[test]
fn a_second_start() {
    static EXECUTOR: Executor<Thread<Dispatch>> = Executor::new(Thread::new(), Budget::DEFAULT);
    EXECUTOR.start().expect("this is the first");
    let error = EXECUTOR.start().expect_err("this is the second");
    assert!(matches!(error, StartError::AlreadyStarted), "{error}");
}

/// A close while there is one, one that is given up, and one of a closed executor.
#[test]
fn strange_closes() {
    let executor = calm();
    let parked = executor.spawn_with(slots::<1>(), pending::<()>).expect("a slot is free");
    executor.settle();
    let mut cx = Context::from_waker(Waker::noop());
    {
        let mut given_up = pin!(executor.close().expect("nobody else closes it"));
        let error = executor.close().expect_err("there is one");
        assert_eq!(error.to_string(), "the executor is being closed by someone else; wait for that close");
        assert!(given_up.as_mut().poll(&mut cx).is_pending());
    }
    executor.settle();
    assert_eq!(parked.try_take().expect("closing went on"), Err(Cancelled));
    for _ in 0..2 {
        let mut closing = pin!(executor.close().expect("the last one was given up, or is done"));
        executor.settle();
        assert!(closing.as_mut().poll(&mut cx).is_ready());
    }
}

/// A task that closes its own executor is cancelled like the others; somebody else finishes the close.
#[test]
fn a_task_that_closes_its_own_executor() {
    let executor = calm();
    let task = async move |_: &mut Dispatch, ()| executor.close().expect("nobody else closes it").await;
    let handle = executor.spawn(slots::<1>(), async move |d: &mut Dispatch, ()| drop(task(d, ()).await), ());
    let handle = handle.expect("a slot is free");
    executor.settle();
    assert_eq!(handle.try_take().expect("it has ended"), Err(Cancelled));
    executor.settle();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(pin!(executor.close().expect("nobody else closes it")).poll(&mut cx), Poll::Ready(_)));
}

/// A table's memory comes from a device: too many slots, bad alignment, none at all, and a use of each byte.
#[test]
#[expect(unsafe_code, reason = "a table's memory is the caller's promise")]
fn tables_in_given_memory() {
    const N: usize = 70;
    type Slots = Table<128>;
    let layout = Slots::layout(N).expect("it can be told");
    assert!(Slots::layout(usize::MAX).is_none());
    // SAFETY: the layout is not empty.
    let memory = NonNull::new(unsafe { alloc(layout) }).expect("there is memory");
    // SAFETY: refused before the memory is touched.
    let error = unsafe { Slots::init(memory, 0x1_0000, Lane::Data) }.expect_err("too many");
    assert_eq!(error, TableError::TooMany(0x1_0000));
    // SAFETY: one byte further is still in the memory.
    let odd = unsafe { memory.add(1) };
    // SAFETY: refused before the memory is touched.
    let error = unsafe { Slots::init(odd, 1, Lane::Data) }.expect_err("misaligned");
    assert!(error.to_string().starts_with("the memory of a table must be aligned to"), "{error}");

    // SAFETY: the memory has the layout, is nobody else's, and is given back below.
    let none = unsafe { Slots::init(memory, 0, Lane::Data) }.expect("a table of nothing");
    let executor = calm();
    assert!(matches!(executor.spawn_with(none, || async {}), Err(SpawnError::Full(_))));
    // SAFETY: the empty table was given no task; for the rest, as above.
    let table = unsafe { Slots::init(memory, N, Lane::Control) }.expect("the memory is as it should be");
    for round in 0..3 {
        let handles: Vec<_> = (0..N)
            .map(|n| executor.spawn_with(table, move || async move { n + round }).expect("a slot is free"))
            .collect();
        assert!(matches!(executor.spawn_with(table, || async { 0 }), Err(SpawnError::Full(_))));
        executor.settle();
        for (n, handle) in handles.into_iter().enumerate() {
            assert_eq!(handle.try_take().expect("it has run"), Ok(n + round));
        }
    }
    assert_eq!(table.high_water(), 70);
    let mut closing = pin!(executor.close().expect("nobody else closes it"));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(closing.as_mut().poll(&mut cx).is_pending());
    executor.settle();
    assert!(closing.as_mut().poll(&mut cx).is_ready());
    // SAFETY: the executor is run down, and nothing of its tasks is left.
    unsafe { dealloc(memory.as_ptr(), layout) };
}

/// Doorbells of a polling platform that are answered too often, too late, and by several threads.
#[test]
fn a_loop_that_asks_too_often() {
    static POOL: Pool<64, 8> = Pool::new();
    static EXECUTOR: Executor<Polling> = Executor::new(Polling::new(), Budget::new(1, Duration::MAX));
    assert_eq!(EXECUTOR.try_run(&mut ()), Some(Run { polls: 0, end: End::Parked }));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            thread::spawn(|| {
                for _ in 0..2_000 {
                    EXECUTOR.try_run(&mut ());
                }
            })
        })
        .collect();
    for n in 0..500_u32 {
        let task = move || async move {
            yield_now().await;
            n
        };
        while EXECUTOR.spawn_with(&POOL, task).map(kexec::JoinHandle::detach).is_err() {
            EXECUTOR.try_run(&mut ());
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
    while EXECUTOR.live() != 0 {
        EXECUTOR.try_run(&mut ());
    }
}

/// A mock's doorbell that comes when its executor is closed finds it so.
#[test]
fn a_doorbell_after_the_close() {
    let executor = calm();
    let mut closing = pin!(executor.close().expect("nobody else closes it"));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(closing.as_mut().poll(&mut cx).is_pending());
    assert_eq!(executor.answer(Seat::Worker).map(|run| run.end), Some(End::Closed));
    executor.settle();
    assert!(closing.as_mut().poll(&mut cx).is_ready());
    assert_eq!(executor.platform().trace().last().map(String::as_str), Some("busy"));
}
