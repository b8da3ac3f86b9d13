//! Who is called, when, and when not.
#![forbid(unsafe_code)]

use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use kexec::{irql::Dispatch, platform::mock::keep};
use xen_abi::{
    Errno,
    domid::DOMID_SELF,
    hvm::params::{CallbackVia, HVM_PARAM_CALLBACK_IRQ},
};
use xen_sim::{Guest, GuestConfig, Machine, Suspend as Fate};
use xenbus::{
    hypercall::{event_channel, hvm},
    page::{Ram, VcpuInfoPage},
    suspend::{
        Captured, Failure, Full, Listener, Registration, ResumeError, Resumed, Step, Suspend, SuspendError,
        Suspended,
    },
};

use crate::cpus::{Cpus, Log, raised};

type Early = Box<dyn Fn(&Captured<'_>) -> Result<(), ResumeError> + Send + Sync>;
type Late = Box<dyn Fn(&Dispatch) -> Result<(), ResumeError> + Send + Sync>;

/// A listener that says when it is called, and does something.
pub(crate) struct Speaker {
    name: &'static str,
    log: Log,
    early: Early,
    late: Late,
}

impl Speaker {
    pub(crate) fn new(name: &'static str, log: &Log) -> Self {
        Self { name, log: log.clone(), early: Box::new(|_| Ok(())), late: Box::new(|_| Ok(())) }
    }

    fn early(self, early: impl Fn(&Captured<'_>) -> Result<(), ResumeError> + Send + Sync + 'static) -> Self {
        Self { early: Box::new(early), ..self }
    }

    fn late(self, late: impl Fn(&Dispatch) -> Result<(), ResumeError> + Send + Sync + 'static) -> Self {
        Self { late: Box::new(late), ..self }
    }
}

impl Listener for Speaker {
    fn name(&self) -> &'static str {
        self.name
    }

    fn early(&self, captured: &Captured<'_>) -> Result<(), ResumeError> {
        self.log.say(format!("{} early", self.name));
        (self.early)(captured)
    }

    fn late(&self, at: &Dispatch) -> Result<(), ResumeError> {
        self.log.say(format!("{} late", self.name));
        (self.late)(at)
    }
}

/// A guest, and what suspends it.
struct World {
    machine: Machine,
    guest: Guest,
    cpus: Cpus,
    suspend: &'static Suspend<4>,
    log: Log,
}

impl World {
    fn new() -> Self {
        Self::with(GuestConfig::default())
    }

    fn with(config: GuestConfig) -> Self {
        let vcpus = config.vcpus.iter().copied().collect();
        let machine = Machine::new(1);
        let guest = machine.create(config);
        let log = Log::default();
        let cpus = Cpus { guest: guest.clone(), vcpus, log: log.clone() };
        Self { machine, guest, cpus, suspend: keep(Suspend::new()), log }
    }

    fn register(&self, at: &Dispatch, speaker: Speaker) -> Registration<'static> {
        self.suspend.register(at, keep(speaker)).expect("there is room")
    }

    fn speaker(&self, name: &'static str) -> Speaker {
        Speaker::new(name, &self.log)
    }

    /// Suspends the guest, and says what came of it and who was called.
    fn suspend(&self, at: &Dispatch, fate: Fate) -> (Suspended, Vec<String>) {
        self.machine.toolstack().expect_suspend(&self.guest, fate);
        self.log.take();
        let outcome = self.suspend.suspend(at, &self.guest, &self.cpus).expect("nobody else does");
        (outcome, self.log.take())
    }

    /// Who is called if the guest comes back as another domain.
    fn called(&self, at: &Dispatch) -> Vec<String> {
        let (outcome, said) = self.suspend(at, Fate::Migrated);
        assert!(matches!(outcome, Suspended::Resumed(Resumed { failures: 0, first: None, .. })), "{outcome}");
        let calls = said.into_iter().filter(|line| line.ends_with(" early") || line.ends_with(" late"));
        calls.collect()
    }
}

/// First everybody's early step, in the order of the registrations, with interrupts off; then, with interrupts, but
/// before anybody else goes on, everybody's late one. By then it is another epoch, the next; but nobody is told
/// before all is done.
#[test]
fn the_order() {
    let world = World::new();
    raised(|at| {
        let epochs = world.suspend.epochs();
        let first = epochs.now();
        let log = world.log.clone();
        let new = move || {
            assert_ne!(epochs.now(), first);
            let is_told = raised(|at| epochs.after(at, first).now_or_never().is_some());
            log.say(if is_told { "told" } else { "not told" });
            Ok(())
        };
        let late = new.clone();
        let _one = world.register(at, world.speaker("one").early(move |_| new()).late(move |_| late()));
        let _two = world.register(at, world.speaker("two"));
        let _three = world.register(at, world.speaker("three"));
        assert!(epochs.after(at, first).now_or_never().is_none());
        let (outcome, said) = world.suspend(at, Fate::Migrated);
        let expected = [
            "[",
            "interrupts off",
            "one early",
            "not told",
            "two early",
            "three early",
            "interrupts on",
            "one late",
            "not told",
            "two late",
            "three late",
            "]",
        ];
        assert_eq!(said, expected);
        let second = epochs.now();
        assert_eq!(outcome, Suspended::Resumed(Resumed { epoch: second, failures: 0, first: None }));
        assert_eq!(epochs.after(at, first).now_or_never(), Some(second));
        assert!(epochs.after(at, second).now_or_never().is_none());
    });
}

