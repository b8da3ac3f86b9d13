//! What happens at the two ends of a channel.
#![forbid(unsafe_code)]

use xen_abi::{
    Errno,
    domid::{DOMID_SELF, DomId},
    event_channel::{Channel, EVTCHN_2L_NR_CHANNELS, EvtchnPort, virq::VIRQ_TIMER},
};
use xen_sim::GuestConfig;

use crate::support::Lab;

const DOM0: DomId = DomId(0);

/// Drivers that keep ports in tables count on low numbers; a number that comes back at once finds stale users of it.
#[test]
fn ports_are_the_lowest_free_ones() {
    let vm = Lab::new().guest(1);
    let ports: Vec<u32> = (0..4).map(|_| vm.alloc(DOM0).unwrap()).collect();
    assert_eq!(ports, [1, 2, 3, 4]);
    vm.close(3).unwrap();
    vm.close(2).unwrap();
    assert_eq!([vm.alloc(DOM0), vm.bind_ipi(0), vm.alloc(DOM0)], [Ok(2), Ok(3), Ok(5)]);
}

/// A driver must live with a toolstack that gives it few channels, and get by once some are free again.
#[test]
fn a_domain_has_so_many_ports_as_the_toolstack_allows() {
    let vm = Lab::new().build(GuestConfig { max_evtchn_port: 70, ..GuestConfig::default() });
    for port in 1..=70 {
        assert_eq!(vm.alloc(DOM0), Ok(port));
    }
    assert_eq!(vm.alloc(DOM0), Err(Errno::ENOSPC));
    assert_eq!(vm.bind_ipi(0), Err(Errno::ENOSPC));
    assert_eq!(vm.bind_virq(VIRQ_TIMER, 0), Err(Errno::ENOSPC));
    vm.close(70).unwrap();
    assert_eq!(vm.bind_virq(VIRQ_TIMER, 0), Ok(70));
}

/// The two-level ABI has no bit for port 4096, whatever the toolstack allows.
#[test]
fn a_domain_has_so_many_ports_as_its_abi_can_count() {
    let vm = Lab::new().build(GuestConfig { max_evtchn_port: u32::MAX, ..GuestConfig::default() });
    for port in 1..EVTCHN_2L_NR_CHANNELS {
        assert_eq!(vm.alloc(DOM0), Ok(port));
    }
    assert_eq!(vm.alloc(DOM0), Err(Errno::ENOSPC));
}

/// The usual pair: a frontend's port, and a backend that binds it. Each hears the other, and nobody hears itself.
#[test]
fn a_backend_in_the_control_domain() {
    let lab = Lab::new();
    let (vm, dom0) = (lab.guest(1), lab.machine.dom0());
    let shared = vm.shared_info();
    let port = vm.alloc(DOM0).unwrap();
    assert_eq!(vm.status(port), Channel::Unbound(DOM0));
    vm.send(port).expect("an event that nobody hears");
    let backend = dom0.bind_interdomain(&vm.guest, port).unwrap();
    assert_eq!(vm.status(port), Channel::Interdomain(DOM0, EvtchnPort(backend)));
    assert!(dom0.notified().contains(&backend), "one may have been sent before");
    assert!(dom0.notified().is_empty(), "it was taken");
    assert!(!crate::two_level::is_pending(&shared, port));

    vm.send(port).unwrap();
    assert_eq!(dom0.notified().into_iter().collect::<Vec<_>>(), [backend]);
    assert!(!crate::two_level::is_pending(&shared, port));
    dom0.send(backend).unwrap();
    assert!(crate::two_level::is_pending(&shared, port));
    assert!(dom0.notified().is_empty());
}

/// The other way round, as when a guest is to connect with a port that it was told of.
#[test]
fn a_port_of_the_control_domain() {
    let lab = Lab::new();
    let (vm, other, dom0) = (lab.guest(1), lab.guest(1), lab.machine.dom0());
    let offered = dom0.alloc_unbound(&vm.guest).unwrap();
    assert_eq!(other.bind(DOM0, offered), Err(Errno::EINVAL), "it waits for another domain");
    let shared = vm.shared_info();
    let port = vm.bind(DOM0, offered).unwrap();
    assert!(crate::two_level::is_pending(&shared, port), "binding sets the local end pending");
    assert_eq!(vm.bind(DOM0, offered), Err(Errno::EINVAL), "it is taken");
}

/// Two guests need no control domain between them.
#[test]
fn two_guests() {
    let lab = Lab::new();
    let (one, two) = (lab.guest(1), lab.guest(1));
    let (shared, port) = (one.shared_info(), one.alloc(two.id()).unwrap());
    let peer = two.bind(one.id(), port).unwrap();
    assert_eq!(one.status(port), Channel::Interdomain(two.id(), EvtchnPort(peer)));
    assert_eq!(two.status(peer), Channel::Interdomain(one.id(), EvtchnPort(port)));
    two.send(peer).unwrap();
    assert!(crate::two_level::is_pending(&shared, port));
}

