//! All there is in a machine, behind its lock; and the control domain's way to the store.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use xen_abi::seam::{Gfn, Place};

use crate::{
    backend::{Backend, DeviceId, Side},
    console::Console,
    dice::Dice,
    guest::Inside,
    hypervisor::{DOM0, Dom0Port, Hypervisor, domain::STORE_RING, version::Release},
    machine::{Actor, GuestId},
    ram::Page,
    trace::Trace,
    xenstored::{Client, Config, Permission, RingPage, Xenstored},
};

/// All there is.
pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) xen: Hypervisor,
    pub(crate) store: Xenstored,
    /// The toolstack's connection to the store, which is also that of the backends.
    pub(crate) tools: Client,
    pub(crate) guests: BTreeMap<GuestId, Inside>,
    pub(crate) backends: BTreeMap<DeviceId, Backend>,
    pub(crate) next_device: u32,
    pub(crate) last_domid: u16,
    /// Xenstored's event channels, and whose they are.
    pub(crate) store_ports: BTreeMap<Dom0Port, u16>,
    /// Domains for which xenstored may be able to do something.
    pub(crate) store_work: BTreeSet<u16>,
    /// Domains that do not take what waits for them: they will signal when they have.
    pub(crate) store_stuck: BTreeSet<u16>,
    pub(crate) consoles: BTreeMap<GuestId, Console>,
    /// One in so many accesses of a guest's comes after something that the control domain does.
    pub(crate) interleave: u32,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    pub(crate) trace: Trace,
}

impl World {
    pub(crate) fn new(seed: u64, release: Release, store: &Config) -> Self {
        let mut store = Xenstored::new(store);
        let tools = store.connect();
        let mut world = Self {
            dice: Dice::new(seed),
            xen: Hypervisor::new(release),
            store,
            tools,
            guests: BTreeMap::new(),
            backends: BTreeMap::new(),
            next_device: 0,
            last_domid: 0,
            store_ports: BTreeMap::new(),
            store_work: BTreeSet::new(),
            store_stuck: BTreeSet::new(),
            consoles: BTreeMap::new(),
            interleave: 0,
            counts: BTreeMap::new(),
            trace: Trace::default(),
        };
        world.write_dom0();
        world
    }

    /// A line for whoever looks on.
    pub(crate) fn say(&mut self, who: impl Into<String>, what: impl FnOnce() -> String) {
        self.trace.say(self.xen.now, who, what);
    }

    /// One more of these has happened.
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(crate) fn inside_mut(&mut self, id: GuestId) -> &mut Inside {
        self.guests.get_mut(&id).expect("a guest stays known to its machine")
    }

    /// The guest that a domain is.
    pub(crate) fn guest_of(&self, domain: u16) -> Option<GuestId> {
        self.guests.iter().find(|(_, inside)| inside.domain == domain).map(|(id, _)| *id)
    }

    /// Time goes on.
    pub(crate) fn pass(&mut self, now: Duration) {
        self.xen.pass(now);
        self.store.set_time(self.xen.now);
        // Who was suspended by its watchdog waits in no hypercall for an answer.
        self.take_shutdowns();
    }

    /// When something happens by itself next.
    pub(crate) fn next_alarm(&self) -> Option<Duration> {
        let backends = self.backends.values().filter(|backend| backend.is_alive());
        let backends = backends.filter_map(|backend| backend.alarm);
        backends.chain(self.xen.next_timer()).chain(self.store.next_deadline()).min()
    }

    /// Who has something to do.
    pub(crate) fn ready(&self) -> BTreeSet<Actor> {
        let mut ready = BTreeSet::new();
        for to in self.xen.interrupts() {
            let guest = self.guest_of(to.domain);
            // A guest that handles no interrupts has them disabled.
            ready.extend(
                guest.filter(|id| self.guests[id].takes_interrupts()).map(|id| Actor::Upcall(id, to.vcpu)),
            );
        }
        if !self.store_work.is_empty() || self.store_ports.keys().any(|port| self.xen.notified.contains(port))
        {
            ready.insert(Actor::Xenstored);
        }
        ready.extend(self.busy_consoles().map(Actor::Console));
        let backends = self.backends.iter();
        let busy = backends.filter(|(_, backend)| backend.is_ready(&self.xen.notified, self.xen.now));
        ready.extend(busy.map(|(id, _)| Actor::Backend(*id)));
        ready
    }
}

