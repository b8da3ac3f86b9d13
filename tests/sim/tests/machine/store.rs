//! The toolstack's store, as a guest finds it: `docs/misc/xenstore-paths.pandoc`, and `libxl__domain_make` in `libxl_create.c`.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use xen_abi::{
    hvm::params::{
        HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN, HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN,
    },
    hypercall::XEN_VERSION,
    io::xs_wire::XsError,
    version::{DomainHandle, XENVER_GUEST_HANDLE},
};
use xen_sim::{GuestConfig, Machine};

use crate::{
    kernel::Kernel,
    wire::{Connection, Failed},
};

const DENIED: Failed = Failed::Refused(XsError::EACCES);
const ABSENT: Failed = Failed::Refused(XsError::ENOENT);

/// Nodes that a guest writes: `[w]` in xenstore-paths.pandoc, `rwperm` in `libxl__domain_make`.
const OWN: [&str; 13] = [
    "device/suspend/event-channel",
    "control/shutdown",
    "control/feature-poweroff",
    "control/feature-reboot",
    "control/feature-suspend",
    "control/feature-s3",
    "control/feature-s4",
    "control/sysrq",
    "data",
    "drivers",
    "feature",
    "attr",
    "error",
];

fn everything(kernel: &mut Kernel, path: &str, found: &mut BTreeSet<String>) {
    for name in kernel.directory(path).expect("it may read it") {
        let below = format!("{path}/{name}");
        everything(kernel, &below, found);
        found.insert(below);
    }
}

/// What a driver reads first: each key, and nothing that no real toolstack writes.
#[test]
fn every_key_of_the_guest_s_directory() {
    let machine = Machine::new(1);
    let config =
        GuestConfig { name: "windows".into(), vcpus: [0, 3].into(), pages: 1000, ..GuestConfig::default() };
    let mut kernel = Kernel::boot_with(&machine, config);
    let param = |index| kernel.param(index).to_string();
    let (store, console) = (param(HVM_PARAM_STORE_EVTCHN), param(HVM_PARAM_CONSOLE_EVTCHN));
    let (store_page, console_page) = (param(HVM_PARAM_STORE_PFN), param(HVM_PARAM_CONSOLE_PFN));
    let keys = [
        ("vm", "/vm/00000000-0000-0000-0000-000000000000"),
        ("name", "windows"),
        ("domid", "1"),
        ("cpu/0/availability", "online"),
        ("cpu/3/availability", "online"),
        ("memory/static-max", "4000"),
        ("memory/target", "4000"),
        ("memory/videoram", "0"),
        ("store/port", &store),
        ("store/ring-ref", &store_page),
        ("console/port", &console),
        ("console/ring-ref", &console_page),
        ("console/type", "xenconsoled"),
        ("control/platform-feature-multiprocessor-suspend", "1"),
        ("control/platform-feature-xs_reset_watches", "1"),
    ];
    for (key, value) in keys {
        assert_eq!(kernel.read(key).as_deref(), Ok(value), "{key}");
        assert_eq!(kernel.read(&format!("/local/domain/1/{key}")).as_deref(), Ok(value), "{key}");
    }
    for key in OWN {
        assert_eq!(kernel.read(key).as_deref(), Ok(""), "{key}: what a guest can do is for it to say");
    }
    let mut found = BTreeSet::new();
    everything(&mut kernel, "/local/domain/1", &mut found);
    for key in keys.map(|(key, _)| key).into_iter().chain(OWN).chain(["hvmloader"]) {
        let mut path = String::from("/local/domain/1");
        for name in key.split('/') {
            path = format!("{path}/{name}");
            found.remove(&path);
        }
    }
    assert_eq!(found, BTreeSet::new(), "nobody has asked for these");
}

/// A guest's UUID is one: what `vm` names, what is in there, and what the hypercall says.
#[test]
fn the_guest_s_uuid() {
    let machine = Machine::new(1);
    let _first = Kernel::boot(&machine);
    let mut second = Kernel::boot(&machine);
    let vm = second.read("vm").expect("it is there");
    assert_eq!(vm, "/vm/00000000-0000-0000-0000-000000000001");
    assert_eq!(second.read(&format!("{vm}/uuid")).as_deref(), Ok("00000000-0000-0000-0000-000000000001"));
    assert_eq!(second.read(&format!("{vm}/name")).as_deref(), Ok("guest"));
    let handle: DomainHandle = second.call(XEN_VERSION, XENVER_GUEST_HANDLE, [0xFF; 16]).expect("it may");
    assert_eq!(u128::from_be_bytes(handle), 1);
}

