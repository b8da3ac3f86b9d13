//! From start to stop, and through suspends.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeSet,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Wake, Waker},
};

use xen_abi::{
    domid::DomId,
    event_channel::{Channel as Kind, EvtchnPort},
    hvm::params::{CallbackVia, HVM_PARAM_CALLBACK_IRQ, HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_STORE_EVTCHN},
};
use xen_sim::{Guest, GuestConfig, Suspend};
use xenbus::{
    epoch::Epochs,
    event::{
        AttachError, ChannelError, Config, Disconnected, Events, OpenError, Slot, StartError, StopError,
        Upcall, Vcpu,
    },
    hypercall::{event_channel, hvm},
};

use crate::support::{Bench, Driver, comes, dispatch, poll};

const DOM0: DomId = DomId(0);

fn bench(fifo: bool) -> Bench {
    Bench::new(GuestConfig { vcpus: BTreeSet::from([0, 1]), ..GuestConfig::default() }, 16, fifo)
}

/// What can be wrong with what a driver asks for is said before anything is done.
#[test]
fn what_cannot_start() {
    let bench = bench(true);
    let other = Driver::new(&bench.guest, &[0], 4, true);
    let start = |vcpus: &[u32]| {
        let epoch = Epochs::new().now();
        let config = Config { vcpus, callback: CallbackVia::Gsi(28), fifo: true, epoch };
        dispatch(|at| other.events.start(at, bench.guest.clone(), config))
    };
    assert_eq!(start(&[]), Err(StartError::NoVcpus));
    assert_eq!(start(&[1]), Err(StartError::FirstVcpu(1)));
    assert_eq!(start(&[0, 1]), Err(StartError::TooManyVcpus { vcpus: 2, places: 1 }));
    assert_eq!(dispatch(|at| bench.driver.start(at)), Err(StartError::Started));
    let nothing = dispatch(|at| other.events.unbound(at, DOM0)).map(drop);
    assert_eq!(nothing, Err(OpenError::NotStarted));
    assert_eq!(dispatch(|at| other.events.fixed(at, EvtchnPort(1))).map(drop), Err(OpenError::NotStarted));
    assert_eq!(dispatch(|at| other.events.attach_vcpu(at, 0, None)), Err(AttachError::NoSuchPlace(0)));
    assert_eq!(other.events.upcall(0, 1), Upcall::None);
    assert_eq!(other.events.upcall(7, 1), Upcall::None);
    assert_eq!((other.events.is_fifo(), bench.events().is_fifo()), (None, Some(true)));
    assert_eq!(dispatch(|at| other.events.stop(at)), Ok(()), "there is nothing to stop");
    bench.end();
}

/// Without memory nothing has started, and nothing is left, whichever page it is that cannot be had.
#[test]
fn without_memory() {
    for fifo in [true, false] {
        let bench = bench(fifo);
        assert_eq!(dispatch(|at| bench.events().stop(at)), Ok(()));
        let mut refused = 0;
        for nth in 1.. {
            bench.guest.fail_allocation(nth);
            let started = dispatch(|at| bench.driver.start(at));
            bench.guest.fail_allocation(0);
            let Err(error) = started else { break };
            assert!(
                matches!(error, StartError::SharedInfo(_) | StartError::Vcpu(AttachError::NoMemory { .. })),
                "{error}"
            );
            refused += 1;
        }
        assert_eq!(refused, if fifo { 2 } else { 1 });
        bench.end();
    }
}

/// A Xen without the FIFO ABI is no error: it is the bitmaps then.
#[test]
fn an_old_xen() {
    let config = GuestConfig { fifo: false, has_store: false, ..GuestConfig::default() };
    let bench = Bench::new(config, 16, true);
    assert_eq!(bench.events().is_fifo(), Some(false));
    let ipi = dispatch(|at| bench.events().ipi(at, 0)).expect("there is one");
    assert!(!comes(&ipi));
    dispatch(|at| ipi.notify(at)).expect("it is its own other end");
    bench.settle();
    assert!(comes(&ipi));
    drop(ipi);
    bench.end();
}

