//! What a backend and a toolstack can do to a frontend.
//!
//! An input is a list of [`Action`]s: keys of both halves of a device become anything, go, and come again; requests
//! are refused; the guest is suspended, its driver stopped, and time goes by. [`serve`] has a frontend live through
//! that which does nothing but live. It never comes to no rest, says of itself only what may come after what it has
//! said before, and begins and ends its connections by turns. If it is one that stays when it is wanted back, it stays
//! until it is stopped. When there is a device as toolstacks make them, with a backend that does what it should, it
//! connects; and in the end nothing is left.
#![forbid(unsafe_code)]

mod action;
mod frontend;
mod host;

use std::{cell::RefCell, collections::BTreeSet, pin::pin, sync::atomic::Ordering::Relaxed, time::Duration};

use futures_util::future::select;
use kexec::{
    Budget, Executor, JoinHandle, Pool,
    irql::Dispatch,
    platform::{
        mock::{Mock, Plan, keep},
        thread::{Thread, passive},
    },
    shielded,
    sync::ManualEvent,
    time::timeout,
};
use xen_abi::{hvm::params::CallbackVia, io::xs_wire::XsError};
use xen_harness::Alone;
use xen_sim::{
    Actor, Culprit, Finding, Guest, GuestConfig, Machine, Mistake, Suspend as Fate, xenstored::Fault,
};
use xenbus::{
    bus::Native,
    event::{Config, Events, Slot, Upcall, Vcpu},
    frontend::{End, serve},
    grant::{Frame, Grants},
    store::{PATIENCE, Store},
    suspend::Suspend,
};

pub use self::action::{ANSWERS, Action, BACKEND, FRONTEND, Kind, VALUES, encode};
use self::{
    action::{decode, one_of},
    frontend::{Books, Plain, Stage},
    host::Host,
};

/// More actions than that teach nothing, but take their time.
const MOST_ACTIONS: usize = 24;

/// Steps after an action, or an alarm, in which everybody comes to rest.
const MOST_STEPS: u32 = 2000;

/// Failures in the time of an action, which is four minutes: a frontend waits longer after each attempt, and has three
/// things to complain about.
const MOST_FAILURES: u32 = 3 * 12;

/// Inputs for which one guest will do: each migration takes a number of a domain.
const INPUTS: u32 = 500;

/// A guest with a bus driver. Making it takes longer than a run.
#[derive(Clone)]
struct Bench {
    machine: Machine,
    guest: Guest,
    native: &'static Native<Guest>,
    grants: &'static Grants<Guest>,
    suspend: &'static Suspend,
    executor: &'static Executor<Mock>,
    slots: &'static Pool<16384, 2>,
    /// The services are not needed any more.
    over: &'static ManualEvent,
    books: &'static Books,
}

thread_local! {
    static BENCH: RefCell<Option<(Bench, u32)>> = const { RefCell::new(None) };
}

/// Has a frontend live through what the input says. The names of what it has met.
///
/// # Panics
///
/// It has done what it must not.
#[must_use]
pub fn xenbus_state(input: &[u8]) -> BTreeSet<&'static str> {
    let kept = BENCH.take().filter(|(_, inputs)| *inputs < INPUTS);
    let (bench, inputs) = kept.unwrap_or_else(|| (Bench::new(), 0));
    let met = dispatch(|at| Run::new(bench.clone()).play(at, input));
    BENCH.set(Some((bench, inputs + 1)));
    met
}

fn dispatch<R>(work: impl FnOnce(&Dispatch) -> R) -> R {
    passive(|passive| passive.raised(&Thread::<Dispatch>::new(), |at| work(at)))
}

impl Bench {
    fn new() -> Self {
        let machine = Machine::new(0);
        let guest = machine.create(GuestConfig::default());
        let suspend: &'static Suspend = keep(Suspend::new());
        let slots: &'static [Slot] = Vec::leak((0..8).map(|_| Slot::new()).collect());
        let vcpus: &'static [Vcpu<Guest>] = Vec::leak(vec![Vcpu::new()]);
        let frames: &'static [Frame<Guest>] = Vec::leak(vec![Frame::new()]);
        let events: &'static Events<Guest> = keep(Events::new(slots, vcpus));
        let grants = Grants::new(guest.clone(), suspend.epochs(), frames).expect("Xen has a table");
        let grants: &'static Grants<Guest> = keep(grants);
        let store: &'static Store<Guest> = keep(Store::new());
        guest.on_upcall(|_, _| while events.upcall(0, 64) == Upcall::More {});
        Self {
            native: keep(Native::new(guest.clone(), suspend, events, grants, store)),
            machine,
            guest,
            grants,
            suspend,
            executor: Executor::leak(Mock::new(Plan::CALM), Budget::new(1, Duration::MAX)),
            slots: keep(Pool::new()),
            over: keep(ManualEvent::new(false)),
            books: keep(Books::default()),
        }
    }
}

