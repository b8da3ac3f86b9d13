//! A toolstack that asks for one thing after the other, and a guest that does it, whatever else happens.
#![forbid(unsafe_code)]

use std::{
    pin::pin,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::{Either, select};
use kexec::{
    Executor, PassiveWork, Scope, Table,
    irql::{Dispatch, Passive},
    platform::mock::{Mock, keep},
    sync::ManualEvent,
    testing::{Counter, Joined, Scenario, Sim},
    time::sleep,
};
use xen_harness::{Rig, WithFaults};
use xen_sim::{Finding, GuestConfig, Mistake, Request as Ask, Suspend as Fate};
use xenbus::control::{Control, Features, News, NotWithdrawn, Request, Words};

use crate::{
    bus::{Bus, Up, locked},
    play::owner,
};

/// What is asked for, in this order.
const ASKS: [Ask; 2] = [Ask::Suspend(Fate::Migrated), Ask::Reboot];

/// How often the toolstack looks, and how often it does before it gives up.
const LOOK: Duration = Duration::from_millis(500);
const LOOKS: u32 = 80;

struct Parts {
    rig: Rig,
    bus: &'static Bus,
    executor: &'static Executor<Mock>,
    slots: &'static Table<SLOT>,
    scope: &'static Scope,
    worker: PassiveWork<Mock<Passive>, 512>,
    /// The toolstack has asked for everything.
    done: ManualEvent,
    books: Books,
}

const SLOT: usize = 12288;

/// What has become of the toolstack's words.
#[derive(Default)]
struct Books {
    /// Written by it.
    written: Mutex<Vec<&'static str>>,
    /// Taken back by it: they were still there.
    taken_back: AtomicU64,
    /// Gone with a domain.
    gone: AtomicU64,
    /// Told to the owner.
    told: Mutex<Vec<String>>,
    published: AtomicU64,
}

fn key(parts: &Parts, key: &str) -> Option<String> {
    parts.rig.machine().toolstack().read(&format!("/local/domain/{}/{key}", parts.rig.guest().domain()))
}

fn is_word_there(parts: &Parts) -> bool {
    key(parts, "control/shutdown").is_some_and(|word| !word.is_empty())
}

/// The toolstack takes its word back, as it does when it has waited for too long.
fn take_back(parts: &Parts) {
    if is_word_there(parts) {
        let domain = parts.rig.guest().domain();
        parts.rig.machine().toolstack().write(&format!("/local/domain/{domain}/control/shutdown"), "");
        parts.books.taken_back.fetch_add(1, Relaxed);
    }
}

async fn toolstack(_: &mut Dispatch, parts: &'static Parts) {
    for ask in ASKS {
        for _ in 0..LOOKS {
            if parts.rig.machine().toolstack().request(parts.rig.guest(), ask) {
                locked(&parts.books.written).push(ask.command());
                break;
            }
            sleep(LOOK).await;
        }
        for _ in 0..LOOKS {
            sleep(LOOK).await;
            if !is_word_there(parts) {
                break;
            }
        }
        take_back(parts);
    }
    // For the last one to be done, whatever comes late.
    sleep(10 * LOOK).await;
    parts.done.set();
}

/// The owner of all that is published and asked for.
async fn control(at: &mut Dispatch, parts: &'static Parts) -> Result<(), NotWithdrawn> {
    let epochs = parts.bus.suspend.epochs();
    let owner = owner("XENBUS", Features::SUSPEND, Words::all());
    Control::new(at, &parts.bus.store, epochs, owner)
        .serve(async |news| {
            match news {
                News::Asked(request) => {
                    locked(&parts.books.told).push(request.to_string());
                    if request == Request::Suspend {
                        let rig = parts.rig.clone();
                        // If there is no worker any more, the driver is being removed.
                        let _ = parts.worker.run(async move |_: &mut Passive| rig.suspend()).await;
                    }
                }
                News::Published { epoch, refused, driver } if epoch == epochs.now() => {
                    parts.books.published.fetch_add(1, Relaxed);
                    if refused.is_empty() && driver == Ok(0) {
                        for (node, expected) in
                            [("control/feature-suspend", "1"), ("drivers/0", "Xen_Project XENBUS 9.1.0.42 ")]
                        {
                            assert_eq!(key(parts, node).as_deref(), Some(expected), "{node}");
                        }
                    }
                }
                News::Published { .. } | News::Failed(_) => {}
            }
        })
        .await
}

/// The driver's life.
async fn live(at: &mut Dispatch, parts: &'static Parts) -> Option<Result<(), NotWithdrawn>> {
    let Parts { bus, executor, slots, scope, done, .. } = parts;
    let up = Up::new(bus, at).ok()?;
    let controls = executor.within(scope).spawn(slots, control, parts).ok()?;
    let life = async {
        done.wait().await;
        if let Ok(close) = scope.close() {
            close.await;
        }
        controls.await.ok()
    };
    match select(pin!(life), pin!(bus.store.serve(up.at))).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right(_) => unreachable!("it is served for ever"),
    }
}

