//! A Xen that refuses something that it has no reason to refuse.
#![expect(unsafe_code, reason = "it stands between a driver and its Xen")]

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};

use xen_abi::{
    domid::DomId,
    event_channel::{Channel as Kind, EVTCHNOP_CLOSE, EVTCHNOP_INIT_CONTROL, EvtchnPort},
    hvm::params::{CallbackVia, HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_STORE_EVTCHN},
    hypercall::{EVENT_CHANNEL_OP, HVM_OP, MEMORY_OP, VCPU_OP},
    memory::{XENMEM_ADD_TO_PHYSMAP, XENMEM_REMOVE_FROM_PHYSMAP},
    sched::SHUTDOWN_SUSPEND,
    seam::{Gfn, Hypervisor, Memory, NoMemory},
    vcpu::VCPUOP_REGISTER_VCPU_INFO,
};
use xen_sim::{Guest, GuestConfig, GuestFrame, Machine, Mistake, Suspend};
use xenbus::{
    Errno,
    epoch::Epochs,
    event::{Config, Events, ResetError, Slot, StopError, Vcpu},
    hypercall::{event_channel, hvm, sched},
};

use crate::support::dispatch;

/// A guest, one of whose hypercalls is refused.
#[derive(Clone)]
struct Refusing {
    guest: Guest,
    what: Arc<What>,
}

#[derive(Default)]
struct What {
    /// Calls until that one; below zero for none.
    left: AtomicI64,
    /// The command that is refused whenever it is made.
    always: Mutex<Option<(u32, u64)>>,
    /// The one that was refused: its number and its command.
    refused: Mutex<Option<(u32, u64)>>,
}

const REFUSED: Errno = Errno::EPERM;

// SAFETY: what it does not refuse is the guest's, who promises the same.
unsafe impl Hypervisor for Refusing {
    unsafe fn hypercall(&self, number: u32, arguments: [u64; 5]) -> i64 {
        let which = (number, arguments[0]);
        let is_due = self.what.left.fetch_sub(1, Relaxed) == 0;
        if is_due || *self.what.always.lock().expect("nobody panics with it") == Some(which) {
            *self.what.refused.lock().expect("nobody panics with it") = Some(which);
            return if is_due { -1 } else { -38 };
        }
        // SAFETY: passed on.
        unsafe { self.guest.hypercall(number, arguments) }
    }
}

// SAFETY: as above.
unsafe impl Memory for Refusing {
    type Frame = GuestFrame;

    fn allocate(&self) -> Result<GuestFrame, NoMemory> {
        self.guest.allocate()
    }

    fn hole(&self) -> Result<GuestFrame, NoMemory> {
        self.guest.hole()
    }

    unsafe fn existing(&self, gfn: Gfn) -> Result<GuestFrame, NoMemory> {
        // SAFETY: passed on.
        unsafe { self.guest.existing(gfn) }
    }

    unsafe fn free(&self, frame: GuestFrame) {
        // SAFETY: passed on.
        unsafe { self.guest.free(frame) }
    }
}

impl Refusing {
    fn new() -> Self {
        let vcpus = BTreeSet::from([0, 1, 40]);
        let guest = Machine::new(1).create(GuestConfig { vcpus, ..GuestConfig::default() });
        let what = What { left: AtomicI64::new(-1), ..What::default() };
        Self { guest, what: Arc::new(what) }
    }

    fn events() -> &'static Events<Self> {
        let slots: &'static [Slot] = Vec::leak((0..16).map(|_| Slot::new()).collect());
        let vcpus: &'static [Vcpu<Self>] = Vec::leak((0..3).map(|_| Vcpu::new()).collect());
        Box::leak(Box::new(Events::new(slots, vcpus)))
    }

    fn refused(&self) -> Option<(u32, u64)> {
        self.what.refused.lock().expect("nobody panics with it").take()
    }

    /// Lets the call after so many be refused.
    fn refuse(&self, after: i64) {
        self.what.left.store(after, Relaxed);
    }

    /// What the auditor has to say, but for the refused call itself.
    fn findings(&self) -> Vec<Mistake> {
        let audit = self.guest.machine().audit(&self.guest);
        audit.findings().iter().map(|finding| finding.mistake).collect()
    }

    /// A driver's life, which goes on for as long as it can. Whether it has come to its end without an error.
    fn live(&self, events: &'static Events<Self>) -> bool {
        let epochs = Epochs::new();
        let config =
            Config { vcpus: &[0, 1, 40], callback: CallbackVia::Gsi(28), fifo: true, epoch: epochs.now() };
        let attach = || {
            let attached = [(0, 0), (1, 1), (2, 40)].map(|(place, vcpu)| {
                self.guest.on(vcpu, || dispatch(|at| events.attach_vcpu(at, place, Some(0x40)).is_ok()))
            });
            attached == [true; 3]
        };
        let talk = || {
            dispatch(|at| {
                let one = events.unbound(at, DomId(0));
                let two = events.ipi(at, 0);
                let moved = one.as_ref().is_ok_and(|one| one.bind(at, 1).is_ok() && one.notify(at).is_ok());
                moved && two.is_ok()
            })
        };
        let mut is_right = dispatch(|at| events.start(at, self.clone(), config)).is_ok();
        is_right &= attach() && talk();
        self.guest.machine().toolstack().expect_suspend(&self.guest, Suspend::Migrated);
        if events.is_fifo().is_some() && sched::shutdown(self, SHUTDOWN_SUSPEND) == Ok(false) {
            is_right &= events.resumed(epochs.begin()).is_ok();
            is_right &= dispatch(|at| events.restart(at)).is_ok();
        }
        is_right &= attach() && talk();
        is_right & dispatch(|at| events.stop(at)).is_ok()
    }
}

