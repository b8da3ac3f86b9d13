//! Whoever waits for a primitive is called, whatever comes together with the signal.

use core::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use crate::support::{Exec, Leaked, executor, model, serve, settle};
use kexec_loom::{
    Pool, Table, TaskRef,
    sync::{AcquireError, AutoEvent, ManualEvent, Semaphore, TryAcquireError},
};
use loom::{
    future::block_on,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

/// Room for a wait, and for what counts it.
const ROOM: usize = 384;

fn pool<const N: usize>() -> Leaked<Pool<ROOM, N>> {
    Leaked::new(Pool::new())
}

/// How many waits have ended.
#[derive(Clone)]
struct Ended(Arc<AtomicUsize>);

impl Ended {
    fn new() -> Self {
        Self(Arc::new(AtomicUsize::new(0)))
    }

    fn count(&self) -> usize {
        self.0.load(Relaxed)
    }
}

/// A task that waits, and counts when it has.
fn waiting<F>(executor: &'static Exec, pool: &'static Table<ROOM>, ended: &Ended, wait: F) -> TaskRef
where
    F: Future<Output: Send> + Send + 'static,
{
    let ended = ended.clone();
    let task = async move {
        let _got = wait.await;
        ended.0.fetch_add(1, Relaxed);
    };
    executor.spawn_with(pool, move || task).expect("a slot is free").detach()
}

/// A semaphore whose permits have all been forgotten.
fn empty(size: u32) -> Leaked<Semaphore> {
    let semaphore = Leaked::new(Semaphore::new(size));
    semaphore.try_acquire(size).expect("they are there").forget();
    semaphore
}

/// The signal comes at every moment of the leader's poll.
#[test]
fn signal_against_register() {
    model(|| {
        let (executor, pool, event) = (executor(8), pool::<1>(), Leaked::new(AutoEvent::new(false)));
        let ended = Ended::new();
        waiting(*executor, *pool, &ended, event.wait());
        let target = *event;
        let signal = thread::spawn(move || target.set());
        serve(*executor, 2);
        signal.join().unwrap();
        settle(*executor);
        assert_eq!(ended.count(), 1, "a signal was lost");
    });
}

/// Who is no task registers in another place, and looks again.
#[test]
fn signal_against_a_foreign_leader() {
    model(|| {
        let event = Leaked::new(AutoEvent::new(false));
        let target = *event;
        let signal = thread::spawn(move || target.set());
        block_on(event.wait());
        signal.join().unwrap();
        assert!(!event.is_set());
    });
}

/// The lead is passed to who is no task, and to one from who is none.
#[test]
fn the_lead_goes_to_a_foreigner_and_back() {
    model(|| {
        let (executor, pool, semaphore) = (executor(8), pool::<2>(), empty(3));
        let ended = Ended::new();
        waiting(*executor, *pool, &ended, semaphore.acquire(1));
        settle(*executor);
        let target = *semaphore;
        let (server, slots, count) = (*executor, *pool, ended.clone());
        let other = thread::spawn(move || {
            target.release(1).expect("so many are missing");
            serve(server, 1);
            target.release(1).expect("so many are missing");
            waiting(server, slots, &count, target.acquire(1));
            serve(server, 1);
            target.release(1).expect("so many are missing");
        });
        let permits = block_on(semaphore.acquire(1)).expect("it is open");
        permits.forget();
        other.join().unwrap();
        settle(*executor);
        assert_eq!(ended.count(), 2, "a signal was lost");
    });
}

/// The leader is dropped while it is signalled: it has taken the signal, or the next one takes it.
#[test]
fn signal_against_drop_of_the_leader() {
    model(|| {
        let (executor, pool, event) = (executor(8), pool::<2>(), Leaked::new(AutoEvent::new(false)));
        let ended = Ended::new();
        let leader = waiting(*executor, *pool, &ended, event.wait());
        waiting(*executor, *pool, &ended, event.wait());
        settle(*executor);
        let target = *event;
        let signal = thread::spawn(move || target.set());
        leader.abort();
        serve(*executor, 1);
        signal.join().unwrap();
        settle(*executor);
        assert_eq!(ended.count(), 1, "a signal was lost with the leader");
    });
}

/// Two signals and two waiters: the second signal comes while the lead is passed on.
#[test]
fn signal_against_the_passing_of_the_lead() {
    model(|| {
        let (executor, pool, semaphore) = (executor(8), pool::<2>(), empty(2));
        let ended = Ended::new();
        for _ in 0..2 {
            let semaphore = *semaphore;
            let wait = async move { semaphore.acquire(1).await.map(kexec_loom::sync::Permits::forget) };
            waiting(*executor, *pool, &ended, wait);
        }
        settle(*executor);
        let target = *semaphore;
        let signal = thread::spawn(move || target.release(1).expect("one is missing"));
        semaphore.release(1).expect("one is missing");
        serve(*executor, 2);
        signal.join().unwrap();
        settle(*executor);
        assert_eq!(ended.count(), 2, "a signal was lost");
    });
}

/// One release for two waiters, of two executors: the first one calls the second.
#[test]
fn a_batch_of_permits_for_two() {
    model(|| {
        let (first, second, pool, semaphore) = (executor(8), executor(8), pool::<2>(), empty(2));
        let ended = Ended::new();
        let keep = |semaphore: &'static Semaphore| async move {
            semaphore.acquire(1).await.map(kexec_loom::sync::Permits::forget)
        };
        waiting(*first, *pool, &ended, keep(*semaphore));
        settle(*first);
        waiting(*second, *pool, &ended, keep(*semaphore));
        settle(*second);
        let target = *second;
        let other = thread::spawn(move || serve(target, 2));
        semaphore.release(2).expect("so many are missing");
        serve(*first, 2);
        other.join().unwrap();
        settle(*first);
        settle(*second);
        assert_eq!(ended.count(), 2, "the lead was not passed on");
        assert_eq!(semaphore.available(), 0);
    });
}

