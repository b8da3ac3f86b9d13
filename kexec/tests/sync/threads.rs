//! Real threads: two executors, signals from a third side, waits of no executor.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    thread,
};

use kexec::{
    Budget, Executor, Pool,
    irql::{Dispatch, Level, Passive},
    platform::thread::{Thread, passive},
    sync::{AutoEvent, ManualEvent, Mutex, Semaphore},
    yield_now,
};

const ROUNDS: u32 = if cfg!(miri) { 5 } else { 500 };

static SLOTS: Pool<512, 16> = Pool::new();

fn close<L: Level>(executor: &'static Executor<Thread<L>>) {
    let closed = pollster::block_on(executor.close().expect("nobody else closes it"));
    passive(|passive| closed.silence(passive));
}

/// A DPC, a worker and a plain thread take turns with one mutex, and with permits that a fourth brings back.
#[test]
fn one_mutex_for_all() {
    static DPC: Executor<Thread<Dispatch>> = Executor::new(Thread::new(), Budget::DEFAULT);
    static WORKER: Executor<Thread<Passive>> = Executor::new(Thread::new(), Budget::DEFAULT);
    static SUM: Mutex<u32> = Mutex::new(0);
    static PERMITS: Semaphore = Semaphore::new(3);
    static FORGOTTEN: AtomicU32 = AtomicU32::new(0);
    static MORE: AutoEvent = AutoEvent::new(false);

    async fn work(permits: u32) {
        for round in 0..ROUNDS {
            let permits = PERMITS.acquire(permits).await.expect("it is open");
            let mut sum = SUM.lock().await;
            let before = *sum;
            yield_now().await;
            *sum = before + 1;
            drop(sum);
            if round % 3 == 0 {
                let count = permits.count();
                permits.forget();
                FORGOTTEN.fetch_add(count, SeqCst);
                MORE.set();
            }
        }
    }

    DPC.start().expect("this is its first start");
    WORKER.start().expect("this is its first start");
    let done = Arc::new(ManualEvent::new(false));
    let stop = done.clone();
    let response = thread::spawn(move || {
        while !stop.is_set() {
            let forgotten = FORGOTTEN.swap(0, SeqCst);
            PERMITS.release(forgotten).expect("so many were forgotten");
            pollster::block_on(MORE.wait());
        }
    });
    let mut handles = Vec::new();
    for permits in 1..=3 {
        handles.push(DPC.spawn_with(&SLOTS, move || work(permits)).expect("a slot is free"));
        handles.push(WORKER.spawn_with(&SLOTS, move || work(permits)).expect("a slot is free"));
    }
    pollster::block_on(work(2));
    for handle in handles {
        pollster::block_on(handle).expect("it was not cancelled");
    }
    done.set();
    MORE.set();
    response.join().unwrap();
    close(&DPC);
    close(&WORKER);
    assert_eq!(pollster::block_on(SUM.lock()).to_owned(), 7 * ROUNDS);
    PERMITS.release(FORGOTTEN.load(SeqCst)).expect("so many were forgotten");
    assert_eq!(PERMITS.available(), 3);
}

/// Waits that are dropped by two threads while a third waits and this one signals: each signal is taken once.
#[test]
fn dropped_while_signalled() {
    let event = AutoEvent::new(false);
    let taken = AtomicU32::new(0);
    let take = || taken.fetch_add(1, SeqCst);
    let set = thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            for _ in 0..ROUNDS {
                pollster::block_on(event.wait());
                take();
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    if crate::support::poll(pin!(event.wait())).is_ready() {
                        take();
                    }
                }
            });
        }
        let mut set = 0;
        while !waiter.is_finished() {
            if !event.is_set() {
                event.set();
                set += 1;
            }
            thread::yield_now();
        }
        set
    });
    assert_eq!(set, taken.load(SeqCst) + u32::from(event.is_set()));
}
