//! The worker on the host: threads of the host, and doubles of what it calls, as NT's documentation has them.
//!
//! kexec's suite for platforms runs here. How the worker behaves among interrupts, DPCs and removals is seen in the
//! simulated NT, which runs the shipped driver.
#![expect(unsafe_code, reason = "doubles of exports, and a driver object that nobody reads")]

mod nt;

use std::{
    future::poll_fn,
    mem::MaybeUninit,
    ptr::NonNull,
    sync::mpsc,
    task::{Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use kexec::{
    Budget, Executor, Pool, irql::Passive, platform::conformance::Rig, platform::thread::passive, yield_now,
};
use kexec_nt::{Status, Worker, device::Driver};
use nt_sys::{DISPATCH_LEVEL, STATUS_INSUFFICIENT_RESOURCES};

/// A few polls a run, so that every check meets the end of a budget.
const BUDGET: Budget = Budget::new(3, Duration::from_millis(1));
/// A check that takes longer is stuck.
const STUCK: Duration = Duration::from_mins(1);

fn try_worker() -> Result<&'static Executor<Worker>, Status> {
    // SAFETY: the doubles do not look at it.
    let driver = unsafe { Driver::assume(NonNull::dangling()) };
    passive(|passive| {
        Worker::executor("worker", Box::leak(Box::new(MaybeUninit::uninit())), BUDGET, driver, passive)
    })
}

fn worker() -> &'static Executor<Worker> {
    try_worker().expect("the host has a thread")
}

fn close(executor: &'static Executor<Worker>) {
    let closed = pollster::block_on(executor.close().expect("nobody else closes it"));
    passive(|passive| closed.silence(passive));
}

fn until(mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < STUCK, "nothing happens any more");
        thread::yield_now();
    }
}

struct Workers;

impl Rig for Workers {
    type Platform = Worker;

    fn executor(&self) -> &'static Executor<Worker> {
        worker()
    }

    fn until(&self, done: &mut dyn FnMut() -> bool) {
        until(done);
    }
}

kexec::conformance_tests!(Workers);

/// A wake at the level of an interrupt goes by way of a DPC: an event must not be set there, and the double says so.
#[test]
fn is_woken_from_above_dispatch_level() {
    static POOL: Pool<256, 1> = Pool::new();
    let executor = worker();
    let (tell, wakers) = mpsc::channel::<Waker>();
    let wait = move || {
        let mut polls = 0;
        poll_fn(move |cx| {
            tell.send(cx.waker().clone()).expect("the test listens");
            polls += 1;
            if polls > 100 { Poll::Ready(()) } else { Poll::Pending }
        })
    };
    let handle = executor.spawn_with(&POOL, wait).expect("the slot is free");
    for _ in 0..100 {
        let waker = wakers.recv().expect("the task is polled");
        nt::at(DISPATCH_LEVEL + 7, || waker.wake());
    }
    assert_eq!(pollster::block_on(handle), Ok(()));
    assert!(nt::dpcs() >= 1, "no wake went by way of a DPC");
    close(executor);
}

/// Nobody else runs it, though they are at the right level: a thread-owned lock of NT's may be held across an await.
#[test]
fn is_run_by_its_own_thread() {
    static POOL: Pool<256, 1> = Pool::new();
    let executor = worker();
    let task = async |_: &mut Passive, ()| {
        let begun_by = thread::current().id();
        for _ in 0..100 {
            yield_now().await;
            assert_eq!(thread::current().id(), begun_by);
        }
        begun_by
    };
    let handle = executor.spawn(&POOL, task, ()).expect("the slot is free");
    until(|| {
        assert_eq!(passive(|passive| executor.try_run(passive)), None);
        handle.is_finished()
    });
    assert_ne!(handle.try_take().expect("it has ended").expect("nobody cancels it"), thread::current().id());
    close(executor);
}

/// The thread ends with its executor, whether it was ever rung or not; who is silenced again waits no longer.
#[test]
fn its_thread_ends() {
    let executor = worker();
    close(executor);
    close(executor);
    until(|| nt::has_exited(executor));
}

/// Without a thread there is no executor, and NT's reason is told.
#[test]
fn needs_a_thread() {
    let refused = nt::without_threads(try_worker).map(drop);
    assert_eq!(refused, Err(Status::failure(STATUS_INSUFFICIENT_RESOURCES)));
}
