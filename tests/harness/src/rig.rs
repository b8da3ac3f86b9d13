//! A machine, its guest, and the executors that both run on.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeSet,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::{Either, select};
use kexec::{
    Executor, Table,
    irql::Dispatch,
    platform::{mock::Mock, thread::passive},
    sync::AutoEvent,
    task_table::Row,
    time::{Instant, sleep_until},
    yield_now,
};
use xen_sim::{Actor, Dice, Guest, GuestConfig, Machine, Runtime};

use crate::Executors;

/// A machine with one guest, which runs on executors of kexec.
#[derive(Clone)]
pub struct Rig {
    machine: Machine,
    guest: Guest,
    wires: Arc<Wires>,
}

/// What the machine is told by the executors, and they by it.
struct Wires {
    /// The executor of the machine's own tasks, whose clock is the machine's.
    machine: &'static Executor<Mock>,
    /// The guest's executors.
    drivers: Mutex<Vec<&'static Executor<Mock>>>,
    stores: Mutex<Vec<Store>>,
    ready: Mutex<BTreeSet<Actor>>,
    /// Somebody is ready.
    bell: AutoEvent,
    /// The machine's next alarm has changed.
    alarm: AutoEvent,
    dice: Mutex<Dice>,
    /// What the guest does to suspend itself.
    suspend: Mutex<Option<Suspend>>,
    /// A task of the guest's wants it to, and waits.
    wanted: AutoEvent,
    done: AutoEvent,
}

type Suspend = Arc<dyn Fn(&Dispatch) + Send + Sync>;

/// A store of the guest's tasks: what those in it are called, and where they wait.
type Store = Box<dyn Fn() -> Vec<String> + Send + Sync>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rig {
    /// A machine with a guest of this kind. Its own tasks run on a device's executor, `xen`.
    ///
    /// # Panics
    ///
    /// There is an executor that is called `xen`.
    pub fn new(executors: &mut impl Executors, config: GuestConfig) -> Self {
        Self::watched(executors, config, |_| ())
    }

    /// The same, of a machine to which something is done before it has a guest: somebody [looks
    /// on](Machine::observe), for instance.
    ///
    /// # Panics
    ///
    /// There is an executor that is called `xen`.
    pub fn watched(
        executors: &mut impl Executors,
        config: GuestConfig,
        prepare: impl FnOnce(&Machine),
    ) -> Self {
        let machine = Machine::new(executors.seed());
        prepare(&machine);
        Self::on(executors, machine, config)
    }

    /// The same, of this machine: one with another Xen or another xenstored, which nobody runs yet.
    ///
    /// # Panics
    ///
    /// There is an executor that is called `xen`, or the machine has a runtime.
    pub fn on(executors: &mut impl Executors, machine: Machine, config: GuestConfig) -> Self {
        let seed = executors.seed();
        let wires = Arc::new(Wires {
            machine: executors.device("xen"),
            drivers: Mutex::default(),
            stores: Mutex::default(),
            ready: Mutex::default(),
            bell: AutoEvent::new(false),
            alarm: AutoEvent::new(false),
            dice: Mutex::new(Dice::new(!seed)),
            suspend: Mutex::default(),
            wanted: AutoEvent::new(false),
            done: AutoEvent::new(false),
        });
        machine.attach(Ties(wires.clone()));
        let guest = machine.create(config);
        let slots = executors.pool::<512, 3>();
        let rig = Self { machine, guest, wires };
        let machine = rig.wires.machine;
        machine.spawn(slots, actors, rig.clone()).expect("a slot for each task").detach();
        machine.spawn(slots, clock, rig.clone()).expect("a slot for each task").detach();
        machine.spawn(slots, worker, rig.clone()).expect("a slot for each task").detach();
        rig
    }

    /// The machine.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Its guest.
    #[must_use]
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// An executor of the guest's, whose polls, timers and tasks the auditor asks for.
    pub fn driver(&self, executors: &mut impl Executors, name: &'static str) -> &'static Executor<Mock> {
        let executor = executors.driver(name);
        locked(&self.wires.drivers).push(executor);
        executor
    }

    /// Says what the guest does to suspend itself: its code that ends in `SCHEDOP_shutdown`, and what it does after
    /// that. It is called when no task of the guest's runs.
    pub fn on_suspend(&self, suspend: impl Fn(&Dispatch) + Send + Sync + 'static) {
        *locked(&self.wires.suspend) = Some(Arc::new(suspend));
    }

    /// Has the guest suspend itself, if it can. All its processors are captured meanwhile.
    pub fn suspend(&self) {
        let suspend = locked(&self.wires.suspend).clone();
        if let Some(suspend) = suspend {
            let drivers = locked(&self.wires.drivers).clone();
            let platform = self.wires.machine.platform();
            captured(&drivers, Box::new(|| passive(|level| level.raised(platform, |at| suspend(at)))));
        }
    }

    /// The same, for a task of the guest's, which cannot do it itself: it is captured meanwhile. In Windows, that is
    /// what a thread at `PASSIVE_LEVEL` is there for.
    ///
    /// One task at a time. **Cancel-safe:** the guest may be suspended nevertheless.
    pub async fn suspended(&self) {
        self.wires.wanted.set();
        self.wires.done.wait().await;
    }

    /// The guest's code is at a poll boundary: what is [planned](Machine::plan) for it happens.
    pub fn boundary(&self) {
        self.machine.boundary(self.wires.boundaries());
    }

    /// A store of the guest's tasks, in which the auditor looks for those that have not ended.
    pub fn pool<const S: usize, const N: usize>(&self, executors: &mut impl Executors) -> &'static Table<S> {
        let store = executors.pool::<S, N>();
        locked(&self.wires.stores).push(Box::new(|| {
            let tasks = store.tasks().filter(Row::is_task);
            tasks.map(|row| format!("{}: {}", row.name, row.whereabouts())).collect()
        }));
        store
    }
}

