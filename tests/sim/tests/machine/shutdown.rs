//! A guest's end, and what the toolstack asks of it before.
#![forbid(unsafe_code)]

use std::time::Duration;

use xen_abi::{
    event_channel::Channel,
    hvm::params::HVM_PARAM_CALLBACK_IRQ,
    hypercall::SCHED_OP,
    io::{xenbus::XenbusState::Connected, xs_wire::XENSTORE_SERVER_FEATURE_DOMID_ANY},
    sched::{
        SCHEDOP_SHUTDOWN_CODE, SCHEDOP_WATCHDOG, SHUTDOWN_CRASH, SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT,
        SHUTDOWN_SOFT_RESET, SHUTDOWN_SUSPEND, SHUTDOWN_WATCHDOG, Shutdown as Reason, Watchdog,
    },
};
use xen_sim::{
    Actor, Machine, Release, Request, Shutdown, Suspend,
    xenstored::{Config, Features},
};

use crate::{frontend::Frontend, kernel::Kernel};

/// Each reason is told to the toolstack as what it is, and to whoever watches `@releaseDomain`; and no interrupt comes any more.
#[test]
fn every_reason() {
    for (reason, shutdown) in [
        (SHUTDOWN_POWEROFF, Shutdown::PowerOff),
        (SHUTDOWN_REBOOT, Shutdown::Reboot),
        (SHUTDOWN_CRASH, Shutdown::Crash),
        (SHUTDOWN_WATCHDOG, Shutdown::Watchdog),
        (SHUTDOWN_SOFT_RESET, Shutdown::SoftReset),
        (77, Shutdown::Other(77)),
    ] {
        let mut kernel = Kernel::alone(1);
        let mut frontend = Frontend::connected(&mut kernel);
        let toolstack = kernel.machine.toolstack();
        let mut watch = toolstack.watch("@releaseDomain");
        assert_eq!(watch.next().as_deref(), Some("@releaseDomain"), "the first is there at once");
        assert_eq!(toolstack.shutdown(&kernel.guest), None);
        kernel.come(frontend.port);
        frontend.put([1]);
        frontend.publish();
        kernel.send(frontend.port).expect("it is open");
        assert_eq!(kernel.shut_down(reason), 0);
        assert_eq!(toolstack.shutdown(&kernel.guest), Some(shutdown));
        assert_eq!(watch.next().as_deref(), Some("@releaseDomain"));
        assert_eq!(watch.next(), None, "once");
        // The backend answers still; nobody hears of it.
        kernel.settle();
        assert_eq!(frontend.take().len(), 1);
        assert_eq!(kernel.come(frontend.port), 0, "its processors do not run");
        assert!(!kernel.machine.ready().iter().any(|actor| matches!(actor, Actor::Upcall(..))));
        // The first reason counts, and is told once.
        kernel.shut_down(SHUTDOWN_CRASH);
        assert_eq!(toolstack.shutdown(&kernel.guest), Some(shutdown));
        assert_eq!(watch.next(), None);
        assert_eq!(toolstack.read("/local/domain/1/name").as_deref(), Some("guest"), "it is kept as it is");
    }
}

/// A guest whose watchdog is not fed is shut down by Xen, at that time and not before.
#[test]
fn a_watchdog() {
    let kernel = Kernel::alone(1);
    let toolstack = kernel.machine.toolstack();
    kernel.call(SCHED_OP, SCHEDOP_WATCHDOG, Watchdog { id: 0, timeout: 10 }).expect("it has two");
    kernel.machine.pass(Duration::from_secs(9));
    assert_eq!(toolstack.shutdown(&kernel.guest), None);
    kernel.machine.pass(Duration::from_secs(1));
    assert_eq!(toolstack.shutdown(&kernel.guest), Some(Shutdown::Watchdog));
}

/// Nor does one that has said before that it would suspend then wait for an answer: its next call has its own.
#[test]
fn suspended_by_a_watchdog() {
    for (suspend, domain) in [(Suspend::Cancelled, 1), (Suspend::Migrated, 2)] {
        let mut kernel = Kernel::alone(1);
        kernel.machine.toolstack().expect_suspend(&kernel.guest, suspend);
        kernel.call(SCHED_OP, SCHEDOP_SHUTDOWN_CODE, Reason { reason: SHUTDOWN_SUSPEND }).expect("it may");
        kernel.call(SCHED_OP, SCHEDOP_WATCHDOG, Watchdog { id: 0, timeout: 10 }).expect("it has two");
        kernel.machine.pass(Duration::from_secs(10));
        assert_eq!(kernel.guest.domain(), domain);
        assert_eq!(kernel.param(HVM_PARAM_CALLBACK_IRQ) == 0, domain == 2);
        if domain == 2 {
            kernel.plug_in();
        }
        assert_eq!(kernel.read("name").as_deref(), Ok("guest"));
        assert_eq!(kernel.machine.toolstack().shutdown(&kernel.guest), None);
    }
}

