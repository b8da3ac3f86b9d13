//! The life of a frontend, with the smallest device: whatever goes wrong, and whenever.
#![forbid(unsafe_code)]

mod retries;
mod wanted;
mod world;

use std::{collections::BTreeSet, num::NonZeroUsize, time::Duration};

use kexec::{
    Scope,
    platform::mock::keep,
    testing::{Case, Counter, Joined, Scenario, Sim},
};
use xen_abi::io::xenbus::XenbusState;
use xen_harness::{BusError, Player, Rig, WithFaults};
use xen_sim::{DeviceId, Fault, Peer, Suspend, echo::Echo as Backend};
use xenbus::frontend::News;

use self::world::{Driver, LIMIT, rig};

const NUMBERS: usize = 8;

struct World {
    rig: Rig,
    device: DeviceId,
    driver: &'static Driver,
    outcome: Joined<Result<usize, BusError>>,
    done: Counter,
    connections: Counter,
}

impl AsRef<Rig> for World {
    fn as_ref(&self) -> &Rig {
        &self.rig
    }
}

/// A guest whose driver is to have some numbers complemented.
fn world(sim: &mut Sim, fifo: bool) -> World {
    let (rig, device) = rig(sim, Backend::new());
    let scope = sim.scope("guest");
    let driver = Driver::new(&rig, sim, scope, NUMBERS as u64, fifo);
    let outcome = sim.must_end("the driver's life", driver.spawn());
    let (done, connections) = (sim.counter("numbers complemented"), sim.counter("connections"));
    World { rig, device, driver, outcome, done, connections }
}

/// What goes for every run: the driver leaves nothing behind but what nobody would take from it, and no number is
/// complemented twice.
fn judge(world: &World, case: &Case) {
    let news = world.driver.news();
    let fault = case.fault();
    let done = world.driver.complemented();
    world.done.add(done.len() as u64);
    world.connections.add(world.driver.connections() as u64);
    assert_eq!(done.iter().collect::<BTreeSet<_>>().len(), done.len(), "{done:?}, {news:?}");
    world.rig.assert_clean(case);
    // Whoever made a connection took it apart.
    let ended = news.iter().filter(|news| matches!(news, News::Disconnected(_))).count();
    assert!(world.driver.connections() <= ended, "{news:?}");
    let survives = matches!(
        fault.as_deref(),
        None | Some(
            "migrate"
                | "cancelled suspend"
                | "suspend"
                | "wake"
                | "close backends"
                | "repeat event"
                | "delay event"
        )
    );
    if survives {
        assert_eq!(world.outcome.outcome(), Some(Ok(Ok(NUMBERS))), "{news:?}");
    }
}

fn scenario(name: &'static str, build: impl Fn(&mut Sim) -> World + 'static) -> Scenario<World> {
    Scenario::new(name, build)
        .machine_faults()
        .backend_faults()
        .fault("detach", |world| _ = world.rig.machine().toolstack().detach(world.device))
        .fault("remove", |world| _ = world.rig.machine().toolstack().remove(world.device))
        .check(|world, case| {
            judge(world, case);
            if matches!(case.fault().as_deref(), Some("detach" | "remove")) {
                assert!(matches!(world.outcome.outcome(), Some(Ok(Ok(_)))), "{:?}", world.driver.news());
                assert_eq!(world.driver.ends().len(), 1, "{:?}", world.driver.news());
            }
        })
}

/// Each fault at each await: the driver comes to its end, nothing is left behind, and all numbers are complemented
/// where there is somebody left to do that.
#[test]
fn every_fault_at_every_poll_boundary() {
    scenario("echo, FIFO", |sim| world(sim, true))
        .seeds(0..0)
        .boundaries(150)
        .floor("numbers complemented", 10_000)
        .floor("connections", 2_000)
        .run();
}