// The store, for the control domain.

/// The token of a backend's watches.
const DEVICE: &str = "device ";

impl World {
    /// Reads a key.
    pub(crate) fn read(&mut self, path: &str) -> Option<String> {
        let value = self.store.tools(&self.tools).read(None, path).ok()?;
        Some(String::from_utf8_lossy(&value).into_owned())
    }

    /// Writes a key.
    ///
    /// The control domain may write everything, and no quota is for it. A path that cannot be is written nowhere.
    pub(crate) fn write(&mut self, path: &str, value: &str) {
        let written = self.store.tools(&self.tools).write(None, path, value.as_bytes());
        if let Err(refusal) = written {
            self.say("toolstack", || format!("could not write {path}: {refusal:?}"));
        }
        self.store_changed();
    }

    /// Makes a node, with these permissions and nothing in it.
    pub(crate) fn mknod(&mut self, path: &str, permissions: &[Permission]) {
        let mut tools = self.store.tools(&self.tools);
        // As above.
        let _ = tools.mkdir(None, path).and_then(|()| tools.set_permissions(None, path, permissions));
        self.store_changed();
    }

    /// Removes a node and all that is below it.
    pub(crate) fn rm(&mut self, path: &str) {
        // What is not there is removed.
        let _ = self.store.tools(&self.tools).rm(None, path);
        self.store_changed();
    }

    /// The same, and those above it that are empty then.
    pub(crate) fn clean_up(&mut self, path: &str) {
        self.rm(path);
        let mut path = path;
        while let Some((parent, _)) = path.rsplit_once('/') {
            let mut tools = self.store.tools(&self.tools);
            let has_value = tools.read(None, parent).is_ok_and(|value| !value.is_empty());
            if has_value || tools.directory(None, parent).is_ok_and(|children| !children.is_empty()) {
                return;
            }
            self.rm(parent);
            path = parent;
        }
    }

    /// A backend hears of changes in its own `online` and in its frontend's `state`.
    pub(crate) fn watch_keys(&mut self, id: DeviceId, front: &str, back: &str) {
        let token = format!("{DEVICE}{}", id.0);
        let mut tools = self.store.tools(&self.tools);
        // They are not watched yet: a device is published once, and not again before its watches are gone.
        let _ = tools
            .watch(&format!("{front}/state"), &token)
            .and_then(|()| tools.watch(&format!("{back}/online"), &token));
        self.store_changed();
    }

    pub(crate) fn unwatch_keys(&mut self, id: DeviceId, front: &str, back: &str) {
        let token = format!("{DEVICE}{}", id.0);
        let mut tools = self.store.tools(&self.tools);
        let _ = tools.unwatch(&format!("{front}/state"), &token);
        let _ = tools.unwatch(&format!("{back}/online"), &token);
    }

    /// Something may have changed in the store: says so to backends, and has xenstored look at who is to be told.
    pub(crate) fn store_changed(&mut self) {
        while let Some(event) = self.store.tools(&self.tools).next_event() {
            let token = str::from_utf8(&event.token).unwrap_or_default();
            let device = token.strip_prefix(DEVICE).and_then(|number| number.parse().ok()).map(DeviceId);
            if let Some(backend) = device.and_then(|id| self.backends.get_mut(&id)) {
                backend.keys_changed = true;
            }
        }
        let is_new = |domain: &u16| self.store.has_output(*domain) && !self.store_stuck.contains(domain);
        self.store_work.extend(self.store_ports.values().copied().filter(is_new));
        if self.trace.is_on() {
            for record in self.store.take_records() {
                self.trace.detail(self.xen.now, "xenstored", || record.to_string());
            }
        }
    }

