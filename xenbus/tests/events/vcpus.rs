//! Virtual CPUs, of which there may be few and many, with any ids.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use xen_abi::{
    domid::DomId,
    event_channel::virq::{VIRQ_ARGO, VIRQ_TIMER},
};
use xen_sim::{GuestConfig, Suspend};
use xenbus::{
    Errno,
    event::{AttachError, ChannelError, OpenError, Upcalls},
};

use crate::support::{Bench, Driver, VECTOR, comes, dispatch};

fn bench(vcpus: BTreeSet<u32>, fifo: bool) -> Bench {
    let config = GuestConfig { vcpus, has_store: false, max_evtchn_port: 2000, ..GuestConfig::default() };
    Bench::new(config, 1024, fifo)
}

/// Each virtual CPU hears its own, whatever its id: those without a place in the shared page have registered one.
#[test]
fn each_hears_its_own() {
    let large: BTreeSet<u32> = (0..512).collect();
    for vcpus in [BTreeSet::from([0]), BTreeSet::from([0, 3, 31, 32, 40, 300]), large] {
        for fifo in [true, false] {
            let bench = bench(vcpus.clone(), fifo);
            assert_eq!(dispatch(|at| bench.driver.attach(at)), Ok(()));
            bench.settle();
            let ipis: Vec<_> = (0..vcpus.len())
                .map(|place| dispatch(|at| bench.events().ipi(at, place)).expect("it is attached"))
                .collect();
            assert!(!ipis.iter().any(comes));
            let seen = bench.driver.upcalls();
            for (place, ipi) in ipis.iter().enumerate().rev() {
                dispatch(|at| ipi.notify(at)).expect("it is its own other end");
                bench.settle();
                assert!(comes(ipi), "place {place}");
            }
            let order: Vec<usize> = bench.driver.upcalls().split_off(seen.len());
            assert_eq!(order, (0..vcpus.len()).rev().collect::<Vec<_>>());
            drop(ipis);
            bench.end();
        }
    }
}

/// One without a vector has no channels of its own: what can be another's is the first one's, and what cannot is an
/// error.
#[test]
fn without_a_vector() {
    let bench = bench(BTreeSet::from([0, 1]), true);
    let events = bench.events();
    dispatch(|at| {
        assert_eq!(events.attach_vcpu(at, 0, None), Ok(Upcalls::Own), "it has the line");
        assert_eq!(events.attach_vcpu(at, 1, None), Ok(Upcalls::OfFirst));
        assert!(matches!(events.ipi(at, 1), Err(OpenError::NoUpcalls(1))));
        assert!(matches!(events.virq(at, VIRQ_TIMER, 1), Err(OpenError::NoUpcalls(1))));
        assert!(matches!(events.ipi(at, 2), Err(OpenError::NoSuchPlace(2))));
        let channel = events.unbound(at, DomId(0)).expect("there is one");
        assert_eq!(channel.bind(at, 1), Ok(Upcalls::OfFirst));
        assert_eq!(channel.bind(at, 2), Err(ChannelError::NoSuchPlace(2)));
        assert_eq!(events.attach_vcpu(at, 1, Some(VECTOR)), Ok(Upcalls::Own), "now it has one");
        assert_eq!(channel.bind(at, 1), Ok(Upcalls::Own));
        assert_eq!(events.attach_vcpu(at, 2, None), Err(AttachError::NoSuchPlace(2)));
        // A vector of the processor's own.
        bench.guest.tolerate("UPCALL_VECTOR");
        let refused = AttachError::Xen { vcpu: 1, errno: Errno::EINVAL };
        assert_eq!(events.attach_vcpu(at, 1, Some(3)), Err(refused));
    });
    bench.settle();
    bench.end();
}

/// A virtual interrupt has one port. One that is a virtual CPU's own stays there; a global one can be moved.
#[test]
fn virtual_interrupts() {
    let bench = bench(BTreeSet::from([0, 1]), true);
    assert_eq!(dispatch(|at| bench.driver.attach(at)), Ok(()));
    dispatch(|at| {
        let timer = bench.events().virq(at, VIRQ_TIMER, 1).expect("it is free");
        bench.guest.tolerate("VIRQ_ONCE");
        assert!(matches!(bench.events().virq(at, VIRQ_TIMER, 1), Err(OpenError::Xen(Errno::EEXIST))));
        bench.guest.tolerate("FIXED_VCPU");
        assert_eq!(timer.bind(at, 0), Err(ChannelError::Xen(Errno::EINVAL)));
        bench.guest.tolerate("SEND_TO");
        assert_eq!(timer.notify(at), Err(ChannelError::Xen(Errno::EINVAL)));
        let argo = bench.events().virq(at, VIRQ_ARGO, 0).expect("it is free");
        assert_eq!(argo.bind(at, 1), Ok(Upcalls::Own));
    });
    bench.settle();
    bench.end();
}

/// A `vcpu_info` is registered once for all: a driver that comes after another, and does not know where, has no upcalls
/// there.
#[test]
fn registered_by_somebody_before() {
    let bench = bench(BTreeSet::from([0, 40]), true);
    assert_eq!(dispatch(|at| bench.driver.attach(at)), Ok(()));
    assert_eq!(dispatch(|at| bench.events().stop(at)), Ok(()));
    bench.guest.tolerate("VCPU_INFO_ONCE");
    let next = Driver::new(&bench.guest, &[0, 40], 64, true);
    dispatch(|at| {
        next.start(at).expect("nothing was left");
        let attached = bench.guest.on(40, || next.events.attach_vcpu(at, 1, Some(VECTOR)));
        assert_eq!(attached, Err(AttachError::Registered { vcpu: 40 }));
        let channel = next.events.unbound(at, DomId(0)).expect("there is one");
        assert_eq!(channel.bind(at, 1), Ok(Upcalls::OfFirst));
    });
    assert_eq!(dispatch(|at| next.events.stop(at)), Ok(()));
    // The one before knows where it is.
    assert_eq!(dispatch(|at| bench.driver.start(at).and_then(|()| bench.driver.attach(at))), Ok(()));
    bench.end();
}

/// In a new domain nothing is registered: each virtual CPU does so again, and hears its own again.
#[test]
fn in_another_domain() {
    for fifo in [true, false] {
        let bench = bench(BTreeSet::from([0, 1, 40]), fifo);
        assert_eq!(dispatch(|at| bench.driver.attach(at)), Ok(()));
        for _ in 0..3 {
            bench.machine.toolstack().expect_suspend(&bench.guest, Suspend::Migrated);
            dispatch(|at| bench.driver.suspend(at));
            for place in 0..3 {
                let ipi = dispatch(|at| bench.events().ipi(at, place)).expect("it is attached");
                assert!(!comes(&ipi));
                dispatch(|at| ipi.notify(at)).expect("it is its own other end");
                bench.settle();
                assert!(comes(&ipi), "place {place}");
            }
        }
        bench.end();
    }
}
