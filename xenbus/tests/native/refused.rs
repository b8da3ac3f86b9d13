//! What a bus does without, when Xen or the guest's kernel refuses.
#![forbid(unsafe_code)]

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use xen_abi::{
    DomId, Errno,
    event_channel::EvtchnPort,
    hvm::params::{
        HVM_PARAM_CALLBACK_IRQ, HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN, HVM_PARAM_STORE_EVTCHN,
        HVM_PARAM_STORE_PFN,
    },
    memory::{XENMAPSPACE_GRANT_TABLE, XENMAPSPACE_SHARED_INFO},
};
use xenbus::{
    bus::{Bus, StartError},
    console::{self, ConsoleError},
    event::{self, OpenError},
    grant::{Peer, Rights},
    hypercall::hvm,
    page::MapError,
    store,
    suspend::{Failure, ResumeError, Step},
};

use crate::platform::{Bench, Refusal, dispatch};

/// A bus that does not start says why, and has started nothing: nothing is left, a suspend goes by it, and it starts as
/// soon as nobody refuses.
#[test]
fn a_start_that_fails() {
    let xen = Errno::EINVAL;
    let no_store = store::ConnectError::NoStore { gfn: 0, port: 0 };
    let failures = [
        (Refusal::Map(XENMAPSPACE_SHARED_INFO), StartError::Events(event::StartError::SharedInfo(REFUSED))),
        (Refusal::Param(HVM_PARAM_CALLBACK_IRQ), StartError::Events(event::StartError::Callback(xen))),
        (Refusal::Param(HVM_PARAM_STORE_PFN), StartError::Store(store::ConnectError::Xen(xen))),
        (Refusal::Existing, StartError::Store(store::ConnectError::NoMemory)),
        (Refusal::Param(HVM_PARAM_CONSOLE_PFN), StartError::Console(console::ConnectError::Xen(xen))),
    ];
    for (refusal, error) in failures {
        let bench = Bench::new(&[0]);
        bench.platform.refuse(&[refusal]);
        assert_eq!(bench.start(), Err(error));
        bench.assert_clean();
        assert_eq!(bench.migrate().first, None, "{refusal:?}");
        bench.assert_clean();
        bench.platform.refuse(&[]);
        assert_eq!(bench.start(), Ok(()), "{refusal:?}");
        bench.end();
    }
    let bench = Bench::new(&[0]);
    bench.platform.refuse(&[Refusal::NoParam(HVM_PARAM_STORE_PFN), Refusal::NoParam(HVM_PARAM_STORE_EVTCHN)]);
    assert_eq!(bench.start(), Err(StartError::Store(no_store)));
    bench.assert_clean();
}

/// A bus that has stopped has nothing to do with the suspends after it.
#[test]
fn a_suspend_after_the_stop() {
    let bench = Bench::new(&[0]);
    assert_eq!(bench.start(), Ok(()));
    bench.end();
    // It would connect, or say why not.
    bench.platform.refuse(&[Refusal::Param(HVM_PARAM_STORE_PFN)]);
    assert_eq!(bench.migrate().first, None);
    bench.assert_clean();
}

