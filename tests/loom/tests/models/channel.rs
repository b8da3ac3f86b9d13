//! A bounded channel: every value arrives whole or comes back, in the order of its sender, and nobody sleeps through it.

use core::{
    future::Future,
    pin::pin,
    task::{Context, Waker},
};

use crate::support::{Leaked, Mark, Place, executor, model, pool, settle};
use kexec_loom::sync::channel::{Channel, Closed, Receiver, Sender};
use loom::{future::block_on, thread};

type Ends<T, const N: usize> = (Sender<'static, T, N>, Receiver<'static, T, N>);

fn channel<T, const N: usize>() -> (Leaked<Channel<T, N>>, Ends<T, N>) {
    let channel = Leaked::new(Channel::new());
    let ends = channel.claim().expect("it has no ends");
    (channel, ends)
}

fn written() -> Place {
    let place = Place::new();
    place.write();
    place
}

/// Uses a channel whose ends are gone.
fn serve_others(channel: &'static Channel<Mark, 1>) {
    if let Some((sender, mut receiver)) = channel.claim() {
        let place = Place::new();
        assert!(sender.try_send(Mark(place.clone())).is_ok(), "there is room");
        drop(receiver.try_recv().expect("it was sent"));
        assert_eq!(place.read(), 1);
    }
}

/// The receiver sleeps until the value is there, and sees all of it.
#[test]
fn send_against_receive() {
    model(|| {
        let (_channel, (sender, mut receiver)) = channel::<Place, 1>();
        let sending = thread::spawn(move || assert!(sender.try_send(written()).is_ok(), "there is room"));
        let place = block_on(receiver.recv()).expect("it was sent");
        assert_eq!(place.read(), 1);
        sending.join().unwrap();
    });
}

/// The same in a task, whose turn comes by a doorbell.
#[test]
fn send_against_a_task_that_receives() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        let (_channel, (sender, mut receiver)) = channel::<Place, 1>();
        let task = move || async move { receiver.recv().await.map(|place| place.read()) };
        let handle = executor.spawn_with(*pool, task).expect("a slot is free");
        let sending = thread::spawn(move || assert!(sender.try_send(written()).is_ok(), "there is room"));
        settle(*executor);
        sending.join().unwrap();
        settle(*executor);
        assert_eq!(handle.try_take().expect("a wake was lost"), Ok(Some(1)));
    });
}

/// Two that send at once: both values arrive, whichever slot they have, and then the end.
#[test]
fn two_senders() {
    model(|| {
        let (_channel, (sender, mut receiver)) = channel::<Place, 2>();
        let other = sender.clone();
        let sending = thread::spawn(move || assert!(other.try_send(written()).is_ok(), "there is room"));
        assert!(sender.try_send(written()).is_ok(), "there is room");
        drop(sender);
        for _ in 0..2 {
            assert_eq!(block_on(receiver.recv()).map(|place| place.read()), Some(1));
        }
        assert!(block_on(receiver.recv()).is_none(), "the senders are gone");
        sending.join().unwrap();
    });
}

/// A sender that waits for room has the slot as soon as it is empty, and only then.
#[test]
fn receive_against_a_waiting_send() {
    model(|| {
        let (_channel, (sender, mut receiver)) = channel::<Place, 1>();
        assert!(sender.try_send(written()).is_ok(), "there is room");
        let sending = thread::spawn(move || assert!(block_on(sender.send(written())).is_ok(), "not closed"));
        for _ in 0..2 {
            assert_eq!(block_on(receiver.recv()).map(|place| place.read()), Some(1));
        }
        sending.join().unwrap();
    });
}

/// One value after another through one slot.
#[test]
fn a_slot_is_used_again() {
    model(|| {
        let (_channel, (sender, mut receiver)) = channel::<u32, 1>();
        let sending = thread::spawn(move || {
            let second = if sender.try_send(1).is_ok() { sender.try_send(2).is_ok() } else { false };
            2 - u32::from(!second)
        });
        let mut last = 0;
        while let Some(value) = block_on(receiver.recv()) {
            assert_eq!(value, last + 1);
            last = value;
        }
        assert_eq!(last, sending.join().unwrap());
    });
}