/// Each resume counts for one, however many CPUs and listeners there are; a cancelled suspend counts for nothing.
#[test]
fn the_count() {
    let world = World::with(GuestConfig { vcpus: [0, 1, 2].into(), ..GuestConfig::default() });
    raised(|at| {
        let epochs = world.suspend.epochs();
        let each = |captured: &Captured<'_>| {
            captured.on_each_cpu(|_| ());
            Ok(())
        };
        let _registered = world.register(at, world.speaker("service").early(each));
        for expected in 1..4 {
            world.suspend(at, Fate::Cancelled);
            world.suspend(at, Fate::Migrated);
            world.suspend(at, Fate::Cancelled);
            assert_eq!(epochs.count(), expected);
        }
    });
}

/// What Xen takes from a virtual CPU itself only, each of them can do, by its own number.
#[test]
fn each_cpu() {
    let vcpus = [0, 3, 7];
    let world = World::with(GuestConfig { vcpus: vcpus.into(), ..GuestConfig::default() });
    raised(|at| {
        let register = |vcpu| {
            let page = Ram::allocate(&world.guest).expect("there is room");
            (vcpu, world.guest.on(vcpu, || VcpuInfoPage::register(page, vcpu)).expect("it has none"))
        };
        let pages: Vec<_> = vcpus.map(register).into();
        let renewed = Arc::new(Mutex::new(Vec::new()));
        let seen = renewed.clone();
        let renew = move |captured: &Captured<'_>| {
            captured.on_each_cpu(|vcpu| {
                let page = pages.iter().find(|(of, _)| *of == vcpu).expect("each has a page");
                seen.lock().expect("nobody panics").push((vcpu, page.1.renew(vcpu)));
            });
            Ok(())
        };
        let _registered = world.register(at, world.speaker("pages").early(renew));
        world.called(at);
        assert_eq!(*renewed.lock().expect("nobody panics"), vcpus.map(|vcpu| (vcpu, Ok(()))));
    });
}

/// A cancelled suspend is one hypercall, and nothing else has happened: no listener is called, nobody is told, not a
/// byte is written; and what the guest has is what it had.
#[test]
fn cancelled() {
    let world = World::new();
    let (guest, machine) = (&world.guest, &world.machine);
    hvm::set_param(guest, HVM_PARAM_CALLBACK_IRQ, CallbackVia::Gsi(28).to_param()).expect("it may");
    let port = event_channel::alloc_unbound(guest, DOMID_SELF).expect("there is room");
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = lines.clone();
    machine.observe(move |line| {
        if !line.is_detail {
            seen.lock().expect("nobody panics").push(line.what.clone());
        }
    });
    raised(|at| {
        let _registered = world.register(at, world.speaker("service"));
        let epochs = world.suspend.epochs();
        let epoch = epochs.now();
        for _ in 0..2 {
            let state = || (guest.domain(), event_channel::status(guest, port).expect("it is open"));
            let (before, mut counts) = (state(), machine.counts());
            lines.lock().expect("nobody panics").clear();
            let (outcome, said) = world.suspend(at, Fate::Cancelled);
            assert_eq!(outcome, Suspended::Cancelled);
            assert_eq!(said, ["[", "interrupts off", "interrupts on", "]"]);
            *counts.entry("hypercalls").or_default() += 1;
            assert_eq!(machine.counts(), counts);
            let told = lines.lock().expect("nobody panics").clone();
            assert_eq!(told, ["domain 1 has shut down: suspend", "resumes domain 1, which has lost nothing"]);
            assert_eq!(state(), before);
            assert_eq!(epochs.now(), epoch);
            assert!(epochs.after(at, epoch).now_or_never().is_none());
        }
        event_channel::close(guest, port).expect("it is open still");
    });
}

/// Steps that fail are counted, the first of them is named, and all the others are done, those of the one that has
/// failed too.
#[test]
fn failures() {
    let world = World::new();
    raised(|at| {
        let _one = world.register(at, world.speaker("one").late(|_| Err(ResumeError::Other("no line"))));
        let _two = world.register(at, world.speaker("two").early(|_| Err(Errno::ENOSYS.into())));
        let _three = world.register(at, world.speaker("three").late(|_| Err(Errno::ENOMEM.into())));
        let (outcome, said) = world.suspend(at, Fate::Migrated);
        let error = ResumeError::Xen(Errno::ENOSYS);
        let first = Some(Failure { listener: "two", step: Step::Early, error });
        let epoch = world.suspend.epochs().now();
        assert_eq!(outcome, Suspended::Resumed(Resumed { epoch, failures: 3, first }));
        assert_eq!(said.iter().filter(|line| line.ends_with("early") || line.ends_with("late")).count(), 6);
        let text = outcome.to_string();
        assert!(text.contains("3 steps") && text.contains("two, early") && text.contains("ENOSYS"), "{text}");
        assert!(world.suspend.epochs().count() == 1, "it is another domain all the same");
    });
}