struct World {
    parts: &'static Parts,
    lived: Joined<Option<Result<(), NotWithdrawn>>>,
    written: Counter,
    told: Counter,
    taken_back: Counter,
    gone: Counter,
    published: Counter,
}

impl AsRef<Rig> for World {
    fn as_ref(&self) -> &Rig {
        &self.parts.rig
    }
}

fn world(sim: &mut Sim) -> World {
    let rig = Rig::new(sim, GuestConfig::default());
    let executor = rig.driver(sim, "guest");
    let slots = rig.pool::<SLOT, 2>(sim);
    let worker = PassiveWork::new(sim.worker("worker"), sim.pool::<512, 1>());
    let player = sim.device("toolstack");
    let scope = sim.scope("control");
    let bus = Bus::new(&rig);
    let parts: &Parts = keep(Parts {
        rig,
        bus,
        executor,
        slots,
        scope,
        worker,
        done: ManualEvent::new(false),
        books: Books::default(),
    });
    parts.rig.on_suspend(|at| {
        let (domain, was_there) = (parts.rig.guest().domain(), is_word_there(parts));
        bus.suspend(at);
        let is_gone = was_there && domain != parts.rig.guest().domain();
        parts.books.gone.fetch_add(is_gone.into(), Relaxed);
    });
    player.spawn(sim.pool::<2048, 1>(), toolstack, parts).expect("a slot is free").detach();
    let task = executor.spawn(slots, live, parts).expect("a slot is free");
    World {
        parts,
        lived: sim.must_end("the driver's life", task),
        written: sim.counter("words written"),
        told: sim.counter("words told"),
        taken_back: sim.counter("words taken back"),
        gone: sim.counter("words gone"),
        published: sim.counter("publications"),
    }
}

/// What is left where xenstored or the task that speaks with it are no more.
fn is_of_the_connection(finding: &Finding) -> bool {
    matches!(finding.mistake, Mistake::WatchLeft | Mistake::TransactionLeft)
}

/// Whatever happens, and whenever: no word is told twice or before it was written. Where neither a task nor xenstored
/// ends: none is lost but those that the toolstack has taken back, or that are gone with their domain; in each epoch
/// all is published; and in the end nothing is.
#[test]
fn every_fault_at_every_poll_boundary() {
    Scenario::new("control", world)
        .machine_faults()
        .fault("the word is taken back", |world| take_back(world.parts))
        .check(|world, case| {
            let Parts { rig, books, .. } = world.parts;
            let (written, told) = (locked(&books.written), locked(&books.told));
            let [taken_back, gone, published] =
                [&books.taken_back, &books.gone, &books.published].map(|count| count.load(Relaxed));
            world.written.add(written.len() as u64);
            world.told.add(told.len() as u64);
            world.taken_back.add(taken_back);
            world.gone.add(gone);
            world.published.add(published);

            let mut rest = written.iter();
            // What xenstored makes up is told as well.
            let is_told = told.iter().all(|word| rest.any(|one| one == word));
            let made_up = case.fault().as_deref() == Some("garbage from xenstored");
            assert!(is_told || made_up && told.len() <= written.len() + 1, "{told:?} of {written:?}");
            let is_harmless = matches!(
                case.fault().as_deref(),
                None | Some(
                    "migrate"
                        | "cancelled suspend"
                        | "suspend"
                        | "wake"
                        | "repeat event"
                        | "delay event"
                        | "the word is taken back"
                )
            );
            let audit = rig.machine().audit(rig.guest());
            let findings: Vec<_> =
                audit.findings().iter().filter(|one| is_harmless || !is_of_the_connection(one)).collect();
            assert!(findings.is_empty(), "{audit}");
            if is_harmless {
                // Who was to suspend itself, and has been, need not be told.
                let had = case.fault().as_deref() == Some("migrate") && !told.iter().any(|word| word == "suspend");
                let known = told.len() as u64 + taken_back + gone + u64::from(had);
                assert!(known >= written.len() as u64, "{told:?} of {written:?}");
                assert_eq!(written.len(), ASKS.len());
                assert_eq!(world.lived.outcome(), Some(Ok(Some(Ok(())))));
                assert!(published > 0);
                for (node, expected) in [
                    ("control/feature-suspend", Some("")),
                    ("drivers/0", None),
                ] {
                    assert_eq!(key(world.parts, node).as_deref(), expected, "{node}");
                }
            }
        })
        // Without the driver's life, the other task asks for ever.
        .lasting(Duration::from_mins(5))
        .seeds(0..0)
        .boundaries(200)
        .floor("words written", 5000)
        .floor("words told", 4000)
        .floor("words taken back", 300)
        .floor("words gone", 30)
        .floor("publications", 2000)
        .run();
}
