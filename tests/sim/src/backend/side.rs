//! What a backend has of the control domain: the store, event channels, grants, a clock and a seed.
#![forbid(unsafe_code)]

use std::{fmt, mem, time::Duration};

use xen_abi::{
    grant_table::{GrantRef, status::GrantError},
    io::xenbus::{NoSuchState, XenbusState},
};

use super::{Backend, DeviceId, Mood};
use crate::{
    dice::Dice,
    hypervisor::{
        DOM0, Dom0Port,
        grant::backend::{Access, Mapping, Untouchable},
    },
    world::World,
};

/// The means of a backend.
///
/// Keys are those of its own directory, which it writes, and those of the frontend's, which it reads and must not believe.
pub struct Side<'w> {
    world: &'w mut World,
    device: DeviceId,
}

impl<'w> Side<'w> {
    pub(crate) fn new(world: &'w mut World, device: DeviceId) -> Self {
        Self { world, device }
    }

    fn backend(&mut self) -> &mut Backend {
        self.world.backends.get_mut(&self.device).expect("a backend has its means while there is one")
    }

    /// The domain that the frontend is in now.
    #[must_use]
    pub fn domain(&self) -> u16 {
        self.world.guests[&self.world.backends[&self.device].guest].domain
    }

    /// Since the machine was switched on.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.world.xen.now
    }

    /// Chance.
    pub fn dice(&mut self) -> &mut Dice {
        &mut self.world.dice
    }

    /// Asks for [`work`](super::Protocol::work) at this time, instead of whatever was asked for before.
    pub fn wake_at(&mut self, at: Option<Duration>) {
        self.backend().alarm = at;
    }

    /// A line for whoever looks on.
    pub fn say(&mut self, what: impl FnOnce() -> String) {
        let who = self.directory();
        self.world.say(who, what);
    }
}

// Keys.

impl Side<'_> {
    /// The backend's own directory.
    #[must_use]
    pub fn directory(&self) -> String {
        self.world.backends[&self.device].directory(self.domain())
    }

    /// The frontend's.
    #[must_use]
    pub fn frontend_directory(&self) -> String {
        self.world.backends[&self.device].frontend_directory(self.domain())
    }

    /// Writes a key of its own.
    pub fn write(&mut self, key: &str, value: &str) {
        let path = format!("{}/{key}", self.directory());
        self.world.write(&path, value);
    }

    /// Reads a key of its own, which the toolstack may have written.
    pub fn read(&mut self, key: &str) -> Option<String> {
        let path = format!("{}/{key}", self.directory());
        self.world.read(&path)
    }

    /// Reads a key of the frontend's.
    pub fn read_frontend(&mut self, key: &str) -> Option<String> {
        let path = format!("{}/{key}", self.frontend_directory());
        self.world.read(&path)
    }

    /// Reads a number of the frontend's.
    ///
    /// # Errors
    ///
    /// There is no such key, or it is no such number: what to write into the error key.
    pub fn read_number<N: std::str::FromStr>(&mut self, key: &str) -> Result<N, String> {
        let value = self.read_frontend(key).ok_or_else(|| format!("the frontend has no {key}"))?;
        value.parse().map_err(|_| format!("the frontend's {key} is `{value}`"))
    }

    /// What the frontend says of itself: that it is unknown, if it says no number.
    pub(super) fn frontend_state(&mut self) -> Result<XenbusState, NoSuchState> {
        let number = self.read_frontend("state").and_then(|state| state.parse::<u32>().ok());
        number.map_or(Ok(XenbusState::Unknown), XenbusState::try_from)
    }

    /// Whether the toolstack wants it to stay.
    pub(super) fn is_online(&mut self) -> bool {
        self.read("online").is_some_and(|online| online.trim() != "0")
    }

    /// What it has said last of itself.
    #[must_use]
    pub fn state(&self) -> XenbusState {
        self.world.backends[&self.device].state
    }

    /// Says that it is in this state, if it has not said so.
    pub(super) fn switch(&mut self, state: XenbusState) {
        if mem::replace(&mut self.backend().state, state) != state {
            self.write("state", &state.number().to_string());
            self.say(|| format!("is {state}"));
        }
    }

    pub(super) fn write_error(&mut self, why: &str) {
        let own = self.world.backends[&self.device].directory_at_home(self.domain());
        self.world.write(&format!("/local/domain/{DOM0}/error/{own}/error"), why);
    }
}

