//! A driver that connects to the store, does one thing, and lets go of everything; and what must be so in the end.
#![forbid(unsafe_code)]

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::bitmaps;
use futures_util::future::{Either, select};
use kexec::{
    irql::Dispatch,
    platform::mock::keep,
    shielded,
    testing::{Case, Counter, Joined, Scenario, Sim},
    time::timeout,
    until_cancelled,
};
use xen_abi::{
    event_channel::EvtchnPort,
    hvm::params::{CallbackVia, HVM_PARAM_CALLBACK_IRQ},
    sched::SHUTDOWN_SUSPEND,
};
use xen_harness::{Rig, WithFaults};
use xen_sim::{Guest, GuestConfig, Mistake};
use xenbus::{
    hypercall::{event_channel, hvm, sched},
    page::XenPage,
    store::{Store, StoreError},
};

/// So many places for watches are enough, and few enough to be used up.
pub(crate) const WATCHES: usize = 4;

/// The driver, and what it has of Xen.
pub(crate) struct Driver {
    pub(crate) rig: Rig,
    pub(crate) store: Store<Guest, 8, WATCHES>,
    shared: Mutex<Option<Arc<XenPage<Guest>>>>,
    /// While it is connected.
    port: Mutex<Option<EvtchnPort>>,
    /// What is done to each domain that the guest becomes, by the toolstack.
    furnish: fn(&Rig),
    /// What the test counts.
    pub(crate) counted: AtomicU64,
    /// It connects again without having been suspended.
    stays: AtomicBool,
    /// Whether the guest has been in more than one domain.
    pub(crate) has_moved: Mutex<bool>,
}

/// Why the driver has not done it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// It could not connect.
    Connect,
    Store(StoreError),
    /// It was told to go.
    Cancelled,
    /// What it found is wrong.
    Wrong(&'static str),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Driver {
    fn new(rig: Rig, furnish: fn(&Rig)) -> Self {
        furnish(&rig);
        Self {
            rig,
            store: Store::new(),
            shared: Mutex::default(),
            port: Mutex::default(),
            furnish,
            counted: AtomicU64::new(0),
            stays: AtomicBool::new(false),
            has_moved: Mutex::default(),
        }
    }

    fn guest(&self) -> &Guest {
        self.rig.guest()
    }

    fn upcall(&self, vcpu: u32) {
        let shared = locked(&self.shared).clone();
        let (Some(shared), Ok(vcpu)) = (shared, usize::try_from(vcpu)) else { return };
        while bitmaps::take_pending(&**shared, vcpu, |_| self.store.notify()) {}
    }

    /// Whether an answer was lost because the guest was suspended, and is connected again.
    pub(crate) fn is_connected(&self) -> bool {
        locked(&self.port).is_some()
    }

    /// Suspends the guest, and goes on in what may be another domain; or only connects again, as after it was
    /// switched off and on.
    fn suspend(&self, at: &Dispatch) {
        if !self.stays.swap(false, Relaxed) {
            if sched::shutdown(self.guest(), SHUTDOWN_SUSPEND) != Ok(false) {
                return;
            }
            *locked(&self.has_moved) = true;
            (self.furnish)(&self.rig);
        }
        if locked(&self.port).take().is_some() && self.plug_in(at).is_none() {
            self.store.disconnect(at);
        }
    }

    fn plug_in(&self, at: &Dispatch) -> Option<()> {
        let guest = self.guest();
        let before = locked(&self.shared).take();
        let shared = match before {
            Some(shared) => shared.renew().map(|()| shared).ok()?,
            None => Arc::new(XenPage::shared_info(guest).ok()?),
        };
        bitmaps::mask_all(&**shared);
        *locked(&self.shared) = Some(shared);
        hvm::set_param(guest, HVM_PARAM_CALLBACK_IRQ, CallbackVia::Gsi(28).to_param()).ok()?;
        let port = self.store.connect(at, guest).ok()?;
        *locked(&self.port) = Some(port);
        event_channel::unmask(guest, port).ok()
    }

    fn pull_out(&self, at: &Dispatch) {
        *locked(&self.port) = None;
        self.store.disconnect(at);
        let _ = hvm::set_param(self.guest(), HVM_PARAM_CALLBACK_IRQ, 0);
        drop(locked(&self.shared).take());
    }

    /// Connects, does something while the connection is served, waits until nothing is left of it, and lets go.
    async fn live<F: Future<Output = Result<(), Failed>>>(
        &self,
        at: &Dispatch,
        work: impl FnOnce() -> F,
    ) -> Result<(), Failed> {
        let outcome = if self.plug_in(at).is_some() {
            let life = async {
                let outcome = until_cancelled(work()).await.unwrap_or(Err(Failed::Cancelled));
                // A xenstored that is wedged is not waited for: what it has then is its own.
                let _ = timeout(Duration::from_mins(5), self.store.settled(at)).await;
                outcome
            };
            match select(pin!(self.store.serve(at)), pin!(life)).await {
                Either::Left(((), _)) => Err(Failed::Wrong("serve came to an end")),
                Either::Right((outcome, _)) => outcome,
            }
        } else {
            Err(Failed::Connect)
        };
        self.pull_out(at);
        outcome
    }
}

