//! The driver's tasks on a host: the same futures as in a DPC and in a crash dump, with a mock's CPUs and wakers.
#![expect(unsafe_code, reason = "what stands in for Xen makes a promise about memory")]

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Waker},
};

use kexec::{
    Budget, Cancelled, Executor, Pool,
    irql::Dispatch,
    platform::mock::{Mock, Plan, keep},
    request_size,
};
use xenbus::{Hypervisor, Version};
use xenbus_driver::tasks::{Events, Failure, REQUESTS, answer};

const SIZE: usize = request_size(&answer::<&'static Xen>, size_of::<Srb>());

/// A Xen that is busy for some calls.
struct Xen {
    busy: AtomicU32,
}

// SAFETY: it touches no memory.
unsafe impl Hypervisor for Xen {
    unsafe fn hypercall(&self, _number: u32, _arguments: [u64; 5]) -> i64 {
        let busy = self.busy.fetch_update(Relaxed, Relaxed, |calls| calls.checked_sub(1)).is_ok();
        if busy { -16 } else { 0x0004_0013 }
    }
}

type Outcome = Result<Result<Version, Failure>, Cancelled>;

/// A request: all its outcomes.
type Srb = Arc<Mutex<Vec<Outcome>>>;

struct Host {
    executor: &'static Executor<Mock>,
    pool: &'static Pool<SIZE, REQUESTS>,
    events: &'static Events,
    xen: &'static Xen,
}

impl Host {
    fn new(plan: Plan, busy: u32) -> Self {
        Self {
            executor: Executor::leak(Mock::new(plan), Budget::DEFAULT),
            pool: keep(Pool::new()),
            events: keep(Events::new()),
            xen: keep(Xen { busy: AtomicU32::new(busy) }),
        }
    }

    fn submit(&self) -> Srb {
        let srb = Srb::default();
        let done = srb.clone();
        let epilogue = move |_: &mut Dispatch, outcome| done.lock().expect("no panic").push(outcome);
        self.executor.submit(self.pool, answer, (self.events, self.xen), epilogue).expect("there is room");
        srb
    }
}

fn outcomes(srb: &Srb) -> Vec<Outcome> {
    srb.lock().expect("no panic").clone()
}

const XEN_4_19: Outcome = Ok(Ok(Version { major: 4, minor: 19 }));

/// The doorbells and polls of one request, to the last one: this is the run that the README shows.
#[test]
fn one_request_on_a_host() {
    let host = Host::new(Plan::CALM, 1);
    let srb = host.submit();
    host.executor.settle();
    assert_eq!(outcomes(&srb), [], "nothing has happened yet");
    host.events.upcall.raise();
    host.executor.settle();
    assert_eq!(outcomes(&srb), [XEN_4_19]);
    assert_eq!(
        host.executor.platform().trace(),
        ["ring wake", "run cpu0", "parked after 1", "ring wake", "run cpu0", "parked after 2"],
        "one poll to begin; then one that finds Xen busy, and one that has the answer",
    );
}

/// Either event will do, and the one that did not come finds a task that has gone.
#[test]
fn either_event_is_enough() {
    for (first, second) in [(true, false), (false, true)] {
        let host = Host::new(Plan::CALM, 0);
        let raise = |upcall: bool| if upcall { host.events.upcall.raise() } else { host.events.beat.raise() };
        let srb = host.submit();
        host.executor.settle();
        raise(first);
        host.executor.settle();
        assert_eq!(outcomes(&srb), [XEN_4_19]);
        // The same slot, with another tenant, which the stale wake must not bring an answer.
        let next = host.submit();
        host.executor.settle();
        raise(second);
        host.executor.settle();
        assert_eq!((outcomes(&srb).len(), outcomes(&next)), (1, vec![XEN_4_19]));
    }
}

/// As many as there is room for, on CPUs that do everything they may, with an upcall at any moment:
/// each is answered once.
#[test]
fn all_are_answered_once_whatever_the_platform_does() {
    for seed in 0..300 {
        let host = Host::new(Plan::wild(seed), 7);
        let events = host.events;
        host.executor.platform().on_interrupt(move || events.upcall.raise());
        let srbs: Vec<Srb> = (0..REQUESTS).map(|_| host.submit()).collect();
        host.executor.settle();
        host.events.beat.raise();
        host.executor.settle();
        for srb in &srbs {
            assert_eq!(outcomes(srb), [XEN_4_19], "seed {seed}");
        }
        assert_eq!(host.executor.live(), 0);
    }
}

/// The executor is closed after every possible number of runs; whatever has not been answered by then is
/// cancelled, and nothing is answered twice.
#[test]
fn a_close_at_any_moment_answers_everyone() {
    let mut cut_short = 0;
    for steps in 0..40 {
        let host = Host::new(Plan::wild(steps), 9);
        let srbs: Vec<Srb> = (0..4).map(|_| host.submit()).collect();
        for step in 0..steps {
            if step % 3 == 2 {
                host.events.upcall.raise();
            }
            host.executor.step();
        }
        let mut close = pin!(host.executor.close().expect("nobody else closes it"));
        let mut cx = Context::from_waker(Waker::noop());
        while close.as_mut().poll(&mut cx).is_pending() {
            host.executor.settle();
        }
        for srb in &srbs {
            let outcomes = outcomes(srb);
            assert!(matches!(outcomes.as_slice(), [XEN_4_19 | Err(Cancelled)]), "{steps}: {outcomes:?}");
            cut_short += u32::from(outcomes == [Err(Cancelled)]);
        }
    }
    assert!(cut_short > 4, "some were cut short: {cut_short}");
}
