//! The watch: the last value is never missed, and none is told of twice. And the lock that it is behind.

use std::{
    future::Future,
    pin::pin,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    task::{Context, Poll},
    thread,
};

use futures_util::StreamExt;
use kexec::{
    Budget, Executor, JoinHandle, Pool,
    irql::{Dispatch, Passive},
    platform::{
        mock::{Plan, keep},
        polling::Polling,
        thread::{Thread, passive},
    },
    sync::{SpinLock, Watch, Watcher},
    yield_now,
};

use crate::support::{Calls, Exec, executor, poll, slots};

/// Lends a token.
fn at_dispatch<R>(f: impl FnOnce(&Dispatch) -> R) -> R {
    passive(|passive: &mut Passive| f(&passive.raise(&Polling::new())))
}

/// What is news to whom: what was sent before one came, while he looked on, and after he has looked by himself.
#[test]
fn what_is_news() {
    at_dispatch(|at| {
        let watch = Watch::new(1);
        assert_eq!(watch.get(at), 1);
        let mut early = watch.watcher();
        assert!(!early.has_changed(), "a first value is no news");
        watch.send(at, 2);
        let mut late = watch.watcher();
        assert!(early.has_changed() && !late.has_changed());
        assert_eq!(watch.modify(at, |value| std::mem::replace(value, *value + 1)), 2);
        assert_eq!((early.get(at), late.clone().get(at)), (3, 3));
        assert!(!early.has_changed() && late.has_changed());
        assert!(poll(pin!(early.changed())).is_pending());
        assert_eq!(poll(pin!(late.changed())), Poll::Ready(()));
        assert!(poll(pin!(late.changed())).is_pending(), "nobody is told twice");
        assert_eq!(watch.with(at, |value| value + 1), 4);
    });
}

/// All who wait are released by one send, one after the other, and one that gives up in between lets the others go: each
/// of three, before the send and after.
#[test]
fn waits_that_are_given_up() {
    at_dispatch(|at| {
        for given_up in 0..3 {
            for sent in [false, true] {
                let watch = Watch::new(0);
                let mut watchers = [(); 3].map(|()| watch.watcher());
                let mut waits: Vec<_> = watchers
                    .iter_mut()
                    .map(|watcher| {
                        let (mut wait, (calls, waker)) = (Box::pin(watcher.changed()), Calls::new());
                        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                        (wait, calls)
                    })
                    .collect();
                if sent {
                    watch.send(at, 1);
                }
                drop(waits.remove(given_up));
                if !sent {
                    watch.send(at, 1);
                }
                for (mut wait, calls) in waits {
                    assert_ne!(calls.take(), 0, "{given_up} {sent}: it was not told");
                    assert!(poll(wait.as_mut()).is_ready());
                }
                for (who, watcher) in watchers.iter().enumerate() {
                    assert_eq!(watcher.has_changed(), who == given_up, "who gave up has not seen it");
                }
            }
        }
    });
}

/// The old value is dropped when the lock is free again: it may look at the new one.
#[test]
fn an_old_value_that_looks_back() {
    static SEEN: AtomicU32 = AtomicU32::new(0);
    static WATCH: Watch<Nosy> = Watch::new(Nosy(1));
    struct Nosy(u32);
    impl Drop for Nosy {
        fn drop(&mut self) {
            at_dispatch(|at| WATCH.with(at, |new| SEEN.store(self.0 * 10 + new.0, Relaxed)));
        }
    }
    at_dispatch(|at| WATCH.send(at, Nosy(2)));
    assert_eq!(SEEN.load(Relaxed), 12);
}

