//! The channel: order, room, both ends gone in every way, and every value received, returned or dropped, once.

use std::{
    future::{Future, pending},
    pin::pin,
    sync::{
        Mutex as Plain,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
    thread,
};

use futures_util::{
    StreamExt,
    future::{Either, select},
};
use kexec::{
    Budget, Executor, Pool,
    irql::Dispatch,
    platform::{
        mock::{Plan, keep},
        thread::{Thread, passive},
    },
    sync::channel::{Channel, Closed, TryRecvError, TrySendError},
    yield_now,
};

use crate::support::{Calls, Counted, executor, poll, slots, spawn};

/// From each slot on, to each level: what fits, in order, and not one more.
fn fill<const N: usize>() {
    let channel = Channel::<usize, N>::new();
    let (sender, mut receiver) = channel.claim().expect("it has no ends");
    for level in (0..=N).cycle().take(3 * (N + 1)) {
        for value in 0..level {
            sender.try_send(value).expect("there is room");
        }
        if level == N {
            assert_eq!(sender.try_send(7), Err(TrySendError::Full(7)));
        }
        for value in 0..level {
            assert_eq!(receiver.try_recv(), Ok(value));
        }
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        // The next round begins at another slot.
        sender.try_send(0).expect("there is room");
        assert_eq!(receiver.try_recv(), Ok(0));
    }
}

/// Numbers of slots that are powers of two and that are none, one above all: it is full and empty in turn.
#[test]
fn every_level_at_every_slot() {
    fill::<1>();
    fill::<2>();
    fill::<3>();
    fill::<5>();
    fill::<8>();
}

/// Those who wait have their turn before those who come; and a slot is not had twice.
#[test]
fn no_one_passes_those_who_wait() {
    let channel = Channel::<u32, 1>::new();
    let (sender, mut receiver) = channel.claim().expect("it has no ends");
    sender.try_send(1).expect("there is room");
    let (calls, waker) = Calls::new();
    let mut cx = Context::from_waker(&waker);
    let (mut second, mut third) = (pin!(sender.send(2)), pin!(sender.send(3)));
    assert!(second.as_mut().poll(&mut cx).is_pending());
    assert!(poll(third.as_mut()).is_pending());
    assert_eq!(receiver.try_recv(), Ok(1));
    assert_eq!(calls.take(), 1);
    assert_eq!(sender.try_send(4), Err(TrySendError::Full(4)), "the slot is for those who wait");
    assert!(poll(third.as_mut()).is_pending());
    assert_eq!(second.as_mut().poll(&mut cx), Poll::Ready(Ok(())));
    assert!(poll(third.as_mut()).is_pending(), "it has been taken");
    assert_eq!(receiver.try_recv(), Ok(2));
    assert_eq!(poll(third), Poll::Ready(Ok(())));
    assert_eq!(poll(second), Poll::Ready(Ok(())), "it has been sent already, and is not again");
    assert_eq!((receiver.try_recv(), receiver.try_recv()), (Ok(3), Err(TryRecvError::Empty)));
}

/// Every method of a sender whose receiver is gone.
#[test]
fn without_a_receiver() {
    let channel = Channel::<u32, 1>::new();
    let (sender, receiver) = channel.claim().expect("it has no ends");
    assert!(!sender.is_closed());
    sender.try_send(1).expect("there is room");
    let (calls, waker) = Calls::new();
    let mut waiting = Box::pin(sender.send(2));
    assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(receiver);
    assert_eq!(calls.take(), 1);
    assert_eq!(poll(waiting.as_mut()), Poll::Ready(Err(Closed(2))));
    assert_eq!(poll(waiting.as_mut()), Poll::Ready(Ok(())), "there is nothing left to send");
    drop(waiting);
    let other = sender.clone();
    assert!(other.is_closed());
    assert_eq!(other.try_send(3), Err(TrySendError::Closed(3)));
    assert_eq!(pollster::block_on(other.send(4)), Err(Closed(4)));
    assert!(channel.claim().is_none(), "two senders are left");
    drop((sender, other));
    let (sender, mut receiver) = channel.claim().expect("nobody is left");
    sender.try_send(5).expect("it is open and empty again");
    assert_eq!(receiver.try_recv(), Ok(5));
}

/// Every method of a receiver whose senders are gone, before and after it has drained the channel.
#[test]
fn without_a_sender() {
    let channel = Channel::<u32, 2>::new();
    for left in 0..=2 {
        let (sender, mut receiver) = channel.claim().expect("it has no ends");
        for value in 0..left {
            sender.try_send(value).expect("there is room");
        }
        let other = sender.clone();
        drop(sender);
        let (calls, waker) = Calls::new();
        if left == 0 {
            assert!(pin!(receiver.recv()).poll(&mut Context::from_waker(&waker)).is_pending());
            assert!(receiver.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
        }
        drop(other);
        assert_eq!(calls.take(), u32::from(left == 0));
        for value in 0..left {
            assert_eq!(pollster::block_on(receiver.recv()), Some(value));
        }
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
        assert_eq!(pollster::block_on(receiver.recv()), None);
        assert_eq!(pollster::block_on(receiver.next()), None);
        receiver.close();
        assert!(channel.claim().is_none(), "the receiver is left");
    }
}

/// A close lets nobody in, lets what is there out, and may be repeated.
#[test]
fn close_twice() {
    let channel = Channel::<u32, 2>::new();
    let (sender, mut receiver) = channel.claim().expect("it has no ends");
    sender.try_send(1).expect("there is room");
    for _ in 0..2 {
        receiver.close();
        assert!(sender.is_closed());
        assert_eq!(sender.try_send(2), Err(TrySendError::Closed(2)));
    }
    assert_eq!((receiver.try_recv(), receiver.try_recv()), (Ok(1), Err(TryRecvError::Closed)));
    let said = [TrySendError::Full(1), TrySendError::Closed(1)].map(|error| {
        assert_eq!(error.into_inner(), 1);
        format!("{error:?}: {error}")
    });
    assert!(said[0].starts_with("Full: the channel is full; wait") && said[1].starts_with("Closed: "));
}

/// Ends that were forgotten, with a value in between, on a channel that can be had for oneself; and one that goes with
/// values in it.
#[test]
fn values_in_a_channel_that_goes() {
    let mut channel = Channel::<Counted, 3>::new();
    let (first, first_drops) = Counted::new();
    let (sender, receiver) = channel.split();
    sender.try_send(first).expect("there is room");
    let _forgotten = std::mem::ManuallyDrop::new((sender, receiver));
    let (sender, mut receiver) = channel.split();
    assert_eq!(first_drops.load(Relaxed), 1);
    assert!(matches!(receiver.try_recv(), Err(TryRecvError::Empty)));
    let (second, second_drops) = Counted::new();
    sender.try_send(second).expect("there is room");
    drop(receiver);
    assert_eq!(second_drops.load(Relaxed), 1, "it goes with the receiver");
    let _forgotten = std::mem::ManuallyDrop::new(sender);
    let (third, third_drops) = Counted::new();
    let (sender, receiver) = channel.split();
    sender.try_send(third).expect("there is room");
    let _forgotten = std::mem::ManuallyDrop::new((sender, receiver));
    drop(channel);
    assert_eq!(third_drops.load(Relaxed), 1, "it goes with the channel");
}

/// A receive that is given up has taken nothing and leaves no waker; a send that is given up drops its value, and lets
/// the next one send: for each of three that wait, before and after there is room.
#[test]
fn waits_that_are_given_up() {
    let channel = Channel::<Counted, 1>::new();
    for given_up in 0..3 {
        for room in [false, true] {
            let (sender, mut receiver) = channel.claim().expect("it has no ends");
            let (calls, waker) = Calls::new();
            assert!(pin!(receiver.recv()).poll(&mut Context::from_waker(&waker)).is_pending());
            let (there, _) = Counted::new();
            sender.try_send(there).expect("there is room");
            assert_eq!(calls.take(), 0, "nobody waits any more");
            let mut waits: Vec<_> = (0..3)
                .map(|_| {
                    let (value, drops) = Counted::new();
                    let (mut send, (calls, waker)) = (Box::pin(sender.send(value)), Calls::new());
                    assert!(send.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                    (send, drops, calls)
                })
                .collect();
            if room {
                drop(receiver.try_recv().expect("it was sent"));
            }
            let (send, drops, _) = waits.remove(given_up);
            drop(send);
            assert_eq!(drops.load(Relaxed), 1);
            if !room {
                drop(receiver.try_recv().expect("it was sent"));
            }
            for (mut send, drops, calls) in waits {
                assert_ne!(calls.take(), 0, "{given_up} {room}: it is next, and was not told");
                assert!(matches!(poll(send.as_mut()), Poll::Ready(Ok(()))));
                drop(receiver.try_recv().expect("it was sent"));
                assert_eq!(drops.load(Relaxed), 1);
            }
        }
    }
}

/// A task that has given a receive up is not known to the channel any more: its memory may be gone when a value comes.
#[test]
fn no_name_stays_behind() {
    let executor = executor(Plan::CALM);
    let (sender, mut receiver) = keep(Channel::<u32, 1>::new()).claim().expect("it has no ends");
    spawn(executor, slots(), async move {
        // The yield is over before a value comes.
        let given_up = select(receiver.recv(), yield_now()).await;
        assert!(matches!(given_up, Either::Right(_)));
        drop(given_up);
        pending::<()>().await;
        drop(receiver);
    });
    executor.settle();
    executor.platform().take_trace();
    sender.try_send(1).expect("there is room");
    assert!(executor.platform().trace().is_empty(), "nobody waits");
}

/// Senders on two executors, which wait, and in interrupts, which do not; one receiver: every value comes once, in the
/// order of its sender.
#[test]
fn senders_everywhere() {
    const VALUES: u32 = 12;
    const TASKS: usize = 2;
    for seed in 0..200 {
        let executors = [seed, !seed].map(|seed| executor(Plan::wild(seed)));
        let slots = slots();
        let channel = keep(Channel::<(usize, u32), 3>::new());
        let (sender, mut receiver) = channel.claim().expect("it has no ends");
        // Two tasks, and two interrupts.
        let arrived = keep([const { AtomicU32::new(0) }; 2 * TASKS]);
        let interrupts = [TASKS, TASKS + 1].map(|who| {
            let (sender, sent) = (keep(sender.clone()), keep(Plain::new(0)));
            move || {
                // An interrupt is not interrupted by itself.
                let Ok(mut sent) = sent.try_lock() else { return };
                if *sent < VALUES && sender.try_send((who, *sent)).is_ok() {
                    *sent += 1;
                }
            }
        });
        for (who, executor) in executors.into_iter().enumerate() {
            executor.platform().forget_trace();
            executor.platform().on_interrupt(interrupts[who]);
            let sender = sender.clone();
            let task = spawn(executor, slots, async move {
                for next in 0..VALUES {
                    sender.send((who, next)).await.expect("the receiver is there");
                }
            });
            executor.platform().haunt(task);
        }
        let task = spawn(executors[0], slots, async move {
            while arrived.iter().any(|count| count.load(Relaxed) < VALUES) {
                let (who, value) = receiver.recv().await.expect("the senders are there");
                assert_eq!(arrived[who].fetch_add(1, Relaxed), value, "seed {seed}: the order of {who}");
                if value % 3 == 0 {
                    yield_now().await;
                }
            }
        });
        executors[0].platform().haunt(task);
        // As many rounds as an interrupt has values, for those that did not come by themselves.
        for _ in 0..=VALUES {
            while executors.iter().map(|executor| executor.step()).fold(false, |any, one| any | one) {}
            for interrupt in interrupts {
                interrupt();
            }
        }
        assert!(arrived.iter().all(|count| count.load(Relaxed) == VALUES), "seed {seed}: {arrived:?}");
        assert_eq!(executors.map(Executor::live), [0, 0], "seed {seed}: somebody hangs");
    }
}

/// A DPC receives what threads send, which sleep when there is no room.
#[test]
fn between_threads() {
    const VALUES: u32 = 300;
    static POOL: Pool<512, 1> = Pool::new();
    static DPC: Executor<Thread<Dispatch>> = Executor::new(Thread::new(), Budget::DEFAULT);
    static CHANNEL: Channel<(usize, u32), 2> = Channel::new();
    DPC.start().expect("this is its first start");
    let (sender, mut receiver) = CHANNEL.claim().expect("it has no ends");
    let senders = [0, 1, 2].map(|who| {
        let sender = sender.clone();
        thread::spawn(move || {
            for value in 0..VALUES {
                pollster::block_on(sender.send((who, value))).expect("the receiver is there");
            }
        })
    });
    drop(sender);
    let receiving = DPC.spawn_with(&POOL, move || async move {
        let mut next = [0; 3];
        while let Some((who, value)) = receiver.recv().await {
            assert_eq!(value, next[who], "the order of {who}");
            next[who] += 1;
        }
        next
    });
    assert_eq!(pollster::block_on(receiving.expect("a slot is free")), Ok([VALUES; 3]));
    for sender in senders {
        sender.join().unwrap();
    }
    let closed = pollster::block_on(DPC.close().expect("nobody else closes it"));
    passive(|passive| closed.silence(passive));
}

/// A task that waits for two channels, one before the other, and gives the wait for the other up each time.
#[test]
fn two_streams_in_one_task() {
    let executor = executor(Plan::CALM);
    let (control, data) = (keep(Channel::<u32, 4>::new()), keep(Channel::<u32, 4>::new()));
    let (urgent, mut control) = control.claim().expect("it has no ends");
    let (bulk, mut data) = data.claim().expect("it has no ends");
    let (report, mut seen) = keep(Channel::<Option<u32>, 16>::new()).claim().expect("it has no ends");
    spawn(executor, slots(), async move {
        loop {
            let next = match select(control.next(), pin!(data.recv())).await {
                Either::Left((command, _)) => command,
                Either::Right((value, _)) => value,
            };
            report.try_send(next).expect("there is room");
            if next.is_none() {
                break;
            }
        }
    });
    for value in [10, 11] {
        bulk.try_send(value).expect("there is room");
    }
    urgent.try_send(1).expect("there is room");
    executor.settle();
    bulk.try_send(12).expect("there is room");
    executor.settle();
    urgent.try_send(2).expect("there is room");
    executor.settle();
    drop(urgent);
    executor.settle();
    let seen: Vec<_> = std::iter::from_fn(|| seen.try_recv().ok()).collect();
    assert_eq!(seen, [Some(1), Some(10), Some(11), Some(12), Some(2), None]);
    assert!(bulk.is_closed(), "the task is gone, and its receiver with it");
}
