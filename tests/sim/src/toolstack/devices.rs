//! The two halves of a device in the store, and how they come and go.
#![forbid(unsafe_code)]

use std::fmt;

use xen_abi::io::xenbus::XenbusState;

use crate::{
    backend::{Backend, DeviceId, Protocol, Side},
    hypervisor::DOM0,
    machine::GuestId,
    rule::rules,
    world::World,
    xenstored::{Access, Permission},
};

rules! {
    /// The frontend's directory is the guest's, and the backend can read it; it names the backend's.
    FRONTEND_KEYS: "tools/libs/light/libxl_device.c", "libxl__device_generic_add";
    /// The backend's directory is the backend's, and the guest can read it; it names the frontend's.
    BACKEND_KEYS: "tools/libs/light/libxl_device.c", "libxl__device_generic_add";
    /// Both halves begin as `Initialising`.
    BOTH_INITIALISING: "xen/include/public/io/xenbus.h", "XenbusStateInitialising";
    /// The toolstack takes a device away by `online` = 0 and, but for a backend that is `Closed`, `state` = 5.
    TAKEN_AWAY: "tools/libs/light/libxl_device.c", "libxl__initiate_device_generic_remove";
    /// The keys of a device that is taken away are removed when its backend is `Closed`.
    REMOVED_WHEN_CLOSED: "tools/libs/light/libxl_device.c", "libxl__device_destroy";
    /// With the last device of a class in it, a directory goes, too.
    NO_EMPTY_DIRECTORIES: "tools/libs/light/libxl_xshelp.c", "libxl__xs_path_cleanup";
}

/// A device to be.
pub struct DeviceConfig {
    /// Its number in its class: 0 for the first network device; for a disk, what its name is encoded as.
    pub index: u32,
    /// Further keys of the frontend's directory.
    pub frontend: Vec<(String, String)>,
    /// Further keys of the backend's directory.
    pub backend: Vec<(String, String)>,
    /// What its backend does.
    pub protocol: Box<dyn Protocol>,
}

impl World {
    pub(super) fn attach(&mut self, guest: GuestId, config: DeviceConfig) -> DeviceId {
        let DeviceConfig { index, frontend, backend, protocol } = config;
        let id = DeviceId(self.next_device);
        self.next_device += 1;
        let class = protocol.class().to_owned();
        let has_one = |other: &Backend| other.guest == guest && other.index == index && other.class == class;
        assert!(!self.backends.values().any(has_one), "the guest has {class}/{index} already");
        let device = Backend::new(guest, class, index, [frontend, backend], protocol);
        self.backends.insert(id, device);
        self.publish(id);
        id
    }

    /// Writes both directories.
    pub(super) fn publish(&mut self, id: DeviceId) {
        let backend = &self.backends[&id];
        let domain = self.guests[&backend.guest].domain;
        let (front, back) = (backend.frontend_directory(domain), backend.directory(domain));
        let [frontend_keys, backend_keys] = backend.keys.clone();
        let (index, class) = (backend.index, backend.class.clone());
        let guest_owns = [Permission::new(Access::None, domain), Permission::new(Access::Read, DOM0)];
        let dom0_owns = [Permission::new(Access::None, DOM0), Permission::new(Access::Read, domain)];
        self.mknod(&front, &guest_owns);
        self.mknod(&back, &dom0_owns);
        let initialising = XenbusState::Initialising.number().to_string();
        let (dom0, domid) = (DOM0.to_string(), domain.to_string());
        let back_keys = [("frontend", &front), ("frontend-id", &domid), ("online", &"1".into())];
        let front_keys = [("backend", &back), ("backend-id", &dom0)];
        for (directory, every, own) in
            [(&back, &back_keys[..], &backend_keys), (&front, &front_keys[..], &frontend_keys)]
        {
            let own = own.iter().map(|(key, value)| (key.as_str(), value));
            // When the state is there, so is everything else.
            for (key, value) in every.iter().copied().chain(own).chain([("state", &initialising)]) {
                self.write(&format!("{directory}/{key}"), value);
            }
        }
        self.watch_keys(id, &front, &back);
        self.say("toolstack", || format!("attached {class}/{index} to domain {domain}"));
    }

    /// `online` = 0 and `state` = 5: the two halves do the rest.
    pub(super) fn detach(&mut self, id: DeviceId) -> bool {
        let Some(state) = self.backends.get(&id).map(|backend| backend.state) else { return false };
        self.say("toolstack", || format!("asks for device {} back", id.0));
        self.tell_frontend(id, &[("online", "0")])
            && (state == XenbusState::Closed || self.say_state(id, XenbusState::Closing))
    }

    /// The device's keys go, and so does what its backend has.
    pub(crate) fn remove(&mut self, id: DeviceId) -> bool {
        self.release(id);
        let Some(backend) = self.backends.remove(&id) else { return false };
        let domain = self.guests[&backend.guest].domain;
        let (front, back) = (backend.frontend_directory(domain), backend.directory(domain));
        self.unwatch_keys(id, &front, &back);
        self.clean_up(&back);
        self.clean_up(&front);
        self.say("toolstack", || format!("removed {back}"));
        true
    }

    /// Writes keys of the backend's that its frontend looks at.
    pub(super) fn tell_frontend(&mut self, id: DeviceId, keys: &[(&str, &str)]) -> bool {
        let Some(backend) = self.backends.get(&id) else { return false };
        let back = backend.directory(self.guests[&backend.guest].domain);
        for (key, value) in keys {
            self.write(&format!("{back}/{key}"), value);
        }
        true
    }

    /// Writes the backend's state as it is, so that who watches it looks again.
    pub(super) fn say_state_again(&mut self, id: DeviceId) -> bool {
        self.backends.get(&id).map(|backend| backend.state).is_some_and(|state| self.say_state(id, state))
    }

    /// Writes the backend's state in its name.
    fn say_state(&mut self, id: DeviceId, state: XenbusState) -> bool {
        self.tell_frontend(id, &[("state", &state.number().to_string())])
    }

    /// Writes a key of the frontend's.
    pub(super) fn write_frontend(&mut self, id: DeviceId, key: &str, value: &str) -> bool {
        let Some(backend) = self.backends.get(&id) else { return false };
        let front = backend.frontend_directory(self.guests[&backend.guest].domain);
        self.write(&format!("{front}/{key}"), value);
        true
    }

    /// What a backend has of its frontend's is let go of.
    pub(crate) fn release(&mut self, id: DeviceId) {
        let Some(backend) = self.backends.get_mut(&id) else { return };
        if let Some(protocol) = &mut backend.protocol {
            protocol.disconnect();
        }
        Side::new(self, id).release_all();
    }

    /// The backend dies, as one does with its domain: its channels are closed and its mappings gone, and nobody tells the store.
    pub(crate) fn kill_backend(&mut self, id: DeviceId) {
        self.release(id);
        if let Some(backend) = self.backends.get_mut(&id) {
            backend.wedge();
        }
    }
}

impl fmt::Debug for DeviceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceConfig")
            .field("class", &self.protocol.class())
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}