/// Who has dropped the registration is not called; a later one that gets its place is called after those that were
/// there.
#[test]
fn registrations() {
    let world = World::new();
    raised(|at| {
        let one = world.register(at, world.speaker("one"));
        let two = world.register(at, world.speaker("two"));
        let three = world.register(at, world.speaker("three"));
        drop(one);
        assert_eq!(world.called(at), ["two early", "three early", "two late", "three late"]);
        let four = world.register(at, world.speaker("four"));
        drop(two);
        assert_eq!(world.called(at), ["three early", "four early", "three late", "four late"]);
        let others = ["five", "six"].map(|name| world.register(at, world.speaker(name)));
        let refused = world.suspend.register(at, keep(world.speaker("seven")));
        assert_eq!(refused.err(), Some(Full(4)));
        drop((three, four, others));
        assert!(world.called(at).is_empty());
    });
}

/// A place for a registration, which a listener can take it from.
type Held = Arc<Mutex<Option<Registration<'static>>>>;

fn put(registration: Registration<'static>) -> Held {
    Arc::new(Mutex::new(Some(registration)))
}

fn end(held: &Held) {
    drop(held.lock().expect("nobody panics").take());
}

/// Listeners may end registrations while they are called, their own and those of others: from then on these are not
/// called, in the same suspend.
#[test]
fn ended_while_it_runs() {
    let world = World::new();
    raised(|at| {
        let [own, next, before]: [Held; 3] = Default::default();
        let ends = |held: &Held| {
            let held = held.clone();
            move |_: &Captured<'_>| {
                end(&held);
                Ok(())
            }
        };
        let (late_own, late_before) = (own.clone(), before.clone());
        let fill =
            |held: &Held, speaker| *held.lock().expect("nobody panics") = Some(world.register(at, speaker));
        fill(&before, world.speaker("before"));
        let _one = world.register(at, world.speaker("one").early(ends(&next)));
        fill(&next, world.speaker("next"));
        fill(
            &own,
            world.speaker("own").late(move |_| {
                end(&late_own);
                end(&late_before);
                Ok(())
            }),
        );
        let called = ["before early", "one early", "own early", "before late", "one late", "own late"];
        assert_eq!(world.called(at), called);
        assert_eq!(world.called(at), ["one early", "one late"]);
    });
}

/// A listener may register another, which is up already in this epoch, and is called from the next on; even if it
/// gets the place of one that has just ended.
#[test]
fn registered_while_it_runs() {
    let world = World::new();
    raised(|at| {
        let added: Held = Held::default();
        let (suspend, log, place) = (world.suspend, world.log.clone(), added.clone());
        let old = put(world.register(at, world.speaker("old")));
        let adds = move |captured: &Captured<'_>| {
            end(&old);
            let mut place = place.lock().expect("nobody panics");
            place.get_or_insert_with(|| {
                suspend.register(captured.at(), keep(Speaker::new("new", &log))).expect("there is room")
            });
            Ok(())
        };
        let _adds = world.register(at, world.speaker("adds").early(adds));
        assert_eq!(world.called(at), ["old early", "adds early", "adds late"]);
        assert_eq!(world.called(at), ["adds early", "new early", "adds late", "new late"]);
        end(&added);
    });
}

/// Who asks while a suspend runs is told so, and disturbs nothing; afterwards it is possible again.
#[test]
fn a_second_one() {
    let world = World::new();
    raised(|at| {
        let asks: Arc<Mutex<Vec<Result<Suspended, SuspendError>>>> = Arc::default();
        let ask = || {
            let (asks, suspend, guest, log) =
                (asks.clone(), world.suspend, world.guest.clone(), Log::default());
            move |at: &Dispatch| {
                let cpus = Cpus { guest: guest.clone(), vcpus: vec![0], log: log.clone() };
                asks.lock().expect("nobody panics").push(suspend.suspend(at, &guest, &cpus));
                assert!(log.take().is_empty(), "nobody is captured for that");
                Ok(())
            }
        };
        let (early, late) = (ask(), ask());
        let service = world.speaker("service").early(move |captured| early(captured.at())).late(late);
        let _service = world.register(at, service);
        for number in 1..3 {
            let (outcome, _) = world.suspend(at, Fate::Migrated);
            assert!(matches!(outcome, Suspended::Resumed(Resumed { failures: 0, .. })), "{outcome}");
            let asked = std::mem::take(&mut *asks.lock().expect("nobody panics"));
            assert_eq!(asked, [Err(SuspendError::Running); 2]);
            assert_eq!(world.suspend.epochs().count(), number);
        }
    });
}
