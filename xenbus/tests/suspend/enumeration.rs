//! A guest with frontends, which go on through any suspend, at any moment.
#![forbid(unsafe_code)]

use std::{
    pin::pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use futures_util::future::{Either, join3, select};
use kexec::{
    Cancelled, PassiveWork,
    irql::{Dispatch, Passive},
    platform::mock::{Mock, keep},
    testing::{Counter, Joined, Scenario, Sim},
    yield_now,
};
use xen_abi::{domid::DOMID_SELF, event_channel::EvtchnPort};
use xen_harness::{Rig, WithFaults};
use xen_sim::{Guest, GuestConfig, Suspend as Fate};
use xenbus::{
    epoch::{Epoch, Epochs},
    hypercall::event_channel,
    store::{StoreError, Xenstore},
    suspend::{ResumeError, Suspended},
};

use crate::bus::{Bus, Up, locked};

/// A frontend's channel: it is closed by who has it, or gone with its domain.
struct Channel<'a> {
    guest: &'a Guest,
    epochs: &'a Epochs,
    epoch: Epoch,
    port: EvtchnPort,
}

impl<'a> Channel<'a> {
    fn open(guest: &'a Guest, epochs: &'a Epochs) -> Self {
        let port = event_channel::alloc_unbound(guest, DOMID_SELF).expect("there is room");
        Self { guest, epochs, epoch: epochs.now(), port }
    }
}

impl Drop for Channel<'_> {
    fn drop(&mut self) {
        if self.epochs.now() == self.epoch {
            event_channel::close(self.guest, self.port).expect("it is open");
        }
    }
}

/// Why the driver has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    Down(ResumeError),
    Store(StoreError),
    /// It is not the guest's domain.
    Answer,
    Removed(Cancelled),
}

/// A frontend: whatever it has done in one epoch, it begins again in the next, until it has come to the end of its
/// work.
async fn frontend(at: &Dispatch, bus: &Bus, rounds: &AtomicU64) -> Result<(), Stopped> {
    let epochs = bus.suspend.epochs();
    loop {
        let channel = Channel::open(&bus.guest, epochs);
        rounds.fetch_add(1, Relaxed);
        let work = pin!(async {
            let mut room = [0; 64];
            for _ in 0..3 {
                let domain = bus.store.read(at, "domid", &mut room).await.map_err(Stopped::Store)?;
                assert_eq!(channel.epoch, epochs.now(), "nobody works on in a new epoch");
                if domain != bus.guest.domain().to_string().as_bytes() {
                    return Err(Stopped::Answer);
                }
                yield_now().await;
            }
            Ok(())
        });
        // Whether it is another epoch is looked at first.
        match select(pin!(epochs.after(at, channel.epoch)), work).await {
            Either::Left((next, _)) => assert_eq!((next, true), (epochs.now(), next != channel.epoch)),
            Either::Right((outcome, _)) => return outcome,
        }
    }
}

type Worker = PassiveWork<Mock<Passive>, 512>;

/// A task that was asked to suspend the guest, in each of these ways: it has that done at `PASSIVE_LEVEL`, where
/// nothing is captured, and goes on in whatever epoch it is then.
async fn asked(rig: &Rig, bus: &Bus, worker: &Worker) -> Result<(), Stopped> {
    for fate in [Fate::Migrated, Fate::Cancelled, Fate::Migrated] {
        let (rig, epochs) = (rig.clone(), bus.suspend.epochs());
        let before = epochs.count();
        let work = async move |_: &mut Passive| {
            rig.machine().toolstack().expect_suspend(rig.guest(), fate);
            rig.suspend();
        };
        worker.run(work).await.map_err(Stopped::Removed)?;
        let resumes = epochs.count() - before;
        assert!(resumes >= u32::from(fate == Fate::Migrated), "it is done when it is said to be");
        yield_now().await;
    }
    Ok(())
}

/// The driver's life: it comes up, does its work, and goes.
async fn live(at: &mut Dispatch, parts: &'static Parts) -> Result<(), Stopped> {
    let Parts { rig, bus, worker, rounds } = parts;
    let up = Up::new(bus, at).map_err(Stopped::Down)?;
    let frontends =
        join3(frontend(up.at, bus, rounds), frontend(up.at, bus, rounds), asked(rig, bus, worker));
    match select(pin!(frontends), pin!(bus.store.serve(up.at))).await {
        Either::Left(((one, two, asked), _)) => one.and(two).and(asked),
        Either::Right(((), _)) => unreachable!("it is served for ever"),
    }
}

struct Parts {
    rig: Rig,
    bus: &'static Bus,
    worker: Worker,
    rounds: AtomicU64,
}

struct World {
    parts: &'static Parts,
    lived: Joined<Result<(), Stopped>>,
    resumes: Counter,
    cancelled: Counter,
    rounds: Counter,
}

impl AsRef<Rig> for World {
    fn as_ref(&self) -> &Rig {
        &self.parts.rig
    }
}

fn world(sim: &mut Sim) -> World {
    let rig = Rig::new(sim, GuestConfig::default());
    let driver = rig.driver(sim, "guest");
    let worker = PassiveWork::new(sim.worker("worker"), sim.pool::<512, 1>());
    let slots = rig.pool::<8192, 1>(sim);
    let bus = Bus::new(&rig);
    let parts: &Parts = keep(Parts { rig, bus, worker, rounds: AtomicU64::new(0) });
    let task = driver.spawn(slots, live, parts).expect("a slot is free");
    World {
        parts,
        lived: sim.must_end("the driver's life", task),
        resumes: sim.counter("resumes"),
        cancelled: sim.counter("cancelled suspends"),
        rounds: sim.counter("rounds of frontends"),
    }
}

/// Whatever happens, and whenever: the driver comes to its end, and leaves nothing behind; no frontend touches a port
/// of a domain that it is not in any more, or works on in a new epoch as if nothing had happened; and where nothing
/// but suspends happens, everybody comes to the end of the work.
#[test]
fn every_fault_at_every_poll_boundary() {
    Scenario::new("suspend", world)
        .machine_faults()
        .check(|world, case| {
            let Parts { rig, bus, rounds, .. } = world.parts;
            for suspend in locked(&bus.suspends).iter() {
                match suspend.expect("Xen refuses nobody, and nobody asks twice at a time") {
                    Suspended::Resumed(_) => world.resumes.raise(),
                    Suspended::Cancelled => world.cancelled.raise(),
                }
            }
            world.rounds.add(rounds.load(Relaxed));
            let audit = rig.machine().audit(rig.guest());
            assert!(audit.is_clean(), "{audit}");
            let epochs = u16::try_from(bus.suspend.epochs().count()).expect("they are few");
            assert_eq!(rig.guest().domain(), 1 + epochs, "a domain each");
            if matches!(
                case.fault().as_deref(),
                None | Some("migrate" | "cancelled suspend" | "suspend" | "wake" | "repeat event")
            ) {
                assert_eq!(world.lived.outcome(), Some(Ok(Ok(()))));
            }
        })
        .seeds(0..2)
        .boundaries(50)
        .floor("resumes", 3000)
        .floor("cancelled suspends", 1500)
        .floor("rounds of frontends", 7000)
        .run();
}
