//! A question that Xen cannot answer just now.
#![expect(unsafe_code, reason = "a Xen that is busy")]

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use kexec::{
    Budget, Executor, Pool,
    irql::Dispatch,
    platform::mock::{Mock, Plan, keep},
};

use xenbus::{Errno, Version, hypercall::ATTEMPTS, seam::Hypervisor, version};

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
    let words: [u32; 4] = [0, 1, 0x0004_0011, u32::MAX];
    assert!(words.iter().all(|word| Version::from_word(*word).to_word() == *word));
}
