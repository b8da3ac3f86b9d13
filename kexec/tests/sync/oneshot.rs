//! The reply slot: whatever the two ends do, and in which order, a value is received, comes back or is dropped, once.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Mutex as Plain,
        atomic::{AtomicU32, Ordering::Relaxed},
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
    sync::oneshot::{Closed, OneShot, Sender},
};

use crate::support::{Calls, Counted, executor, slots, spawn};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Send,
    Leave,
    Poll,
    Look,
}

/// Every order of one act of the sender among up to three of the receiver, each of which may be its last.
#[test]
fn the_ends_in_every_order() {
    let mut orders = 0;
    for receiving in (0..3).flat_map(sequences) {
        for at in 0..=receiving.len() {
            for sending in [Act::Send, Act::Leave] {
                let mut acts = receiving.clone();
                acts.insert(at, sending);
                for leaves in 0..=acts.len() {
                    orders += 1;
                    in_order(&acts, leaves);
                }
            }
        }
    }
    assert!(orders > 100, "{orders}");
}

fn sequences(length: u32) -> Vec<Vec<Act>> {
    let one_more = |shorter: Vec<Act>| {
        [Act::Poll, Act::Look].map(|act| shorter.iter().copied().chain([act]).collect::<Vec<_>>())
    };
    (0..length).fold(vec![Vec::new()], |all, _| all.into_iter().flat_map(one_more).collect())
}

/// Does `acts`, the receiver leaving before the one numbered `leaves`, on a slot that then serves another request.
fn in_order(acts: &[Act], leaves: usize) {
    let slot = OneShot::new();
    let (counted, drops) = Counted::new();
    let (calls, waker) = Calls::new();
    let (sender, receiver) = slot.claim().expect("it is free");
    let (mut sender, mut receiver, mut value) = (Some(sender), Some(receiver), Some(counted));
    // What the receiver is to find, and whether it waits for that.
    let (mut outcome, mut waits) = (None, false);
    for (at, act) in acts.iter().enumerate() {
        if at == leaves {
            receiver = None;
        }
        match act {
            Act::Send => {
                let sender = sender.take().expect("it sends once");
                assert_eq!(sender.is_closed(), receiver.is_none());
                let sent = sender.send(value.take().expect("it sends once"));
                assert_eq!(sent.is_ok(), receiver.is_some(), "{acts:?} {leaves}");
                outcome = Some(true);
            }
            Act::Leave => {
                sender = None;
                outcome = Some(false);
            }
            Act::Poll => {
                let Some(receiver) = &mut receiver else { continue };
                let found = Pin::new(receiver).poll(&mut Context::from_waker(&waker));
                match outcome {
                    Some(true) => assert!(matches!(found, Poll::Ready(Ok(_))), "{acts:?} {leaves}"),
                    Some(false) => assert!(matches!(found, Poll::Ready(Err(Closed))), "{acts:?} {leaves}"),
                    None => {
                        assert!(found.is_pending(), "{acts:?} {leaves}");
                        waits = true;
                        continue;
                    }
                }
                // The value has been given out.
                outcome = Some(false);
            }
            Act::Look => {
                let Some(looks) = receiver.take() else { continue };
                match (looks.try_take(), outcome) {
                    (Ok(Ok(_)), Some(true)) | (Ok(Err(Closed)), Some(false)) => {}
                    (Err(back), None) => receiver = Some(back),
                    (found, _) => panic!("{found:?} in {acts:?} {leaves}"),
                }
            }
        }
        if matches!(act, Act::Send | Act::Leave) {
            assert_eq!(calls.take(), u32::from(waits && receiver.is_some()), "{acts:?} {leaves}");
        }
    }
    drop((sender, receiver, value));
    assert_eq!(drops.load(Relaxed), 1, "{acts:?} {leaves}");
    let (sender, receiver) = slot.claim().expect("it is free");
    assert!(slot.claim().is_none(), "it is not any more");
    drop(sender);
    assert!(matches!(pollster::block_on(receiver), Err(Closed)));
}