/// What a test does, once or again.
pub(crate) trait Work: Send + Sync + 'static {
    fn work(at: &Dispatch, driver: &Driver) -> impl Future<Output = Result<(), Failed>>;
}

async fn live<W: Work>(at: &mut Dispatch, driver: &'static Driver) -> Result<(), Failed> {
    let at = &*at;
    shielded(driver.live(at, || W::work(at, driver))).await
}

/// The world of a run.
pub(crate) struct World {
    pub(crate) driver: &'static Driver,
    pub(crate) outcome: Joined<Result<(), Failed>>,
    counter: Counter,
}

impl AsRef<Rig> for World {
    fn as_ref(&self) -> &Rig {
        &self.driver.rig
    }
}

/// Bytes that a driver's task takes.
const TASK: usize = 16384;

/// A scenario in which a driver does this. Whatever happens, it comes to its end and leaves nothing behind; if
/// nothing happens that cannot be put up with, it succeeds. What it counts has this name.
pub(crate) fn scenario<W: Work>(
    name: &'static str,
    counter: &'static str,
    furnish: fn(&Rig),
) -> Scenario<World> {
    Scenario::new(name, move |sim: &mut Sim| {
        let rig = Rig::new(sim, GuestConfig::default());
        let executor = rig.driver(sim, "guest");
        let slots = rig.pool::<TASK, 1>(sim);
        let driver: &Driver = keep(Driver::new(rig, furnish));
        driver.guest().on_upcall(|vcpu, _| driver.upcall(vcpu));
        driver.rig.on_suspend(|at| driver.suspend(at));
        let task = executor.spawn(slots, live::<W>, driver).expect("a slot is free");
        World { driver, outcome: sim.must_end("the driver", task), counter: sim.counter(counter) }
    })
    .machine_faults()
    .fault("connect again", |world| {
        world.driver.stays.store(true, Relaxed);
        world.driver.rig.suspend();
        world.driver.stays.store(false, Relaxed);
    })
    .check(check)
}

fn check(world: &World, case: &Case) {
    let World { driver, outcome, counter } = world;
    counter.add(driver.counted.load(Relaxed));
    let fault = case.fault();
    // A xenstored that does not answer, or whose answers cannot be told apart any more, is not told either of what is
    // not wanted any more.
    let may_leave = matches!(fault.as_deref(), Some("wedge xenstored" | "garbage from xenstored"));
    let audit = driver.rig.machine().audit(driver.guest());
    let mut found = audit.findings().iter().map(|finding| finding.mistake);
    let is_excused = |mistake| may_leave && matches!(mistake, Mistake::WatchLeft | Mistake::TransactionLeft);
    assert!(found.all(is_excused), "{audit}");
    let outcome = outcome.outcome();
    let is_wrong = matches!(outcome, Some(Ok(Err(Failed::Wrong(_)))));
    // An answer that is of the right form is believed.
    assert!(!is_wrong || fault.as_deref() == Some("garbage from xenstored"), "{outcome:?}");
    if matches!(
        fault.as_deref(),
        None | Some(
            "migrate"
                | "cancelled suspend"
                | "suspend"
                | "wake"
                | "drop event"
                | "repeat event"
                | "delay event"
        )
    ) {
        assert_eq!(outcome, Some(Ok(Ok(()))), "it puts up with that");
    }
}
