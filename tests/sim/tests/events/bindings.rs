//! What Xen refuses, with which number, and which of two reasons comes first.
#![forbid(unsafe_code)]

use xen_abi::{
    Errno,
    domid::{DOMID_SELF, DomId},
    event_channel::{
        AllocUnbound, BindPirq, Channel, EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_BIND_PIRQ, EVTCHNOP_EXPAND_ARRAY,
        EVTCHNOP_INIT_CONTROL, EVTCHNOP_SET_PRIORITY, EvtchnPort,
        fifo::{ExpandArray, InitControl, SetPriority},
        virq::{NR_VIRQS, VIRQ_ARGO, VIRQ_CONSOLE, VIRQ_DEBUG, VIRQ_DOM_EXC, VIRQ_TIMER},
    },
    hypercall::EVENT_CHANNEL_OP,
};
use xen_sim::GuestConfig;

use crate::support::{Lab, Outcome, Vm};

const DOM0: DomId = DomId(0);
/// A domain that there is not.
const NOBODY: DomId = DomId(777);
/// A number that Xen has made no port for: it makes them by 64.
const BEYOND: u32 = 64;

fn alloc(vm: &Vm, dom: DomId, remote_dom: DomId) -> Outcome<u32> {
    let at = AllocUnbound { dom, remote_dom, port: EvtchnPort(0) };
    Ok(vm.event(EVTCHNOP_ALLOC_UNBOUND, at)?.port.0)
}

/// A null pointer is the commonest bad argument; nothing must be done before it is found.
#[test]
fn no_argument() {
    let vm = Lab::new().guest(1);
    for command in 0..14 {
        let answer = vm.call(EVENT_CHANNEL_OP, [command, 0, 0, 0, 0]);
        assert_eq!(answer, Err(Errno::EFAULT), "command {command}");
    }
    assert_eq!(vm.bind_ipi(0), Ok(1), "no port was lost");
    assert_eq!(vm.call(EVENT_CHANNEL_OP, [99, 0, 0, 0, 0]), Err(Errno::ENOSYS));
    // The command is an `int`: Xen does not look at its upper half.
    assert_eq!(vm.call(EVENT_CHANNEL_OP, [1 << 32 | 4, 0, 0, 0, 0]), Err(Errno::EFAULT));
}

/// A guest makes ports in itself only, for anybody.
#[test]
fn alloc_unbound() {
    let lab = Lab::new();
    let (vm, other) = (lab.guest(1), lab.guest(1));
    assert_eq!(alloc(&vm, NOBODY, DOM0), Err(Errno::ESRCH));
    assert_eq!(alloc(&vm, DOM0, DOM0), Err(Errno::EPERM));
    assert_eq!(alloc(&vm, other.id(), DOM0), Err(Errno::EPERM));
    assert_eq!(alloc(&vm, vm.id(), NOBODY), Ok(1), "its own number is as good as DOMID_SELF");
    assert_eq!(vm.status(1), Channel::Unbound(NOBODY));

    let full = lab.build(GuestConfig { max_evtchn_port: 1, ..GuestConfig::default() });
    assert_eq!(alloc(&vm, full.id(), DOM0), Err(Errno::EPERM));
    full.bind_ipi(0).unwrap();
    assert_eq!(alloc(&vm, full.id(), DOM0), Err(Errno::ENOSPC), "before it is asked whose it is");
}

/// The local port is looked for before the remote one is looked at.
#[test]
fn bind_interdomain() {
    let lab = Lab::new();
    let (vm, other, dom0) = (lab.guest(1), lab.guest(1), lab.machine.dom0());
    let port = vm.bind_ipi(0).unwrap();
    assert_eq!(vm.bind(NOBODY, 1), Err(Errno::ESRCH));
    for (remote, wrong) in [(DOM0, 0), (DOM0, 1), (DOM0, u32::MAX), (DOMID_SELF, port), (other.id(), BEYOND)]
    {
        assert_eq!(vm.bind(remote, wrong), Err(Errno::EINVAL), "{remote} {wrong}");
    }
    assert_eq!(vm.bind_ipi(0), Ok(2), "no port was lost");

    let full = lab.build(GuestConfig { max_evtchn_port: 1, ..GuestConfig::default() });
    full.bind_ipi(0).unwrap();
    assert_eq!(full.bind(NOBODY, 1), Err(Errno::ESRCH));
    assert_eq!(full.bind(DOM0, u32::MAX), Err(Errno::ENOSPC));
    let refused = dom0.bind_interdomain(&full.guest, 1).unwrap_err();
    assert_eq!((refused.error, refused.rule.name), (Errno::EINVAL, "BIND_ACCEPTED"));
}