/// Request after request through one slot, answered at every point at which a platform can be interrupted, by answers,
/// by nobody, and after the asker has given up.
#[test]
fn answers_from_interrupts() {
    const REQUESTS: u32 = 20;
    for seed in 0..300 {
        let (executor, slots) = (executor(Plan::wild(seed)), slots());
        executor.platform().forget_trace();
        let slot = keep(OneShot::new());
        let asked = keep(Plain::new(None::<(u32, Sender<'static, u32>)>));
        let outcomes = keep(AtomicU32::new(0));
        let answer = || {
            let request = asked.lock().unwrap().take();
            if let Some((request, reply)) = request
                && request % 5 != 0
            {
                let sent = reply.send(request * 2);
                assert_eq!(sent.is_ok(), request % 7 != 0, "only some give up");
            }
        };
        executor.platform().on_interrupt(answer);
        let task = spawn(executor, slots, async move {
            for request in 1..=REQUESTS {
                let (reply, answer) = slot.claim().expect("the last request is over");
                if request % 7 == 0 {
                    drop(answer);
                    *asked.lock().unwrap() = Some((request, reply));
                    // Until the interrupt has had it, the slot is in use.
                    std::future::poll_fn(|cx| {
                        cx.waker().wake_by_ref();
                        if asked.lock().unwrap().is_none() { Poll::Ready(()) } else { Poll::Pending }
                    })
                    .await;
                    outcomes.fetch_add(1, Relaxed);
                    continue;
                }
                *asked.lock().unwrap() = Some((request, reply));
                let expected = if request % 5 == 0 { Err(Closed) } else { Ok(request * 2) };
                assert_eq!(answer.await, expected);
                outcomes.fetch_add(1, Relaxed);
            }
        });
        executor.platform().haunt(task);
        executor.settle();
        while executor.live() != 0 {
            let before = outcomes.load(Relaxed);
            answer();
            executor.settle();
            assert!(outcomes.load(Relaxed) > before, "seed {seed}: an answer was lost");
        }
        assert_eq!(outcomes.load(Relaxed), REQUESTS, "seed {seed}");
    }
}

/// A DPC asks and a thread answers, or is gone before.
#[test]
fn between_threads() {
    const REQUESTS: u32 = 300;
    static POOL: Pool<512, 1> = Pool::new();
    static DPC: Executor<Thread<Dispatch>> = Executor::new(Thread::new(), Budget::DEFAULT);
    static SLOT: OneShot<u32> = OneShot::new();
    DPC.start().expect("this is its first start");
    let (ask, requests) = std::sync::mpsc::channel();
    let store = thread::spawn(move || {
        for (request, reply) in requests {
            let reply: Sender<'static, u32> = reply;
            if request % 3 != 0 {
                reply.send(request + 1).expect("it waits");
            }
        }
    });
    let asking = DPC.spawn_with(&POOL, move || async move {
        let mut answers = 0;
        for request in 0..REQUESTS {
            let (reply, answer) = SLOT.claim().expect("the last request is over");
            ask.send((request, reply)).expect("the store is there");
            match answer.await {
                Ok(answer) => {
                    assert_eq!(answer, request + 1);
                    answers += 1;
                }
                Err(Closed) => assert_eq!(request % 3, 0),
            }
        }
        answers
    });
    assert_eq!(pollster::block_on(asking.expect("a slot is free")), Ok(REQUESTS * 2 / 3));
    store.join().unwrap();
    let closed = pollster::block_on(DPC.close().expect("nobody else closes it"));
    passive(|passive| closed.silence(passive));
}

/// Ends that were forgotten, on a slot that can be had for oneself; and one that is polled when there is nothing left.
#[test]
fn strange_uses() {
    let mut slot = OneShot::new();
    let (counted, drops) = Counted::new();
    let (sender, receiver) = slot.split();
    sender.send(counted).expect("the receiver is there");
    let _forgotten = std::mem::ManuallyDrop::new(receiver);
    let (sender, receiver) = slot.split();
    assert_eq!(drops.load(Relaxed), 1, "the value has not been forgotten");
    let _forgotten = std::mem::ManuallyDrop::new(sender);
    assert!(receiver.try_take().is_err(), "a sender that was forgotten might still send");

    let (sender, mut receiver) = slot.split();
    let (counted, drops) = Counted::new();
    sender.send(counted).expect("the receiver is there");
    assert!(pollster::block_on(&mut receiver).is_ok());
    assert_eq!(drops.load(Relaxed), 1);
    for _ in 0..2 {
        assert_eq!(
            pollster::block_on(&mut receiver).map(drop).map_err(|error| error.to_string()),
            Err("the sender was dropped without a value; no answer will come to this request".into())
        );
    }
    assert!(matches!(receiver.try_take(), Ok(Err(Closed))));
}
