//! A Xen that refuses some of what a bus asks for, and a bus on it that nobody runs.
#![expect(unsafe_code, reason = "it stands where the simulated Xen would")]

use std::{
    ptr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kexec::{
    irql::Dispatch,
    platform::{
        mock::keep,
        thread::{Thread, passive},
    },
};
use xen_abi::{
    Errno,
    hvm::{
        op::{HVMOP_GET_PARAM, HVMOP_SET_PARAM, Param},
        params::CallbackVia,
    },
    hypercall::{HVM_OP, MEMORY_OP},
    memory::{AddToPhysmap, XENMEM_ADD_TO_PHYSMAP},
    seam::{Gfn, Hypervisor, Memory, NoMemory},
};
use xen_sim::{Guest, GuestConfig, GuestFrame, Machine, Suspend as Fate};
use xenbus::{
    bus::{Native, StartError},
    clock::{ClockError, SystemTime},
    console::{Console, LineEnds},
    event::{Config, Events, Slot, Upcall, Vcpu},
    grant::{Frame, Grants},
    store::Store,
    suspend::{Rendezvous, Resumed, Suspend, Suspended},
};

/// What Xen does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It does not tell a parameter, nor lets it be set.
    Param(u32),
    /// The parameter is not set.
    NoParam(u32),
    /// It does not map pages of this space.
    Map(u32),
    /// Pages of the toolstack's cannot be reached just now: it is the guest's kernel that refuses.
    Existing,
}

/// A guest's platform.
#[derive(Clone)]
pub(crate) struct Platform {
    pub(crate) guest: Guest,
    refusals: Arc<Mutex<Vec<Refusal>>>,
}

impl Platform {
    /// What is refused from now on.
    pub(crate) fn refuse(&self, refusals: &[Refusal]) {
        *locked(&self.refusals) = refusals.to_vec();
    }

    fn refuses(&self, refusal: Refusal) -> bool {
        locked(&self.refusals).contains(&refusal)
    }
}

// SAFETY: what it does instead touches nothing but the call's argument.
unsafe impl Hypervisor for Platform {
    unsafe fn hypercall(&self, number: u32, arguments: [u64; 5]) -> i64 {
        let argument = usize::try_from(arguments[1]).expect("an address");
        match (number, arguments[0]) {
            (HVM_OP, command @ (HVMOP_GET_PARAM | HVMOP_SET_PARAM)) => {
                let param = ptr::with_exposed_provenance_mut::<Param>(argument);
                // SAFETY: it is the argument of the call.
                let index = unsafe { (*param).index };
                if self.refuses(Refusal::Param(index)) {
                    return -i64::from(Errno::EINVAL.number());
                }
                if command == HVMOP_GET_PARAM && self.refuses(Refusal::NoParam(index)) {
                    // SAFETY: as above.
                    unsafe { (*param).value = 0 };
                    return 0;
                }
            }
            (MEMORY_OP, XENMEM_ADD_TO_PHYSMAP) => {
                let page = ptr::with_exposed_provenance::<AddToPhysmap>(argument);
                // SAFETY: it is the argument of the call.
                let space = unsafe { (*page).space };
                if self.refuses(Refusal::Map(space)) {
                    return -i64::from(Errno::ENOMEM.number());
                }
            }
            _ => {}
        }
        // SAFETY: passed on.
        unsafe { self.guest.hypercall(number, arguments) }
    }
}

// SAFETY: the pages are the guest's.
unsafe impl Memory for Platform {
    type Frame = GuestFrame;

    fn allocate(&self) -> Result<GuestFrame, NoMemory> {
        self.guest.allocate()
    }

    fn hole(&self) -> Result<GuestFrame, NoMemory> {
        self.guest.hole()
    }

    unsafe fn existing(&self, gfn: Gfn) -> Result<GuestFrame, NoMemory> {
        if self.refuses(Refusal::Existing) {
            return Err(NoMemory);
        }
        // SAFETY: passed on.
        unsafe { self.guest.existing(gfn) }
    }

    unsafe fn free(&self, frame: GuestFrame) {
        // SAFETY: passed on.
        unsafe { self.guest.free(frame) };
    }
}

