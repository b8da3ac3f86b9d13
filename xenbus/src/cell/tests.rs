//! What is lent, what is there once for all, and what one has at a time.
#![forbid(unsafe_code)]

use core::sync::atomic::AtomicBool;
use std::thread;

use super::*;

/// How often each thread does its part.
const ROUNDS: u64 = if cfg!(miri) { 20 } else { 300 };

/// What is lent stays where it is, and is taken once; there is room for one.
#[test]
fn what_is_lent_is_not_taken() {
    let place = Lent::new();
    assert!(place.lend().is_none() && place.take().is_none());
    assert_eq!(place.put(7), Ok(()));
    assert_eq!(place.put(8), Err(8));
    let loans = [place.lend(), place.lend()].map(|loan| loan.expect("it is there"));
    assert!(place.is_lent());
    assert_eq!(place.take(), None);
    assert_eq!(*loans[1], 7);
    drop(loans);
    assert!(!place.is_lent());
    assert_eq!([place.take(), place.take()], [Some(7), None]);
    assert!(place.lend().is_none());
    assert_eq!(place.put(9), Ok(()), "it can be used again");
}

/// Several lend it while one takes it away and puts it back: who has it has all of it, and it is where it is.
#[test]
fn lent_to_many_threads() {
    let (place, ends, lent) = (Lent::new(), AtomicBool::new(false), AtomicBool::new(false));
    assert!(place.put([0_u64; 8]).is_ok());
    thread::scope(|scope| {
        let borrow = || {
            while !ends.load(Relaxed) {
                if let Some(loan) = place.lend() {
                    assert!(loan.iter().all(|word| *word == loan[0]));
                    lent.store(true, Relaxed);
                }
                thread::yield_now();
            }
        };
        scope.spawn(borrow);
        scope.spawn(borrow);
        let mut taken = 0;
        // On a processor that is busy, all rounds may be over before anybody else has run.
        while taken < ROUNDS || !lent.load(Relaxed) {
            if taken < ROUNDS
                && let Some(words) = place.take()
            {
                taken += 1;
                assert!(place.put(words.map(|word| word + 1)).is_ok());
            }
            thread::yield_now();
        }
        ends.store(true, Relaxed);
    });
    assert_eq!(place.take(), Some([ROUNDS; 8]));
}

/// What one puts there another takes away, who has not put it there: all of it, in order.
#[test]
fn lent_from_hand_to_hand() {
    let place = Lent::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            for value in 0..ROUNDS {
                while place.put([value; 8]).is_err() {
                    thread::yield_now();
                }
            }
        });
        for value in 0..ROUNDS {
            let words = loop {
                if let Some(words) = place.take() {
                    break words;
                }
                thread::yield_now();
            };
            assert_eq!(words, [value; 8]);
        }
    });
}

/// What is put there once is there for good.
#[test]
fn once() {
    let place = Once::new();
    assert_eq!(place.get(), None);
    assert_eq!([place.put(1), place.put(2)], [Ok(()), Err(2)]);
    assert_eq!(place.get(), Some(&1));
    assert_eq!(place.into_inner(), Some(1));
}

/// Of many that put something there one does, and whoever finds it finds all of it.
#[test]
fn once_of_many_threads() {
    for _ in 0..ROUNDS {
        let place = Once::new();
        let outcomes = thread::scope(|scope| {
            let put = |value: u64| place.put([value; 8]).is_ok();
            let writers = [1, 2].map(|value| scope.spawn(move || put(value)));
            let words = loop {
                if let Some(words) = place.get() {
                    break words;
                }
                thread::yield_now();
            };
            assert!(words.iter().all(|word| *word == words[0]));
            writers.map(|writer| writer.join().expect("it has put it there, or not"))
        });
        assert!(outcomes[0] != outcomes[1], "one of them has");
        assert_eq!(place.into_inner(), Some([if outcomes[0] { 1 } else { 2 }; 8]));
    }
}

/// Whoever comes while another has the value is sent away, and what one has changed the next one finds.
#[test]
fn one_at_a_time() {
    let value = TryLock::new(0_u64);
    assert_eq!(value.with(|_| value.with(|_| ())), Some(None));
    let add = || (0..ROUNDS).filter(|_| value.with(|value| *value += 1).is_some()).count() as u64;
    let added: u64 = thread::scope(|scope| {
        let threads = [scope.spawn(add), scope.spawn(add)];
        threads.into_iter().map(|thread| thread.join().expect("nobody panics")).sum()
    });
    assert!(added >= ROUNDS, "one of two that come is let in");
    assert_eq!(value.with(|value| *value), Some(added));
}