/// Does something while nothing of these executors can come in between.
fn captured(drivers: &[&'static Executor<Mock>], work: Box<dyn FnOnce() + '_>) {
    match drivers.split_first() {
        Some((driver, others)) => driver.platform().captured(|| captured(others, work)),
        None => work(),
    }
}

/// Lets the machine's actors go on, one at a time.
async fn actors(_: &mut Dispatch, rig: Rig) {
    loop {
        rig.wires.bell.wait().await;
        while let Some(actor) = rig.wires.next() {
            let pause = Duration::from_nanos(500 + locked(&rig.wires.dice).below(19_500));
            rig.wires.machine.platform().pass(pause);
            rig.machine.step(actor);
            yield_now().await;
        }
    }
}

/// Suspends the guest when one of its tasks wants that.
async fn worker(_: &mut Dispatch, rig: Rig) {
    loop {
        rig.wires.wanted.wait().await;
        rig.suspend();
        rig.wires.done.set();
    }
}

/// Lets the machine's timers go off.
async fn clock(_: &mut Dispatch, rig: Rig) {
    loop {
        let changed = rig.wires.alarm.wait();
        let Some(at) = rig.machine.next_alarm() else {
            changed.await;
            continue;
        };
        let due = pin!(sleep_until(Instant::START.after(at)));
        if let Either::Left(_) = select(due, pin!(changed)).await {
            rig.machine.tick();
        }
    }
}

impl Wires {
    /// One of those who are ready, whichever the seed says.
    fn next(&self) -> Option<Actor> {
        let mut ready = locked(&self.ready);
        let candidates: Vec<_> = ready.iter().copied().collect();
        let actor = *locked(&self.dice).choose(&candidates)?;
        ready.remove(&actor);
        Some(actor)
    }

    /// How often the guest's code was suspended: the polls of all its executors.
    fn boundaries(&self) -> u64 {
        locked(&self.drivers).iter().map(|driver| driver.stats().polls).sum()
    }
}

/// The runtime that the machine has.
struct Ties(Arc<Wires>);

impl Runtime for Ties {
    fn now(&self) -> Duration {
        self.0.machine.platform().time().since(Instant::START)
    }

    fn ready(&self, actor: Actor) {
        locked(&self.0.ready).insert(actor);
        self.0.bell.set();
    }

    fn alarm(&self) {
        self.0.alarm.set();
    }

    fn boundaries(&self) -> u64 {
        self.0.boundaries()
    }

    fn tasks(&self) -> Vec<String> {
        locked(&self.0.stores).iter().flat_map(|store| store()).collect()
    }

    fn timers(&self) -> usize {
        locked(&self.0.drivers).iter().filter(|driver| driver.has_timers()).count()
    }
}

impl fmt::Debug for Rig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rig").field("guest", &self.guest).finish_non_exhaustive()
    }
}
