//! Channels to and fro, through every fault at every await.
#![forbid(unsafe_code)]

use std::time::Duration;

use kexec::{
    Executor,
    irql::Dispatch,
    platform::mock::Mock,
    testing::{Counter, Joined, Scenario, Sim},
    time::timeout,
};
use xen_abi::{domid::DomId, event_channel::EvtchnPort};
use xen_harness::{Rig, WithFaults};
use xen_sim::GuestConfig;
use xenbus::event::{Channel, ChannelError, OpenError, StartError, Worked};

use crate::support::{Driver, echo};

const DOM0: DomId = DomId(0);
/// Events to and fro, of each channel.
const ROUNDS: u32 = 4;
/// An event that has not come after so long is lost.
const LOST: Duration = Duration::from_secs(3);

/// What was counted.
#[derive(Clone)]
struct Counts {
    events: Counter,
    lost: Counter,
    reopened: Counter,
    refused: Counter,
}

struct World {
    rig: Rig,
    executor: &'static Executor<Mock>,
    driver: &'static Driver,
    ended: Joined<Result<(), Failed>>,
}

impl AsRef<Rig> for World {
    fn as_ref(&self) -> &Rig {
        &self.rig
    }
}

/// Why the driver gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failed {
    Start(StartError),
    Open(OpenError),
    Channel(ChannelError),
}

/// Opens a channel to the control domain, which connects.
fn open(at: &Dispatch, driver: &'static Driver, number: usize) -> Result<Channel<xen_sim::Guest>, Failed> {
    let (dom0, guest) = (driver.guest.machine().dom0(), &driver.guest);
    let channel = if number.is_multiple_of(2) {
        let channel = driver.events.unbound(at, DOM0).map_err(Failed::Open)?;
        dom0.bind_interdomain(guest, channel.port().0).expect("it waits for the control domain");
        channel
    } else {
        let port = dom0.alloc_unbound(guest).expect("it has ports");
        driver.events.interdomain(at, DOM0, EvtchnPort(port)).map_err(Failed::Open)?
    };
    channel.bind(at, number % driver.vcpus.len()).map_err(Failed::Channel)?;
    Ok(channel)
}

/// One channel's rounds. After a suspend it is opened again, and goes on.
async fn rounds(
    at: &Dispatch,
    driver: &'static Driver,
    number: usize,
    counts: &Counts,
) -> Result<(), Failed> {
    let mut left = ROUNDS;
    // The last one's events are put off, as if they had brought nothing.
    let worked = if number == 2 { Worked::Nothing } else { Worked::Something };
    loop {
        let channel = open(at, driver, number)?;
        while left > 0 && channel.is_connected() {
            channel.notify(at).map_err(Failed::Channel)?;
            match timeout(LOST, channel.next(at, worked)).await {
                Ok(Ok(())) => {
                    counts.events.raise();
                    left -= 1;
                }
                // It is not connected any more.
                Ok(Err(_)) => counts.reopened.raise(),
                Err(_) => counts.lost.raise(),
            }
        }
        if left == 0 {
            return Ok(());
        }
    }
}

async fn live(at: &mut Dispatch, (driver, counts): (&'static Driver, Counts)) -> Result<(), Failed> {
    let refused = |failed| {
        counts.refused.raise();
        failed
    };
    driver.start(at).map_err(|error| refused(Failed::Start(error)))?;
    driver.attach(at).map_err(|error| refused(Failed::Start(error)))?;
    // Bound to the virtual CPUs by turns.
    let all = [0, 1, 2].map(|number| rounds(at, driver, number, &counts));
    let [one, two, three] = all;
    let (one, two, three) = futures_util::future::join3(one, two, three).await;
    one.and(two).and(three).map_err(refused)
}

fn world(sim: &mut Sim, fifo: bool) -> World {
    let vcpus = [0, 3];
    let rig = Rig::new(sim, GuestConfig { vcpus: vcpus.into(), ..GuestConfig::default() });
    let executor = rig.driver(sim, "guest");
    let slots = rig.pool::<4096, 1>(sim);
    let driver = Driver::new(rig.guest(), &vcpus, 64, fifo);
    driver.handle(2);
    rig.on_suspend(|at| driver.suspend(at));
    let dom0 = sim.device("dom0");
    let peer = sim.pool::<1024, 1>();
    dom0.spawn(peer, echo, rig.machine().dom0()).expect("a slot is free").detach();
    let counts = Counts {
        events: sim.counter("events"),
        lost: sim.counter("events that were lost"),
        reopened: sim.counter("channels that were opened again"),
        refused: sim.counter("pages that were refused"),
    };
    let lives = executor.spawn(slots, live, (driver, counts)).expect("a slot is free");
    World { executor, driver, ended: sim.must_end("live", lives), rig }
}

fn scenario(name: &'static str, fifo: bool) -> Scenario<World> {
    Scenario::new(name, move |sim| world(sim, fifo))
        .machine_faults()
        .seeds(0..2)
        .boundaries(55)
        .floor("events", 20_000)
        .floor("events that were lost", 100)
        .floor("channels that were opened again", 250)
        .floor("pages that were refused", 5)
        .check(|world, case| {
            world.driver.stop(world.executor.platform());
            let audit = world.rig.machine().audit(world.rig.guest());
            assert!(audit.is_clean(), "{audit}");
            let fault = case.fault();
            let harmless = ["migrate", "cancelled suspend", "drop event", "repeat event", "delay event"];
            if fault.as_ref().is_none_or(|fault| harmless.contains(&fault.as_str())) {
                assert_eq!(world.ended.outcome(), Some(Ok(Ok(()))));
            }
            let counts = world.driver.events.counts();
            assert_eq!((counts.beyond, counts.not_linked, counts.restless), (0, 0, 0), "{counts:?}");
        })
}

/// By the queues.
#[test]
fn fifo() {
    scenario("fifo", true).run();
}

/// And by the bitmaps.
#[test]
fn two_level() {
    scenario("two-level", false).run();
}