/// A suspend is a shutdown for those who watch: each time, as the guest is resumed in between.
#[test]
fn a_suspend_is_told() {
    let kernel = Kernel::alone(1);
    let mut watch = kernel.machine.toolstack().watch("@releaseDomain");
    watch.next();
    for _ in 0..2 {
        assert_eq!(kernel.shut_down(SHUTDOWN_SUSPEND), 1);
        assert_eq!(watch.next().as_deref(), Some("@releaseDomain"));
        assert_eq!(watch.next(), None);
    }
    kernel.machine.toolstack().expect_suspend(&kernel.guest, Suspend::Migrated);
    assert_eq!(kernel.shut_down(SHUTDOWN_SUSPEND), 0);
    assert_eq!(watch.next().as_deref(), Some("@releaseDomain"), "it has shut down");
    assert_eq!(watch.next().as_deref(), Some("@releaseDomain"), "and is no more");
    assert_eq!(watch.next(), None);
}

/// Another guest is told, where guests may know of each other.
#[test]
fn another_guest_is_told() {
    let offered = XENSTORE_SERVER_FEATURE_DOMID_ANY;
    let store = Config { features: Features { offered, ..Features::default() }, ..Config::default() };
    let machine = Machine::with_xen_and_store(1, Release::default(), &store);
    let (mut one, two) = (Kernel::boot(&machine), Kernel::boot(&machine));
    one.watch("@releaseDomain", "gone");
    one.settle();
    one.come(one.store.port);
    two.shut_down(SHUTDOWN_POWEROFF);
    one.settle();
    assert_eq!(one.come(one.store.port), 1, "it need not ask");
    assert_eq!(one.events(), [("@releaseDomain".into(), "gone".into())]);
}

/// Every command that a toolstack has, as the guest reads it.
#[test]
fn every_request() {
    let mut kernel = Kernel::alone(1);
    kernel.watch("control/shutdown", "control");
    for (request, command) in [
        (Request::PowerOff, "poweroff"),
        (Request::Reboot, "reboot"),
        (Request::Halt, "halt"),
        (Request::Suspend(Suspend::Cancelled), "suspend"),
        (Request::Sleep, "s3"),
        (Request::Hibernate, "s4"),
    ] {
        assert!(kernel.machine.toolstack().request(&kernel.guest, request));
        assert_eq!(kernel.events(), [("control/shutdown".into(), "control".into())], "{command}");
        assert_eq!(kernel.read("control/shutdown").as_deref(), Ok(command));
        kernel.write("control/shutdown", "").expect("its own");
        assert_eq!(kernel.events().len(), 1, "its own answer");
    }
}

/// A guest that never sets `HVM_PARAM_CALLBACK_IRQ` has no drivers, for all that a toolstack can see: `xl shutdown` does not ask it. One
/// that has vectors of its virtual CPUs' only forgets this easily.
#[test]
fn a_guest_without_a_callback_is_not_asked() {
    let mut kernel = Kernel::alone(1);
    kernel.set_param(HVM_PARAM_CALLBACK_IRQ, 0).expect("it may");
    assert!(!kernel.machine.toolstack().request(&kernel.guest, Request::PowerOff));
    assert_eq!(kernel.read("control/shutdown").as_deref(), Ok(""));
}

/// A guest that has shut down has its channels and its devices still: they are taken away by the toolstack, not by its end.
#[test]
fn what_is_left_of_a_guest() {
    let mut kernel = Kernel::alone(1);
    let frontend = Frontend::connected(&mut kernel);
    kernel.shut_down(SHUTDOWN_CRASH);
    assert_eq!(kernel.backend(), Some(Connected));
    assert!(matches!(kernel.channel(frontend.port), Channel::Interdomain(..)));
    kernel.machine.toolstack().remove(frontend.device);
    assert!(matches!(kernel.channel(frontend.port), Channel::Unbound(_)));
    assert!(kernel.revoke(frontend.reference));
}