/// Which virtual interrupts a guest has, and where.
#[test]
fn bind_virq() {
    let vm = Lab::new().guest(2);
    for virq in [NR_VIRQS, u32::MAX] {
        assert_eq!(vm.bind_virq(virq, 9), Err(Errno::EINVAL), "{virq}");
    }
    assert_eq!(vm.bind_virq(VIRQ_ARGO, 9), Err(Errno::EINVAL), "it begins on vCPU 0");
    assert_eq!(vm.bind_virq(VIRQ_DOM_EXC, 1), Err(Errno::EINVAL), "it begins on vCPU 0");
    assert_eq!(vm.bind_virq(VIRQ_TIMER, 2), Err(Errno::ENOENT));
    assert_eq!(vm.bind_virq(VIRQ_CONSOLE, 0), Err(Errno::EBUSY), "it is the control domain's");
    assert_eq!([vm.bind_virq(VIRQ_TIMER, 0), vm.bind_virq(VIRQ_TIMER, 1)], [Ok(1), Ok(2)]);
    assert_eq!([vm.bind_virq(VIRQ_ARGO, 0), vm.bind_virq(VIRQ_DEBUG, 1)], [Ok(3), Ok(4)]);
    for (virq, vcpu) in [(VIRQ_TIMER, 0), (VIRQ_TIMER, 1), (VIRQ_ARGO, 0), (VIRQ_DEBUG, 1)] {
        assert_eq!(vm.bind_virq(virq, vcpu), Err(Errno::EEXIST), "{virq} {vcpu}");
    }
    assert_eq!(vm.status_of(DOMID_SELF, 2), Ok((Channel::Virq(VIRQ_TIMER), 1)));
    vm.close(2).unwrap();
    assert_eq!(vm.bind_virq(VIRQ_TIMER, 1), Ok(2));
}

/// That it has one already is said before that there is no port left.
#[test]
fn bind_virq_without_ports() {
    let vm = Lab::new().build(GuestConfig { max_evtchn_port: 1, ..GuestConfig::default() });
    vm.bind_virq(VIRQ_TIMER, 0).unwrap();
    assert_eq!(vm.bind_virq(VIRQ_TIMER, 0), Err(Errno::EEXIST));
    assert_eq!(vm.bind_virq(VIRQ_DEBUG, 0), Err(Errno::ENOSPC));
}

/// The control domain's own virtual interrupts come to it by the same rules.
#[test]
fn virqs_of_the_control_domain() {
    let dom0 = Lab::new().machine.dom0();
    let port = dom0.bind_virq(VIRQ_DOM_EXC).unwrap();
    assert_eq!(dom0.bind_virq(VIRQ_DOM_EXC).unwrap_err().error, Errno::EEXIST);
    dom0.raise_virq(VIRQ_DOM_EXC);
    dom0.raise_virq(VIRQ_CONSOLE);
    assert_eq!(dom0.notified().into_iter().collect::<Vec<_>>(), [port]);
}

/// An IPI needs a virtual CPU; a physical interrupt needs one that the domain has, and it has none.
#[test]
fn bind_ipi_and_pirq() {
    let vm = Lab::new().guest(2);
    assert_eq!(vm.bind_ipi(2), Err(Errno::ENOENT));
    assert_eq!(vm.bind_ipi(1), Ok(1));
    assert_eq!(vm.status_of(DOMID_SELF, 1), Ok((Channel::Ipi, 1)));
    for pirq in [0, 1, u32::MAX] {
        let answer = vm.event(EVTCHNOP_BIND_PIRQ, BindPirq { pirq, ..Default::default() });
        assert_eq!(answer.map(drop), Err(Errno::EINVAL), "{pirq}");
    }
}

/// Each kind of port that cannot be sent to or closed.
#[test]
fn send_and_close() {
    let lab = Lab::new();
    let (vm, dom0) = (lab.guest(1), lab.machine.dom0());
    let (timer, model) = (vm.bind_virq(VIRQ_TIMER, 0).unwrap(), dom0.alloc_xen_for(&vm.guest, 0).unwrap());
    for port in [0, 9, BEYOND, u32::MAX, model] {
        assert_eq!(vm.close(port), Err(Errno::EINVAL), "close {port}");
    }
    for port in [0, 9, BEYOND, u32::MAX, model, timer] {
        assert_eq!(vm.send(port), Err(Errno::EINVAL), "send {port}");
    }
    vm.close(timer).unwrap();
    assert_eq!(vm.close(timer), Err(Errno::EINVAL), "twice");
    assert_eq!(vm.status(model), Channel::Unbound(DOM0));
}

/// A status is given of ports that were closed, not of numbers that never were ports.
#[test]
fn status() {
    let lab = Lab::new();
    let (vm, other) = (lab.guest(1), lab.guest(1));
    assert_eq!(vm.status_of(NOBODY, BEYOND), Err(Errno::ESRCH));
    assert_eq!(vm.status_of(other.id(), BEYOND), Err(Errno::EINVAL), "before it is asked whose it is");
    assert_eq!(vm.status_of(other.id(), 1), Err(Errno::EPERM));
    assert_eq!(vm.status_of(DOM0, 1), Err(Errno::EPERM));
    assert_eq!(vm.status_of(DOMID_SELF, BEYOND), Err(Errno::EINVAL));
    assert_eq!(vm.status_of(DOMID_SELF, BEYOND - 1), Ok((Channel::Closed, 0)));
    assert_eq!(vm.status_of(vm.id(), 0), Ok((Channel::Closed, 0)));
    // With the 64th port, the next 64 are made.
    (1..=BEYOND).for_each(|port| assert_eq!(vm.bind_ipi(0), Ok(port)));
    assert_eq!(vm.status(2 * BEYOND - 1), Channel::Closed);
}

