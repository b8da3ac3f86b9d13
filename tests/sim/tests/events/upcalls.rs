//! Upcalls as interrupts: a vector of each virtual CPU's own, the callback's vector, the callback's line.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use xen_abi::{
    Errno,
    hvm::params::{CallbackVia, HVM_PARAM_CALLBACK_IRQ},
    seam::Access,
};
use xen_sim::{
    GuestConfig, GuestFrame,
    Interrupt::{Line, Vector},
};

use crate::support::{Lab, PENDING_SEL, UPCALL_PENDING, Vm};

fn set_callback(vm: &Vm, via: CallbackVia) {
    vm.set_param(HVM_PARAM_CALLBACK_IRQ, via.to_param()).unwrap();
}

/// A guest with two virtual CPUs that notes its interrupts, and nothing pending.
fn quiet() -> (Vm, [GuestFrame; 2]) {
    let vm = Lab::new().guest(2);
    let infos = [vm.move_info(0), vm.move_info(1)];
    infos.iter().for_each(clear);
    vm.note_interrupts();
    (vm, infos)
}

fn clear(info: &GuestFrame) {
    info.store(UPCALL_PENDING, 0);
    info.store(PENDING_SEL, 0);
}

/// What a vector can be, and whose.
#[test]
fn vectors() {
    let vm = Lab::new().guest(2);
    for vector in 0..16 {
        assert_eq!(vm.set_vector(9, vector), Err(Errno::EINVAL), "{vector}");
    }
    assert_eq!(vm.set_vector(2, 16), Err(Errno::ENOENT));
    assert_eq!([vm.set_vector(0, 16), vm.set_vector(1, 255)], [Ok(()); 2]);
}

/// A vector of one's own is an edge: it comes when an upcall becomes due, and not again before the guest has cleared
/// that.
#[test]
fn an_edge() {
    let (vm, infos) = quiet();
    vm.set_vector(1, 0x60).unwrap();
    assert_eq!(vm.interrupts(), [(1, Vector(0x60))], "Xen asserts it once, whatever is pending");
    let [one, two, three] = [(); 3].map(|()| vm.bind_ipi(1).unwrap());
    vm.send(one).unwrap();
    assert_eq!(vm.interrupts(), [(1, Vector(0x60))]);
    assert_eq!(vm.interrupts(), [], "an edge comes once");
    infos[1].store(PENDING_SEL, 0);
    vm.send(two).unwrap();
    assert_eq!(vm.interrupts(), [], "an upcall is due already");
    clear(&infos[1]);
    vm.send(three).unwrap();
    clear(&infos[1]);
    assert_eq!(vm.interrupts(), [(1, Vector(0x60))], "it cannot be taken back");
}

/// Without a vector and a callback nobody is interrupted; what is pending is told when there is one.
#[test]
fn no_way_to_interrupt() {
    let (vm, _infos) = quiet();
    let port = vm.bind_ipi(0).unwrap();
    vm.send(port).unwrap();
    assert_eq!(vm.interrupts(), []);
    set_callback(&vm, CallbackVia::Gsi(28));
    assert_eq!(vm.interrupts(), [(0, Line(28))]);
}

/// The line is a level: it is asserted as long as vCPU 0's upcall is pending, and no longer.
#[test]
fn a_level() {
    let (vm, infos) = quiet();
    set_callback(&vm, CallbackVia::Gsi(28));
    assert_eq!(vm.interrupts(), []);
    vm.send(vm.bind_ipi(1).unwrap()).unwrap();
    assert_eq!(vm.interrupts(), [], "it is vCPU 0's line");
    let port = vm.bind_ipi(0).unwrap();
    vm.send(port).unwrap();
    assert_eq!(vm.interrupts(), [(0, Line(28))]);
    assert_eq!(vm.interrupts(), [(0, Line(28))], "the guest has not cleared it");
    clear(&infos[0]);
    assert_eq!(vm.interrupts(), []);
    vm.send(vm.bind_ipi(0).unwrap()).unwrap();
    clear(&infos[0]);
    assert_eq!(vm.interrupts(), [], "a level that is gone is gone");
}

/// The callback's vector is for all virtual CPUs, and comes as long as there is something pending.
#[test]
fn a_callback_vector() {
    let (vm, infos) = quiet();
    set_callback(&vm, CallbackVia::Vector(0xF3));
    for vcpu in [0, 1] {
        vm.send(vm.bind_ipi(vcpu).unwrap()).unwrap();
    }
    let both = [(0, Vector(0xF3)), (1, Vector(0xF3))];
    assert_eq!(vm.interrupts(), both);
    assert_eq!(vm.interrupts(), both);
    infos.iter().for_each(clear);
    assert_eq!(vm.interrupts(), []);
}

