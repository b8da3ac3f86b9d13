//! What a Xen could put into the queues of event channels, and what a driver makes of it.
//!
//! An input is a list of [`Action`]s: control block and event words are written, before an upcall and between any two
//! accesses of it; owners ask for their next events. Each upcall ends within its budget, tells each port once for each
//! time that something may have made it pending, writes nothing but what is a guest's to write, and leaves a driver
//! that goes on.
#![deny(unsafe_code)]

mod action;
mod watched;

use std::{
    cell::RefCell,
    collections::BTreeSet,
    mem,
    pin::pin,
    task::{Context, Poll, Waker},
};

use kexec::{
    irql::Dispatch,
    platform::thread::{Thread, passive},
};
use xen_abi::{
    event_channel::fifo::{EVENT_WORDS, HEAD, READY},
    hvm::params::CallbackVia,
    seam::{Access, Gfn},
};
use xen_sim::{GuestConfig, GuestFrame, Machine};
use xenbus::{
    epoch::Epochs,
    event::{Channel, Config, Counts, Events, Slot, Upcall, Vcpu},
};

pub use self::action::{Action, Kind, decode, encode};
use self::watched::{Platform, Scribble};

/// Ports with channels: some in the first page of words, and some in the second.
const PORTS: [u32; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 1024, 1025, 1026, 1027];
/// Ports without.
const STRAYS: [u32; 2] = [9, 1028];
/// The table of ports ends there.
const SLOTS: u32 = 1029;

/// Accesses of an upcall at most: for each link that it may follow, with sixteen tries to change a word; and besides.
const EACH: u32 = 3 + 2 * 16;
const ONCE: u32 = 4;

/// Upcalls that a driver needs at most to come to rest when there is nothing more: a link for each port, and each
/// queue.
const ENOUGH: u32 = SLOTS + 16;

/// Does to a driver what the input says. What was met on the way, by name.
///
/// # Panics
///
/// The driver has done what it must not.
#[must_use]
pub fn evtchn_fifo(input: &[u8]) -> BTreeSet<&'static str> {
    thread_local! {
        /// To start one takes longer than most inputs, and each leaves it as it was.
        static WORLD: RefCell<World> = RefCell::new(World::new());
    }
    WORLD.with_borrow_mut(|world| {
        for action in decode(input) {
            world.act(action);
        }
        world.come_to_rest();
        mem::take(&mut world.met)
    })
}

/// A driver with event channels, and the pages in which Xen tells of them.
struct World {
    platform: Platform,
    events: &'static Events<Platform>,
    channels: Vec<Channel<Platform>>,
    block: GuestFrame,
    words: [Gfn; 2],
    met: BTreeSet<&'static str>,
}

impl World {
    fn new() -> Self {
        let config = GuestConfig { has_store: false, max_evtchn_port: SLOTS, ..GuestConfig::default() };
        let platform = Platform::new(Machine::new(0).create(config));
        let slots: &'static [Slot] = Vec::leak((0..SLOTS).map(|_| Slot::new()).collect());
        let vcpus: &'static [Vcpu<Platform>] = Vec::leak(vec![Vcpu::new()]);
        let events: &'static Events<Platform> = Box::leak(Box::new(Events::new(slots, vcpus)));
        let epoch = Epochs::new().now();
        let config = Config { vcpus: &[0], callback: CallbackVia::Gsi(28), fifo: true, epoch };
        dispatch(|at| events.start(at, platform.clone(), config)).expect("there is room");
        let open = |_| dispatch(|at| events.ipi(at, 0)).expect("there is one");
        let mut channels: Vec<_> = (1..SLOTS).map(open).collect();
        // The others are ports that nobody has.
        channels.retain(|channel| PORTS.contains(&channel.port().0));
        let [block, words @ ..] = platform.allocated();
        let block = platform.physical(block);
        Self { platform, events, channels, block, words, met: BTreeSet::new() }
    }

