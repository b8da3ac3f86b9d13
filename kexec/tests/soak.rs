//! A million turns with everything going wrong: delays, duplicates, spurious runs and wakes, a clock that goes back,
//! aborts, dropped handles, full stores, closes in the middle. Same seed, same trace; nothing leaks.

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use kexec::{
    Budget, Cancelled, Executor, JoinHandle, Pool, SpawnError, Table, TaskRef,
    irql::Dispatch,
    platform::{
        mock::{Mock, Plan, keep},
        thread::passive,
    },
    yield_now,
};

type Exec = &'static Executor<Mock>;

/// Chance for the tasks and for the test; the platform has its own.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % bound
    }

    fn pick<'t, T>(&mut self, from: &'t [T]) -> Option<&'t T> {
        (!from.is_empty()).then(|| &from[usize::try_from(self.below(from.len() as u64)).unwrap()])
    }
}

/// What must balance at the end.
#[derive(Default)]
struct Ledger {
    begun: AtomicU64,
    dropped: AtomicU64,
    spawned: AtomicU64,
    outcomes: AtomicU64,
    refused: AtomicU64,
}

/// Counts a future from its birth to its drop.
struct Entry(Arc<Ledger>);

impl Entry {
    fn new(ledger: &Arc<Ledger>) -> Self {
        ledger.begun.fetch_add(1, Relaxed);
        Self(ledger.clone())
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Relaxed);
    }
}

struct Orders {
    executor: Exec,
    seed: u64,
    ledger: Entry,
}

/// A task: it computes, yields, parks until someone wakes it for whatever reason, and ends.
async fn work(_: &mut Dispatch, orders: Orders) -> u64 {
    // Not `Send`, and alive across awaits.
    let dice = Rc::new(RefCell::new(Dice(orders.seed | 1)));
    let mut sum = 0_u64;
    loop {
        let roll = dice.borrow_mut().below(20);
        sum = sum.wrapping_add(roll);
        match roll {
            0..=9 => yield_now().await,
            10..=14 => orders.executor.platform().pass(Duration::from_micros(roll)),
            15..=18 => {
                let mut parked = false;
                poll_fn(|cx| {
                    if std::mem::replace(&mut parked, true) {
                        return Poll::Ready(());
                    }
                    if roll == 15 {
                        cx.waker().wake_by_ref();
                    }
                    orders.executor.platform().haunt(TaskRef::current(cx).expect("polled by the executor"));
                    Poll::Pending
                })
                .await;
            }
            _ => return sum,
        }
    }
}

/// One executor from its first spawn to its close. Returns its trace's digest and the turns it gave.
fn live(seed: u64, turns: u64, slots: &'static Table<640>) -> (u64, u64) {
    let executor: Exec =
        Executor::leak(Mock::new(Plan::wild(seed)), Budget::new(16, Duration::from_micros(50)));
    let (mut dice, ledger) = (Dice(seed | 1), Arc::new(Ledger::default()));
    let (mut handles, mut names) = (Vec::<JoinHandle<u64>>::new(), Vec::<TaskRef>::new());
    executor.platform().forget_trace();
    let strikes = Arc::new(AtomicU64::new(0));
    let count = strikes.clone();
    executor.platform().on_interrupt(move || {
        count.fetch_add(1, Relaxed);
    });
    while executor.stats().polls < turns {
        match dice.below(16) {
            0..=3 => {
                let orders = Orders { executor, seed: dice.below(u64::MAX), ledger: Entry::new(&ledger) };
                match executor.spawn(slots, work, orders) {
                    Ok(handle) => {
                        ledger.spawned.fetch_add(1, Relaxed);
                        names.push(handle.task());
                        handles.push(handle);
                    }
                    Err(SpawnError::Full((_, orders))) => drop(orders.ledger),
                    Err(SpawnError::Closed(_)) => panic!("nobody has closed it"),
                }
            }
            4..=6 => {
                let orders = Orders { executor, seed: dice.below(u64::MAX), ledger: Entry::new(&ledger) };
                let account = ledger.clone();
                let epilogue = move |_: &mut Dispatch, _outcome: Result<u64, Cancelled>| {
                    account.outcomes.fetch_add(1, Relaxed);
                };
                match executor.submit(slots, work, orders, epilogue) {
                    Ok(name) => {
                        ledger.spawned.fetch_add(1, Relaxed);
                        names.push(name);
                    }
                    Err(_) => {
                        ledger.refused.fetch_add(1, Relaxed);
                    }
                }
            }
            7 => {
                if let Some(name) = dice.pick(&names) {
                    name.abort();
                }
            }
            8 => {
                if let Some(name) = dice.pick(&names) {
                    name.wake();
                }
            }
            9 if !handles.is_empty() => {
                let index = usize::try_from(dice.below(handles.len() as u64)).unwrap();
                match handles.swap_remove(index).try_take() {
                    Ok(_outcome) => {
                        ledger.outcomes.fetch_add(1, Relaxed);
                    }
                    Err(handle) => {
                        // Detached: its outcome is dropped unseen.
                        ledger.outcomes.fetch_add(1, Relaxed);
                        handle.detach();
                    }
                }
            }
            _ => {
                executor.step();
            }
        }
        if names.len() > 40 {
            names.remove(0);
        }
    }
    let mut closing = pin!(executor.close().expect("nobody else closes it"));
    let mut cx = Context::from_waker(Waker::noop());
    let closed = loop {
        match closing.as_mut().poll(&mut cx) {
            Poll::Ready(closed) => break closed,
            Poll::Pending => executor.settle(),
        }
        // Outputs that nobody has taken would keep it open.
        ledger.outcomes.fetch_add(handles.drain(..).count() as u64, Relaxed);
    };
    names.into_iter().for_each(TaskRef::wake);
    passive(|passive| closed.silence(passive));

    let count = |counter: &AtomicU64| counter.load(Relaxed);
    assert_eq!(executor.live(), 0, "seed {seed}");
    assert_eq!(executor.platform().doorbells(), 0, "seed {seed}");
    assert_eq!(count(&ledger.begun), count(&ledger.dropped), "futures, seed {seed}");
    assert_eq!(count(&ledger.spawned), count(&ledger.outcomes), "one outcome a task, seed {seed}");
    assert!(count(&strikes) > 0 && executor.stats().stale > 0, "nothing went wrong, seed {seed}");
    (executor.platform().digest(), executor.stats().polls)
}

/// Many executors in turn, on the same slots.
fn soak(seeds: std::ops::Range<u64>, turns: u64) -> (Vec<u64>, u64) {
    let slots: &'static Pool<640, 24> = keep(Pool::new());
    let lives: Vec<_> = seeds.map(|seed| live(seed, turns, slots)).collect();
    for n in 0..24 {
        // Every slot came back.
        let executor: Exec = Executor::leak(Mock::new(Plan::CALM), Budget::DEFAULT);
        assert!(executor.spawn_with(slots, std::future::pending::<()>).is_ok(), "slot {n} is lost");
    }
    (lives.iter().map(|(digest, _)| *digest).collect(), lives.iter().map(|(_, turns)| turns).sum())
}

#[test]
fn a_million_turns() {
    let (first, turns) = soak(0..20, 25_000);
    let (second, more) = soak(0..20, 25_000);
    println!("{} turns", turns + more);
    assert!(turns + more >= 1_000_000);
    assert_eq!(first, second, "same seed, same trace");
    assert!(first.windows(2).all(|pair| pair[0] != pair[1]), "other seed, other trace");
}