async fn services(at: &mut Dispatch, bench: Bench) {
    let Bench { native, over, .. } = bench;
    let life = async {
        over.wait().await;
        let _ = timeout(PATIENCE, native.settled(at)).await;
    };
    shielded(select(pin!(native.serve(at)), pin!(life))).await;
}

async fn device(at: &mut Dispatch, bench: Bench) -> End {
    serve(at, &bench.native, "device/plain/0", &mut Plain(bench.books)).await
}

struct Run {
    bench: Bench,
    host: Host,
    device: Option<JoinHandle<End>>,
    /// What the frontend has said last of itself.
    said: Option<String>,
    /// It was the frontend who has said that.
    is_own: bool,
    /// Xenstored has not always done what it should.
    is_distorted: bool,
}

impl Run {
    fn new(bench: Bench) -> Self {
        let host = Host::new(&bench.machine, &bench.guest);
        bench.executor.platform().forget_trace();
        bench.over.reset();
        bench.books.stays.store(false, Relaxed);
        Self { bench, host, device: None, said: None, is_own: false, is_distorted: false }
    }

    fn play(mut self, at: &Dispatch, input: &[u8]) -> BTreeSet<&'static str> {
        let Bench { native, suspend, executor, slots, .. } = self.bench;
        let config =
            Config { vcpus: &[0], callback: CallbackVia::Gsi(28), fifo: true, epoch: suspend.epochs().now() };
        native.start(at, config).expect("nothing refuses it");
        let services = executor.spawn(slots, services, self.bench.clone()).expect("a slot is free");
        self.host.make();
        for action in decode(input).take(MOST_ACTIONS) {
            self.have_served();
            let stays = action.is_patient() && self.bench.books.stage() == Stage::Stays;
            self.act(at, action);
            self.settle();
            // A backend that behaves may have gone further than it was told to.
            if stays && matches!(self.host.backend_state().as_deref(), Some("4" | "5")) {
                let stage = self.bench.books.stage();
                assert!(stage == Stage::Stays || self.is_distorted, "it was to stay: {stage:?}");
            }
        }
        self.have_served();
        // What comes now is the same for all.
        let met = self.bench.books.take_met();
        self.is_as_good_as_new();
        let device = self.device.take().expect("it is served");
        assert_eq!(self.stop(device), End::Stopped);
        assert_eq!(self.host.frontend_state().as_deref(), Some("6"), "it has left the device closed");
        self.bench.over.set();
        self.until(2 * PATIENCE, |_| services.is_finished());
        assert!(services.try_take().is_ok(), "the services come to their end");
        assert_eq!(native.stop(at), Ok(()));
        self.host.remove();
        self.audit(at);
        let last = self.bench.books.take_met();
        // Who runs, and closes in good order, takes what is still to come; unless it learns by a refusal that it
        // cannot go on.
        let is_finished = !met.union(&last).any(|what| *what == "never finished");
        assert!(is_finished || self.is_distorted, "it was closed before it had finished");
        assert!(!met.contains("did not stay"), "nobody had stopped it");
        met
    }

    /// Has the device served, as a bus does that follows those that come and go.
    fn have_served(&mut self) {
        if let Some(device) = self.device.take() {
            match device.try_take() {
                Ok(end) => {
                    assert_eq!(end, Ok(End::Gone), "nobody has stopped it");
                    assert_eq!(self.bench.books.stage(), Stage::None);
                    if self.is_own && self.said.as_deref() == Some("6") {
                        self.bench.books.meet("said that it ends");
                    }
                    self.bench.books.meet("gone");
                }
                Err(serving) => self.device = Some(serving),
            }
        }
        if self.device.is_none() && self.host.has_device() {
            let Bench { executor, slots, .. } = self.bench;
            self.device = Some(executor.spawn(slots, device, self.bench.clone()).expect("a slot is free"));
            self.settle();
        }
    }

    fn act(&mut self, at: &Dispatch, action: Action) {
        let Bench { machine, guest, suspend, .. } = self.bench.clone();
        let before = self.host.frontend_state();
        match action.kind {
            Kind::Refuse => {
                let errors = XsError::ALL;
                let error = errors[usize::from(action.value) % errors.len()];
                self.is_distorted |= machine.distort(&guest, Fault::Refuse(error));
            }
            Kind::Answer => {
                let answer = one_of(ANSWERS, action.value).to_vec();
                self.is_distorted |= machine.distort(&guest, Fault::Payload(answer));
            }
            Kind::Suspend => {
                let fate = if action.which.is_multiple_of(2) { Fate::Cancelled } else { Fate::Migrated };
                machine.toolstack().expect_suspend(&guest, fate);
                let domain = guest.domain();
                suspend.suspend(at, &guest, &Alone(&guest)).expect("Xen does not refuse it");
                if guest.domain() != domain {
                    self.host.make();
                }
            }
            Kind::Time => {
                self.bench.books.take_failures();
                self.until(Duration::from_secs(action.value.into()), |_| false);
                let failures = self.bench.books.take_failures();
                assert!(failures <= MOST_FAILURES, "it has tried and failed {failures} times");
                return;
            }
            Kind::Stay => self.bench.books.stays.store(action.which.is_multiple_of(2), Relaxed),
            Kind::Stop => {
                if let Some(device) = self.device.take() {
                    self.stop(device);
                }
                return;
            }
            _ => self.host.act(action),
        }
        // Or somebody else in its name.
        self.said = self.host.frontend_state();
        if self.said != before {
            self.is_own = false;
        }
    }

    /// Everybody goes on until there is nothing to do for anybody before some alarm.
    fn settle(&mut self) {
        for _ in 0..MOST_STEPS {
            if self.bench.executor.step() {
                continue;
            }
            let actor = self.bench.machine.ready().into_iter().next();
            match actor {
                Some(actor) => self.bench.machine.step(actor),
                None if self.host.follow() => {}
                None => return,
            }
            if actor == Some(Actor::Xenstored) {
                self.listen();
            }
        }
        panic!("it does not come to rest");
    }

    /// Lets time go by, for so long or until something is so.
    fn until(&mut self, time: Duration, is_so: impl Fn(&Self) -> bool) {
        let mock = self.bench.executor.platform();
        let end = mock.time().after(time);
        loop {
            self.settle();
            if is_so(self) {
                return;
            }
            let next = mock.due().filter(|due| *due <= end).unwrap_or(end);
            mock.pass(next.since(mock.time()));
            if next == end {
                return self.settle();
            }
        }
    }

    /// What the frontend says now may come after what it has said before.
    fn listen(&mut self) {
        let says = self.host.frontend_state();
        if says != self.said {
            let (before, after) = (self.said.as_deref(), says.as_deref());
            // What it was not let say, it has not said.
            let is_refused = self.is_distorted && (before, after) == (Some("5"), Some("1"));
            let may = !self.is_own || is_refused || may_follow(before, after);
            assert!(may, "the frontend was {before:?}, and is {after:?}");
            self.said = says;
            self.is_own = true;
        }
    }

    /// There is a device as on the first day, with a backend that does what it should: the frontend connects.
    fn is_as_good_as_new(&mut self) {
        self.host.behaves = true;
        self.host.remove();
        self.said = None;
        // Long enough for a frontend that is through with the backend to see that it is gone, whatever it is refused.
        self.until(Duration::from_mins(10), |_| false);
        self.host.make();
        self.said = self.host.frontend_state();
        self.is_own = false;
        for _ in 0..180 {
            self.have_served();
            self.until(Duration::from_secs(10), Self::is_connected);
            if self.is_connected() {
                return;
            }
        }
        panic!("it does not connect: {:?}, {:?}", self.bench.books, self.said);
    }

    fn is_connected(&self) -> bool {
        self.bench.books.stage() == Stage::Runs && self.host.is_connected()
    }

    /// The driver is stopped, whatever it does just now: it ends, without a connection.
    fn stop(&mut self, device: JoinHandle<End>) -> End {
        let books = self.bench.books;
        let stays = books.stage() == Stage::Stays;
        books.is_stopped.store(true, Relaxed);
        device.abort();
        self.until(Duration::from_mins(10), |_| device.is_finished());
        let end = device.try_take().expect("it comes to its end").expect("it ends by itself");
        books.is_stopped.store(false, Relaxed);
        assert_eq!(books.stage(), Stage::None);
        books.meet(if stays { "stopped while it stayed" } else { "stopped" });
        end
    }

    /// Nothing is left.
    fn audit(&self, at: &Dispatch) {
        assert!(self.bench.grants.close(at).is_ok(), "nobody has a reference");
        let audit = self.bench.machine.audit(&self.bench.guest);
        // What xenstored was told and has not understood, it does not do.
        let is_excused = |finding: &&Finding| {
            self.is_distorted && matches!(finding.mistake, Mistake::WatchLeft | Mistake::TransactionLeft)
        };
        let findings = audit.of(Culprit::Guest).filter(|finding| !is_excused(finding));
        assert_eq!(findings.count(), 0, "{audit}");
    }
}

/// `blkif.h`, "STATE DIAGRAMS", and the states of `xenbus.h`: a frontend goes through all of them, but it may begin
/// to close at any time; and without a backend there is nobody to close with: then it begins anew, or has ended.
fn may_follow(before: Option<&str>, after: Option<&str>) -> bool {
    match (before, after) {
        (Some("1"), after) => matches!(after, Some("3" | "5" | "6")),
        (Some("3"), after) => matches!(after, Some("1" | "4" | "5" | "6")),
        (Some("4"), after) => matches!(after, Some("1" | "5" | "6")),
        (Some("5"), after) => matches!(after, Some("6")),
        (Some("6"), after) => matches!(after, Some("1" | "5")),
        _ => false,
    }
}
