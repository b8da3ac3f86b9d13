//! What is lent, and what is there once for all.
#![forbid(unsafe_code)]

use core::sync::atomic::AtomicBool;
use std::thread;

use super::*;

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
    let (place, ends) = (Lent::new(), AtomicBool::new(false));
    assert!(place.put([0_u64; 8]).is_ok());
    let mut lent = 0;
    thread::scope(|scope| {
        let borrow = || {
            let mut lent = 0_u64;
            while !ends.load(Relaxed) {
                if let Some(loan) = place.lend() {
                    assert!(loan.iter().all(|word| *word == loan[0]));
                    lent += 1;
                }
                thread::yield_now();
            }
            lent
        };
        let threads = [scope.spawn(borrow), scope.spawn(borrow)];
        let mut taken = 0;
        while taken < 300 {
            if let Some(words) = place.take() {
                taken += 1;
                assert!(place.put(words.map(|word| word + 1)).is_ok());
            }
            thread::yield_now();
        }
        ends.store(true, Relaxed);
        lent = threads.into_iter().map(|thread| thread.join().expect("it has seen nothing odd")).sum();
    });
    assert!(lent > 0);
    assert_eq!(place.take(), Some([300; 8]));
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