// How it stands.

impl Side<'_> {
    pub(super) fn take_keys_changed(&mut self) -> bool {
        mem::take(&mut self.backend().keys_changed)
    }

    pub(super) fn look_again(&mut self) {
        self.backend().keys_changed = true;
    }

    /// Whether it is to close, with nobody having asked its frontend.
    pub(super) fn take_leaving(&mut self) -> bool {
        let backend = self.backend();
        let is_leaving = backend.mood == Mood::Leaving;
        if is_leaving {
            backend.mood = Mood::Well;
        }
        is_leaving
    }

    pub(super) fn is_connected(&mut self) -> bool {
        self.backend().is_connected
    }

    pub(super) fn set_connected(&mut self) {
        self.backend().is_connected = true;
    }

    pub(super) fn set_busy(&mut self, is_busy: bool) {
        self.backend().is_busy = is_busy;
    }
}

// Event channels.

impl Side<'_> {
    /// Connects with an unbound port of the frontend's.
    ///
    /// # Errors
    ///
    /// It has no such port for the control domain.
    pub fn bind(&mut self, port: u32) -> Result<Dom0Port, String> {
        let domain = self.domain();
        let own = self.world.xen.bind_interdomain(DOM0, domain, port);
        let own = own.map_err(|refusal| format!("port {port} of the frontend's: {}", refusal.error))?;
        self.backend().ports.insert(own);
        Ok(own)
    }

    /// Makes the frontend's end pending.
    pub fn notify(&mut self, port: Dom0Port) {
        // A channel whose other end is closed has nobody to notify.
        let _ = self.world.xen.send(DOM0, port);
    }

    /// Takes the events that have come.
    pub(super) fn take_events(&mut self) {
        let ports = self.backend().ports.clone();
        for port in ports {
            self.world.xen.notified.remove(&port);
        }
        let now = self.now();
        let backend = self.backend();
        backend.alarm = backend.alarm.filter(|at| *at > now);
    }
}

// Grants.

impl Side<'_> {
    /// Maps a page of the frontend's.
    ///
    /// # Errors
    ///
    /// The frontend has not granted it so.
    pub fn map(&mut self, reference: GrantRef, access: Access) -> Result<Mapping, GrantError> {
        let domain = self.domain();
        let mapping = self.world.xen.map(domain, reference, access)?;
        self.backend().mappings.push(mapping);
        Ok(mapping)
    }

    /// Lets go of it.
    pub fn unmap(&mut self, mapping: Mapping) {
        self.backend().mappings.retain(|other| *other != mapping);
        // It is mapped: it was made by `map`, and is forgotten here.
        let _ = self.world.xen.unmap(mapping);
    }

    /// Reads bytes of a page that is mapped.
    ///
    /// # Errors
    ///
    /// It is not, or the bytes are not in it.
    pub fn read_page(&mut self, mapping: Mapping, offset: usize, into: &mut [u8]) -> Result<(), Untouchable> {
        self.world.xen.read_mapped(mapping, offset, into)
    }

    /// Writes bytes of a page that is mapped.
    ///
    /// # Errors
    ///
    /// It is not, or not so, or the bytes are not in it.
    pub fn write_page(&mut self, mapping: Mapping, offset: usize, from: &[u8]) -> Result<(), Untouchable> {
        self.world.xen.write_mapped(mapping, offset, from)
    }

    /// Lets go of everything of the frontend's: nothing is left to do.
    pub(crate) fn release_all(&mut self) {
        let backend = self.backend();
        backend.is_connected = false;
        backend.is_busy = false;
        backend.alarm = None;
        for mapping in mem::take(&mut self.backend().mappings) {
            let _ = self.world.xen.unmap(mapping);
        }
        for port in mem::take(&mut self.backend().ports) {
            self.world.xen.notified.remove(&port);
            // It is open: it was made by `bind`, and is forgotten here.
            let _ = self.world.xen.close(DOM0, port);
        }
    }
}

impl fmt::Debug for Side<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Side").field("device", &self.device).finish_non_exhaustive()
    }
}
