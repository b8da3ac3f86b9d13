//! A Xen that does not suspend its guest. The simulated one always does, as the real one.
#![expect(unsafe_code, reason = "it stands where Xen would")]

use kexec::platform::mock::keep;
use xen_abi::{Errno, Hypervisor};
use xen_sim::{GuestConfig, Machine};
use xenbus::suspend::{Suspend, SuspendError, Suspended};

use crate::{
    cpus::{Cpus, Log, raised},
    listeners::Speaker,
};

/// Answers every call with this.
struct Answers(i64);

// SAFETY: it touches no memory.
unsafe impl Hypervisor for Answers {
    unsafe fn hypercall(&self, number: u32, arguments: [u64; 5]) -> i64 {
        assert_eq!((number, arguments[0]), (29, 2), "HYPERVISOR_sched_op(SCHEDOP_shutdown, ..)");
        self.0
    }
}

/// An error is told, and changes nothing: the next attempt begins from the start. Whatever is neither an error nor
/// zero is a cancelled suspend: to bring up again what is up would be wrong, to find that it is not would be seen.
#[test]
fn each_answer() {
    let log = Log::default();
    let guest = Machine::new(1).create(GuestConfig::default());
    let cpus = Cpus { guest, vcpus: vec![0], log: log.clone() };
    let suspend: &'static Suspend = keep(Suspend::new());
    raised(|at| {
        let _registered = suspend.register(at, keep(Speaker::new("service", &log))).expect("there is room");
        for (answer, expected) in [
            (-1, Err(SuspendError::Refused(Errno::EPERM))),
            (-14, Err(SuspendError::Refused(Errno::EFAULT))),
            (1, Ok(Suspended::Cancelled)),
            (2, Ok(Suspended::Cancelled)),
        ] {
            let before = suspend.epochs().now();
            assert_eq!(suspend.suspend(at, &Answers(answer), &cpus), expected);
            assert_eq!(suspend.epochs().now(), before);
            assert_eq!(log.take(), ["[", "interrupts off", "interrupts on", "]"], "nobody is called");
        }
        let outcome = suspend.suspend(at, &Answers(0), &cpus);
        assert!(matches!(outcome, Ok(Suspended::Resumed(_))), "{outcome:?}");
        let refused = suspend.suspend(at, &Answers(-1), &cpus).map_err(|error| error.to_string());
        assert!(refused.is_err_and(|text| text.contains("EPERM")));
    });
}