/// A close comes before a send, which has its value back, or after it, and then the value is received.
#[test]
fn close_against_send() {
    model(|| {
        let (_channel, (sender, mut receiver)) = channel::<Mark, 1>();
        let place = Place::new();
        let mark = Mark(place.clone());
        let sending =
            thread::spawn(move || block_on(sender.send(mark)).map_err(|Closed(mark)| drop(mark)).is_ok());
        receiver.close();
        let mut arrived = 0;
        while let Some(mark) = block_on(receiver.recv()) {
            drop(mark);
            arrived += 1;
        }
        let sent = sending.join().unwrap();
        assert_eq!((arrived, place.read()), (u32::from(sent), 1));
    });
}

/// A close ends the wait of a sender.
#[test]
fn close_against_a_waiting_send() {
    model(|| {
        let (_channel, (sender, mut receiver)) = channel::<u32, 1>();
        sender.try_send(1).expect("there is room");
        let sending = thread::spawn(move || assert_eq!(block_on(sender.send(2)), Err(Closed(2))));
        receiver.close();
        sending.join().unwrap();
        assert_eq!(receiver.try_recv(), Ok(1));
    });
}

/// The last sender's leave ends the wait of the receiver.
#[test]
fn drop_of_the_sender_against_receive() {
    model(|| {
        let (_channel, (sender, mut receiver)) = channel::<(), 1>();
        let leaving = thread::spawn(move || drop(sender));
        assert!(block_on(receiver.recv()).is_none());
        leaving.join().unwrap();
    });
}

/// The same in a task, which is not polled unless it is woken.
#[test]
fn drop_of_the_sender_against_a_task_that_receives() {
    model(|| {
        let (executor, pool) = (executor(8), pool::<1>());
        let (_channel, (sender, mut receiver)) = channel::<(), 1>();
        let task = move || async move { receiver.recv().await };
        let handle = executor.spawn_with(*pool, task).expect("a slot is free");
        let leaving = thread::spawn(move || drop(sender));
        settle(*executor);
        leaving.join().unwrap();
        settle(*executor);
        assert_eq!(handle.try_take().expect("a wake was lost"), Ok(None));
    });
}

/// The value goes with the receiver or comes back; the channel serves others at once, on either thread.
#[test]
fn send_against_drop_of_the_receiver() {
    model(|| {
        let (channel, (sender, receiver)) = channel::<Mark, 1>();
        let place = Place::new();
        let (mark, target) = (Mark(place.clone()), *channel);
        let sending = thread::spawn(move || {
            drop(sender.try_send(mark));
            drop(sender);
            serve_others(target);
        });
        drop(receiver);
        serve_others(*channel);
        sending.join().unwrap();
        assert_eq!(place.read(), 1, "it was dropped once");
        assert!(channel.claim().is_some(), "nobody is left");
    });
}

/// One sender has its value back, another one is the last to leave: whoever claims the channel then has it whole.
#[test]
fn a_claim_after_two_senders() {
    model(|| {
        let (channel, (sender, receiver)) = channel::<Mark, 1>();
        let (first, last, place) = (sender.clone(), sender, Place::new());
        let mark = Mark(place.clone());
        let sending = thread::spawn(move || {
            drop(first.try_send(mark));
            drop(first);
        });
        drop(receiver);
        drop(last);
        serve_others(*channel);
        sending.join().unwrap();
        assert_eq!(place.read(), 1, "it was dropped once");
        assert!(channel.claim().is_some(), "nobody is left");
    });
}

/// A receive that is given up takes its waker with it, while a value comes.
#[test]
fn no_waker_stays_behind() {
    model(|| {
        let (_channel, (sender, mut receiver)) = channel::<u32, 1>();
        let place = Place::new();
        let waker = Waker::from(std::sync::Arc::new(Mark(place.clone())));
        let sending = {
            let mut receiving = pin!(receiver.recv());
            assert!(receiving.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            thread::spawn(move || sender.try_send(1).expect("there is room"))
        };
        sending.join().unwrap();
        assert_eq!((receiver.try_recv(), place.read()), (Ok(1), 1));
    });
}