    /// Xenstored does the next thing for one of the domains that wait for it.
    pub(crate) fn step_store(&mut self) {
        let ports = self.store_ports.iter().filter(|(port, _)| self.xen.notified.contains(port));
        for (port, domain) in ports.map(|(port, domain)| (*port, *domain)).collect::<Vec<_>>() {
            self.xen.notified.remove(&port);
            self.store_stuck.remove(&domain);
            self.store_work.insert(domain);
        }
        let waiting: Vec<_> = self.store_work.iter().copied().collect();
        let Some(&domain) = self.dice.choose(&waiting) else { return };
        let mut page = self.store_ring(domain);
        let step = self.store.step(domain, &mut page);
        self.count("turns of xenstored");
        if step.again {
            // What one has taken may be what another was waiting for.
            self.store_work.extend(self.store_ports.values());
        } else {
            self.store_work.remove(&domain);
            if self.store.has_output(domain) {
                self.store_stuck.insert(domain);
            }
        }
        if step.signal {
            self.signal_store(domain);
        }
        self.store_changed();
    }

    /// The ring of a domain's.
    pub(crate) fn store_ring(&self, domain: u16) -> ToolstackPage {
        self.toolstack_page(domain, STORE_RING)
    }

    /// What the toolstack has put there in a domain.
    pub(crate) fn toolstack_page(&self, domain: u16, gfn: Gfn) -> ToolstackPage {
        let domain = self.xen.domains.get(&domain);
        ToolstackPage(domain.and_then(|domain| domain.ram.physmap.page(gfn)).cloned())
    }

    /// Makes the domain's end of its channel to xenstored pending.
    pub(crate) fn signal_store(&mut self, domain: u16) {
        let port = self.store_ports.iter().find(|(_, of)| **of == domain).map(|(port, _)| *port);
        if let Some(port) = port {
            // A guest that has closed its end hears nothing.
            let _ = self.xen.send(DOM0, port);
        }
    }

    /// A domain is no more, or its connection is made anew: its channel to xenstored goes.
    pub(crate) fn forget_store_port(&mut self, domain: u16) {
        let ports: Vec<_> =
            self.store_ports.iter().filter(|(_, of)| **of == domain).map(|(port, _)| *port).collect();
        for port in ports {
            self.store_ports.remove(&port);
            self.xen.notified.remove(&port);
            // It is open: it was bound when the domain was introduced.
            let _ = self.xen.close(DOM0, port);
        }
        self.store_work.remove(&domain);
        self.store_stuck.remove(&domain);
    }
}

/// The page of a ring, as a daemon of the control domain has it mapped. That of a domain that is gone is not there: it reads as zero.
pub(crate) struct ToolstackPage(Option<Page>);

impl RingPage for ToolstackPage {
    fn load_u32(&self, place: Place<u32>) -> u32 {
        let mut bytes = [0; 4];
        self.read_bytes(place.offset(), &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn store_u32(&mut self, place: Place<u32>, value: u32) {
        self.write_bytes(place.offset(), &value.to_le_bytes());
    }

    fn read_bytes(&self, offset: usize, into: &mut [u8]) {
        if let Some(page) = &self.0 {
            page.read(offset, into).expect("places lie in the page");
        }
    }

    fn write_bytes(&mut self, offset: usize, from: &[u8]) {
        if let Some(page) = &self.0 {
            page.write(offset, from).expect("places lie in the page");
        }
    }
}

// Backends.

impl World {
    /// A backend does the next thing.
    pub(crate) fn step_backend(&mut self, id: DeviceId) {
        let Some(backend) = self.backends.get_mut(&id).filter(|backend| backend.is_alive()) else {
            return;
        };
        let Some(mut protocol) = backend.protocol.take() else { return };
        self.count("turns of backends");
        let is_gone = Side::new(self, id).step(&mut *protocol);
        if let Some(backend) = self.backends.get_mut(&id) {
            backend.protocol = Some(protocol);
        }
        if is_gone {
            self.remove(id);
        }
    }

    /// Before an access of a guest's, somebody of the control domain may do something.
    pub(crate) fn interleave(&mut self) {
        if !self.dice.hits(self.interleave) {
            return;
        }
        let is_dom0 = |actor: &Actor| !matches!(actor, Actor::Upcall(..));
        let ready: Vec<_> = self.ready().into_iter().filter(is_dom0).collect();
        match self.dice.choose(&ready).copied() {
            Some(Actor::Xenstored) => self.step_store(),
            Some(Actor::Console(id)) => self.step_console(id),
            Some(Actor::Backend(id)) => self.step_backend(id),
            Some(Actor::Upcall(..)) | None => {}
        }
    }
}
