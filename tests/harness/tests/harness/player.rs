//! A world that is run once.
#![forbid(unsafe_code)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use kexec::{irql::Dispatch, task_table::Row, time::sleep, yield_now};
use xen_harness::{Executors, Player};

/// What was done, in order.
type Log = Arc<Mutex<Vec<&'static str>>>;

async fn work(_: &mut Dispatch, (log, name): (Log, &'static str)) {
    for _ in 0..8 {
        log.lock().expect("no task panics").push(name);
        yield_now().await;
    }
    sleep(Duration::from_secs(3)).await;
    log.lock().expect("no task panics").push(name);
}

/// The order in which three executors go on.
fn order(seed: u64) -> Vec<&'static str> {
    let mut player = Player::new(seed);
    let log = Log::default();
    for name in ["one", "two", "three"] {
        let slots = player.pool::<512, 1>();
        let executor = player.driver(name);
        executor.spawn(slots, work, (log.clone(), name)).expect("a slot is free").detach();
    }
    while player.step(Duration::MAX) {}
    assert!(player.time() >= Duration::from_secs(3), "time is that of the last alarm");
    assert_eq!(player.close(), Ok(()));
    let done = log.lock().expect("no task panics");
    done.clone()
}

/// The seed says who goes on, one poll at a time; nothing else does.
#[test]
fn the_same_seed_is_the_same_order() {
    let mut orders: Vec<_> = (0..8).map(order).collect();
    assert_eq!(orders, (0..8).map(order).collect::<Vec<_>>());
    assert!(orders.iter().all(|order| order.len() == 27), "everybody has come to an end");
    orders.dedup();
    assert!(orders.len() > 4, "other seeds, other orders");
}

async fn wait(_: &mut Dispatch, (): ()) {
    std::future::pending::<()>().await;
}

/// Nothing happens of what is later than was asked for.
#[test]
fn a_step_has_a_limit() {
    let mut player = Player::new(1);
    let (slots, executor) = (player.pool::<512, 1>(), player.driver("guest"));
    executor.spawn(slots, work, (Log::default(), "late")).expect("a slot is free").detach();
    while player.step(Duration::from_secs(2)) {}
    assert!(player.time() < Duration::from_secs(2));
    assert!(player.step(Duration::from_secs(4)));
    assert!(player.time() >= Duration::from_secs(3));
    assert_eq!(player.close(), Ok(()));
}

/// Tasks that wait for ever are cancelled; an output that nobody takes is a mistake of the world's, and is named.
#[test]
fn closing() {
    let mut player = Player::new(1);
    let (slots, executor) = (player.pool::<512, 2>(), player.driver("waits"));
    executor.spawn(slots, wait, ()).expect("a slot is free").detach();
    while player.step(Duration::MAX) {}
    assert_eq!(player.close(), Ok(()));
    assert_eq!(slots.tasks().filter(Row::is_task).count(), 0, "no slot is taken");

    let mut player = Player::new(1);
    let (slots, executor) = (player.pool::<512, 2>(), player.driver("keeps its output"));
    let task = executor.spawn(slots, wait, ()).expect("a slot is free");
    assert_eq!(player.close(), Err("keeps its output"));
    drop(task);
}
