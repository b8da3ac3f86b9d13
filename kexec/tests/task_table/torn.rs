//! Rows that are read while a thread writes them are whole: their words are of one park of one task.
//!
//! Compiled for Miri as well, whose relaxed loads may read old values.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use kexec::{
    Budget, Executor, Pool, Table,
    irql::Dispatch,
    platform::thread::{Thread, passive},
    task_table::{Label, Row, State},
    yield_now,
};

/// Rows that a test wants to see between two polls; it reads on until it has.
const ENOUGH: u32 = if cfg!(miri) { 20 } else { 20_000 };
/// A reader that never finds the task between two polls has lost its point. How often it does is for the scheduler to
/// say: on one processor that others want too, only once in hundreds of times.
const PATIENCE: u32 = if cfg!(miri) { 20_000 } else { 500_000_000 };
/// So often a reader reads before it leaves the processor to whom it reads of.
const BREATH: u32 = if cfg!(miri) { 1 } else { 1_000 };

/// Parks with the task and the line as the label, with which name and place must agree.
macro_rules! step {
    ($task:literal) => {
        yield_now().label(concat!($task, " ", line!()))
    };
}

async fn one(_: &mut Dispatch, stop: &'static AtomicBool) {
    while !stop.load(Relaxed) {
        step!("one").await;
        step!("one").await;
        step!("one").await;
    }
}

async fn other(_: &mut Dispatch, _stop: &'static AtomicBool) {
    step!("other").await;
    step!("other").await;
}

/// What any row must be, whatever goes on. Whether it is one of a park.
fn check(row: &Row<'_>) -> bool {
    if let Some(kind) = row.kind {
        let task = row.name.rsplit("::").next().unwrap_or_default();
        let place = row.place.expect("both tasks wait at leaves of the library only");
        assert_eq!((kind, place.file), ("yield", file!()), "{row}");
        assert_eq!(row.label, Some(format!("{task} {}", place.line).as_str()), "{row}");
    }
    let has_task = !matches!(row.state, State::Free | State::Changing);
    assert_eq!(row.name.is_empty(), !has_task, "{row}");
    if has_task {
        assert_eq!(row.executor.name, "torn", "{row}");
        assert_eq!(row.name.ends_with("::one"), row.generation % 2 == 1, "{row}");
    }
    row.kind.is_some()
}

/// Reads until enough rows of parks were seen.
fn watch<const S: usize>(table: &Table<S>) -> u32 {
    let mut seen = 0;
    for reads in 1..=PATIENCE {
        seen += table.tasks().map(|row| u32::from(check(&row))).sum::<u32>();
        if seen >= ENOUGH {
            break;
        }
        if reads % BREATH == 0 {
            thread::yield_now();
        }
    }
    seen
}

fn close(executor: &'static Executor<Thread<Dispatch>>) {
    let closed = pollster::block_on(executor.close().expect("nobody else closes it"));
    passive(|passive| closed.silence(passive));
}

/// A task that parks all the time, at one of three steps.
#[test]
fn one_task_that_never_rests() {
    static POOL: Pool<256, 1> = Pool::new();
    static EXECUTOR: Executor<Thread<Dispatch>> =
        Executor::named("torn", Thread::new(), Budget::new(3, Duration::MAX));
    static STOP: AtomicBool = AtomicBool::new(false);
    EXECUTOR.start().expect("this is its first start");
    let handle = EXECUTOR.spawn(&POOL, one, &STOP).expect("a slot is free");
    let seen = watch(POOL.as_table());
    STOP.store(true, Relaxed);
    assert_eq!(pollster::block_on(handle), Ok(()));
    close(&EXECUTOR);
    assert!(seen >= ENOUGH, "only {seen} rows of parks");
}

/// Tenants that come and go, of two kinds: no row has the name of one and the step of the other.
#[test]
fn tenants_that_come_and_go() {
    static POOL: Pool<256, 1> = Pool::new();
    static EXECUTOR: Executor<Thread<Dispatch>> =
        Executor::named("torn", Thread::new(), Budget::new(1, Duration::MAX));
    static STOP: AtomicBool = AtomicBool::new(false);
    EXECUTOR.start().expect("this is its first start");
    let spawner = thread::spawn(|| {
        let mut tenants = 0_u32;
        loop {
            // Each tenant has the next generation, and the first one is `one`.
            let spawned = match tenants % 2 {
                0 => EXECUTOR.spawn(&POOL, one, &STOP).ok(),
                _ => EXECUTOR.spawn(&POOL, other, &STOP).ok(),
            };
            let Some(task) = spawned.map(kexec::JoinHandle::detach) else { continue };
            tenants += 1;
            // The one goes on for ever; the other may end by itself.
            for _ in 0..tenants % 7 {
                thread::yield_now();
            }
            while task.is_live() {
                task.abort();
                thread::yield_now();
            }
            if STOP.load(Relaxed) {
                return;
            }
        }
    });
    let seen = watch(POOL.as_table());
    STOP.store(true, Relaxed);
    spawner.join().expect("it does not panic");
    close(&EXECUTOR);
    assert!(seen >= ENOUGH, "only {seen} rows of parks");
}