/// A PCI interrupt is that of a line which several devices share.
#[test]
fn a_pci_interrupt() {
    for (devfn, intx, line) in [(2 << 3, 0, 24), (3 << 3 | 5, 1, 29), (31 << 3, 3, 16 + (124 + 3 + 3) % 32)] {
        let (vm, _infos) = quiet();
        set_callback(&vm, CallbackVia::PciIntx { domain: 7, bus: 1, devfn, intx });
        vm.send(vm.bind_ipi(0).unwrap()).unwrap();
        assert_eq!(vm.interrupts(), [(0, Line(line))], "{devfn:#x} {intx}");
    }
}

/// Callbacks that are none: number zero, lines that there are not, kinds that the header does not know.
#[test]
fn callbacks_that_are_none() {
    for param in [0, 48, 255, 0x0300_0000_0000_001C, u64::MAX] {
        let (vm, _infos) = quiet();
        set_callback(&vm, CallbackVia::Gsi(28));
        vm.send(vm.bind_ipi(0).unwrap()).unwrap();
        vm.set_param(HVM_PARAM_CALLBACK_IRQ, param).unwrap();
        assert_eq!(vm.interrupts(), [], "{param:#x}");
        assert_eq!(vm.get_param(HVM_PARAM_CALLBACK_IRQ), Ok(param));
    }
}

/// A vector of its own goes before the callback's line: a guest sets both, the one for older Xens.
#[test]
fn a_vector_goes_before_the_line() {
    let (vm, infos) = quiet();
    set_callback(&vm, CallbackVia::Gsi(28));
    vm.set_vector(0, 0x60).unwrap();
    assert_eq!(vm.interrupts(), [(0, Vector(0x60))]);
    vm.send(vm.bind_ipi(0).unwrap()).unwrap();
    assert_eq!(vm.interrupts(), [(0, Vector(0x60))]);
    assert_eq!(vm.interrupts(), []);
    clear(&infos[0]);
    // Setting the callback asserts all vectors anew.
    set_callback(&vm, CallbackVia::Gsi(29));
    assert_eq!(vm.interrupts(), [(0, Vector(0x60))]);
}

/// A handler is not interrupted by itself: what comes while it works is taken when it has ended. And one that clears
/// the pending byte first, as the header wants it, misses nothing.
#[test]
fn no_interrupt_in_a_handler() {
    let (vm, [info, _]) = quiet();
    let port = vm.bind_ipi(0).unwrap();
    let (depth, calls) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (handler, counted) = (vm.clone(), calls.clone());
    let shared = vm.shared_info();
    vm.guest.on_upcall(move |_, _| {
        assert_eq!(depth.fetch_add(1, Ordering::Relaxed), 0, "a handler in a handler");
        clear(&info);
        shared.store(xen_abi::shared_info::EVTCHN_PENDING.get(0).unwrap(), 0);
        if counted.fetch_add(1, Ordering::Relaxed) < 3 {
            handler.send(port).unwrap();
            handler.step();
        }
        depth.fetch_sub(1, Ordering::Relaxed);
    });
    vm.set_vector(0, 0x60).unwrap();
    vm.settle();
    assert_eq!(calls.load(Ordering::Relaxed), 4);
}

/// A guest without a handler has its interrupts disabled, and gets them when it has one.
#[test]
fn interrupts_wait_for_a_handler() {
    let lab = Lab::new();
    let vm = lab.guest(1);
    vm.set_vector(0, 0x60).unwrap();
    assert_eq!(lab.machine.ready(), BTreeSet::new());
    vm.note_interrupts();
    assert_eq!(vm.interrupts(), [(0, Vector(0x60))]);
}

/// The largest guest there is: each virtual CPU has its own vector, its own place and its own events.
#[test]
fn all_512_vcpus() {
    let lab = Lab::new();
    let vm = lab.build(GuestConfig { vcpus: (0..512).collect(), ..GuestConfig::default() });
    vm.note_interrupts();
    let vector = |vcpu: u32| 0x30 + u8::try_from(vcpu % 200).unwrap();
    for vcpu in 0..512 {
        clear(&vm.move_info(vcpu));
        vm.set_vector(vcpu, vector(vcpu)).unwrap();
    }
    assert_eq!(vm.interrupts().len(), 512);
    for vcpu in (0..512).rev() {
        vm.send(vm.bind_ipi(vcpu).unwrap()).unwrap();
        assert_eq!(vm.interrupts(), [(vcpu, Vector(vector(vcpu)))]);
    }
}