/// A bus on that platform, for what needs no executor.
#[derive(Clone, Copy)]
pub(crate) struct Bench {
    pub(crate) platform: &'static Platform,
    pub(crate) native: &'static Native<Platform>,
    pub(crate) events: &'static Events<Platform>,
    pub(crate) grants: &'static Grants<Platform>,
    pub(crate) console: &'static Console<Platform>,
    pub(crate) suspend: &'static Suspend,
    pub(crate) vcpus: &'static [u32],
}

impl Bench {
    /// A guest with these virtual CPUs, whose bus has not started.
    pub(crate) fn new(vcpus: &'static [u32]) -> Self {
        let config = GuestConfig { vcpus: vcpus.iter().copied().collect(), ..GuestConfig::default() };
        let guest = Machine::new(1).create(config);
        let platform = keep(Platform { guest: guest.clone(), refusals: Arc::default() });
        let suspend: &'static Suspend = keep(Suspend::new());
        let slots: &'static [Slot] = Vec::leak((0..16).map(|_| Slot::new()).collect());
        let places: &'static [Vcpu<Platform>] = Vec::leak(vcpus.iter().map(|_| Vcpu::new()).collect());
        let frames: &'static [Frame<Platform>] = Vec::leak(vec![Frame::new()]);
        let events: &'static Events<Platform> = keep(Events::new(slots, places));
        let grants = Grants::new(platform.clone(), suspend.epochs(), frames).expect("Xen has a table");
        let grants: &'static Grants<Platform> = keep(grants);
        let console: &'static Console<Platform> = keep(Console::new(LineEnds::AsTheyAre));
        let native = Native::new(platform.clone(), suspend, events, grants, keep(Store::new()));
        guest.on_upcall(move |vcpu, _| {
            let place = vcpus.iter().position(|id| *id == vcpu).expect("it has that one");
            while events.upcall(place, 64) == Upcall::More {}
        });
        Self { platform, native: keep(native.with_console(console)), events, grants, console, suspend, vcpus }
    }

    pub(crate) fn start(&self) -> Result<(), StartError> {
        let epoch = self.suspend.epochs().now();
        let config = Config { vcpus: self.vcpus, callback: CallbackVia::Gsi(28), fifo: true, epoch };
        dispatch(|at| self.native.start(at, config))
    }

    /// The guest moves to another host.
    pub(crate) fn migrate(&self) -> Resumed {
        let guest = &self.platform.guest;
        guest.machine().toolstack().expect_suspend(guest, Fate::Migrated);
        match dispatch(|at| self.suspend.suspend(at, self.platform, self)) {
            Ok(Suspended::Resumed(resumed)) => resumed,
            other => panic!("it is another domain: {other:?}"),
        }
    }

    pub(crate) fn system_time(&self, place: usize) -> Result<SystemTime, ClockError> {
        dispatch(|at| self.native.system_time(at, &self.platform.guest, place))
    }

    /// Nothing of the bus is left.
    pub(crate) fn assert_clean(&self) {
        let guest = &self.platform.guest;
        let audit = guest.machine().audit(guest);
        assert!(audit.is_clean(), "{audit}");
    }

    /// Ends.
    pub(crate) fn end(&self) {
        assert_eq!(dispatch(|at| self.native.stop(at)), Ok(()));
        assert!(dispatch(|at| self.grants.close(at)).is_ok(), "nobody has a reference");
        self.assert_clean();
    }
}

/// Nobody runs but who suspends.
impl Rendezvous for Bench {
    fn hold<T>(&self, _: &Dispatch, work: impl FnOnce() -> T) -> T {
        work()
    }

    fn silence<T>(&self, _: &Dispatch, work: impl FnOnce() -> T) -> T {
        work()
    }

    fn on_each_cpu(&self, work: &(dyn Fn(u32) + Sync)) {
        for vcpu in self.vcpus {
            self.platform.guest.on(*vcpu, || work(*vcpu));
        }
    }
}

/// Does something at `DISPATCH_LEVEL`.
pub(crate) fn dispatch<T>(work: impl FnOnce(&Dispatch) -> T) -> T {
    static CPU: Thread<Dispatch> = Thread::new();
    passive(|level| level.raised(&CPU, |at| work(at)))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