/// A channel keeps its events' pages where they are: it is dropped first.
#[test]
fn channels_are_dropped_first() {
    let bench = bench(true);
    let channel = dispatch(|at| bench.events().unbound(at, DOM0)).expect("there is one");
    let slot = channel.port().0 as usize;
    assert_eq!(dispatch(|at| bench.events().stop(at)), Err(StopError::Open(slot)));
    assert_eq!(bench.events().is_fifo(), Some(true), "nothing has changed");
    drop(channel);
    bench.end();
}

/// The toolstack's port is opened once at a time, heard of, and not closed.
#[test]
fn a_port_of_the_toolstacks() {
    let bench = bench(true);
    let port = bench.machine.dom0().alloc_unbound_for(&bench.guest).expect("there is one");
    let other = bench.machine.dom0().bind_interdomain(&bench.guest, port).expect("it waits for it");
    let open = || dispatch(|at| bench.events().fixed(at, EvtchnPort(port)));
    let upcalls = || {
        bench.machine.dom0().send(other).expect("it is connected");
        bench.settle();
        bench.driver.upcalls().len()
    };
    for _ in 0..2 {
        // Whatever somebody has made of it before, nothing comes before somebody waits, nor after that.
        event_channel::unmask(&bench.guest, EvtchnPort(port)).expect("it is open");
        let channel = open().expect("it is free");
        assert_eq!(open().map(drop), Err(OpenError::InUse(EvtchnPort(port))));
        let before = upcalls();
        assert_eq!(upcalls(), before);
        assert!(comes(&channel));
        assert!(!comes(&channel));
        assert_eq!(upcalls(), before + 1);
        assert!(comes(&channel));
        assert!(!comes(&channel));
        drop(channel);
        assert_eq!(upcalls(), before + 1);
    }
    assert_eq!(bench.events().counts().strays, 0);
    assert_eq!(open().expect("it is free").port(), EvtchnPort(port));
    let kind = event_channel::status(&bench.guest, EvtchnPort(port)).expect("it is there").channel();
    assert!(matches!(kind, Some(Kind::Interdomain(..))), "{kind:?}");
    event_channel::close(&bench.guest, EvtchnPort(port)).expect("it is open");
    bench.end();
}

/// What a port's two daemons say of where they are.
fn toolstacks(guest: &Guest) -> [(u64, Option<Kind>); 2] {
    [HVM_PARAM_STORE_EVTCHN, HVM_PARAM_CONSOLE_EVTCHN].map(|parameter| {
        let port = hvm::get_param(guest, parameter).expect("it may");
        let status = event_channel::status(guest, EvtchnPort(u32::try_from(port).expect("a port")));
        (port, status.expect("it is there").channel())
    })
}

/// A driver that has crashed has left the FIFO ABI behind: the next one clears that away, and the toolstack's channels
/// are connected as before.
#[test]
fn after_a_driver_that_has_crashed() {
    for fifo in [true, false] {
        let bench = bench(true);
        let before = toolstacks(&bench.guest);
        assert_eq!(dispatch(|at| bench.driver.attach(at)), Ok(()));
        // This one leaves a port, its pages and its place in memory behind.
        let left = dispatch(|at| bench.events().unbound(at, DOM0)).expect("there is one");
        bench.guest.tolerate("PRIORITY_OF_CLOSED");
        let next = Driver::new(&bench.guest, &[0, 1], 16, fifo);
        next.handle(8);
        assert_eq!(dispatch(|at| next.start(at)), Ok(()));
        assert_eq!(next.events.is_fifo(), Some(fifo));
        let kinds = |of: [(u64, Option<Kind>); 2]| of.map(|(_, kind)| kind);
        assert_eq!(kinds(toolstacks(&bench.guest)), kinds(before), "at the same other ends");
        let port = toolstacks(&bench.guest)[0].0;
        let store = dispatch(|at| next.events.fixed(at, EvtchnPort(u32::try_from(port).expect("a port"))));
        assert!(comes(&store.expect("it is free")), "a channel is pending when it is bound");
        assert_eq!(dispatch(|at| next.events.stop(at)), Ok(()));
        drop(left);
    }
}

