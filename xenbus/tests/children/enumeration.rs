//! A toolstack that makes and takes away one device after the other, and a guest that has each served, whatever else
//! happens.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeSet,
    pin::pin,
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::{Either, select};
use kexec::{
    irql::Dispatch,
    platform::{
        mock::keep,
        thread::{Thread, passive},
    },
    shielded,
    sync::ManualEvent,
    testing::{Case, Counter, Joined, Scenario, Sim},
    time::{sleep, timeout},
    until_cancelled,
};
use xen_harness::{Rig, WithFaults};
use xen_sim::{Finding, GuestConfig, Mistake};
use xenbus::bus::children::{Change, Children, RETRY};

use crate::bus::{Bus, Up, locked};

/// What the toolstack does, in this order: a device comes, or goes if it is there.
const TURNS: [&str; 4] = ["0", "1", "0", "0"];

/// Between two of them. And after the last, so that a driver has time to see what it has missed.
const PAUSE: Duration = Duration::from_millis(700);
const LONG: Duration = Duration::from_secs(40);

/// Which is always there.
const ALWAYS: &str = "console";

struct Parts {
    rig: Rig,
    bus: &'static Bus,
    children: Children<'static, 8>,
    /// The toolstack has done everything.
    done: ManualEvent,
    /// Those that it has made and not taken away.
    made: Mutex<BTreeSet<&'static str>>,
    told: Mutex<Vec<Change>>,
    /// Those that were told as arrived, and not as departed.
    there: Mutex<BTreeSet<String>>,
    moves: AtomicU64,
    turns: AtomicUsize,
}

impl Parts {
    fn path(&self, device: &str) -> String {
        format!("/local/domain/{}/device/vif/{device}", self.rig.guest().domain())
    }

    fn attach(&self, device: &'static str) {
        self.rig.machine().toolstack().write(&format!("{}/backend-id", self.path(device)), "0");
        locked(&self.made).insert(device);
    }

    /// The toolstack makes a device, or takes it away.
    fn turn(&self, device: &'static str) {
        if locked(&self.made).remove(device) {
            self.rig.machine().toolstack().rm(&self.path(device));
        } else {
            self.attach(device);
        }
    }

    /// All devices are taken away and made anew, with nobody looking.
    fn renew(&self) {
        let made = locked(&self.made).clone();
        for device in made {
            self.rig.machine().toolstack().rm(&self.path(device));
            self.attach(device);
        }
    }

    /// All that are served have ended: while there is time for them to be told anew.
    fn end(&self, at: &Dispatch) {
        if self.turns.load(Relaxed) == TURNS.len() {
            return;
        }
        locked(&self.there).iter().for_each(|name| self.children.ended(at, name));
    }

    /// Each is told as arrived before it is told as departed, and by turns.
    fn tell(&self, change: Change) {
        locked(&self.told).push(change);
        let mut there = locked(&self.there);
        match change {
            Change::Arrived(name) => assert!(there.insert(name.to_string()), "{name} has come twice"),
            Change::Departed(name) => assert!(there.remove(&*name), "{name} was not there"),
            Change::Trouble(_) => {}
        }
    }
}

async fn toolstack(_: &mut Dispatch, parts: &'static Parts) {
    for device in TURNS {
        sleep(PAUSE).await;
        parts.turn(device);
        parts.turns.fetch_add(1, Relaxed);
    }
    sleep(LONG).await;
    parts.done.set();
}

/// The driver's life: whether it has followed to the end.
async fn live(at: &mut Dispatch, parts: &'static Parts) -> bool {
    let Ok(up) = Up::new(parts.bus, at) else { return false };
    let life = async {
        let mut room = [0; 256];
        let tell = async |change| parts.tell(change);
        let follow = parts.children.follow(up.at, &parts.bus.store, &mut room, tell);
        let done = until_cancelled(parts.done.wait());
        let is_done = match select(pin!(follow), pin!(done)).await {
            Either::Left((never, _)) => never,
            Either::Right((done, _)) => done.is_ok(),
        };
        // A xenstored that is wedged is not waited for.
        let _ = timeout(LONG, parts.bus.store.settled(up.at)).await;
        is_done
    };
    match shielded(select(pin!(life), pin!(parts.bus.store.serve(up.at)))).await {
        Either::Left((is_done, _)) => is_done,
        Either::Right(_) => unreachable!("it is served for ever"),
    }
}

