//! A guest on the simulated Xen that plays a part.
#![forbid(unsafe_code)]

use core::fmt;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use kexec::{Scope, irql::Dispatch, platform::mock::keep};
use lab_parts::{Body, End, Order, Part, Room, Tally, order::NoOrder};
use xen_abi::{
    hvm::params::{CallbackVia, HVM_PARAM_STORE_PFN},
    io::xs_wire::{
        XENSTORE_SERVER_FEATURE_ERROR, XENSTORE_SERVER_FEATURE_RECONNECTION,
        XENSTORE_SERVER_FEATURE_WATCHDEPTH,
    },
    sched::{SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT},
    seam::Gfn,
};
use xen_harness::{BusDriver, BusError, Player, Rig};
use xen_lab::scenario::{self, Scenario};
use xen_sim::{
    Guest, GuestConfig, GuestFrame, Machine, Release,
    xenstored::{Config as Xenstored, Features},
};
use xenbus::{
    bus::{Bus as _, Native},
    crash,
    epoch::Epochs,
    event::{Config, Events, Upcall},
    grant::Grants,
    hypercall::{hvm, sched},
    store::Store,
    suspend::{SuspendError, Suspended},
};

use crate::toolstack;

/// No scenario takes longer, by the machine's own clock.
const LIMIT: Duration = Duration::from_mins(30);

/// What a part plays on.
pub(crate) struct Stage {
    rig: Rig,
    driver: &'static BusDriver,
    bus: &'static &'static Native<Guest>,
    upcalls: Arc<AtomicU32>,
    /// It is there to have the page of the ring mapped.
    mapped: Store<Guest>,
    failures: Mutex<Vec<String>>,
}

impl Stage {
    fn new(rig: &Rig, driver: &'static BusDriver) -> Self {
        let upcalls = Arc::new(AtomicU32::new(0));
        let counted = upcalls.clone();
        rig.guest().on_upcall(move |vcpu, _| {
            counted.fetch_add(1, Relaxed);
            while driver.events().upcall(vcpu as usize, 64) == Upcall::More {}
        });
        let (bus, failures) = (keep(driver.bus()), Mutex::default());
        Self { rig: rig.clone(), driver, bus, upcalls, mapped: Store::new(), failures }
    }
}

impl Body for Stage {
    type Platform = Guest;
    type Processor = Guest;
    type Ring = GuestFrame;
    type Crossed = &'static str;
    type Lost = &'static str;

    fn platform(&self) -> &Guest {
        self.rig.guest()
    }

    fn processor(&self) -> &Guest {
        self.rig.guest()
    }

    fn bus(&self) -> &'static Native<Guest> {
        self.bus
    }

    fn store(&self) -> &'static Store<Guest> {
        self.bus.store()
    }

    fn epochs(&self) -> &'static Epochs {
        self.driver.suspend().epochs()
    }

    fn events(&self) -> &'static Events<Guest> {
        self.driver.events()
    }

    fn grants(&self) -> &'static Grants<Guest> {
        self.driver.grants()
    }

    fn config(&self, fifo: bool) -> Config<'static> {
        Config { vcpus: &[0], callback: CallbackVia::Gsi(28), fifo, epoch: self.epochs().now() }
    }

    fn store_ring(&self, at: &Dispatch) -> Option<GuestFrame> {
        let guest = self.rig.guest();
        // A store maps the page, which nobody else does.
        self.mapped.connect(at, guest).ok()?;
        hvm::get_param(guest, HVM_PARAM_STORE_PFN).ok().map(|gfn| guest.physical(Gfn(gfn)))
    }

    fn upcalls(&self, _: usize) -> u32 {
        self.upcalls.load(Relaxed)
    }

    fn cpus(&self) -> usize {
        1
    }

    async fn cross_cpus(&self, _: u32, _: Option<Duration>) -> Result<&'static str, &'static str> {
        Err("there is one virtual CPU")
    }

    async fn say(&self, _: &Dispatch, what: fmt::Arguments<'_>) {
        let line = what.to_string();
        if line.starts_with("FAILED") {
            locked(&self.failures).push(line);
        }
    }

    async fn suspend(&self, _: &Dispatch) -> Result<Suspended, SuspendError> {
        self.rig.suspended().await;
        *self.driver.suspends().last().expect("it has just been suspended")
    }
}

