//! What suspends the guest: not one of its tasks, which are captured meanwhile.
//!
//! In Windows it is a thread at `PASSIVE_LEVEL`; here, a task of its own executor.

use kexec::{
    Executor, Table,
    irql::Dispatch,
    platform::mock::{Mock, keep},
    sync::AutoEvent,
};
use xen_harness::{Executors, Rig};

/// Somebody who suspends the guest when he is asked to.
pub(crate) struct Worker {
    wanted: AutoEvent,
    done: AutoEvent,
    rig: Rig,
}

impl Worker {
    pub(crate) fn new(rig: &Rig, executors: &mut impl Executors) -> &'static Self {
        let executor: &'static Executor<Mock> = executors.device("worker");
        let slots: &'static Table<512> = executors.pool::<512, 1>();
        let worker: &'static Self =
            keep(Self { wanted: AutoEvent::new(false), done: AutoEvent::new(false), rig: rig.clone() });
        executor.spawn(slots, work, worker).expect("a slot for its task").detach();
        worker
    }

    /// Has the guest suspend itself, and comes back when it has come back, or was not suspended.
    pub(crate) async fn suspend(&self) {
        self.wanted.set();
        self.done.wait().await;
    }
}

async fn work(_: &mut Dispatch, worker: &'static Worker) {
    loop {
        worker.wanted.wait().await;
        worker.rig.suspend();
        worker.done.set();
    }
}