/// Whichever call of a driver's life is refused: it is an error somewhere or nothing at all, nothing is given back that
/// Xen has, and the driver can be stopped, and started again. What is left is what Xen would not take back.
#[test]
fn any_one() {
    let mut errors = 0;
    for nth in 0.. {
        let (xen, events) = (Refusing::new(), Refusing::events());
        xen.refuse(nth);
        let is_right = xen.live(events);
        xen.refuse(-1);
        let Some(refused) = xen.refused() else {
            assert!(is_right && nth > 40, "{nth} calls");
            break;
        };
        errors += u32::from(!is_right);
        // If the store has lost its port, it has lost it: that is another test's.
        let _ = dispatch(|at| events.stop(at));
        let left: &[Mistake] = match refused {
            (EVENT_CHANNEL_OP, EVTCHNOP_CLOSE) => &[Mistake::PortLeft],
            (MEMORY_OP, XENMEM_REMOVE_FROM_PHYSMAP) => &[Mistake::HoleBacked],
            // In the new domain, the page that is to be taken out of its place is not there.
            (MEMORY_OP, XENMEM_ADD_TO_PHYSMAP) => &[Mistake::CallRefused, Mistake::PageLeft],
            // It is kept for the next domain, in which it can be registered again.
            (VCPU_OP, VCPUOP_REGISTER_VCPU_INFO) => &[Mistake::PageLeft],
            _ => &[],
        };
        for found in xen.findings() {
            assert!(left.contains(&found), "call {nth}, {refused:?}: {found}");
        }
        assert!(events.is_fifo().is_none(), "call {nth}, {refused:?}: it has stopped");
    }
    assert!(errors > 25, "{errors}");
}

/// A host without the FIFO ABI, to which a guest with it is migrated: it is the bitmaps from then on, and what was
/// Xen's is given back.
#[test]
fn the_next_host_has_no_queues() {
    let (xen, events) = (Refusing::new(), Refusing::events());
    let epochs = Epochs::new();
    let config = Config { vcpus: &[0], callback: CallbackVia::Gsi(28), fifo: true, epoch: epochs.now() };
    assert_eq!(dispatch(|at| events.start(at, xen.clone(), config)), Ok(()));
    drop(dispatch(|at| events.ipi(at, 0)).expect("there is one"));
    xen.guest.machine().toolstack().expect_suspend(&xen.guest, Suspend::Migrated);
    for has_queues in [false, true, false] {
        let refused = (!has_queues).then_some((EVENT_CHANNEL_OP, EVTCHNOP_INIT_CONTROL));
        *xen.what.always.lock().expect("nobody panics with it") = refused;
        assert_eq!(sched::shutdown(&xen, SHUTDOWN_SUSPEND), Ok(false));
        assert_eq!(events.resumed(epochs.begin()), Ok(()));
        assert_eq!(dispatch(|at| events.restart(at)), Ok(()));
        assert_eq!(events.is_fifo(), Some(has_queues));
        let ipi = dispatch(|at| events.ipi(at, 0)).expect("there is one");
        dispatch(|at| {
            use crate::support::poll;
            let mut wait = std::pin::pin!(ipi.wait(at));
            assert_eq!(poll(wait.as_mut()), None);
            ipi.notify(at).expect("it is its own other end");
            let _ = events.upcall(0, 8);
            assert_eq!(poll(wait), Some(Ok(())));
        });
    }
    assert_eq!(dispatch(|at| events.stop(at)), Ok(()));
    assert_eq!(xen.findings(), []);
}

/// Whichever call of a reset is refused: the error says which daemon is lost, if one is, and the parameters name ports
/// that are there, or none.
#[test]
fn the_toolstacks_ports() {
    let mut errors = BTreeSet::new();
    for nth in 0.. {
        let (xen, events) = (Refusing::new(), Refusing::events());
        let epoch = Epochs::new().now();
        let config = Config { vcpus: &[0], callback: CallbackVia::Gsi(28), fifo: true, epoch };
        assert_eq!(dispatch(|at| events.start(at, xen.clone(), config)), Ok(()));
        let kinds = || {
            [HVM_PARAM_STORE_EVTCHN, HVM_PARAM_CONSOLE_EVTCHN].map(|parameter| {
                let port = u32::try_from(hvm::get_param(&xen, parameter).expect("it may")).expect("a port");
                event_channel::status(&xen, EvtchnPort(port)).expect("it is there").channel()
            })
        };
        let before = kinds();
        xen.refuse(nth);
        let stopped = dispatch(|at| events.stop(at));
        xen.refuse(-1);
        let refused = xen.refused();
        let parameters = [HVM_PARAM_STORE_EVTCHN, HVM_PARAM_CONSOLE_EVTCHN];
        for ((parameter, before), after) in parameters.into_iter().zip(before).zip(kinds()) {
            let is_lost = stopped == Err(StopError::Reset(ResetError::Lost { parameter, errno: REFUSED }));
            // Port 0 is no port.
            let expected = if is_lost { Some(Kind::Closed) } else { before };
            assert_eq!(after, expected, "call {nth}: parameter {parameter}");
        }
        match stopped {
            Err(StopError::Reset(error)) => _ = errors.insert(format!("{error:?}")),
            Err(error) => panic!("call {nth}: {error}"),
            Ok(()) if refused.is_none() => break,
            // The callback's line, or the page that is shared.
            Ok(()) => assert!(matches!(refused, Some((HVM_OP | MEMORY_OP, _))), "{refused:?}"),
        }
        assert_eq!(dispatch(|at| events.stop(at)), Ok(()), "call {nth}: in the end");
    }
    assert_eq!(errors.len(), 5, "{errors:?}");
}