/// What a guest's life has come to.
type Lived = Result<(Tally, End), Ended>;

/// Why it has come to nothing.
#[derive(Debug)]
enum Ended {
    Bus(BusError),
    Order(NoOrder),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bus(error) => error.fmt(f),
            Self::Order(error) => error.fmt(f),
        }
    }
}

/// The guest's life, as in the lab's own guest.
async fn live(at: &mut Dispatch, stage: &'static Stage) -> Lived {
    let at = &*at;
    let mut room: Room = [0; size_of::<Room>()];
    let order = stage.driver.run(at, async |_| Order::read(at, stage.store()).await).await;
    let order = order.map_err(Ended::Bus)?.map_err(Ended::Order)?;
    let mut tally = Tally::default();
    let end = if order.part == Part::Wire {
        Box::pin(lab_parts::on_the_wire(at, stage, &order, &mut room, &mut tally)).await;
        stage.mapped.disconnect(at);
        End::PowerOff
    } else {
        let part = async |_| Box::pin(lab_parts::perform(at, stage, &order, &mut room, &mut tally)).await;
        stage.driver.run(at, part).await.map_err(Ended::Bus)?
    };
    let guest = stage.platform();
    match end {
        End::PowerOff => _ = sched::shutdown(guest, SHUTDOWN_POWEROFF),
        End::Reboot => _ = sched::shutdown(guest, SHUTDOWN_REBOOT),
        End::Crash => _ = crash::end(guest),
    }
    Ok((tally, end))
}

/// Plays a scenario once.
pub(crate) fn play(scenario: &Scenario) -> Result<Tally, String> {
    let mut player = Player::new(1);
    let offered = XENSTORE_SERVER_FEATURE_RECONNECTION
        | XENSTORE_SERVER_FEATURE_ERROR
        | XENSTORE_SERVER_FEATURE_WATCHDEPTH;
    let features = Features { offered, feature_requests: true, quota_requests: true };
    let store = Xenstored { features, ..Xenstored::default() };
    let machine = Machine::with_xen_and_store(1, Release::default(), &store);
    let rig = Rig::on(&mut player, machine, GuestConfig::default());
    // A part sees to it that this is refused.
    rig.guest().tolerate("VIRQ_ONCE");
    let driver = BusDriver::new(&rig, &mut player, keep(Scope::new("guest")), scenario.fifo);
    let stage: &Stage = keep(Stage::new(&rig, driver));
    let steps = toolstack::begin(&mut player, &rig, scenario);
    let life = driver.spawn(live, stage).expect("a slot is free");
    while !steps.is_finished() && player.step(LIMIT) {}
    let steps = steps.try_take();
    // Else the guest goes on for ever, for nobody asks it to end.
    let is_played = matches!(steps, Ok(Ok(Ok(()))));
    while is_played && !life.is_finished() && player.step(LIMIT) {}
    let lived = life.try_take();
    if let Some(failure) = locked(&stage.failures).first() {
        return Err(format!("it has failed: {failure}"));
    }
    match steps {
        Ok(Ok(all)) => all?,
        _ => return Err("the toolstack has not come to its end".to_owned()),
    }
    let (tally, end) = match lived {
        Ok(Ok(Ok(lived))) => lived,
        Ok(Ok(Err(ended))) => return Err(format!("the guest has come to nothing: {ended}")),
        _ => return Err("the guest has not come to its end".to_owned()),
    };
    player.close().map_err(|executor| format!("a task of `{executor}` does not end"))?;
    let audit = rig.machine().audit(rig.guest());
    if !audit.is_clean() {
        return Err(audit.to_string());
    }
    let crashes = (end == End::Crash) && (scenario.end == scenario::End::Crash);
    if tally.failed > 0 || (tally.passed == 0 && !crashes) { Err(tally.to_string()) } else { Ok(tally) }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