/// Where a port's upcalls go can be chosen for some kinds only, and is forgotten with the port.
#[test]
fn bind_vcpu() {
    let lab = Lab::new();
    let (vm, dom0) = (lab.guest(2), lab.machine.dom0());
    let fixed = [
        vm.bind_ipi(0).unwrap(),
        vm.bind_virq(VIRQ_TIMER, 0).unwrap(),
        dom0.alloc_xen_for(&vm.guest, 0).unwrap(),
        0,
        9,
        BEYOND,
    ];
    for port in fixed {
        assert_eq!(vm.bind_vcpu(port, 2), Err(Errno::ENOENT), "{port}: the vCPU comes first");
        assert_eq!(vm.bind_vcpu(port, 1), Err(Errno::EINVAL), "{port}");
    }
    let unbound = vm.alloc(DOM0).unwrap();
    for port in [unbound, vm.bind_virq(VIRQ_ARGO, 0).unwrap()] {
        vm.bind_vcpu(port, 1).unwrap();
        assert_eq!(vm.status_of(DOMID_SELF, port).unwrap().1, 1);
    }
    vm.close(unbound).unwrap();
    assert_eq!(vm.status_of(DOMID_SELF, unbound), Ok((Channel::Closed, 0)));
    assert_eq!(vm.alloc(DOM0), Ok(unbound));
    assert_eq!(vm.status_of(DOMID_SELF, unbound).unwrap().1, 0, "vCPU 0 is the default again");
    // The interrupt is vCPU 0's, wherever its upcalls go.
    assert_eq!(vm.bind_virq(VIRQ_ARGO, 0), Err(Errno::EEXIST));
}

/// To unmask a port that is closed is harmless; one that never was is an error.
#[test]
fn unmask() {
    let vm = Lab::new().guest(1);
    assert_eq!(vm.unmask(0), Ok(()));
    assert_eq!(vm.unmask(BEYOND - 1), Ok(()));
    assert_eq!(vm.unmask(BEYOND), Err(Errno::EINVAL));
}

/// A guest resets itself, nobody else.
#[test]
fn reset() {
    let lab = Lab::new();
    let (vm, other) = (lab.guest(1), lab.guest(1));
    let port = other.bind_ipi(0).unwrap();
    assert_eq!(vm.reset(NOBODY), Err(Errno::ESRCH));
    assert_eq!(vm.reset(other.id()), Err(Errno::EPERM));
    assert_eq!(vm.reset(DOM0), Err(Errno::EPERM));
    assert_eq!(other.status(port), Channel::Ipi);
    assert_eq!(vm.reset(DOMID_SELF), Ok(()), "there is nothing to close");
}

/// A driver falls back to the two-level ABI when Xen does not know the other: `ENOSYS` is what it must look for.
#[test]
fn a_xen_without_fifo() {
    let vm = Lab::new().build(GuestConfig { fifo: false, ..GuestConfig::default() });
    let port = EvtchnPort(vm.bind_ipi(0).unwrap());
    let answers = [
        vm.event(EVTCHNOP_INIT_CONTROL, InitControl::default()).map(drop),
        vm.event(EVTCHNOP_EXPAND_ARRAY, ExpandArray::default()).map(drop),
        vm.event(EVTCHNOP_SET_PRIORITY, SetPriority { port, priority: 0 }).map(drop),
    ];
    assert_eq!(answers, [Err(Errno::ENOSYS); 3]);
}

/// A Xen that knows it has no array and no priorities before it was asked for it.
#[test]
fn a_domain_that_has_not_gone_over_to_fifo() {
    let vm = Lab::new().guest(1);
    let port = EvtchnPort(vm.bind_ipi(0).unwrap());
    let expanded = vm.event(EVTCHNOP_EXPAND_ARRAY, ExpandArray::default()).map(drop);
    assert_eq!(expanded, Err(Errno::EOPNOTSUPP));
    let set = |port| vm.event(EVTCHNOP_SET_PRIORITY, SetPriority { port, priority: 99 }).map(drop);
    assert_eq!(set(EvtchnPort(BEYOND)), Err(Errno::EINVAL));
    assert_eq!(set(port), Err(Errno::ENOSYS));
}

/// A device model's port can be bound by its model, and by nobody else.
#[test]
fn a_port_of_xens_own() {
    let lab = Lab::new();
    let (vm, dom0) = (lab.guest(2), lab.machine.dom0());
    let port = dom0.alloc_xen_for(&vm.guest, 1).unwrap();
    assert_eq!(vm.status_of(DOMID_SELF, port), Ok((Channel::Unbound(DOM0), 1)));
    let model = dom0.bind_interdomain(&vm.guest, port).unwrap();
    let shared = vm.shared_info();
    dom0.send(model).unwrap();
    assert!(!crate::two_level::is_pending(&shared, port), "Xen itself gets the event");
}