/// What does not come up in the next domain is told, and all the rest comes up: in the one after it, that as well.
#[test]
fn a_resume_that_fails() {
    use Step::{Early, Late};

    let xen = Errno::EINVAL;
    for (refusal, step, error) in [
        (Refusal::Map(XENMAPSPACE_SHARED_INFO), Early, ResumeError::Other("event channels do not come up")),
        (Refusal::Map(XENMAPSPACE_GRANT_TABLE), Early, ResumeError::Map(REFUSED)),
        (
            Refusal::Param(HVM_PARAM_CALLBACK_IRQ),
            Late,
            ResumeError::Other("some virtual CPUs have no upcalls of their own"),
        ),
        (Refusal::Param(HVM_PARAM_STORE_PFN), Late, ResumeError::Store(store::ConnectError::Xen(xen))),
        (Refusal::Param(HVM_PARAM_CONSOLE_PFN), Late, ResumeError::Console(console::ConnectError::Xen(xen))),
    ] {
        let bench = Bench::new(&[0]);
        assert_eq!(bench.start(), Ok(()));
        let bus = bench.native;
        let shares = || dispatch(|at| bus.share(at, Peer::trusted(DomId(0)), Rights::Write)).is_ok();
        let writes = || dispatch(|at| bench.console.try_write(at, b"x")).is_ok();
        assert!(shares() && writes());
        let [store, console] = ports(bench);
        let listens = || {
            let _ = dispatch(|at| pin!(bus.serve(at)).poll(&mut Context::from_waker(Waker::noop())));
        };
        listens();

        bench.platform.refuse(&[refusal]);
        let mut typed = [0; 4];
        let resumed = dispatch(|at| {
            let mut cx = Context::from_waker(Waker::noop());
            let mut read = pin!(bench.console.read(at, &mut typed));
            assert!(read.as_mut().poll(&mut cx).is_pending());
            let resumed = bench.migrate();
            assert_eq!(read.poll(&mut cx), Poll::Ready(Err(ConsoleError::Disconnected)), "{refusal:?}");
            resumed
        });
        assert_eq!(resumed.first, Some(Failure { listener: "bus", step, error }));
        let of = |other| refusal != other;
        assert_eq!(shares(), of(Refusal::Map(XENMAPSPACE_GRANT_TABLE)), "{refusal:?}");
        assert_eq!(writes(), of(Refusal::Param(HVM_PARAM_CONSOLE_PFN)), "{refusal:?}");
        // Without a connection nobody listens at the port of before.
        dispatch(|at| {
            let mut serve = pin!(bus.serve(at));
            assert!(serve.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            let is_heard = |port| match bench.events.fixed(at, port) {
                Err(OpenError::InUse(_)) => true,
                Ok(_) => false,
                Err(error) => panic!("{error}"),
            };
            assert_eq!(is_heard(store), of(Refusal::Param(HVM_PARAM_STORE_PFN)), "{refusal:?}");
            assert_eq!(is_heard(console), of(Refusal::Param(HVM_PARAM_CONSOLE_PFN)), "{refusal:?}");
        });

        bench.platform.refuse(&[]);
        assert_eq!(bench.migrate().first, None, "{refusal:?}");
        assert!(shares() && writes());
        bench.end();
    }
}

/// A guest need not have a console. When it moves to where it has one, that is served.
#[test]
fn a_console_in_the_next_domain() {
    let bench = Bench::new(&[0]);
    bench
        .platform
        .refuse(&[Refusal::NoParam(HVM_PARAM_CONSOLE_PFN), Refusal::NoParam(HVM_PARAM_CONSOLE_EVTCHN)]);
    assert_eq!(bench.start(), Ok(()));
    dispatch(|at| {
        let mut cx = Context::from_waker(Waker::noop());
        let mut serve = pin!(bench.native.serve(at));
        assert!(serve.as_mut().poll(&mut cx).is_pending());
        assert!(bench.console.try_write(at, b"x").is_err(), "there is none");
        bench.platform.refuse(&[]);
        assert_eq!(bench.migrate().first, None);
        assert!(serve.as_mut().poll(&mut cx).is_pending());
        assert_eq!(bench.console.try_write(at, b"x"), Ok(1));
        let [_, console] = ports(bench);
        assert!(matches!(bench.events.fixed(at, console), Err(OpenError::InUse(_))), "it is heard");
    });
    bench.end();
}

/// What a page meets that Xen does not map.
const REFUSED: MapError = MapError::Xen(Errno::ENOMEM);

/// The store's port, and the console's.
fn ports(bench: Bench) -> [EvtchnPort; 2] {
    [HVM_PARAM_STORE_EVTCHN, HVM_PARAM_CONSOLE_EVTCHN].map(|param| {
        let port = hvm::get_param(&bench.platform.guest, param).expect("Xen tells it");
        EvtchnPort(u32::try_from(port).expect("it is one"))
    })
}