/// After a stop, what the toolstack has made is there, and upcalls come no more.
#[test]
fn the_toolstacks_channels_stay() {
    let bench = bench(true);
    let before = toolstacks(&bench.guest).map(|(_, kind)| kind);
    for _ in 0..3 {
        assert_eq!(dispatch(|at| bench.events().stop(at)), Ok(()));
        assert_eq!(hvm::get_param(&bench.guest, HVM_PARAM_CALLBACK_IRQ), Ok(0));
        assert_eq!(toolstacks(&bench.guest).map(|(_, kind)| kind), before);
        assert_eq!(dispatch(|at| bench.driver.start(at)), Ok(()));
        assert_eq!(hvm::get_param(&bench.guest, HVM_PARAM_CALLBACK_IRQ), Ok(28));
    }
    bench.end();
}

/// In the next domain a channel is dead. All who wait for it learn that, and whoever asks; Xen hears nothing of it.
#[test]
fn a_suspend_ends_every_wait() {
    for fifo in [true, false] {
        let bench = bench(fifo);
        let channel = dispatch(|at| bench.events().unbound(at, DOM0)).expect("there is one");
        bench.machine.toolstack().expect_suspend(&bench.guest, Suspend::Cancelled);
        dispatch(|at| {
            let mut waits = [pin!(channel.wait(at)), pin!(channel.wait(at)), pin!(channel.wait(at))];
            assert!(waits.iter_mut().all(|wait| poll(wait.as_mut()).is_none()));
            bench.driver.suspend(at);
            assert!(waits.iter_mut().all(|wait| poll(wait.as_mut()).is_none()), "nothing has changed");
            bench.machine.toolstack().expect_suspend(&bench.guest, Suspend::Migrated);
            bench.driver.suspend(at);
            for wait in &mut waits {
                assert_eq!(poll(wait.as_mut()), Some(Err(Disconnected)));
            }
        });
        let before = bench.machine.counts();
        dispatch(|at| {
            assert!(!channel.is_connected());
            assert_eq!(poll(pin!(channel.wait(at))), Some(Err(Disconnected)));
            assert_eq!(channel.notify(at), Err(ChannelError::Disconnected));
            assert_eq!(channel.bind(at, 0), Err(ChannelError::Disconnected));
            assert_eq!(
                channel.set_priority(at, xenbus::event::Priority::DEFAULT),
                Err(ChannelError::Disconnected)
            );
        });
        assert_ne!(channel.epoch(), bench.driver.epochs.now());
        drop(channel);
        assert_eq!(bench.machine.counts(), before, "no hypercall");
        bench.end();
    }
}