/// The same with the bitmaps of event channels, which come another way and are late in another: a sample, as the events are enumerated on
/// their own.
#[test]
fn a_sample_with_bitmaps() {
    scenario("echo, 2-level", |sim| world(sim, false))
        .seeds(0..0)
        .one_in(NonZeroUsize::new(7).expect("it is not zero"))
        .boundaries(150)
        .floor("numbers complemented", 2_000)
        .floor("connections", 400)
        .run();
}

/// A driver was here before, and has left the device in whatever state, with keys of rings that are not there any
/// more: its backend may be connected with them, or have given up. The next driver gets to work all the same.
#[test]
fn whoever_was_here_before() {
    for (state, seed) in XenbusState::ALL.into_iter().flat_map(|state| (0..4).map(move |seed| (state, seed)))
    {
        let mut player = Player::new(seed);
        let (rig, _) = rig(&mut player, Backend::new());
        let home = format!("/local/domain/{}/device/echo/0", rig.guest().domain());
        let toolstack = rig.machine().toolstack();
        for (key, value) in
            [("ring-ref", "8"), ("event-channel", "3"), ("state", &state.number().to_string())]
        {
            toolstack.write(&format!("{home}/{key}"), value);
        }
        // Its backend looks at that before there is a driver.
        while player.step(Duration::from_secs(1)) {}
        let driver = Driver::new(&rig, &mut player, keep(Scope::new("guest")), NUMBERS as u64, true);
        let outcome = driver.spawn();
        while !outcome.is_finished() && player.step(LIMIT) {}
        let outcome = outcome.try_take().expect("it has ended");
        assert_eq!(outcome, Ok(Ok(NUMBERS)), "{state}, seed {seed}: {:?}", driver.news());
        player.close().expect("all tasks end");
        let audit = rig.machine().audit(rig.guest());
        assert!(audit.is_clean(), "{state}, seed {seed}: {audit}");
    }
}

/// A backend that breaks the protocol loses its frontend, which says why where the toolstack finds it, and does not
/// come back: until the guest has another backend, with which all goes on from where it was.
#[test]
fn a_backend_that_breaks_the_protocol() {
    for seed in 0..20 {
        let mut player = Player::new(seed);
        let (rig, device) = rig(&mut player, Backend::new());
        let driver = Driver::new(&rig, &mut player, keep(Scope::new("guest")), NUMBERS as u64, true);
        let outcome = driver.spawn();
        let machine = rig.machine();
        let is_broken =
            || driver.news().iter().any(|news| matches!(news, News::Failed(failure) if failure.is_broken()));

        while driver.connections() == 0 && player.step(LIMIT) {}
        machine.inject(rig.guest(), Fault::Garbage(Peer::Device(device)));
        while !is_broken() && player.step(LIMIT) {}
        // Long enough for any other attempt.
        let later = player.time() + Duration::from_mins(5);
        while player.step(later) {}
        assert!(is_broken(), "seed {seed}: {:?}", driver.news());
        assert_eq!(driver.connections(), 1, "seed {seed}: {:?}", driver.news());
        let home = format!("/local/domain/{}", rig.guest().domain());
        let complaint = machine.toolstack().read(&format!("{home}/error/device/echo/0/error"));
        let complaint = complaint.expect("it says why");
        assert!(complaint.contains("the device is closed until it has another backend"), "{complaint}");
        assert_eq!(machine.toolstack().read(&format!("{home}/device/echo/0/state")).as_deref(), Some("6"));
        assert!(driver.complemented().len() < NUMBERS, "seed {seed}");

        machine.toolstack().expect_suspend(rig.guest(), Suspend::Migrated);
        rig.suspend();
        while !outcome.is_finished() && player.step(LIMIT) {}
        assert_eq!(
            outcome.try_take().expect("it has ended"),
            Ok(Ok(NUMBERS)),
            "seed {seed}: {:?}",
            driver.news()
        );
        assert_eq!(driver.connections(), 2, "seed {seed}");
        player.close().expect("all tasks end");
        let audit = machine.audit(rig.guest());
        assert!(audit.is_clean(), "seed {seed}: {audit}");
    }
}
