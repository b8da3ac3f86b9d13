//! An executor, slots, and their rows.

use std::{future::Future, time::Duration};

use kexec::{
    Budget, Executor, JoinHandle, Pool, Table,
    irql::Dispatch,
    platform::mock::{Mock, Plan, keep},
    task_table::Row,
};

/// Room for one task of every test.
pub(crate) const ROOM: usize = 512;
pub(crate) type Slots = &'static Table<ROOM>;
pub(crate) type Exec = &'static Executor<Mock>;

pub(crate) fn slots() -> Slots {
    keep(Pool::<ROOM, 4>::new())
}

/// One poll a run, so that a task that is woken during its poll can be seen as it is after it.
pub(crate) fn executor() -> Exec {
    named("test")
}

pub(crate) fn named(name: &'static str) -> Exec {
    keep(Executor::named(name, Mock::new(Plan::CALM), Budget::new(1, Duration::MAX)))
}

/// Spawns a task, whose site is the caller's.
#[track_caller]
pub(crate) fn spawn<F, T>(executor: Exec, slots: Slots, task: F) -> JoinHandle<()>
where
    F: AsyncFnOnce() -> T + Send + 'static,
{
    let task = async move |_: &mut Dispatch, ()| {
        task().await;
    };
    executor.spawn(slots, task, ()).expect("a slot is free")
}

/// A task that is being awaited and never ends.
pub(crate) async fn never() {
    std::future::pending::<()>().await;
}

/// The one row of a table.
#[track_caller]
pub(crate) fn only(slots: Slots) -> Row<'static> {
    let mut rows = slots.tasks();
    let row = rows.next().expect("a slot was used");
    assert_eq!(rows.next(), None, "only one slot was used");
    row
}

/// The row of a task that has been polled once.
#[track_caller]
pub(crate) fn after_one_poll<F: Future>(future: impl FnOnce() -> F + Send + 'static) -> Row<'static> {
    let (executor, slots) = (executor(), slots());
    spawn(executor, slots, async move || future().await).detach();
    assert!(executor.step(), "the spawn rang");
    only(slots)
}
