//! A guest's domain, and its place in the store.
#![forbid(unsafe_code)]

use xen_abi::{
    hvm::params::{
        HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN, HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN,
    },
    version::DomainHandle,
};

use crate::{
    guest::{GuestConfig, Inside},
    hypervisor::{
        DOM0,
        domain::{CONSOLE_RING, STORE_RING},
    },
    machine::GuestId,
    ram::Ram,
    rule::rules,
    world::World,
    xenstored::{Access, Permission},
};

rules! {
    /// The control domain has a directory of its own, too.
    DOM0_HOME: "tools/helpers/xen-init-dom0.c", "main";
    /// A domain's own directory is the control domain's, and the domain can read it.
    HOME_IS_READABLE: "tools/libs/light/libxl_create.c", "libxl__domain_make";
    /// Some nodes in it are the domain's own.
    OWN_NODES: "tools/libs/light/libxl_create.c", "libxl__domain_make";
    /// What is told of a guest in `/vm` is found by its UUID, and keeps its place when the guest becomes another domain.
    VM: "docs/misc/xenstore-paths.pandoc", "~/vm";
    /// What the toolstack can ask for is announced by empty nodes, into which the guest writes what it can do.
    FEATURE_NODES: "docs/misc/xenstore-paths.pandoc", "~/control/feature-poweroff";
    /// The guest is told that several virtual CPUs can be suspended, and watches be reset.
    PLATFORM_FEATURES: "docs/misc/xenstore-paths.pandoc", "~/control/platform-feature-xs_reset_watches";
    /// The rings of store and console are at pages that parameters tell, with ports that others tell.
    RING_PARAMETERS: "xen/include/public/hvm/params.h", "HVM_PARAM_STORE_PFN";
    /// A domain is introduced to xenstored with its ring and an unbound port, which xenstored connects with.
    INTRODUCED: "docs/misc/xenstore.txt", "INTRODUCE";
    /// A number that was a domain's is not soon another's.
    DOMIDS_GO_UP: "tools/libs/light/libxl_create.c", "libxl__is_domid_recent";
}

/// Nodes in its directory that the guest can only read.
const READABLE: &[&str] = &["cpu", "memory", "device", "control", "hvmloader", "store", "console"];

/// Nodes in it of the guest's own.
const OWN: &[&str] = &[
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

const KIB_PER_PAGE: u64 = 4;

impl World {
    /// What there is in the store before there is a guest.
    pub(crate) fn write_dom0(&mut self) {
        self.write("/local/domain/0/domid", "0");
        self.write("/local/domain/0/name", "Domain-0");
    }

    /// Builds a guest.
    pub(crate) fn create(&mut self, config: GuestConfig) -> GuestId {
        let id = GuestId(u32::try_from(self.guests.len()).expect("they are few"));
        let domain = self.new_domid();
        let ram = Ram::new(config.pages);
        self.guests.insert(id, Inside::new(domain, config));
        self.restore(id, ram);
        self.say("toolstack", || format!("created domain {domain}"));
        id
    }

    pub(super) fn new_domid(&mut self) -> u16 {
        self.last_domid += 1;
        self.last_domid
    }

    /// Makes the domain that a guest is, around its memory: a new guest's, or that of one that was suspended.
    pub(super) fn restore(&mut self, id: GuestId, ram: Ram) {
        let config = self.guests[&id].config.clone();
        let domain = self.guests[&id].domain;
        self.xen.create(domain, &config, ram);
        self.store.domain_created(domain);
        if let Some(built) = self.xen.domains.get_mut(&domain) {
            built.handle = handle(id);
        }
        if !config.has_store {
            return;
        }
        let ports =
            [(); 2].map(|()| self.xen.builder_alloc_unbound(domain).expect("a new domain has ports to give"));
        let [store_port, console_port] = ports;
        for (parameter, value) in [
            (HVM_PARAM_STORE_PFN, STORE_RING.0),
            (HVM_PARAM_STORE_EVTCHN, store_port.into()),
            (HVM_PARAM_CONSOLE_PFN, CONSOLE_RING.0),
            (HVM_PARAM_CONSOLE_EVTCHN, console_port.into()),
        ] {
            self.xen.build_parameter(domain, parameter, value);
        }
        self.write_home(domain, handle(id), &config, ports);
        self.introduce(domain, store_port);
        self.connect_console(id, console_port);
    }

    fn write_home(&mut self, domain: u16, handle: DomainHandle, config: &GuestConfig, ports: [u32; 2]) {
        let [store_port, console_port] = ports;
        let home = format!("/local/domain/{domain}");
        let uuid = uuid(handle);
        let vm = format!("/vm/{uuid}");
        let readable = [Permission::new(Access::None, DOM0), Permission::new(Access::Read, domain)];
        let own = [Permission::new(Access::None, domain)];
        self.mknod(&home, &readable);
        self.mknod(&vm, &readable);
        for (nodes, permissions) in [(READABLE, &readable[..]), (OWN, &own)] {
            for node in nodes {
                self.mknod(&format!("{home}/{node}"), permissions);
            }
        }
        let memory = config.pages.saturating_mul(KIB_PER_PAGE).to_string();
        let keys = [
            ("vm", vm.clone()),
            ("name", config.name.clone()),
            ("domid", domain.to_string()),
            ("memory/static-max", memory.clone()),
            ("memory/target", memory),
            ("memory/videoram", "0".into()),
            ("store/port", store_port.to_string()),
            ("store/ring-ref", STORE_RING.0.to_string()),
            ("console/port", console_port.to_string()),
            ("console/ring-ref", CONSOLE_RING.0.to_string()),
            ("console/type", "xenconsoled".into()),
            ("control/platform-feature-multiprocessor-suspend", "1".into()),
            ("control/platform-feature-xs_reset_watches", "1".into()),
        ];
        for (key, value) in keys {
            self.write(&format!("{home}/{key}"), &value);
        }
        self.write(&format!("{vm}/uuid"), &uuid);
        self.write(&format!("{vm}/name"), &config.name);
        for vcpu in &config.vcpus {
            self.write(&format!("{home}/cpu/{vcpu}/availability"), "online");
        }
    }

    /// Has xenstored connect with a domain.
    fn introduce(&mut self, domain: u16, port: u32) {
        let own =
            self.xen.bind_interdomain(DOM0, domain, port).expect("the domain is new, and so is its port");
        self.store_ports.insert(own, domain);
        let mut ring = self.store_ring(domain);
        let introduced = self.store.tools(&self.tools).introduce(domain, own, &mut ring);
        introduced.expect("the domain is new, and the caller the control domain");
        self.signal_store(domain);
        self.store_changed();
    }
}

/// A guest's UUID, as Xen has it: its number.
fn handle(GuestId(number): GuestId) -> DomainHandle {
    u128::from(number).to_be_bytes()
}

/// The same as a text.
fn uuid(handle: DomainHandle) -> String {
    let mut text = format!("{:032x}", u128::from_be_bytes(handle));
    for at in [8, 13, 18, 23] {
        text.insert(at, '-');
    }
    text
}