/// A batch at the head, a single permit behind it, and releases from two sides.
#[test]
fn releases_against_a_queued_batch() {
    model(|| {
        let (executor, pool, semaphore) = (executor(8), pool::<2>(), empty(2));
        let ended = Ended::new();
        waiting(*executor, *pool, &ended, semaphore.acquire(2));
        waiting(*executor, *pool, &ended, semaphore.acquire(1));
        serve(*executor, 1);
        let target = *semaphore;
        let other = thread::spawn(move || target.release(1).expect("one is missing"));
        semaphore.release(1).expect("one is missing");
        serve(*executor, 1);
        other.join().unwrap();
        settle(*executor);
        assert_eq!(ended.count(), 2, "a release was lost");
        assert_eq!(semaphore.available(), 2);
    });
}

/// Somebody is queued: a newcomer takes nothing, whatever it finds.
#[test]
fn a_newcomer_does_not_pass() {
    model(|| {
        let (executor, pool, semaphore) = (executor(8), pool::<1>(), empty(1));
        let ended = Ended::new();
        waiting(*executor, *pool, &ended, semaphore.acquire(1));
        settle(*executor);
        let target = *semaphore;
        let other = thread::spawn(move || target.release(1).expect("one is missing"));
        // Loom lets nobody in before a load that another thread's load precedes.
        thread::yield_now();
        let tried = semaphore.try_acquire(1).map(drop);
        assert_eq!(tried, Err(TryAcquireError::Unavailable));
        other.join().unwrap();
        settle(*executor);
        assert_eq!(ended.count(), 1);
        assert!(semaphore.try_acquire(1).is_ok(), "nobody is queued any more");
    });
}

/// The last one leaves the queue while another comes.
#[test]
fn a_newcomer_against_the_last_to_leave() {
    model(|| {
        let (first, second, pool, semaphore) = (executor(8), executor(8), pool::<2>(), empty(1));
        let ended = Ended::new();
        waiting(*first, *pool, &ended, semaphore.acquire(1));
        settle(*first);
        waiting(*second, *pool, &ended, semaphore.acquire(1));
        let target = *second;
        let other = thread::spawn(move || serve(target, 2));
        semaphore.release(1).expect("one is missing");
        serve(*first, 1);
        other.join().unwrap();
        settle(*first);
        settle(*second);
        assert_eq!(ended.count(), 2, "a signal was lost");
        assert!(semaphore.try_acquire(1).is_ok(), "nobody is queued any more");
    });
}

/// Who waited at the time of a set is released, though a reset follows at once.
#[test]
fn set_and_reset_against_a_wait() {
    model(|| {
        let (executor, pool, event) = (executor(8), pool::<1>(), Leaked::new(ManualEvent::new(false)));
        let ended = Ended::new();
        waiting(*executor, *pool, &ended, event.wait());
        let target = *event;
        let other = thread::spawn(move || {
            target.set();
            assert!(target.reset());
        });
        serve(*executor, 2);
        other.join().unwrap();
        settle(*executor);
        assert_eq!(ended.count(), 1, "the set was lost");
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(pin!(event.wait()).poll(&mut cx), Poll::Pending, "it is reset");
    });
}

/// All waits end, those that are queued and those that come.
#[test]
fn close_against_acquire() {
    model(|| {
        let (executor, pool, semaphore) = (executor(8), pool::<2>(), empty(1));
        let ended = Ended::new();
        for _ in 0..2 {
            let semaphore = *semaphore;
            let wait = async move {
                assert_eq!(semaphore.acquire(1).await.map(drop), Err(AcquireError::Closed));
            };
            waiting(*executor, *pool, &ended, wait);
        }
        let target = *semaphore;
        let other = thread::spawn(move || target.close());
        serve(*executor, 2);
        other.join().unwrap();
        settle(*executor);
        assert_eq!(ended.count(), 2, "somebody waits for a closed semaphore");
    });
}

/// A signal calls a task that has come by the lead meanwhile, and whose memory is new.
#[test]
fn signal_to_a_leader_of_another_thread() {
    model(|| {
        let (first, slots, event) = (executor(8), pool::<1>(), Leaked::new(AutoEvent::new(false)));
        let ended = Ended::new();
        let leader = waiting(*first, *slots, &ended, event.wait());
        settle(*first);
        let (target, server, count) = (*event, *first, ended.clone());
        let other = thread::spawn(move || {
            let (second, slots) = (executor(8), pool::<1>());
            waiting(*second, *slots, &count, target.wait());
            settle(*second);
            leader.abort();
            settle(server);
            (second, slots)
        });
        event.set();
        let (second, slots) = other.join().unwrap();
        settle(*first);
        settle(*second);
        assert_eq!(ended.count(), 1, "the signal was lost");
        drop((second, slots));
    });
}