/// On two executors somebody sends and others follow, in the three ways there are, with everything going wrong: values
/// come in their order, none twice, and the last one to everybody.
#[test]
fn followers_everywhere() {
    const VALUES: u32 = 20;
    type Follower = Watcher<'static, u32>;
    async fn by_changes(at: &mut Dispatch, (watch, mut watcher): (&Watch<u32>, Follower)) -> u32 {
        let (mut last, mut seen) = (0, 0);
        while last < VALUES {
            watcher.changed().await;
            // Somebody else's look is not this watcher's: it may be told of that value once more.
            let value = watch.get(at);
            assert!(value >= last && value > 0);
            (last, seen) = (value, seen + 1);
        }
        seen
    }
    async fn by_next(at: &mut Dispatch, mut watcher: Follower) -> u32 {
        let (mut last, mut seen) = (0, 0);
        while last < VALUES {
            let value = watcher.next(at).await;
            assert!(value > last, "{value} after {last}");
            (last, seen) = (value, seen + 1);
        }
        seen
    }
    async fn by_stream(at: &mut Dispatch, watcher: Follower) -> u32 {
        let (mut values, mut last, mut seen) = (pin!(watcher.values(at)), 0, 0);
        while last < VALUES {
            let value = values.next().await.expect("it does not end");
            assert!(value > last, "{value} after {last}");
            (last, seen) = (value, seen + 1);
        }
        seen
    }
    async fn sends(at: &mut Dispatch, watch: &'static Watch<u32>) -> u32 {
        for value in 1..=VALUES {
            watch.send(at, value);
            if value % 4 == 0 {
                yield_now().await;
            }
        }
        VALUES
    }
    for seed in 0..200 {
        let executors: [Exec; 2] = [seed, !seed].map(|seed| executor(Plan::wild(seed)));
        let (slots, watch) = (slots(), keep(Watch::new(0)));
        let mut followers: Vec<JoinHandle<u32>> = Vec::new();
        for executor in executors {
            executor.platform().forget_trace();
            followers
                .push(executor.spawn(slots, by_changes, (watch, watch.watcher())).expect("a slot is free"));
            followers.push(executor.spawn(slots, by_next, watch.watcher()).expect("a slot is free"));
            followers.push(executor.spawn(slots, by_stream, watch.watcher()).expect("a slot is free"));
            for follower in &followers {
                executor.platform().haunt(follower.task());
            }
        }
        followers.push(executors[0].spawn(slots, sends, watch).expect("a slot is free"));
        while executors.iter().map(|executor| executor.step()).fold(false, |any, one| any | one) {}
        for follower in followers {
            let seen =
                follower.try_take().unwrap_or_else(|_| panic!("seed {seed}: the last value was missed"));
            assert!(seen.is_ok_and(|seen| (1..=VALUES).contains(&seen)), "seed {seed}");
        }
    }
}

/// A worker sends, raised, and a DPC on another thread follows to the last value.
#[test]
fn between_threads() {
    const VALUES: u32 = 500;
    static POOL: Pool<512, 1> = Pool::new();
    static DPC: Executor<Thread<Dispatch>> = Executor::new(Thread::new(), Budget::DEFAULT);
    static WATCH: Watch<(u32, u32)> = Watch::new((0, 0));
    DPC.start().expect("this is its first start");
    let follows = async |at: &mut Dispatch, ()| {
        let mut watcher = WATCH.watcher();
        let mut value = watcher.get(at);
        while value.0 < VALUES {
            value = watcher.next(at).await;
            assert_eq!(value.0, value.1, "it is seen whole");
        }
    };
    let following = DPC.spawn(&POOL, follows, ()).expect("a slot is free");
    let sending = thread::spawn(|| {
        for value in 1..=VALUES {
            at_dispatch(|at| WATCH.send(at, (value, value)));
        }
    });
    assert_eq!(pollster::block_on(following), Ok(()));
    sending.join().unwrap();
    let closed = pollster::block_on(DPC.close().expect("nobody else closes it"));
    passive(|passive| closed.silence(passive));
}

/// One holder at a time, on three threads; and what belongs to nobody else needs no lock.
#[test]
fn a_spin_lock() {
    let mut lock = SpinLock::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..1_000 {
                    at_dispatch(|at| {
                        let mut sum = lock.lock(at);
                        let before = *sum;
                        assert!(lock.try_lock(at).is_none(), "it is locked by this one");
                        *sum = before + 1;
                    });
                }
            });
        }
    });
    assert_eq!(at_dispatch(|at| lock.try_lock(at).map(|sum| *sum)), Some(3_000));
    *lock.get_mut() += 1;
    assert_eq!(lock.into_inner(), 3_001);
}