struct World {
    parts: &'static Parts,
    lived: Joined<bool>,
    arrived: Counter,
    departed: Counter,
    moved: Counter,
}

impl AsRef<Rig> for World {
    fn as_ref(&self) -> &Rig {
        &self.parts.rig
    }
}

fn world(sim: &mut Sim) -> World {
    let rig = Rig::new(sim, GuestConfig::default());
    let executor = rig.driver(sim, "guest");
    let slots = rig.pool::<16384, 1>(sim);
    let player = sim.device("toolstack");
    let bus = Bus::new(&rig);
    let parts: &Parts = keep(Parts {
        rig,
        bus,
        children: Children::new("device/vif", &[ALWAYS]),
        done: ManualEvent::new(false),
        made: Mutex::default(),
        told: Mutex::default(),
        there: Mutex::default(),
        moves: AtomicU64::new(0),
        turns: AtomicUsize::new(0),
    });
    parts.rig.on_suspend(|at| {
        let domain = parts.rig.guest().domain();
        bus.suspend(at);
        if domain != parts.rig.guest().domain() {
            // As a toolstack does, before the guest goes on.
            let made = locked(&parts.made).clone();
            for device in made {
                parts.attach(device);
            }
            parts.moves.fetch_add(1, Relaxed);
        }
    });
    player.spawn(sim.pool::<2048, 1>(), toolstack, parts).expect("a slot is free").detach();
    let task = executor.spawn(slots, live, parts).expect("a slot is free");
    World {
        parts,
        lived: sim.must_end("the driver's life", task),
        arrived: sim.counter("arrivals"),
        departed: sim.counter("departures"),
        moved: sim.counter("moves"),
    }
}

fn judge(world: &World, case: &Case) {
    let Parts { rig, told, there, made, moves, .. } = world.parts;
    let (told, there) = (locked(told), locked(there));
    let count = |of: fn(&Change) -> bool| told.iter().filter(|change| of(change)).count() as u64;
    world.arrived.add(count(|change| matches!(change, Change::Arrived(_))));
    world.departed.add(count(|change| matches!(change, Change::Departed(_))));
    world.moved.add(moves.load(Relaxed));
    let fault = case.fault();
    let of_the_connection =
        |finding: &&Finding| matches!(finding.mistake, Mistake::WatchLeft | Mistake::TransactionLeft);
    let is_mute = matches!(fault.as_deref(), Some("wedge xenstored" | "garbage from xenstored"));
    let audit = rig.machine().audit(rig.guest());
    let findings = audit.findings().iter().filter(|finding| !is_mute || !of_the_connection(finding));
    assert_eq!(findings.count(), 0, "{audit}");
    let is_harmless = matches!(
        fault.as_deref(),
        None | Some(
            "migrate"
                | "cancelled suspend"
                | "suspend"
                | "wake"
                | "repeat event"
                | "delay event"
                | "all devices anew"
                | "all devices end"
        )
    );
    if is_harmless {
        assert_eq!(world.lived.outcome(), Some(Ok(true)));
        let mut expected: BTreeSet<String> = locked(made).iter().map(ToString::to_string).collect();
        expected.insert(ALWAYS.into());
        assert_eq!(*there, expected, "{told:?}");
    }
}

/// Whatever happens, and whenever: each comes and goes by turns; and wherever xenstored goes on, those are told to be
/// there in the end that are there.
#[test]
fn every_fault_at_every_poll_boundary() {
    assert!(LONG > 3 * RETRY, "it has time to look again");
    Scenario::new("children", world)
        .machine_faults()
        .fault("all devices anew", |world| world.parts.renew())
        .fault("all devices end", |world| {
            passive(|level| {
                level.raised(&Thread::<Dispatch>::new(), |at| world.parts.end(at));
            });
        })
        .check(judge)
        .seeds(0..0)
        .boundaries(60)
        .floor("arrivals", 1000)
        .floor("departures", 500)
        .floor("moves", 50)
        .run();
}
