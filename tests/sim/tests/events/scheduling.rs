//! Waiting, shutting down, watchdogs.
#![forbid(unsafe_code)]

use std::time::Duration;

use xen_abi::{
    Errno,
    domid::{DOMID_SELF, DomId},
    event_channel::EvtchnPort,
    hypercall::SCHED_OP,
    sched::{
        Poll, RemoteShutdown, SCHEDOP_BLOCK, SCHEDOP_PIN_OVERRIDE, SCHEDOP_POLL, SCHEDOP_REMOTE_SHUTDOWN,
        SCHEDOP_SHUTDOWN, SCHEDOP_SHUTDOWN_CODE, SCHEDOP_WATCHDOG, SCHEDOP_YIELD, SHUTDOWN_POWEROFF,
        SHUTDOWN_SUSPEND, Shutdown, Watchdog,
    },
};

use crate::support::{Lab, Outcome, Vm};

fn plain(vm: &Vm, command: u64) -> Outcome<u64> {
    vm.call(SCHED_OP, [command, 0, 0, 0, 0])
}

fn poll(vm: &Vm, ports: &[EvtchnPort], nr_ports: u32) -> Outcome<()> {
    let at = Poll { ports: ports.as_ptr().expose_provenance() as u64, nr_ports, ..Poll::default() };
    vm.sched(SCHEDOP_POLL, at).map(drop)
}

fn watchdog(vm: &Vm, id: u32, timeout: u32) -> Outcome<u64> {
    let mut at = Watchdog { id, timeout };
    vm.call(SCHED_OP, [SCHEDOP_WATCHDOG, (&raw mut at).expose_provenance() as u64, 0, 0, 0])
}

/// What needs no argument, what needs one, and what there is not.
#[test]
fn commands() {
    let vm = Lab::new().guest(1);
    assert_eq!([plain(&vm, SCHEDOP_YIELD), plain(&vm, SCHEDOP_BLOCK)], [Ok(0); 2]);
    for command in
        [SCHEDOP_SHUTDOWN, SCHEDOP_POLL, SCHEDOP_REMOTE_SHUTDOWN, SCHEDOP_SHUTDOWN_CODE, SCHEDOP_WATCHDOG]
    {
        assert_eq!(plain(&vm, command), Err(Errno::EFAULT), "{command}");
    }
    assert_eq!(plain(&vm, SCHEDOP_PIN_OVERRIDE), Err(Errno::EPERM));
    assert_eq!(plain(&vm, 8), Err(Errno::ENOSYS));
}

/// A poll looks at its ports until one is pending; it does not wait here.
#[test]
fn polling() {
    let vm = Lab::new().guest(1);
    let port = EvtchnPort(vm.bind_ipi(0).unwrap());
    assert_eq!(poll(&vm, &[], 129), Err(Errno::EINVAL), "before they are looked at");
    assert_eq!(poll(&vm, &[], 0), Ok(()));
    assert_eq!(poll(&vm, &[port; 128], 128), Ok(()));
    let bad = [port, EvtchnPort(64)];
    assert_eq!(poll(&vm, &bad, 2), Err(Errno::EINVAL));
    vm.send(port.0).unwrap();
    assert_eq!(poll(&vm, &bad, 2), Ok(()), "the first one is pending");
    let at = Poll { ports: 8, nr_ports: 1, ..Poll::default() };
    assert_eq!(vm.sched(SCHEDOP_POLL, at).map(drop), Err(Errno::EFAULT));
    let at = Poll { ports: u64::MAX - 1, nr_ports: 2, ..Poll::default() };
    assert_eq!(vm.sched(SCHEDOP_POLL, at).map(drop), Err(Errno::EFAULT));
}

/// With an interrupt due, a poll has nothing to wait for, and does not look at its ports.
#[test]
fn polling_with_an_interrupt_due() {
    let vm = Lab::new().guest(1);
    vm.set_vector(0, 0x40).unwrap();
    assert_eq!(poll(&vm, &[EvtchnPort(64)], 1), Ok(()));
}

/// A guest shuts itself down, not another, and not itself as if it were another.
#[test]
fn shutting_down() {
    let lab = Lab::new();
    let (vm, other) = (lab.guest(1), lab.guest(1));
    let remote = |domain_id| {
        let at = RemoteShutdown { domain_id, padding: 0, reason: SHUTDOWN_POWEROFF };
        vm.sched(SCHEDOP_REMOTE_SHUTDOWN, at).map(drop)
    };
    for domain in [vm.id(), other.id(), DomId(0)] {
        assert_eq!(remote(domain), Err(Errno::EPERM), "{domain}");
    }
    assert_eq!([remote(DOMID_SELF), remote(DomId(777))], [Err(Errno::ESRCH); 2]);
    assert!(vm.sched(SCHEDOP_SHUTDOWN_CODE, Shutdown { reason: SHUTDOWN_SUSPEND }).is_ok());
    assert!(vm.sched(SCHEDOP_SHUTDOWN, Shutdown { reason: SHUTDOWN_POWEROFF }).is_ok());
}

/// A domain that has shut down is not interrupted any more.
#[test]
fn no_interrupts_after_the_end() {
    let vm = Lab::new().guest(1);
    vm.note_interrupts();
    vm.set_vector(0, 0x40).unwrap();
    assert!(vm.sched(SCHEDOP_SHUTDOWN, Shutdown { reason: SHUTDOWN_POWEROFF }).is_ok());
    assert_eq!(vm.interrupts(), []);
}

/// There are two watchdogs; they are started, fed and stopped by number.
#[test]
fn watchdogs() {
    let lab = Lab::new();
    let vm = lab.guest(1);
    assert_eq!([watchdog(&vm, 1, 5), watchdog(&vm, 2, 0)], [Err(Errno::EINVAL); 2], "none was started");
    assert_eq!([watchdog(&vm, 0, 10), watchdog(&vm, 0, 10)], [Ok(1), Ok(2)]);
    assert_eq!(watchdog(&vm, 0, 10), Err(Errno::ENOSPC));
    assert_eq!([watchdog(&vm, 3, 1), watchdog(&vm, u32::MAX, 1)], [Err(Errno::EINVAL); 2]);
    assert_eq!(watchdog(&vm, 2, 0), Ok(0));
    assert_eq!(watchdog(&vm, 2, 0), Err(Errno::EINVAL), "it was stopped");
    assert_eq!(watchdog(&vm, 0, 10), Ok(2), "it is free again");
    assert_eq!(watchdog(&vm, 2, 0), Ok(0));

    vm.note_interrupts();
    for _ in 0..5 {
        lab.pass(Duration::from_secs(9));
        assert_eq!(watchdog(&vm, 1, 10), Ok(0));
    }
    vm.set_vector(0, 0x40).unwrap();
    assert_eq!(vm.interrupts().len(), 1, "it was fed");
    lab.pass(Duration::from_secs(10));
    vm.set_vector(0, 0x40).unwrap();
    assert_eq!(vm.interrupts(), [], "it was not: the domain has shut down");
}