/// A guest's own nodes are its own: it may write them, make others below them, and say who reads them.
#[test]
fn own_nodes_are_the_guest_s() {
    let mut kernel = Kernel::alone(1);
    for key in OWN {
        assert_eq!(kernel.permissions(key).as_deref(), Ok(&["n1".to_owned()][..]), "{key}");
        assert_eq!(kernel.write(key, "1"), Ok(()), "{key}");
        assert_eq!(kernel.write(&format!("{key}/below"), "2"), Ok(()), "{key}");
        assert_eq!(kernel.read(&format!("{key}/below")).as_deref(), Ok("2"), "{key}");
        assert_eq!(kernel.set_permissions(key, &["b1"]), Ok(()), "{key}");
    }
}

/// All else the guest may read at most. A driver that writes where it may not on a real Xen is told so here, too.
#[test]
fn other_nodes_are_the_toolstack_s() {
    let mut kernel = Kernel::alone(1);
    let readable = ["n0".to_owned(), "r1".to_owned()];
    let vm = kernel.read("vm").expect("it is there");
    for path in [
        "/local/domain/1",
        "name",
        "domid",
        "vm",
        "cpu",
        "cpu/0/availability",
        "memory",
        "memory/target",
        "device",
        "device/suspend",
        "control",
        "control/platform-feature-xs_reset_watches",
        "hvmloader",
        "store",
        "store/port",
        "console",
        "console/ring-ref",
        &vm,
        &format!("{vm}/uuid"),
    ] {
        assert_eq!(kernel.permissions(path).as_deref(), Ok(&readable[..]), "{path}");
        assert_eq!(kernel.write(path, "1"), Err(DENIED), "{path}");
        assert_eq!(kernel.write(&format!("{path}/new"), "1"), Err(DENIED), "{path}");
        assert_eq!(kernel.rm(path), Err(DENIED), "{path}");
        assert_eq!(kernel.set_permissions(path, &["b1"]), Err(DENIED), "{path}");
    }
    // What libxl does not announce is not there, and the guest cannot put it there.
    assert_eq!(kernel.read("control/feature-laptop-slate-mode"), Err(ABSENT));
    assert_eq!(kernel.write("control/feature-laptop-slate-mode", "1"), Err(DENIED));
}

/// A guest sees nothing of another, nor of the control domain but what is meant for it.
#[test]
fn nothing_of_others() {
    let machine = Machine::new(1);
    let mut kernel = Kernel::boot(&machine);
    let other = Kernel::boot(&machine);
    other.attach();
    other.settle();
    let vm = "/vm/00000000-0000-0000-0000-000000000001";
    for path in
        ["/local/domain/2", "/local/domain/2/name", "/local/domain/2/data", vm, "/local/domain/0/backend"]
    {
        assert_eq!(kernel.read(path), Err(DENIED), "{path}");
        assert_eq!(kernel.write(path, ""), Err(DENIED), "{path}");
    }
    for path in [
        "/local/domain/0/backend/echo/2/0",
        "/local/domain/0/backend/echo/2/0/state",
        "/local/domain/2/device/echo/0",
    ] {
        assert_eq!(kernel.read(path), Err(DENIED), "{path}");
    }
}

/// A program of the control domain's that no longer watches is not told.
#[test]
fn watches_of_the_control_domain() {
    let machine = Machine::new(1);
    let kernel = Kernel::boot(&machine);
    let toolstack = machine.toolstack();
    let events = Arc::new(AtomicU64::new(0));
    let count = events.clone();
    machine.observe(move |line| {
        count.fetch_add(line.what.contains("event \"/local/domain/1/data").into(), Relaxed);
    });
    let mut watch = toolstack.watch("/local/domain/1/data");
    assert_eq!(watch.next().as_deref(), Some("/local/domain/1/data"), "at once");
    toolstack.write("/local/domain/1/data/key", "1");
    assert_eq!(watch.next().as_deref(), Some("/local/domain/1/data/key"));
    assert_eq!(watch.next(), None);
    let told = events.load(Relaxed);
    drop(watch);
    toolstack.write("/local/domain/1/data/key", "2");
    kernel.settle();
    assert_eq!(events.load(Relaxed), told);
    assert_ne!(told, 0);
}

/// A domain that somebody has built by hand has no store, and is told so by the parameters.
#[test]
fn a_domain_without_a_store() {
    let machine = Machine::new(1);
    let guest = machine.create(GuestConfig { has_store: false, ..GuestConfig::default() });
    let toolstack = machine.toolstack();
    assert_eq!(toolstack.read("/local/domain/1/name"), None);
    let kernel = Kernel::boot(&machine);
    assert_eq!(toolstack.read("/local/domain/2/name").as_deref(), Some("guest"));
    let Connection { port, .. } = Connection::find(&kernel);
    assert_ne!(port, 0);
    assert_eq!(guest.domain(), 1);
}
