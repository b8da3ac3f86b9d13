//! The machine: a Xen, the control domain on it, and guests.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use crate::{
    backend::DeviceId,
    guest::{Guest, GuestConfig},
    hypervisor::version::Release,
    runtime::Runtime,
    trace::Line,
    world::World,
    xenstored,
};

/// A guest, whichever domain it is: it keeps this when it is migrated, and its domain id changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestId(pub u32);

impl fmt::Display for GuestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest {}", self.0)
    }
}

/// Who may have something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Actor {
    /// An interrupt arrives at a virtual CPU: the guest's [handler](Guest::on_upcall) is called.
    Upcall(GuestId, u32),
    /// Xenstored has something to read or to write.
    Xenstored,
    /// The daemon at the other end of a guest's console has.
    Console(GuestId),
    /// A device's backend has.
    Backend(DeviceId),
}

/// A machine with a Xen, its control domain (the store, the toolstack, the backends), and guests.
///
/// Nothing in it happens by itself: see [`Runtime`].
#[derive(Clone)]
pub struct Machine(Arc<Shared>);

struct Shared {
    locked: Mutex<Locked>,
    runtime: OnceLock<Box<dyn Runtime>>,
}

/// What is behind the machine's lock.
struct Locked {
    world: World,
    /// Who was announced to the runtime, and has not gone on yet.
    announced: BTreeSet<Actor>,
    /// The alarm that the runtime was told of.
    announced_alarm: Option<Duration>,
}

impl Machine {
    /// A machine whose every chance comes from this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_xen(seed, Release::default())
    }

    /// The same, with another Xen on it.
    #[must_use]
    pub fn with_xen(seed: u64, release: Release) -> Self {
        Self::with_xen_and_store(seed, release, &xenstored::Config::default())
    }

    /// The same, with another xenstored as well.
    #[must_use]
    pub fn with_xen_and_store(seed: u64, release: Release, store: &xenstored::Config) -> Self {
        let world = World::new(seed, release, store);
        let locked = Locked { world, announced: BTreeSet::new(), announced_alarm: None };
        Self(Arc::new(Shared { locked: Mutex::new(locked), runtime: OnceLock::new() }))
    }

    /// Says who runs the guests' code. Without one, who holds the machine lets it [go on](Self::run), and time [pass](Self::pass).
    ///
    /// # Panics
    ///
    /// There is one.
    pub fn attach(&self, runtime: impl Runtime + 'static) {
        assert!(self.0.runtime.set(Box::new(runtime)).is_ok(), "the machine has a runtime");
    }

    pub(crate) fn runtime(&self) -> Option<&dyn Runtime> {
        self.0.runtime.get().map(|runtime| &**runtime)
    }

    /// Builds a guest, as a toolstack does: its memory, its store, its rings.
    #[must_use]
    pub fn create(&self, config: GuestConfig) -> Guest {
        let id = self.with(|world| world.create(config));
        Guest::new(self.clone(), id)
    }

    /// Has every line of what happens shown to this observer, which must not use the machine.
    pub fn observe(&self, observer: impl FnMut(&Line) + Send + 'static) {
        self.with(|world| {
            world.store.keep_records(true);
            world.trace.set_observer(Some(Box::new(observer)));
        });
    }

    /// What was counted: hypercalls, interrupts, turns.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.with(|world| world.counts.clone())
    }
}

// How it goes on.

impl Machine {
    /// Who has something to do now.
    #[must_use]
    pub fn ready(&self) -> BTreeSet<Actor> {
        self.with(|world| world.ready())
    }

    /// Lets one of them go on a little. Nothing happens if it has nothing to do.
    pub fn step(&self, actor: Actor) {
        self.locked().announced.remove(&actor);
        match actor {
            Actor::Upcall(guest, vcpu) => Guest::new(self.clone(), guest).interrupt(vcpu),
            Actor::Xenstored => self.with(World::step_store),
            Actor::Console(guest) => self.with(|world| world.step_console(guest)),
            Actor::Backend(device) => self.with(|world| world.step_backend(device)),
        }
    }

    /// Lets everybody go on, in an order that the seed says, until nobody has anything to do, or for so many steps. Whether nobody has.
    #[expect(clippy::must_use_candidate, reason = "it has gone on, whoever has more to do")]
    pub fn run(&self, steps: u64) -> bool {
        for _ in 0..steps {
            let ready: Vec<_> = self.ready().into_iter().collect();
            let Some(actor) = self.with(|world| world.dice.choose(&ready).copied()) else { return true };
            self.step(actor);
        }
        self.ready().is_empty()
    }

    /// When something happens by itself next, counted from when the machine was switched on: a timer of the guest's goes off, an event
    /// arrives that was delayed, a backend wants to look again.
    #[must_use]
    pub fn next_alarm(&self) -> Option<Duration> {
        self.with(|world| world.next_alarm())
    }

    /// Lets happen what is due. It also happens whenever the machine is used.
    pub fn tick(&self) {
        self.with(|_| ());
    }

    /// Lets time pass, on a machine without a runtime.
    ///
    /// # Panics
    ///
    /// There is a runtime, which has the clock.
    pub fn pass(&self, time: Duration) {
        assert!(self.0.runtime.get().is_none(), "the runtime has the clock");
        self.with(|world| world.pass(world.xen.now.saturating_add(time)));
    }

    /// Does something with the world, and says afterwards who has something to do now and had not before.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut World) -> T) -> T {
        let runtime = self.runtime();
        let now = runtime.map(Runtime::now);
        let (outcome, new, is_alarm_new) = {
            let mut locked = self.locked();
            if let Some(now) = now {
                locked.world.pass(now);
            }
            let outcome = work(&mut locked.world);
            let new = if runtime.is_some() { locked.announce() } else { Vec::new() };
            (outcome, new, locked.announce_alarm())
        };
        // Whoever is woken may use the machine at once.
        if let Some(runtime) = runtime {
            for actor in new {
                runtime.ready(actor);
            }
            if is_alarm_new {
                runtime.alarm();
            }
        }
        outcome
    }

    fn locked(&self) -> MutexGuard<'_, Locked> {
        // A test that panicked in the middle shows its own message, not this one's.
        self.0.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Locked {
    /// Those that nobody was told of yet.
    fn announce(&mut self) -> Vec<Actor> {
        let before = mem::replace(&mut self.announced, self.world.ready());
        self.announced.difference(&before).copied().collect()
    }

    fn announce_alarm(&mut self) -> bool {
        let next = self.world.next_alarm();
        mem::replace(&mut self.announced_alarm, next) != next
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("xen", &self.locked().world.xen).finish_non_exhaustive()
    }
}
