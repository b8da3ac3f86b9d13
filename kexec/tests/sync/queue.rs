//! Who is called and when, and that nothing is lost with a wait that is dropped.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use kexec::{
    platform::mock::{Seat, keep},
    sync::{AutoEvent, ManualEvent, Permits, Semaphore},
};

use crate::support::{Calls, Log, calm, poll, slots, spawn};

/// A semaphore whose permits have all been forgotten.
fn empty(size: u32) -> &'static Semaphore {
    let semaphore = keep(Semaphore::new(size));
    semaphore.try_acquire(size).expect("they are there").forget();
    semaphore
}

/// One set of a manual event: one doorbell, one run, one turn each.
#[test]
fn everybody_goes_in_one_run() {
    let (executor, slots, log) = (calm(), slots(), Log::default());
    let event = keep(ManualEvent::new(false));
    for who in 0..8 {
        log.after(executor, slots, who, event.wait());
    }
    executor.settle();
    executor.platform().take_trace();
    event.set();
    executor.settle();
    assert_eq!(log.take(), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(executor.platform().take_trace(), ["ring wake", "run cpu0", "parked after 8"]);
}

/// One signal polls one waiter, however many there are.
#[test]
fn nobody_is_polled_for_nothing() {
    let (executor, slots, log) = (calm(), slots(), Log::default());
    let event = keep(AutoEvent::new(false));
    for who in 0..8 {
        log.after(executor, slots, who, event.wait());
    }
    executor.settle();
    executor.platform().take_trace();
    for who in 0..8 {
        event.set();
        executor.settle();
        assert_eq!(log.take(), [who]);
        assert_eq!(executor.platform().take_trace(), ["ring wake", "run cpu0", "parked after 1"]);
    }
}

/// The first waiter of each of two executors, alternately: the lead goes to and fro.
#[test]
fn the_lead_goes_from_executor_to_executor() {
    let (executors, slots, log) = ([calm(), calm()], slots(), Log::default());
    let event = keep(ManualEvent::new(false));
    for who in 0..6 {
        let executor = executors[who as usize % 2];
        log.after(executor, slots, who, event.wait());
        executor.settle();
    }
    event.set();
    for turn in 0..6 {
        executors[turn % 2].answer(Seat::Cpu(0));
    }
    assert_eq!(log.take(), [0, 1, 2, 3, 4, 5]);
    for executor in executors {
        executor.settle();
        assert_eq!(executor.live(), 0);
    }
}

/// Up to four tasks wait for a permit each, some of them are aborted, some permits come, in every combination and at every
/// of three moments: before the signals, between them and the run, and one run apart. What was granted and what is
/// left is always what came; and with enough of it everybody ends.
#[test]
fn whoever_is_dropped_loses_nothing() {
    let mut cases = 0;
    for waiters in 1..=4_u32 {
        for dropped in 0..1_u32 << waiters {
            for signals in 0..=waiters {
                for moment in 0..3 {
                    drop_some(waiters, dropped, signals, moment);
                    cases += 1;
                }
            }
        }
    }
    assert_eq!(cases, 3 * (2 * 2 + 4 * 3 + 8 * 4 + 16 * 5), "of all of them");
}

fn drop_some(waiters: u32, dropped: u32, signals: u32, moment: u32) {
    let case = format!("{waiters} waiters, {dropped:b} dropped, {signals} signals, moment {moment}");
    let (executor, slots, log) = (calm(), slots(), Log::default());
    let semaphore = empty(waiters);
    let keep_it = |who| {
        let log = log.clone();
        async move {
            semaphore.acquire(1).await.expect("it is open").forget();
            log.note(who);
        }
    };
    let tasks: Vec<_> = (0..waiters).map(|who| spawn(executor, slots, keep_it(who))).collect();
    executor.settle();
    let drop_them = || {
        for (who, task) in tasks.iter().enumerate() {
            if dropped & 1 << who != 0 {
                task.abort();
            }
        }
    };
    if moment == 0 {
        drop_them();
    }
    for _ in 0..signals {
        semaphore.release(1).expect("they are missing");
    }
    match moment {
        1 => drop_them(),
        2 => {
            executor.answer(Seat::Cpu(0));
            drop_them();
        }
        _ => {}
    }
    executor.settle();
    let stayed: Vec<u32> = (0..waiters).filter(|who| moment == 2 || dropped & 1 << who == 0).collect();
    let granted = stayed.len().min(signals as usize);
    assert_eq!(log.take(), stayed[..granted], "{case}");
    assert_eq!(semaphore.available() as usize, signals as usize - granted, "{case}");
    semaphore.release(waiters - signals).expect("they are missing");
    executor.settle();
    assert_eq!(executor.live(), 0, "{case}: somebody hangs");
    let ended =
        stayed.iter().filter(|&&who| moment != 2 || dropped & 1 << who == 0 || (who as usize) < granted);
    assert_eq!(semaphore.available() as usize, waiters as usize - ended.count(), "{case}");
    assert_eq!(semaphore.try_acquire(0).map(|none| none.count()), Ok(0), "{case}");
}

type Acquire<'a> = Pin<Box<dyn Future<Output = Result<Permits<'a>, kexec::sync::AcquireError>> + 'a>>;

/// A wait with a waker of no executor.
struct Foreigner<'a> {
    wait: Option<Acquire<'a>>,
    calls: Arc<Calls>,
    waker: Waker,
}

