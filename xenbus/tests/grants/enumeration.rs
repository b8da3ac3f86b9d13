//! Every fault at every moment of queues, and of a backend that is slow to let go.
#![forbid(unsafe_code)]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kexec::{
    irql::Dispatch,
    platform::mock::keep,
    sync::AutoEvent,
    testing::{Case, Counter, Joined, Scenario, Sim},
    time::sleep,
    yield_now,
};
use xen_abi::GrantRef;
use xen_harness::{Alone, Rig, WithFaults};
use xen_sim::{Access, Dice, Finding, Guest, GuestConfig, Mistake};
use xenbus::{
    grant::{Counters, GrantCache, Grants, Held, Loan, Peer, Rights, Shared, StillGranted},
    page::Ram,
    suspend::{Suspend, Suspended},
};

use crate::world::{DOM0, dispatch, frames};

/// Pages that each queue sends.
const PAGES: u32 = 3;

/// A guest with two queues, and the backend of both.
struct World {
    rig: Rig,
    part: Arc<Part>,
    queues: [Joined<Sent>; 2],
    met: [Counter; 5],
    kept: Counter,
}

/// What the two sides share.
struct Part {
    guest: Guest,
    grants: &'static Grants<Guest>,
    suspend: &'static Suspend,
    /// What the backend is to use, and how long it takes.
    asked: Mutex<VecDeque<(GrantRef, Duration)>>,
    bell: AutoEvent,
    dice: Mutex<Dice>,
}

/// What became of a queue's pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sent {
    ended: u32,
    ended_by_a_new_epoch: u32,
    waited_for: u32,
    dropped: u32,
    refused: u32,
}