/// The numbers of ports begin anew in the next domain. A channel of before that nobody has dropped yet is in nobody's
/// way, as long as there are slots.
#[test]
fn dead_channels_are_in_nobodys_way() {
    let config = GuestConfig { has_store: false, ..GuestConfig::default() };
    let bench = Bench::new(config, 8, true);
    let open = || dispatch(|at| bench.events().ipi(at, 0));
    let dead = [(); 4].map(|()| open().expect("there is one"));
    bench.machine.toolstack().expect_suspend(&bench.guest, Suspend::Migrated);
    dispatch(|at| bench.driver.suspend(at));
    let live: Vec<_> = (0..4).map(|_| open().expect("half of the slots are free")).collect();
    assert_eq!(live.iter().map(|channel| channel.port().0).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(open().map(drop), Err(OpenError::NoSlot(8)));
    assert!(!live.iter().any(comes));
    for channel in &live {
        dispatch(|at| channel.notify(at)).expect("it is its own other end");
    }
    bench.settle();
    assert!(live.iter().all(comes));
    assert!(dead.iter().all(|channel| channel.counts().events == 0), "it is not told of another's");
    drop(dead);
    // The live ones are served as before.
    dispatch(|at| live[2].notify(at)).expect("it is its own other end");
    assert!(comes(&live[2]));
    let again = [(); 3].map(|()| open().expect("their slots are free"));
    drop((live, again));
    bench.end();
}

/// What was left of an upcall's queues is nothing in the next domain: they begin anew.
#[test]
fn a_suspend_in_the_middle_of_an_upcall() {
    for fifo in [true, false] {
        let config = GuestConfig { has_store: false, ..GuestConfig::default() };
        let bench = Bench::new(config, 16, fifo);
        for _ in 0..2 {
            let channels = [(); 4].map(|()| dispatch(|at| bench.events().ipi(at, 0)).expect("there is one"));
            assert!(!channels.iter().any(comes));
            for channel in &channels {
                dispatch(|at| channel.notify(at)).expect("it is its own other end");
            }
            assert_eq!(bench.events().upcall(0, 2), Upcall::More);
            assert_eq!(channels.each_ref().map(|channel| channel.counts().events), [1, 1, 0, 0]);
            bench.machine.toolstack().expect_suspend(&bench.guest, Suspend::Migrated);
            dispatch(|at| bench.driver.suspend(at));
        }
        // The last is the first that is sent to.
        let channels = [(); 4].map(|()| dispatch(|at| bench.events().ipi(at, 0)).expect("there is one"));
        assert!(!channels.iter().any(comes));
        dispatch(|at| channels[3].notify(at)).expect("it is its own other end");
        bench.settle();
        assert!(comes(&channels[3]));
        assert_eq!(bench.events().counts(), xenbus::event::Counts::default());
        drop(channels);
        bench.end();
    }
}

/// An event that came while nobody waited, or whose wait was dropped, is there for the next one; none is told twice.
#[test]
fn a_wait_that_is_dropped() {
    for fifo in [true, false] {
        let config = GuestConfig { has_store: false, ..GuestConfig::default() };
        let bench = Bench::new(config, 8, fifo);
        let ipi = dispatch(|at| bench.events().ipi(at, 0)).expect("there is one");
        for is_settled_first in [true, false] {
            dispatch(|at| {
                let mut wait = Box::pin(ipi.wait(at));
                assert_eq!(poll(wait.as_mut()), None);
                if is_settled_first {
                    ipi.notify(at).expect("it is its own other end");
                    bench.settle();
                    drop(wait);
                } else {
                    drop(wait);
                    ipi.notify(at).expect("it is its own other end");
                    bench.settle();
                }
            });
            assert!(comes(&ipi));
            assert!(!comes(&ipi));
        }
        // Masked by its event, it gets another, which is seen by who asks, and by nobody else.
        dispatch(|at| ipi.notify(at)).expect("it is its own other end");
        bench.settle();
        dispatch(|at| ipi.notify(at)).expect("it is its own other end");
        let interrupts = bench.machine.counts()["interrupts"];
        assert!(comes(&ipi));
        dispatch(|at| {
            let mut wait = Box::pin(ipi.wait(at));
            assert_eq!(poll(wait.as_mut()), None, "others come first");
            drop(wait);
        });
        assert!(comes(&ipi), "it was not taken by the one that was dropped");
        assert!(!comes(&ipi));
        bench.settle();
        assert_eq!(bench.machine.counts()["interrupts"], interrupts);
        drop(ipi);
        bench.end();
    }
}

/// Of two who wait, one gets an event; the other gets the next, once somebody has asked for it.
#[test]
fn one_waiter_for_one_event() {
    let config = GuestConfig { has_store: false, ..GuestConfig::default() };
    let bench = Bench::new(config, 8, true);
    let ipi = dispatch(|at| bench.events().ipi(at, 0)).expect("there is one");
    dispatch(|at| {
        let mut waits = [pin!(ipi.wait(at)), pin!(ipi.wait(at))];
        assert!(waits.iter_mut().all(|wait| poll(wait.as_mut()).is_none()));
        for woken in &mut waits {
            assert!(!comes(&ipi), "it is armed again by whoever asks");
            ipi.notify(at).expect("it is its own other end");
            bench.settle();
            assert_eq!(poll(woken.as_mut()), Some(Ok(())));
        }
    });
    drop(ipi);
    bench.end();
}

/// An event of a port that nobody has is counted, masked, and comes no more.
#[test]
fn strays() {
    let config = GuestConfig { has_store: false, ..GuestConfig::default() };
    for fifo in [true, false] {
        let bench = Bench::new(config.clone(), 64, fifo);
        let first = dispatch(|at| bench.events().ipi(at, 0)).expect("there is one");
        // One that somebody else in the guest has.
        let send = |stray| {
            event_channel::send(&bench.guest, stray).expect("it is its own other end");
            bench.settle();
            bench.events().counts().strays
        };
        let stray = event_channel::bind_ipi(&bench.guest, 0).expect("there is one");
        assert_eq!(send(stray), 0, "all ports are masked at first");
        event_channel::unmask(&bench.guest, stray).expect("it is open");
        assert_eq!([send(stray), send(stray), send(stray)], [1; 3]);
        bench.machine.toolstack().expect_suspend(&bench.guest, Suspend::Migrated);
        dispatch(|at| bench.driver.suspend(at));
        let stray = event_channel::bind_ipi(&bench.guest, 0).expect("there is one");
        assert_eq!(send(stray), 1, "and in another domain again");
        event_channel::close(&bench.guest, stray).expect("it is open");
        drop(first);
        bench.end();
    }
}

/// A waker that is called in an upcall, and makes another one, as an interrupt does that comes in between.
struct Nested {
    bench: Bench,
    then: EvtchnPort,
    calls: AtomicU32,
}

impl Wake for Nested {
    fn wake(self: Arc<Self>) {
        if self.calls.fetch_add(1, Relaxed) == 0 {
            event_channel::send(&self.bench.guest, self.then).expect("it is open");
            assert_ne!(self.bench.events().upcall(0, 1), Upcall::More, "all is left to the first");
        }
    }
}

/// An upcall that comes in between leaves all to the one that is at work, which finds it; and the interrupt's level is
/// low after it.
#[test]
fn an_upcall_in_an_upcall() {
    for fifo in [true, false] {
        let config = GuestConfig { has_store: false, ..GuestConfig::default() };
        let bench = Bench::new(config, 8, fifo);
        bench.guest.on_upcall(|_, _| unreachable!("no interrupt is left"));
        let (one, two) = dispatch(|at| {
            let open = || bench.events().ipi(at, 0).expect("there is one");
            (open(), open())
        });
        assert!(!comes(&two));
        let events = bench.events();
        let nested = Arc::new(Nested { bench, then: two.port(), calls: AtomicU32::new(0) });
        dispatch(|at| {
            let waker = Waker::from(nested.clone());
            let mut wait = pin!(one.wait(at));
            assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            one.notify(at).expect("it is its own other end");
            assert_eq!(events.upcall(0, 64), Upcall::Done);
            assert_eq!(nested.calls.load(Relaxed), 1);
            assert!(wait.poll(&mut Context::from_waker(&waker)).is_ready());
        });
        assert_eq!(two.counts().events, 1, "the first has seen to it");
        nested.bench.settle();
        drop((one, two));
        Arc::into_inner(nested).expect("nobody has it").bench.end();
    }
}

/// A budget is kept, and what is left is told in the calls after that, each once.
#[test]
fn a_small_budget() {
    for fifo in [true, false] {
        let config = GuestConfig { has_store: false, ..GuestConfig::default() };
        let bench = Bench::new(config, 256, fifo);
        let channels: Vec<_> =
            (0..200).map(|_| dispatch(|at| bench.events().ipi(at, 0)).expect("there is one")).collect();
        assert!(!channels.iter().any(comes));
        for channel in &channels {
            dispatch(|at| channel.notify(at)).expect("it is its own other end");
        }
        let told = || channels.iter().map(|channel| channel.counts().events).sum::<u32>();
        let mut calls = 0;
        loop {
            let before = told();
            let outcome = bench.events().upcall(0, 7);
            assert!(told() - before <= 7);
            calls += 1;
            if outcome != Upcall::More {
                break;
            }
        }
        assert_eq!((told(), calls), (200, 200 / 7 + 1));
        assert!(channels.iter().all(|channel| channel.counts().events == 1));
        bench.settle();
        drop(channels);
        bench.end();
    }
}

/// What a driver lends is in its image: it is known how much that is.
#[test]
fn lent_storage_is_small() {
    assert!(size_of::<Slot>() <= 128, "{}", size_of::<Slot>());
    assert!(size_of::<Vcpu<Guest>>() <= 512, "{}", size_of::<Vcpu<Guest>>());
    assert!(size_of::<Events<Guest>>() <= 2048, "{}", size_of::<Events<Guest>>());
}
