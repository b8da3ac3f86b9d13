//! Permits: batches in order, exact accounts, and questions that make no sense.

use std::pin::pin;

use kexec::{
    platform::mock::keep,
    sync::{AcquireError, Overfull, Semaphore, TryAcquireError},
};

use crate::support::{Log, calm, poll, slots, spawn};

const UNAVAILABLE: TryAcquireError = TryAcquireError::Unavailable;

/// A large batch at the head is not starved by small ones, and those who wait go in order.
#[test]
fn a_large_batch_is_not_starved() {
    let (executor, slots, log) = (calm(), slots(), Log::default());
    let semaphore = keep(Semaphore::new(4));
    let held: Vec<_> = (0..4).map(|_| semaphore.try_acquire(1).expect("it is there")).collect();
    for (who, permits) in [(0, 4), (1, 1), (2, 1)] {
        log.after(executor, slots, who, semaphore.acquire(permits));
    }
    executor.settle();
    for permit in held {
        assert_eq!(log.take(), []);
        drop(permit);
        assert_eq!(semaphore.try_acquire(1).map(drop), Err(UNAVAILABLE), "others are before it");
        executor.settle();
    }
    assert_eq!(log.take(), [0, 1, 2]);
    assert_eq!(semaphore.available(), 4);
}

/// All that can be asked is answered, and answered at once where nothing has to be waited for.
#[test]
fn what_can_be_asked() {
    let semaphore = Semaphore::new(2);
    let too_many = |asked| AcquireError::TooMany { asked, size: 2 };
    for asked in [3, u32::MAX] {
        assert_eq!(pollster::block_on(semaphore.acquire(asked)).err(), Some(too_many(asked)));
        assert_eq!(semaphore.try_acquire(asked).err(), Some(TryAcquireError::Never(too_many(asked))));
    }
    assert_eq!(too_many(3).to_string(), "3 permits of a semaphore that has 2; ask for fewer at a time");
    let all = pollster::block_on(semaphore.acquire(2)).expect("they are there");
    let mut waiting = pin!(semaphore.acquire(1));
    assert!(poll(waiting.as_mut()).is_pending());
    let none = pollster::block_on(semaphore.acquire(0)).expect("none are always there");
    assert_eq!((none.count(), all.count(), semaphore.available()), (0, 2, 0));
    assert_eq!(pollster::block_on(semaphore.acquire(3)).err(), Some(too_many(3)));
    assert_eq!(semaphore.try_acquire(1).err(), Some(UNAVAILABLE));
    assert_eq!(
        UNAVAILABLE.to_string(),
        "the permits are not there, or others wait for them; await `acquire`"
    );
}

/// Sizes at both ends of what there can be.
#[test]
fn sizes() {
    let empty = Semaphore::new(0);
    assert_eq!(empty.try_acquire(0).map(|none| none.count()), Ok(0));
    assert!(matches!(empty.try_acquire(1), Err(TryAcquireError::Never(_))));
    let full = Semaphore::new(u32::MAX);
    assert_eq!((full.size(), full.available()), (Semaphore::MAX, Semaphore::MAX));
    let mut all = full.try_acquire(Semaphore::MAX).expect("they are there");
    assert_eq!(full.available(), 0);
    drop(all.split(1));
    assert_eq!(full.available(), 1);
    all.forget();
    assert_eq!(
        full.release(Semaphore::MAX),
        Err(Overfull { released: Semaphore::MAX, forgotten: Semaphore::MAX - 1 })
    );
    assert_eq!(full.release(Semaphore::MAX - 1), Ok(()));
    assert_eq!(full.available(), Semaphore::MAX);
}

/// Permits that are forgotten come back once each, whoever holds the others.
#[test]
fn forgotten_permits_come_back_once() {
    let semaphore = Semaphore::new(8);
    let mut permits = semaphore.try_acquire(5).expect("they are there");
    permits.split(2).expect("there are five").forget();
    assert_eq!((permits.count(), semaphore.available()), (3, 3));
    let overfull = Overfull { released: 3, forgotten: 2 };
    assert_eq!(semaphore.release(3), Err(overfull), "three are held");
    assert_eq!(
        overfull.to_string(),
        "3 permits released of 2 forgotten; release each once, as it comes back"
    );
    assert_eq!(semaphore.release(0), Ok(()));
    assert_eq!(semaphore.release(1), Ok(()));
    assert_eq!(semaphore.release(1), Ok(()));
    assert_eq!(semaphore.release(1), Err(Overfull { released: 1, forgotten: 0 }));
    drop(permits);
    assert_eq!(semaphore.available(), 8);
    assert_eq!(semaphore.release(u32::MAX), Err(Overfull { released: u32::MAX, forgotten: 0 }));
}

/// Permits are divided and put together; never with another semaphore's.
#[test]
fn permits_are_divided_and_put_together() {
    let (semaphore, other) = (Semaphore::new(4), Semaphore::new(1));
    let mut permits = semaphore.try_acquire(3).expect("they are there");
    assert!(permits.split(4).is_none());
    assert_eq!(permits.count(), 3);
    let all = permits.split(3).expect("there are three");
    assert_eq!((permits.count(), all.count()), (0, 3));
    permits.merge(all).expect("they are of one semaphore");
    permits.merge(semaphore.try_acquire(1).expect("it is there")).expect("they are of one semaphore");
    assert_eq!((permits.count(), semaphore.available()), (4, 0));
    let refused = permits.merge(other.try_acquire(1).expect("it is there"));
    let stranger = refused.expect_err("it is of another semaphore");
    assert_eq!((stranger.count(), other.available()), (1, 0));
    drop((permits, stranger));
    assert_eq!((semaphore.available(), other.available()), (4, 1));
}

/// A close ends those who wait, and those who come; permits are given back all the same.
#[test]
fn close() {
    let (executor, slots, log) = (calm(), slots(), Log::default());
    let semaphore = keep(Semaphore::new(2));
    let mut held = semaphore.try_acquire(2).expect("they are there");
    held.split(1).expect("there are two").forget();
    for who in 0..3 {
        let log = log.clone();
        spawn(executor, slots, async move {
            assert_eq!(semaphore.acquire(1).await.err(), Some(AcquireError::Closed));
            log.note(who);
        });
    }
    executor.settle();
    assert!(!semaphore.is_closed());
    semaphore.close();
    semaphore.close();
    assert!(semaphore.is_closed());
    let closed = TryAcquireError::Never(AcquireError::Closed);
    for asked in [0, 1, 3] {
        assert_eq!(semaphore.try_acquire(asked).err(), Some(closed));
    }
    assert_eq!(closed.to_string(), "the semaphore is closed; whoever closed it wants no more of this work");
    executor.settle();
    assert_eq!(log.take(), [0, 1, 2]);
    drop(held);
    assert_eq!(semaphore.release(1), Ok(()));
    assert_eq!((semaphore.available(), semaphore.size()), (2, 2));
}
