//! Hypercalls as futures.
//!
//! A hypercall does not wait, but Xen may answer that it cannot do it just now. Then the task lets others go
//! first and asks again, a bounded number of times: a hypervisor that never says yes costs one request, not
//! the CPU.
#![expect(unsafe_code, reason = "hypercalls, whose arguments must be right")]

use core::{fmt, ptr};

use kexec::yield_now;
use xen_abi::{Errno, Hypervisor, hypercall::XEN_VERSION, version::XENVER_VERSION};
use zerocopy::{FromBytes, IntoBytes};

/// How often a call is made in all, if Xen answers `EAGAIN` or `EBUSY`.
pub const ATTEMPTS: u32 = 16;

/// A version of Xen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// As in **4**.17.
    pub major: u16,
    /// As in 4.**17**.
    pub minor: u16,
}

impl Version {
    /// Of a word with the major version in bits 16 to 31: what the hypercall and the CPUID leaf answer.
    #[must_use]
    pub const fn from_word(word: u32) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
        Self { major: (word >> 16) as u16, minor: word as u16 }
    }

    /// The word that [`from_word`](Self::from_word) takes.
    #[must_use]
    pub const fn to_word(self) -> u32 {
        (self.major as u32) << 16 | self.minor as u32
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Asks for Xen's version (`XENVER_version`).
///
/// **Cancel-safe:** nothing is lost but the answer.
///
/// # Errors
///
/// What Xen answered, if it was an error; after [`ATTEMPTS`] calls also `EAGAIN` and `EBUSY`.
pub async fn version<H: Hypervisor>(hypervisor: &H) -> Result<Version, Errno> {
    let word = patiently(|| {
        // SAFETY: this command takes no argument and touches no memory.
        unsafe { hypervisor.hypercall(XEN_VERSION, [XENVER_VERSION, 0, 0, 0, 0]) }
    })
    .await?;
    // Xen answers a C `int`; a value that is none is not believed.
    u32::try_from(word).map(Version::from_word).map_err(|_| Errno::EINVAL)
}

pub mod event_channel {
    //! `HYPERVISOR_event_channel_op`

    use xen_abi::{
        Errno, Hypervisor,
        event_channel::{EVTCHNOP_SEND, EVTCHNOP_UNMASK, EvtchnPort, Send, Unmask},
        hypercall::EVENT_CHANNEL_OP,
    };

    /// Unmasks a port, and makes the upcall if something has come. Callable at any level.
    ///
    /// # Errors
    ///
    /// What Xen answered: `EINVAL`, if there is no such port.
    pub fn unmask<H: Hypervisor>(hypervisor: &H, port: EvtchnPort) -> Result<(), Errno> {
        // SAFETY: the command takes an `Unmask`, and touches nothing else.
        unsafe { super::with(hypervisor, EVENT_CHANNEL_OP, EVTCHNOP_UNMASK, &mut Unmask { port }) }.map(drop)
    }

    /// Makes the other end of a channel pending. Callable at any level.
    ///
    /// # Errors
    ///
    /// What Xen answered: `EINVAL`, if the port has no other end.
    pub fn send<H: Hypervisor>(hypervisor: &H, port: EvtchnPort) -> Result<(), Errno> {
        // SAFETY: the command takes a `Send`, and touches nothing else.
        unsafe { super::with(hypervisor, EVENT_CHANNEL_OP, EVTCHNOP_SEND, &mut Send { port }) }.map(drop)
    }
}

pub mod hvm {
    //! `HYPERVISOR_hvm_op`

    use xen_abi::{
        Errno, Hypervisor,
        domid::DOMID_SELF,
        hvm::op::{HVMOP_GET_PARAM, HVMOP_SET_PARAM, Param},
        hypercall::HVM_OP,
    };

    /// Reads a parameter of this domain's. Callable at any level.
    ///
    /// # Errors
    ///
    /// What Xen answered.
    pub fn get_param<H: Hypervisor>(hypervisor: &H, index: u32) -> Result<u64, Errno> {
        let mut param = Param { domid: DOMID_SELF, index, ..Param::default() };
        // SAFETY: the command takes a `Param`, and touches nothing else.
        unsafe { super::with(hypervisor, HVM_OP, HVMOP_GET_PARAM, &mut param) }?;
        Ok(param.value)
    }

    /// Sets a parameter of this domain's. Callable at any level.
    ///
    /// # Errors
    ///
    /// What Xen answered.
    pub fn set_param<H: Hypervisor>(hypervisor: &H, index: u32, value: u64) -> Result<(), Errno> {
        let mut param = Param { domid: DOMID_SELF, index, value, ..Param::default() };
        // SAFETY: the command takes a `Param`, and touches nothing else.
        unsafe { super::with(hypervisor, HVM_OP, HVMOP_SET_PARAM, &mut param) }.map(drop)
    }
}

pub(crate) mod memory {
    //! `HYPERVISOR_memory_op`

    use xen_abi::{
        Errno, Hypervisor,
        domid::DOMID_SELF,
        hypercall::MEMORY_OP,
        memory::{AddToPhysmap, RemoveFromPhysmap, XENMEM_ADD_TO_PHYSMAP, XENMEM_REMOVE_FROM_PHYSMAP},
        seam::Gfn,
    };

    /// Has Xen put a page of its own into the guest. Callable at any level.
    pub(crate) fn add_to_physmap<H: Hypervisor>(
        hypervisor: &H,
        space: u32,
        idx: u64,
        at: Gfn,
    ) -> Result<(), Errno> {
        let mut argument =
            AddToPhysmap { domid: DOMID_SELF, space, idx, gpfn: at.0, ..AddToPhysmap::default() };
        // SAFETY: the command takes an `AddToPhysmap`, and touches nothing else; what it changes is where the caller has no memory.
        unsafe { super::with(hypervisor, MEMORY_OP, XENMEM_ADD_TO_PHYSMAP, &mut argument) }.map(drop)
    }

    /// Has Xen take it out again. Callable at any level.
    pub(crate) fn remove_from_physmap<H: Hypervisor>(hypervisor: &H, at: Gfn) -> Result<(), Errno> {
        let mut argument =
            RemoveFromPhysmap { domid: DOMID_SELF, gpfn: at.0, ..RemoveFromPhysmap::default() };
        // SAFETY: the command takes a `RemoveFromPhysmap`, and touches nothing else.
        unsafe { super::with(hypervisor, MEMORY_OP, XENMEM_REMOVE_FROM_PHYSMAP, &mut argument) }.map(drop)
    }
}

pub mod sched {
    //! `HYPERVISOR_sched_op`

    use xen_abi::{
        Errno, Hypervisor,
        hypercall::SCHED_OP,
        sched::{SCHEDOP_SHUTDOWN, Shutdown},
    };

    /// Stops the domain for this reason, one of `SHUTDOWN_*`. Callable at any level.
    ///
    /// After `SHUTDOWN_SUSPEND` it comes back: false in a new domain, true if nothing has changed.
    ///
    /// # Errors
    ///
    /// What Xen answered: the domain runs on.
    pub fn shutdown<H: Hypervisor>(hypervisor: &H, reason: u32) -> Result<bool, Errno> {
        // SAFETY: the command takes a `Shutdown`, and touches nothing else.
        let answer = unsafe { super::with(hypervisor, SCHED_OP, SCHEDOP_SHUTDOWN, &mut Shutdown { reason }) };
        answer.map(|answer| answer != 0)
    }
}

/// Makes a call whose second argument is the address of a structure.
///
/// # Safety
///
/// The command takes the address of a `T`, reads and writes no other memory, and has no effect on memory that anybody
/// has.
unsafe fn with<H: Hypervisor, T: FromBytes + IntoBytes>(
    hypervisor: &H,
    number: u32,
    command: u64,
    argument: &mut T,
) -> Result<u64, Errno> {
    let address = ptr::from_mut(argument).expose_provenance() as u64;
    // SAFETY: the structure is there during the call, and any bytes are one; the caller answers for the rest.
    Errno::check(unsafe { hypervisor.hypercall(number, [command, address, 0, 0, 0]) })
}

/// Makes a call, and makes it again while Xen answers that it cannot do it just now.
async fn patiently(mut call: impl FnMut() -> i64) -> Result<u64, Errno> {
    for _ in 1..ATTEMPTS {
        match Errno::check(call()) {
            Err(Errno::EAGAIN | Errno::EBUSY) => yield_now().await,
            answer => return answer,
        }
    }
    Errno::check(call())
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use std::boxed::Box;

    use kexec::{
        Budget, Executor, Pool,
        irql::Dispatch,
        platform::mock::{Mock, Plan, keep},
    };

    use super::*;

    /// A Xen that is busy for a while, and then answers.
    struct Busy {
        calls: AtomicU32,
        for_calls: u32,
        answer: i64,
    }

    // SAFETY: it touches no memory.
    unsafe impl Hypervisor for Busy {
        unsafe fn hypercall(&self, number: u32, arguments: [u64; 5]) -> i64 {
            assert_eq!((number, arguments), (17, [0; 5]), "HYPERVISOR_xen_version(XENVER_version, NULL)");
            let busy = self.calls.fetch_add(1, Relaxed) < self.for_calls;
            if busy { -11 } else { self.answer }
        }
    }

    async fn ask(_: &mut Dispatch, xen: &'static Busy) -> Result<Version, Errno> {
        version(xen).await
    }

    /// The outcome, the number of calls and the number of polls, on an executor whose clock and CPUs do what they like.
    fn outcome(for_calls: u32, answer: i64, plan: Plan) -> (Result<Version, Errno>, u32, u64) {
        let xen: &Busy = keep(Busy { calls: AtomicU32::new(0), for_calls, answer });
        let pool: &'static Pool<{ kexec::task_size(&ask) }, 1> = keep(Pool::new());
        let executor = Executor::leak(Mock::new(plan), Budget::DEFAULT);
        let handle = executor.spawn(pool, ask, xen).expect("the pool has room");
        executor.settle();
        let answer = handle.try_take().expect("it has run").expect("nobody cancels it");
        (answer, xen.calls.load(Relaxed), executor.stats().polls)
    }

    const XEN_4_17: i64 = 0x0004_0011;

    /// Each time that Xen is busy the task gives up its turn, and no more than that.
    #[test]
    fn asks_again_while_xen_is_busy() {
        for busy in 0..ATTEMPTS {
            let (answer, calls, polls) = outcome(busy, XEN_4_17, Plan::CALM);
            assert_eq!(answer, Ok(Version { major: 4, minor: 17 }), "busy for {busy} calls");
            assert_eq!((calls, polls), (busy + 1, u64::from(busy) + 1));
        }
    }

    /// A Xen that is busy for ever costs a known number of calls.
    #[test]
    fn gives_up() {
        assert_eq!(outcome(u32::MAX, XEN_4_17, Plan::CALM).0, Err(Errno::EAGAIN));
        assert_eq!(outcome(u32::MAX, XEN_4_17, Plan::CALM).1, ATTEMPTS);
    }

    /// No answer is taken for a version that is none.
    #[test]
    fn believes_no_nonsense() {
        for (answer, expected) in [
            (-38, Err(Errno::ENOSYS)),
            (-4096, Err(Errno::EINVAL)),
            (i64::MAX, Err(Errno::EINVAL)),
            (i64::MIN, Err(Errno::EINVAL)),
            (0, Ok(Version { major: 0, minor: 0 })),
            (0xFFFF_FFFF, Ok(Version { major: 0xFFFF, minor: 0xFFFF })),
        ] {
            assert_eq!(outcome(0, answer, Plan::CALM).0, expected, "{answer:#x}");
        }
    }

    /// The same answer on four CPUs, with doorbells that are late, lost among others or doubled.
    #[test]
    fn survives_a_wild_platform() {
        for seed in 0..200 {
            let (answer, calls, _) = outcome(5, XEN_4_17, Plan::wild(seed));
            assert_eq!((answer, calls), (Ok(Version { major: 4, minor: 17 }), 6), "seed {seed}");
        }
        let words: Box<[u32]> = [0, 1, 0x0004_0011, u32::MAX].into();
        assert!(words.iter().all(|word| Version::from_word(*word).to_word() == *word));
    }
}