impl<'a> Foreigner<'a> {
    fn new(semaphore: &'a Semaphore) -> Self {
        let (calls, waker) = Calls::new();
        let mut new = Self { wait: Some(Box::pin(semaphore.acquire(1))), calls, waker };
        assert!(!new.poll());
        new
    }

    /// True once the permit is there, which is then forgotten.
    fn poll(&mut self) -> bool {
        let Some(wait) = &mut self.wait else { return false };
        match wait.as_mut().poll(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(got) => {
                got.expect("it is open").forget();
                self.wait = None;
                true
            }
            Poll::Pending => false,
        }
    }
}

/// The same with wakers of no executor, which are dropped one by one in every order, with a signal at every place between:
/// as long as somebody is there, the permit goes to the first, who has been called.
#[test]
fn foreigners_are_called_in_order() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for signal_after in 0..3 {
            let semaphore = empty(1);
            let mut waiting: Vec<_> = (0..3).map(|_| Foreigner::new(semaphore)).collect();
            for (turn, gone) in order.into_iter().enumerate() {
                if turn == signal_after {
                    semaphore.release(1).expect("it is missing");
                }
                waiting[gone].wait = None;
                // As an executor does: whoever is called is polled.
                let granted = waiting
                    .iter_mut()
                    .map(|one| one.calls.take() != 0 && one.poll())
                    .filter(|&got| got)
                    .count();
                assert_eq!(
                    granted,
                    usize::from(turn == signal_after && turn != 2),
                    "{order:?} {signal_after}"
                );
                if granted != 0 {
                    break;
                }
            }
        }
    }
}

/// The waker of a wait that is over or dropped is not kept by what was waited for.
#[test]
fn wakers_are_let_go() {
    let event = AutoEvent::new(false);
    let (calls, waker) = Calls::new();
    let queued = || {
        let mut wait = Box::pin(event.wait());
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        wait
    };
    // Of a leader that is dropped, and of one that was behind it.
    let (leader, behind) = (queued(), queued());
    drop(behind);
    drop(leader);
    assert_eq!(Arc::strong_count(&calls), 2, "this test has two");
    // Of one that goes on with another.
    let mut leader = queued();
    assert!(poll(leader.as_mut()).is_pending());
    assert_eq!(Arc::strong_count(&calls), 2);
    drop(leader);
    // Of one that was called.
    let mut leader = queued();
    event.set();
    assert_eq!(calls.take(), 1);
    assert!(poll(leader.as_mut()).is_ready());
    drop(leader);
    assert_eq!(Arc::strong_count(&calls), 2);
}

/// A wait that is polled here with one waker and there with another calls the last one.
#[test]
fn the_last_waker_is_called() {
    let event = AutoEvent::new(false);
    let mut wait = pin!(event.wait());
    let (old, old_waker) = Calls::new();
    let (new, new_waker) = Calls::new();
    assert!(wait.as_mut().poll(&mut Context::from_waker(&old_waker)).is_pending());
    assert!(wait.as_mut().poll(&mut Context::from_waker(&new_waker)).is_pending());
    event.set();
    assert_eq!((old.take(), new.take()), (0, 1));
    assert!(poll(wait.as_mut()).is_ready());
    event.set();
    assert_eq!((old.take(), new.take()), (0, 0), "it does not wait any more");
    assert!(poll(wait.as_mut()).is_ready(), "polled again, it waits again");
}

/// Waits that begin in one executor's task and go on in another's.
#[test]
fn a_wait_moves_to_another_executor() {
    let (here, there, slots, log) = (calm(), calm(), slots(), Log::default());
    let event = keep(AutoEvent::new(false));
    let mut moving = Box::pin(event.wait());
    let (send, receive) = std::sync::mpsc::channel();
    spawn(here, slots, async move {
        let first = std::future::poll_fn(|cx| Poll::Ready(moving.as_mut().poll(cx))).await;
        assert!(first.is_pending());
        send.send(moving).expect("somebody receives");
    });
    here.settle();
    log.after(here, slots, 1, event.wait());
    here.settle();
    log.after(there, slots, 0, receive.recv().expect("it was sent"));
    there.settle();
    event.set();
    there.settle();
    assert_eq!(log.take(), [0], "it has kept its place");
    event.set();
    here.settle();
    assert_eq!(log.take(), [1]);
}
