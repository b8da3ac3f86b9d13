//! The toolstack, and a backend that does what it should when it is told to.
#![forbid(unsafe_code)]

use xen_sim::{Guest, Machine};

use super::action::{Action, BACKEND, FRONTEND, Kind, VALUES, one_of};

/// The control domain, as far as a device is concerned.
pub(super) struct Host {
    machine: Machine,
    guest: Guest,
    /// The backend does what it should.
    pub(super) behaves: bool,
}

impl Host {
    pub(super) fn new(machine: &Machine, guest: &Guest) -> Self {
        Self { machine: machine.clone(), guest: guest.clone(), behaves: false }
    }

    fn front(&self) -> String {
        format!("/local/domain/{}/device/plain/0", self.guest.domain())
    }

    fn back(&self) -> String {
        format!("/local/domain/0/backend/plain/{}/0", self.guest.domain())
    }

    fn read(&self, path: &str) -> Option<String> {
        self.machine.toolstack().read(path)
    }

    fn write(&self, path: &str, value: &str) {
        self.machine.toolstack().write(path, value);
    }

    fn rm(&self, path: &str) {
        self.machine.toolstack().rm(path);
    }

    /// What the frontend says of itself.
    pub(super) fn frontend_state(&self) -> Option<String> {
        self.read(&format!("{}/state", self.front()))
    }

    pub(super) fn backend_state(&self) -> Option<String> {
        self.read(&format!("{}/state", self.back()))
    }

    /// Whether there is something to be served.
    pub(super) fn has_device(&self) -> bool {
        self.read(&self.front()).is_some()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.frontend_state().as_deref() == Some("4") && self.backend_state().as_deref() == Some("4")
    }

    /// Does to the keys what it says.
    pub(super) fn act(&mut self, Action { kind, which, value }: Action) {
        let value = one_of(VALUES, value);
        let of_backend = format!("{}/{}", self.back(), one_of(BACKEND, which));
        let of_frontend = format!("{}/{}", self.front(), one_of(FRONTEND, which));
        match kind {
            Kind::Write => self.write(&of_backend, value),
            Kind::WriteFront => self.write(&of_frontend, value),
            Kind::Remove => self.rm(&of_backend),
            Kind::RemoveFront => self.rm(&of_frontend),
            Kind::Vanish => self.vanish(which % 3 != 1, which % 3 != 0),
            Kind::Make => self.make(),
            Kind::Take => {
                self.vanish(false, true);
                self.write_front();
            }
            Kind::Behave => self.behaves = which.is_multiple_of(2),
            Kind::Refuse | Kind::Answer | Kind::Suspend | Kind::Time | Kind::Stay | Kind::Stop => {}
        }
    }

    fn vanish(&self, back: bool, front: bool) {
        if back {
            self.rm(&self.back());
        }
        if front {
            self.rm(&self.front());
        }
    }

    /// As a toolstack makes a device.
    pub(super) fn make(&self) {
        self.vanish(true, true);
        let (front, back) = (self.front(), self.back());
        self.machine.toolstack().give(&self.guest, &back);
        self.write(&format!("{back}/online"), "1");
        self.write(&format!("{back}/state"), "1");
        self.machine.toolstack().give(&self.guest, &front);
        self.write_front();
    }

    fn write_front(&self) {
        let front = self.front();
        self.write(&format!("{front}/backend"), &self.back());
        self.write(&format!("{front}/backend-id"), "0");
        self.write(&format!("{front}/state"), "1");
    }

    /// The device is taken away.
    pub(super) fn remove(&self) {
        self.vanish(true, true);
    }

    /// The backend goes on with what its frontend says, if it is one that does. Whether it has.
    pub(super) fn follow(&self) -> bool {
        if !self.behaves {
            return false;
        }
        let number = |state: Option<String>| state.and_then(|state| state.parse::<u32>().ok());
        let Some(own) = self.backend_state() else { return false };
        let front = number(self.frontend_state()).unwrap_or(0);
        let has = |key: &str| number(self.read(&format!("{}/{key}", self.front()))).is_some();
        let next = match (number(Some(own)).unwrap_or(0), front) {
            (6, 1 | 3 | 4) | (1, _) => 2,
            (2, 3 | 4) if has("ring-ref") && has("event-channel") => 4,
            (own, 0 | 6) if own != 6 => 6,
            (own, 5) if own != 5 => 5,
            // What it never says of itself.
            (0 | 3 | 7.., _) => 5,
            _ => return false,
        };
        self.write(&format!("{}/state", self.back()), &next.to_string());
        true
    }
}
