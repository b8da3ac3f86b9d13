//! Virtual CPUs with a `vcpu_info` of their own, over the bus.
#![forbid(unsafe_code)]

use std::time::Duration;

use xenbus::{clock::ClockError, event::Upcalls};

use crate::platform::{Bench, dispatch};

/// Each tells the time of its own page. In the next domain, that page is the last one's until the virtual CPU has
/// registered it again: nothing is told by what stands there.
#[test]
fn a_clock_of_its_own() {
    let bench = Bench::new(&[0, 40]);
    let guest = &bench.platform.guest;
    let attach = || {
        let attached = guest.on(40, || dispatch(|at| bench.events.attach_vcpu(at, 1, Some(0x40))));
        assert_eq!(attached, Ok(Upcalls::Own));
    };
    // What Xen has begun to write is done.
    let settle = || {
        for _begun_and_done in 0..2 {
            guest.machine().pass(Duration::ZERO);
        }
    };
    assert_eq!(bench.start(), Ok(()));
    settle();
    assert!(bench.system_time(0).is_ok());
    assert_eq!(bench.system_time(1), Err(ClockError::NoVcpu(1)), "it has no page yet");
    attach();
    settle();
    let mut last = bench.system_time(1).expect("Xen writes there");
    for _ in 0..3 {
        assert_eq!(bench.migrate().first, None);
        guest.machine().pass(Duration::from_secs(5));
        settle();
        assert!(bench.system_time(0).is_ok(), "that one's page is the one that all share");
        assert_eq!(bench.system_time(1), Err(ClockError::NoVcpu(1)), "it is of the last domain");
        attach();
        settle();
        let time = bench.system_time(1).expect("Xen writes there again");
        assert!(time > last, "{time:?} after {last:?}");
        last = time;
    }
    assert_eq!(bench.system_time(2), Err(ClockError::NoVcpu(2)));
    bench.end();
}
