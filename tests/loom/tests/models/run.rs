//! One consumer at a time, and nobody starves.

use crate::support::{Leaked, Wait, executor, flag, model, pool, serve, settle};
use kexec_loom::{End, Pool};
use loom::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

/// A submit that becomes the consumer itself, against a doorbell that another CPU answers.
#[test]
fn try_run_against_a_doorbell() {
    model(|| {
        let (executor, pool) = (executor(1), pool::<2>());
        let up = flag(true);
        let wait = Wait::new(&[&up]);
        executor.spawn_with(*pool, move || wait).expect("a slot is free").detach();
        assert_eq!(executor.platform().rung(), 1, "the first spawn rings");
        let target = *executor;
        let other = thread::spawn(move || serve(target, 1));
        let wait = Wait::new(&[&up]);
        let (spawned, run) = executor.try_run_with(&mut (), |()| executor.spawn_with(*pool, move || wait));
        spawned.expect("a slot is free").detach();
        if run.is_some_and(|run| run.end == End::Parked) {
            assert!(executor.platform().rung() <= 3);
        }
        other.join().unwrap();
        settle(*executor);
        assert_eq!(executor.live(), 0, "a task was lost");
    });
}

/// A doorbell that arrives twice, on two CPUs: the second finds a consumer, or nothing to do.
#[test]
fn a_duplicate_doorbell() {
    model(|| {
        let (executor, pool) = (executor(1), pool::<1>());
        let (up, down) = (flag(true), flag(false));
        let wait = Wait::new(&[&up]);
        executor.spawn_with(*pool, move || wait).expect("a slot is free").detach();
        let target = *executor;
        let duplicate = thread::spawn(move || target.try_run(&mut ()));
        let mine = executor.try_run(&mut ());
        let theirs = duplicate.join().unwrap();
        assert!(mine.is_some() || theirs.is_some(), "somebody ran");
        assert_eq!(executor.live(), 0);
        let wait = Wait::new(&[&down]);
        let task = executor.spawn_with(*pool, move || wait).expect("the slot is free again");
        assert_eq!(executor.platform().rung(), 2, "one doorbell a park");
        task.abort();
        settle(*executor);
        drop(task);
        settle(*executor);
    });
}

/// Control tasks that are woken again and again do not keep the data lane waiting, nor the other way round: in
/// whatever order the wakes come, the control task that is queued first has the first turn.
#[test]
fn the_control_lane_is_ahead_and_does_not_starve() {
    model(|| {
        let (executor, data) = (executor(64), pool::<1>());
        let control: Leaked<Pool<{ crate::support::ROOM }, 1>> = Leaked::new(Pool::control());
        let order = Arc::new(Mutex::new(Vec::new()));
        let (up, turns) = (flag(false), Arc::new(AtomicUsize::new(0)));
        // A control task that never rests until the data task has had its turn.
        let (seen, noted, had_turn) = (turns.clone(), order.clone(), up.clone());
        let restless = executor
            .spawn_with(*control, move || async move {
                noted.lock().unwrap().push('c');
                while !had_turn.load(Relaxed) {
                    assert!(seen.fetch_add(1, Relaxed) < 40, "the data lane starves");
                    kexec_loom::yield_now().await;
                }
            })
            .expect("a slot is free");
        let (noted, target, slots) = (order.clone(), *executor, *data);
        let spawner = thread::spawn(move || {
            let task = target.spawn_with(slots, move || async move {
                noted.lock().unwrap().push('d');
                up.store(true, Relaxed);
            });
            task.expect("a slot is free").detach();
        });
        spawner.join().unwrap();
        settle(*executor);
        drop(restless);
        assert_eq!(*order.lock().unwrap(), ['c', 'd']);
        assert_eq!(executor.live(), 0);
    });
}

/// A control lane that is never empty: with twenty tasks that never rest, the data task is seventeenth at the latest.
#[test]
fn a_full_control_lane_leaves_turns_to_data() {
    model(|| {
        let (executor, data) = (executor(64), pool::<1>());
        let control: Leaked<Pool<{ crate::support::ROOM }, 20>> = Leaked::new(Pool::control());
        let (stop, turns) = (flag(false), Arc::new(AtomicUsize::new(0)));
        for _ in 0..20 {
            let (stop, turns) = (stop.clone(), turns.clone());
            let restless = move || async move {
                while !stop.load(Relaxed) {
                    turns.fetch_add(1, Relaxed);
                    kexec_loom::yield_now().await;
                }
            };
            executor.spawn_with(*control, restless).expect("a slot is free").detach();
        }
        let before = turns.clone();
        let task = move || async move {
            stop.store(true, Relaxed);
            assert!(before.load(Relaxed) <= 16, "the data lane starves");
        };
        executor.spawn_with(*data, task).expect("a slot is free").detach();
        settle(*executor);
        assert_eq!(executor.live(), 0);
    });
}