    fn act(&mut self, Action { kind, which, value }: Action) {
        match kind {
            Kind::Upcall => _ = self.upcall(u32::from(which) + 1),
            Kind::Ask => {
                let is_there = self.ask(usize::from(which) % PORTS.len());
                self.meet(if is_there { "taken" } else { "armed" }, true);
            }
            Kind::Word => self.scribble(which, value).apply(),
            Kind::Later => self.platform.later(self.scribble(which, value)),
            Kind::Restless => self.platform.rest_not(self.scribble(which, value)),
            Kind::Ready => self.block.store(READY, value),
            Kind::Head => {
                self.block.store(HEAD.get(usize::from(which) % HEAD.count()).expect("of sixteen"), value);
            }
        }
    }

    /// A port's word is to be this.
    fn scribble(&self, which: u8, value: u32) -> Scribble {
        let which = usize::from(which) % (PORTS.len() + STRAYS.len());
        let port = *PORTS.iter().chain(&STRAYS).nth(which).expect("it is one of them") as usize;
        let (page, word) = (self.words[port / EVENT_WORDS.count()], port % EVENT_WORDS.count());
        let place = EVENT_WORDS.get(word).expect("it lies in the page");
        Scribble { page: self.platform.physical(page), place, value }
    }

    fn upcall(&mut self, budget: u32) -> Upcall {
        let (told, counts) = (self.told(), self.events.counts());
        self.platform.watch(EACH * budget + ONCE);
        let outcome = self.events.upcall(0, budget);
        let meddled = self.platform.look_away();
        let times: Vec<u32> = self.told().iter().zip(told).map(|(after, before)| after - before).collect();
        let strays = self.events.counts().strays - counts.strays;
        assert!(times.iter().sum::<u32>() + strays <= budget, "{times:?}, {strays} strays of {budget}");
        // Once, and once more for each time that somebody may have made it pending again meanwhile.
        assert!(times.iter().all(|times| *times <= 1 + meddled), "{times:?}, {meddled} changes");
        self.meet("told", times.iter().any(|times| *times > 0));
        self.meet("more", outcome == Upcall::More);
        self.meet_oddities(counts);
        outcome
    }

    /// The events of each port so far.
    fn told(&self) -> Vec<u32> {
        self.channels.iter().map(|channel| channel.counts().events).collect()
    }

    /// The owner of a channel asks for the next event; whether it is there.
    fn ask(&self, which: usize) -> bool {
        let channel = &self.channels[which];
        let cx = &mut Context::from_waker(Waker::noop());
        dispatch(|at| {
            let mut wait = pin!(channel.wait(at));
            // Others come first.
            [(); 2].iter().any(|()| match wait.as_mut().poll(cx) {
                Poll::Ready(outcome) => outcome.is_ok(),
                Poll::Pending => false,
            })
        })
    }

    fn meet(&mut self, name: &'static str, has_happened: bool) {
        if has_happened {
            self.met.insert(name);
        }
    }

    fn meet_oddities(&mut self, before: Counts) {
        let after = self.events.counts();
        self.meet("stray", after.strays != before.strays);
        self.meet("beyond", after.beyond != before.beyond);
        self.meet("not linked", after.not_linked != before.not_linked);
        self.meet("restless", after.restless != before.restless);
    }

    /// Nobody has anything to say any more: then there soon is nothing more to tell, and everything is as it was.
    fn come_to_rest(&mut self) {
        self.platform.forget();
        for which in 0..=u8::MAX {
            self.scribble(which, 0).apply();
        }
        self.block.store(READY, 0);
        let upcalls = (0..ENOUGH).take_while(|_| self.events.upcall(0, 1) == Upcall::More).count();
        assert!(upcalls < ENOUGH as usize, "there is no end");
        // One that was told is taken, and then there is none.
        for (which, port) in PORTS.iter().enumerate() {
            let _ = self.ask(which);
            assert!(!self.ask(which), "port {port} has another");
        }
        for which in 0..=u8::MAX {
            self.scribble(which, watched::MASKED).apply();
        }
    }
}

/// Does something at `DISPATCH_LEVEL`.
fn dispatch<T>(work: impl FnOnce(&Dispatch) -> T) -> T {
    static CPU: Thread<Dispatch> = Thread::new();
    passive(|level| level.raised(&CPU, |at| work(at)))
}
