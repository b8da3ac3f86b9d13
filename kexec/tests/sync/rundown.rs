//! Rundown protection: nobody is let in, nobody is left out, and whoever waits is told when he is alone.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Mutex as Plain,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
    thread,
};

use kexec::{
    Budget, Executor, Pool,
    irql::Dispatch,
    platform::{
        mock::{Plan, keep},
        thread::{Thread, passive},
    },
    sync::{NotRunDown, RundownGuard, RundownRef},
    yield_now,
};

use crate::support::{Calls, executor, poll, slots, spawn};

/// From the first guard to the next life.
#[test]
fn a_life_and_the_next() {
    let rundown = RundownRef::new();
    for _ in 0..3 {
        assert!(!rundown.is_running_down());
        assert_eq!(rundown.reinit(), Err(NotRunDown { guards: 0 }), "nobody has asked");
        let guards = [(); 2].map(|()| rundown.acquire().expect("it is open"));
        let not_polled = rundown.run_down();
        assert!(rundown.is_running_down() && rundown.acquire().is_none());
        let error = rundown.reinit().expect_err("there are guards");
        assert_eq!(error.to_string(), "not run down, with 2 guards left; wait for `run_down` before");
        let (calls, waker) = Calls::new();
        let mut waits = pin!(rundown.run_down());
        for (left, guard) in guards.into_iter().enumerate() {
            assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            assert_eq!(calls.take(), 0);
            drop(guard);
            assert_eq!(calls.take(), u32::from(left == 1), "the last one tells");
        }
        assert_eq!(poll(waits), Poll::Ready(()));
        assert_eq!(poll(pin!(rundown.run_down())), Poll::Ready(()), "it is over, for all who ask");
        assert_eq!(rundown.reinit(), Ok(()));
        assert_eq!(poll(pin!(not_polled)), Poll::Ready(()), "this was for the last one");
    }
}

/// All who wait are told, one by the other, whoever of three gives up: before the last guard goes, and after.
#[test]
fn waits_that_are_given_up() {
    for given_up in 0..3 {
        for over in [false, true] {
            let rundown = RundownRef::new();
            let mut guard = rundown.acquire();
            let mut waits: Vec<_> = (0..3)
                .map(|_| {
                    let (mut wait, (calls, waker)) = (Box::pin(rundown.run_down()), Calls::new());
                    assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                    (wait, calls)
                })
                .collect();
            if over {
                guard = None;
            }
            drop(waits.remove(given_up));
            drop(guard);
            for (mut wait, calls) in waits {
                assert_ne!(calls.take(), 0, "{given_up} {over}: it was not told");
                assert!(poll(wait.as_mut()).is_ready());
            }
        }
    }
}

/// A wait that is dropped before its first poll has begun the rundown all the same.
#[test]
fn a_rundown_that_nobody_waits_for() {
    let rundown = RundownRef::new();
    let guard = rundown.acquire().expect("it is open");
    drop(rundown.run_down());
    assert!(rundown.acquire().is_none(), "it goes on");
    drop(guard);
    assert_eq!(poll(pin!(rundown.run_down())), Poll::Ready(()));
}

/// Guards that interrupts take and drop, and that travel from task to task, on two executors; two who wait: when they
/// are told no guard is left and none can be had, life after life.
#[test]
fn users_everywhere() {
    for seed in 0..200 {
        let (executors, slots) = ([seed, !seed].map(|seed| executor(Plan::wild(seed))), slots());
        let (rundown, users) = (keep(RundownRef::new()), keep(AtomicU32::new(0)));
        let (held, over) = (keep(Plain::new(Vec::<RundownGuard<'static>>::new())), keep(AtomicU32::new(0)));
        let acquire = || {
            let guard = rundown.acquire()?;
            users.fetch_add(1, Relaxed);
            Some(guard)
        };
        let release = |guard| {
            users.fetch_sub(1, Relaxed);
            drop(guard);
        };
        let interrupt = move || {
            // What another interrupt has in hand is left alone.
            let taken = held.try_lock().ok().and_then(|mut held| held.pop());
            if let Some(guard) = taken {
                release(guard);
            } else if let Some(guard) = acquire() {
                match held.try_lock() {
                    Ok(mut held) => held.push(guard),
                    Err(_) => release(guard),
                }
            }
        };
        for executor in executors {
            executor.platform().forget_trace();
            executor.platform().on_interrupt(interrupt);
            for _ in 0..2 {
                let task = spawn(executor, slots, async move {
                    for _ in 0..10 {
                        if let Some(guard) = acquire() {
                            yield_now().await;
                            release(guard);
                        }
                        yield_now().await;
                    }
                });
                executor.platform().haunt(task);
            }
            let task = spawn(executor, slots, async move {
                for _ in 0..3 {
                    yield_now().await;
                    rundown.run_down().await;
                    assert_eq!(users.load(Relaxed), 0, "seed {seed}");
                    over.fetch_add(1, Relaxed);
                    let _by_the_other = rundown.reinit();
                }
            });
            executor.platform().haunt(task);
        }
        for _ in 0..50 {
            while executors.iter().map(|executor| executor.step()).fold(false, |any, one| any | one) {}
            let left: Vec<_> = std::mem::take(&mut *held.lock().unwrap());
            left.into_iter().for_each(release);
        }
        assert_eq!(executors.map(Executor::live), [0, 0], "seed {seed}: somebody hangs");
        assert_eq!(over.load(Relaxed), 6);
    }
}

/// A DPC runs down what threads use, and sees everything that they did.
#[test]
fn between_threads() {
    const ROUNDS: u32 = 100;
    static POOL: Pool<512, 1> = Pool::new();
    static DPC: Executor<Thread<Dispatch>> = Executor::new(Thread::new(), Budget::DEFAULT);
    static RUNDOWN: RundownRef = RundownRef::new();
    static USED: AtomicU32 = AtomicU32::new(0);
    static OVER: AtomicBool = AtomicBool::new(false);
    DPC.start().expect("this is its first start");
    let users = [(); 3].map(|()| {
        thread::spawn(|| {
            while !OVER.load(Relaxed) {
                if let Some(_guard) = RUNDOWN.acquire() {
                    USED.fetch_add(1, Relaxed);
                    thread::yield_now();
                    USED.fetch_sub(1, Relaxed);
                }
            }
        })
    });
    let running_down = DPC.spawn_with(&POOL, || async {
        for _ in 0..ROUNDS {
            yield_now().await;
            RUNDOWN.run_down().await;
            assert_eq!(USED.load(Relaxed), 0);
            RUNDOWN.reinit().expect("it has run down");
        }
    });
    assert_eq!(pollster::block_on(running_down.expect("a slot is free")), Ok(()));
    OVER.store(true, Relaxed);
    for user in users {
        user.join().unwrap();
    }
    let closed = pollster::block_on(DPC.close().expect("nobody else closes it"));
    passive(|passive| closed.silence(passive));
}