impl AsRef<Rig> for World {
    fn as_ref(&self) -> &Rig {
        &self.rig
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Part {
    fn roll(&self, below: u64) -> u64 {
        locked(&self.dice).below(below)
    }
}

/// Sends pages, one after the other: its own to one that it does not trust, others' to one that it does.
async fn queue(at: &mut Dispatch, (part, lends): (Arc<Part>, bool)) -> Sent {
    let mut sent = Sent::default();
    let mut cache = GrantCache::<_, 4>::new(part.grants);
    for _ in 0..PAGES {
        let Ok(page) = Ram::allocate(&part.guest) else {
            sent.refused += 1;
            continue;
        };
        let epoch = part.suspend.epochs().now();
        if lends {
            let mut loan = Loan::<_, _, 1>::new(&cache, DOM0.trust().expect("it is"), page);
            match loan.lend(&mut cache, at, 0, Rights::Write) {
                Ok(number) => part.ask(number).await,
                Err(_) => sent.refused += 1,
            }
            // A request of Windows's is held for as long as it takes.
            while let Err(Held { what, .. }) = loan.end(&mut cache, at) {
                assert_eq!(part.suspend.epochs().now(), epoch, "a new domain holds nothing");
                assert_eq!(part.grants.counters().held, 1);
                sent.waited_for += 1;
                loan = what;
                sleep(Duration::from_millis(500)).await;
            }
        } else {
            let shared = Shared::new(&mut cache, at, Peer::untrusted(DOM0.domain()), page, Rights::Write);
            let Ok(shared) = shared else {
                sent.refused += 1;
                continue;
            };
            part.ask(shared.reference()).await;
            if let Err(Held { what, .. }) = shared.end(&mut cache, at) {
                assert_eq!(part.suspend.epochs().now(), epoch, "a new domain holds nothing");
                // Nobody waits for it.
                drop(what);
                sent.dropped += 1;
                continue;
            }
        }
        sent.ended += 1;
        sent.ended_by_a_new_epoch += u32::from(part.suspend.epochs().now() != epoch);
    }
    sent
}

impl Part {
    /// Has the backend use a page, for a while that it chooses, and waits as long as one would that is not too
    /// patient.
    async fn ask(&self, number: GrantRef) {
        let slowness = Duration::from_millis(self.roll(3) * 700);
        locked(&self.asked).push_back((number, slowness));
        self.bell.set();
        for _ in 0..=self.roll(3) {
            yield_now().await;
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// Maps what it is asked to, or copies, and takes its time. What was granted in another domain is refused to it.
async fn backend(_: &mut Dispatch, part: Arc<Part>) {
    loop {
        let asked = locked(&part.asked).pop_front();
        let Some((number, slowness)) = asked else {
            part.bell.wait().await;
            continue;
        };
        let dom0 = part.guest.machine().dom0();
        if slowness.is_zero() {
            let _ = dom0.copy_to(&part.guest, number, 8, &[1, 2, 3]);
            continue;
        }
        if let Ok(mapping) = dom0.map(&part.guest, number, Access::Write) {
            dom0.write(mapping, 0, &[1]).expect("it is mapped for writing");
            sleep(slowness).await;
            // Whatever the guest has done meanwhile, in whichever domain: it is this backend's still.
            dom0.write(mapping, 8, &[2]).expect("it is mapped for writing");
            dom0.unmap(mapping).expect("it is mapped");
        }
    }
}

/// Looks after the quarantine, as the bus does.
async fn serve(at: &mut Dispatch, part: Arc<Part>) {
    part.grants.serve(at).await;
}

fn world(sim: &mut Sim) -> World {
    let rig = Rig::new(sim, GuestConfig { grant_frames: 1, ..GuestConfig::default() });
    let guest = rig.guest().clone();
    let suspend: &Suspend = keep(Suspend::new());
    let grants = Grants::new(guest.clone(), suspend.epochs(), frames(1)).expect("Xen has a table");
    let grants: &Grants<_> = keep(grants);
    let listens = keep(dispatch(|at| suspend.register(at, grants)));
    assert!(listens.is_ok(), "it is the first");
    let part = Arc::new(Part {
        guest: guest.clone(),
        grants,
        suspend,
        asked: Mutex::default(),
        bell: AutoEvent::new(false),
        dice: Mutex::new(Dice::new(sim.seed())),
    });
    rig.on_suspend(move |at| {
        let suspended = suspend.suspend(at, &guest, &Alone(&guest)).expect("Xen suspends it");
        assert!(
            matches!(suspended, Suspended::Resumed(resumed) if resumed.failures == 0)
                || suspended == Suspended::Cancelled
        );
    });
    let driver = rig.driver(sim, "guest");
    let slots = rig.pool::<2048, 3>(sim);
    driver.spawn(slots, serve, part.clone()).expect("a slot is free").detach();
    let mut queue = |name, lends| {
        let task = driver.spawn(slots, queue, (part.clone(), lends)).expect("a slot is free");
        sim.must_end(name, task)
    };
    let queues = [queue("the queue that shares", false), queue("the queue that lends", true)];
    let dom0 = sim.device("backend");
    let slots = sim.pool::<512, 3>();
    for _ in 0..3 {
        dom0.spawn(slots, backend, part.clone()).expect("a slot is free").detach();
    }
    let met = [
        "pages back",
        "pages back in a new domain",
        "times waited for a page",
        "pages in quarantine",
        "pages not sent",
    ]
    .map(|what| sim.counter(what));
    let kept = sim.counter("requests that are kept");
    World { rig, part, queues, met, kept }
}

/// Whether tasks are ended before they are done.
fn is_cut_short(case: &Case) -> bool {
    case.fault().is_some_and(|fault| fault.starts_with("abort") || fault.starts_with("close"))
}

/// Wherever the guest is moved, whatever fails, and however long the backend holds on to pages: each page comes
/// back or is looked after until it can, none is freed before, and in the end nothing is left of the guest's.
#[test]
fn pages_come_back() {
    Scenario::new("grants", world)
        .machine_faults()
        .at_rest(|world, case| {
            let Counters { quarantined, leaked, held, kept, .. } = world.part.grants.counters();
            assert_eq!((leaked, held), (0, 0));
            if !is_cut_short(case) {
                assert_eq!((quarantined, kept), (0, 0));
            }
        })
        .check(|world, case| {
            for queue in &world.queues {
                let Some(Ok(sent)) = queue.outcome() else { continue };
                assert!(case.fault().is_some() || sent.refused == 0);
                let counts =
                    [sent.ended, sent.ended_by_a_new_epoch, sent.waited_for, sent.dropped, sent.refused];
                world.met.iter().zip(counts).for_each(|(counter, count)| counter.add(count.into()));
            }
            let closed = dispatch(|at| world.part.grants.close(at));
            let kept = world.part.grants.counters().kept;
            let audit = world.rig.machine().audit(world.rig.guest());
            if kept == 0 {
                assert!(audit.is_clean(), "{audit}");
                assert_eq!(closed, Ok(()));
            } else {
                // A queue that ended while the backend used what it had lent.
                assert!(is_cut_short(case));
                world.kept.raise();
                assert_eq!(closed, Err(StillGranted { references: kept, frame: 0 }));
                let is_that =
                    |finding: &&Finding| matches!(finding.mistake, Mistake::GrantLeft | Mistake::HoleBacked);
                let found = audit.findings().iter().filter(is_that).count();
                assert_eq!((found, audit.findings().len()), (kept as usize + 1, found), "{audit}");
            }
        })
        .seeds(0..2)
        .boundaries(40)
        .floor("pages back", 5000)
        .floor("pages back in a new domain", 100)
        .floor("times waited for a page", 3000)
        .floor("pages in quarantine", 1000)
        .floor("pages not sent", 50)
        .floor("requests that are kept", 50)
        .run();
}
