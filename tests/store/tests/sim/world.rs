//! A guest that does nothing but run cases.
#![forbid(unsafe_code)]

use std::{
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::{Either, select};
use kexec::{JoinHandle, irql::Dispatch, platform::mock::keep, time::timeout, yield_now};
use xen_abi::{
    event_channel::EvtchnPort,
    hvm::params::{CallbackVia, HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN},
    sched::SHUTDOWN_SUSPEND,
    seam::Gfn,
};
use xen_harness::{Executors, Player, Rig};
use xen_sim::{
    Guest as Platform, GuestConfig, GuestFrame, Machine, Release,
    xenstored::{Config, Fault},
};
use xenbus::{
    epoch::Epochs,
    event::{Channel, Config as Upcalls, Events, Slot, StartError, StopError, Upcall, Vcpu},
    hypercall::{event_channel, hvm, sched},
    store::Store,
};
use xenstore_suite::{Difference, Ground, Profile, ROOM, store, wire};

/// How upcalls come.
const LINE: CallbackVia = CallbackVia::Gsi(28);

/// Ports that the guest can have: the store's is one of the first.
const PORTS: usize = 16;

/// How long a store has to take note of what was dropped.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where cases work.
const HOME: &str = "data/suite";

/// A case of either kind.
#[derive(Clone, Copy)]
pub(crate) enum Case {
    Store(&'static store::Case),
    Wire(&'static wire::Case),
}

/// All there are.
pub(crate) fn cases() -> impl Iterator<Item = Case> {
    store::CASES.iter().map(Case::Store).chain(wire::CASES.iter().map(Case::Wire))
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(case) => write!(f, "store::{}", case.name),
            Self::Wire(case) => write!(f, "wire::{}", case.name),
        }
    }
}

/// What the cases have of their guest.
pub(crate) struct Guest {
    platform: Platform,
    epochs: Epochs,
    events: &'static Events<Platform>,
    port: EvtchnPort,
    store: Store<Platform, 4, 8>,
    ring: wire::Ring<GuestFrame, Box<dyn Fn() + Send + Sync>>,
    profile: &'static Profile,
    cases: Vec<Case>,
    found: Mutex<Vec<(Case, Result<(), Difference>)>>,
}

impl Guest {
    fn new(platform: &Platform, profile: &'static Profile, cases: Vec<Case>) -> Self {
        let parameter = |index| hvm::get_param(platform, index).expect("the guest has a store");
        let port = u32::try_from(parameter(HVM_PARAM_STORE_EVTCHN)).map(EvtchnPort).expect("a port");
        let page = platform.physical(Gfn(parameter(HVM_PARAM_STORE_PFN)));
        let caller = platform.clone();
        // If it cannot be told, no answer comes: that is noticed.
        let notify = move || {
            let _ = event_channel::send(&caller, port);
        };
        let slots: &'static [Slot; PORTS] = keep([const { Slot::new() }; PORTS]);
        let vcpus: &'static [Vcpu<Platform>; 1] = keep([Vcpu::new()]);
        Self {
            platform: platform.clone(),
            epochs: Epochs::new(),
            events: keep(Events::new(slots, vcpus)),
            port,
            store: Store::new(),
            ring: wire::Ring::new(page, Box::new(notify)),
            profile,
            cases,
            found: Mutex::default(),
        }
    }

    fn upcall(&self, vcpu: u32) {
        while self.events.upcall(vcpu as usize, 64) == Upcall::More {}
    }

    /// The guest suspends itself. In another domain it hears no more of its store: cases end there, and do not pass.
    fn suspend(&self, at: &Dispatch) {
        if sched::shutdown(&self.platform, SHUTDOWN_SUSPEND) == Ok(false) {
            self.store.disconnect(at);
            // If there are no upcalls, nothing comes: that is noticed.
            let _ = self.events.resumed(self.epochs.begin());
        }
    }

    /// Tells both clients of the ring of xenstored's events: one of them is at it.
    async fn listen(&self, at: &Dispatch, channel: Channel<Platform>) {
        while channel.wait(at).await.is_ok() {
            self.store.notify();
            self.ring.notify();
        }
    }

    async fn run_all(&self, at: &Dispatch) {
        for case in &self.cases {
            let outcome = self.run(at, *case).await;
            locked(&self.found).push((*case, outcome));
        }
    }

    async fn run(&self, at: &Dispatch, case: Case) -> Result<(), Difference> {
        let (domain, mut room) = (self.platform.domain(), [0; ROOM]);
        let mut ground = Ground { home: HOME, domain, profile: self.profile, room: &mut room };
        // It maps the page of the ring, also for those who go at that themselves. If it cannot be connected, the case
        // finds that out.
        let _ = self.store.connect(at, &self.platform);
        match case {
            Case::Store(case) => {
                let work = async {
                    let outcome = Box::pin(case.run(at, &self.store, &mut ground)).await;
                    let _ = timeout(PATIENCE, self.store.settled(at)).await;
                    outcome
                };
                match select(pin!(self.store.serve(at)), pin!(work)).await {
                    Either::Left(((), _)) => unreachable!("it serves for ever"),
                    Either::Right((outcome, _)) => outcome,
                }
            }
            Case::Wire(case) => Box::pin(case.run(at, &self.ring, &mut ground)).await,
        }
    }
}

/// The life of the guest: it has upcalls for as long as there are cases.
async fn live(at: &mut Dispatch, guest: &'static Guest) -> Result<(), StartError> {
    let Guest { platform, epochs, events, store, port, .. } = guest;
    events.start(
        at,
        platform.clone(),
        Upcalls { vcpus: &[0], callback: LINE, fifo: false, epoch: epochs.now() },
    )?;
    let channel = events.fixed(at, *port).expect("there are slots enough");
    {
        let listening = pin!(guest.listen(at, channel));
        if let Either::Left(((), ahead)) = select(listening, pin!(guest.run_all(at))).await {
            // The guest is in another domain, and hears nothing more.
            ahead.await;
        }
    }
    store.disconnect(at);
    while let Err(error) = events.stop(at) {
        // Its last poll may be in the middle of the upcall that has woken it.
        assert_eq!(error, StopError::Upcall(0), "all channels have been dropped");
        yield_now().await;
    }
    Ok(())
}

/// A machine with a guest in it.
pub(crate) struct World {
    rig: Rig,
    guest: &'static Guest,
}

impl AsRef<Rig> for World {
    fn as_ref(&self) -> &Rig {
        &self.rig
    }
}

/// How the guest's life has ended.
pub(crate) type Life = JoinHandle<Result<(), StartError>>;

impl World {
    /// A world whose guest runs these cases on this machine, one after the other.
    pub(crate) fn new(
        executors: &mut impl Executors,
        machine: Machine,
        profile: &'static Profile,
        cases: Vec<Case>,
    ) -> (Self, Life) {
        let rig = Rig::on(executors, machine, GuestConfig::default());
        let guest: &Guest = keep(Guest::new(rig.guest(), profile, cases));
        rig.guest().on_upcall(|vcpu, _| guest.upcall(vcpu));
        rig.on_suspend(|at| guest.suspend(at));
        let executor = rig.driver(executors, "guest");
        let slots = rig.pool::<16384, 1>(executors);
        let life = executor.spawn(slots, live, guest).expect("a slot is free");
        (Self { rig, guest }, life)
    }

    /// What each case has found different, and that it has not been run.
    pub(crate) fn differences(&self) -> Vec<String> {
        let found = locked(&self.guest.found);
        let differences = found.iter().filter_map(|(_, outcome)| outcome.err());
        let ahead = self.guest.cases.iter().skip(found.len()).map(|case| format!("{case}: it was not run"));
        differences.map(|difference| difference.to_string()).chain(ahead).collect()
    }

    /// What the guest has left behind: in the store, in its connection, or with Xen.
    pub(crate) fn left(&self) -> Vec<String> {
        let home = format!("/local/domain/{}/{HOME}", self.rig.guest().domain());
        let node = self.rig.machine().toolstack().read(&home).map(|_| format!("{home} is left"));
        let audit = self.rig.machine().audit(self.rig.guest());
        let findings = audit.findings().iter().map(ToString::to_string);
        node.into_iter().chain(findings).collect()
    }
}

/// What has come of a run.
pub(crate) struct Ran {
    pub(crate) differences: Vec<String>,
    pub(crate) left: Vec<String>,
    /// The requests of the guest's that xenstored has dealt with, as they are told.
    pub(crate) requests: Vec<String>,
}

/// Has a player run cases once. The machine's xenstored meets the fault at the request of this number, counted from
/// zero.
pub(crate) fn ran(
    mut player: Player,
    config: &Config,
    profile: &'static Profile,
    cases: Vec<Case>,
    mut fault: Option<(usize, &Fault)>,
) -> Ran {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let (told, count) = (requests.clone(), || locked(&requests).len());
    let machine = Machine::with_xen_and_store(player.seed(), Release::default(), config);
    machine.observe(move |line| {
        let is_request = |what: &str| what.starts_with("XS_") || what.starts_with("type ");
        let what = line.what.split_once(": ").map_or("", |(_, what)| what);
        if line.who == "xenstored" && line.what.starts_with("domain ") && is_request(what) {
            locked(&told).push(what.to_owned());
        }
    });
    let (world, life) = World::new(&mut player, machine, profile, cases);
    while !life.is_finished() {
        // No step deals with more than one request.
        if let Some((_, fault)) = fault.take_if(|(number, _)| *number == count()) {
            assert!(world.rig.machine().distort(world.rig.guest(), fault.clone()), "the guest is connected");
        }
        assert!(player.step(Duration::MAX), "the guest waits for somebody");
    }
    assert!(matches!(life.try_take(), Ok(Ok(Ok(())))), "nobody has cancelled it, and it has started");
    assert_eq!(player.close(), Ok(()));
    let requests = locked(&requests).clone();
    Ran { differences: world.differences(), left: world.left(), requests }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
