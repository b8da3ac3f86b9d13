//! A reply slot: the value is seen whole, by one of the ends, and nobody sleeps through it.

use core::{
    future::Future,
    pin::pin,
    task::{Context, Waker},
};

use crate::support::{Leaked, Mark, Place, model};
use kexec_loom::sync::oneshot::{Closed, OneShot};
use loom::{future::block_on, thread};

fn slot<T>() -> Leaked<OneShot<T>> {
    Leaked::new(OneShot::new())
}

/// The receiver sleeps until the value is there, and sees all of it.
#[test]
fn send_against_poll() {
    model(|| {
        let slot = slot::<Place>();
        let (sender, receiver) = slot.claim().expect("it is free");
        let sending = thread::spawn(move || {
            let place = Place::new();
            place.write();
            assert!(sender.send(place).is_ok(), "the receiver is there");
        });
        let place = block_on(receiver).expect("it was sent");
        assert_eq!(place.read(), 1);
        sending.join().unwrap();
    });
}

/// Whoever looks and does not wait sees all of it, too.
#[test]
fn send_against_a_look() {
    model(|| {
        let slot = slot::<Place>();
        let (sender, receiver) = slot.claim().expect("it is free");
        let sending = thread::spawn(move || {
            let place = Place::new();
            place.write();
            drop(sender.send(place));
        });
        if let Ok(sent) = receiver.try_take() {
            assert_eq!(sent.map(|place| place.read()), Ok(1));
        }
        sending.join().unwrap();
    });
}

/// A sender that goes without a value ends the wait.
#[test]
fn drop_of_the_sender_against_poll() {
    model(|| {
        let slot = slot::<()>();
        let (sender, receiver) = slot.claim().expect("it is free");
        let leaving = thread::spawn(move || drop(sender));
        assert_eq!(block_on(receiver), Err(Closed));
        leaving.join().unwrap();
    });
}

/// The value comes back, or goes with the receiver; the slot serves the next request at once, on either thread.
#[test]
fn send_against_drop_of_the_receiver() {
    fn next_request(slot: &'static OneShot<Mark>) {
        if let Some((sender, receiver)) = slot.claim() {
            let place = Place::new();
            assert!(sender.send(Mark(place.clone())).is_ok(), "the receiver is there");
            drop(receiver.try_take().map(drop));
            assert_eq!(place.read(), 1);
        }
    }
    model(|| {
        let slot = slot::<Mark>();
        let (sender, receiver) = slot.claim().expect("it is free");
        let place = Place::new();
        let (mark, target) = (Mark(place.clone()), *slot);
        let sending = thread::spawn(move || {
            drop(sender.send(mark));
            next_request(target);
        });
        drop(receiver);
        next_request(*slot);
        sending.join().unwrap();
        assert_eq!(place.read(), 1, "it was dropped once");
        assert!(slot.claim().is_some(), "the slot is free");
    });
}

/// A receiver that goes while the answer comes takes its waker with it.
#[test]
fn no_waker_stays_behind() {
    model(|| {
        let slot = slot::<()>();
        let (sender, receiver) = slot.claim().expect("it is free");
        let place = Place::new();
        let waker = Waker::from(std::sync::Arc::new(Mark(place.clone())));
        let sending = {
            let mut receiver = pin!(receiver);
            assert!(receiver.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            drop(waker);
            thread::spawn(move || sender.send(()).is_ok())
        };
        sending.join().unwrap();
        assert_eq!(place.read(), 1, "nobody has it any more");
    });
}