/// Both ends in one domain: closing one must find the other in the same table.
#[test]
fn a_loop_back() {
    let vm = Lab::new().guest(1);
    let shared = vm.shared_info();
    let one = vm.alloc(DOMID_SELF).unwrap();
    assert_eq!(vm.status(one), Channel::Unbound(vm.id()));
    let two = vm.bind(DOMID_SELF, one).unwrap();
    vm.send(two).unwrap();
    assert!(crate::two_level::is_pending(&shared, one));
    vm.close(one).unwrap();
    assert_eq!((vm.status(one), vm.status(two)), (Channel::Closed, Channel::Unbound(vm.id())));
    vm.close(two).unwrap();
}

/// A backend that goes away leaves its frontend's port as it was before it came: the frontend is told nothing, may
/// send into nothing, and gets the next backend's events.
#[test]
fn a_port_whose_peer_closes_waits_again() {
    let lab = Lab::new();
    let (vm, dom0) = (lab.guest(2), lab.machine.dom0());
    let shared = vm.shared_info();
    let port = vm.alloc(DOM0).unwrap();
    vm.bind_vcpu(port, 1).unwrap();
    let first = dom0.bind_interdomain(&vm.guest, port).unwrap();
    dom0.close(first).unwrap();
    assert_eq!(vm.status_of(DOMID_SELF, port), Ok((Channel::Unbound(DOM0), 1)), "it stays on its vCPU");
    assert!(!crate::two_level::is_pending(&shared, port));
    vm.send(port).expect("an event that nobody hears");
    let second = dom0.bind_interdomain(&vm.guest, port).unwrap();
    dom0.send(second).unwrap();
    assert!(crate::two_level::is_pending(&shared, port));
    assert!(dom0.close(first).is_err() || first == second);
}

/// A control domain whose port the guest has closed must not hear of events that came before.
#[test]
fn a_closed_port_of_the_control_domain_has_no_events() {
    let lab = Lab::new();
    let (vm, dom0) = (lab.guest(1), lab.machine.dom0());
    let port = vm.alloc(DOM0).unwrap();
    let backend = dom0.bind_interdomain(&vm.guest, port).unwrap();
    dom0.close(backend).unwrap();
    assert!(dom0.notified().is_empty());
    assert_eq!(dom0.send(backend).unwrap_err().error, Errno::EINVAL);
}

/// What was pending at a port must not come to whoever has its number next.
#[test]
fn a_new_port_has_nothing_pending() {
    let vm = Lab::new().guest(1);
    let shared = vm.shared_info();
    let port = vm.bind_ipi(0).unwrap();
    vm.send(port).unwrap();
    assert!(crate::two_level::is_pending(&shared, port));
    vm.close(port).unwrap();
    assert!(!crate::two_level::is_pending(&shared, port));
    assert_eq!(vm.bind_ipi(0), Ok(port));
    assert!(!crate::two_level::is_pending(&shared, port));
}

/// A driver that resets loses xenstore's and the console's channels with its own, and has to bind them anew. Those of
/// a device model stay.
#[test]
fn a_reset_closes_all_that_the_guest_can_close() {
    let lab = Lab::new();
    let (vm, dom0) = (lab.guest(2), lab.machine.dom0());
    let store = dom0.alloc_unbound_for(&vm.guest).unwrap();
    let model = dom0.alloc_xen_for(&vm.guest, 1).unwrap();
    let xenstored = dom0.bind_interdomain(&vm.guest, store).unwrap();
    let own = [vm.alloc(DOM0), vm.bind_ipi(1), vm.bind_virq(VIRQ_TIMER, 1), vm.alloc(DOMID_SELF)];
    let own = own.map(Result::unwrap);
    assert_eq!((store, model, own), (1, 2, [3, 4, 5, 6]));

    vm.reset(vm.id()).unwrap();
    assert_eq!(vm.status(store), Channel::Closed);
    assert_eq!(vm.status(model), Channel::Unbound(DOM0));
    for port in own {
        assert_eq!(vm.status(port), Channel::Closed, "{port}");
    }
    // The other end waits: this is how a guest gets back to it.
    assert_eq!(vm.bind(DOM0, xenstored), Ok(store));
    assert_eq!(vm.bind_virq(VIRQ_TIMER, 1), Ok(3), "it is free again");
}

/// A storm is one event: what is pending cannot become more so.
#[test]
fn a_storm() {
    let lab = Lab::new();
    let (vm, dom0) = (lab.guest(1), lab.machine.dom0());
    let shared = vm.shared_info();
    vm.note_interrupts();
    vm.set_vector(0, 0x30).unwrap();
    vm.interrupts();
    let ports: Vec<(u32, u32)> = (0..500)
        .map(|_| {
            let port = vm.alloc(DOM0).unwrap();
            (port, dom0.bind_interdomain(&vm.guest, port).unwrap())
        })
        .collect();
    for _ in 0..20 {
        for (_, backend) in &ports {
            dom0.send(*backend).unwrap();
        }
    }
    assert_eq!(vm.interrupts().len(), 1);
    for (port, _) in ports {
        assert!(crate::two_level::is_pending(&shared, port), "{port}");
    }
}
