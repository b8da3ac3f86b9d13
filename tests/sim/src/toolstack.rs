//! The toolstack: it builds guests, gives them devices and takes them away, and asks them to suspend or to end.
//!
//! It is written from what `xl` does to the store, as documented in `docs/misc/xenstore-paths.pandoc` and seen in `tools/libs/light`.
//!
//! - this file: what can be asked of it;
//! - `build`: a guest's domain, and its place in the store;
//! - `devices`: the two halves of a device in the store;
//! - `suspend`: a guest that stops, and goes on, perhaps in another domain;
//! - `watch`: what happens in the store.
#![forbid(unsafe_code)]

pub(crate) mod build;
pub(crate) mod devices;
pub(crate) mod suspend;
mod watch;

use std::{collections::BTreeSet, fmt};

use xen_abi::{
    hvm::{emulated_unplug::PRODUCTS, params::HVM_PARAM_CALLBACK_IRQ},
    sched::{
        SHUTDOWN_CRASH, SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT, SHUTDOWN_SOFT_RESET, SHUTDOWN_SUSPEND,
        SHUTDOWN_WATCHDOG,
    },
};

pub use self::{devices::DeviceConfig, suspend::Suspend, watch::Watch};
use crate::{
    backend::DeviceId,
    guest::Guest,
    machine::{GuestId, Machine},
    platform::Emulated,
    rule::rules,
    world::World,
    xenstored::{Access, Permission},
};

rules! {
    /// A command to the guest is written to `control/shutdown`; the guest answers by writing nothing there.
    SHUTDOWN_REQUEST: "docs/misc/xenstore-paths.pandoc", "~/control/shutdown";
    /// A guest that has not said how upcalls come (`HVM_PARAM_CALLBACK_IRQ`) has no drivers that would read a command.
    CONTROL_NEEDS_CALLBACK: "tools/libs/light/libxl_domain.c", "libxl__domain_pvcontrol_available";
    /// The link of a network device is down while its frontend's `disconnect` is not 0: a convention of `xapi` and its Windows drivers.
    LINK: "docs/misc/xenstore-paths.pandoc", "~/device/vif/$DEVID/*";
    /// A disk that has grown says so in `sectors`, and says again that it is `Connected`.
    RESIZE: "xen/include/public/io/blkif.h", "sectors";
}

/// What a guest can be asked for (`control/shutdown`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// `poweroff`
    PowerOff,
    /// `reboot`
    Reboot,
    /// `halt`
    Halt,
    /// `suspend`, and what is to become of it then.
    Suspend(Suspend),
    /// `s3`
    Sleep,
    /// `s4`
    Hibernate,
}

impl Request {
    /// What is written.
    #[must_use]
    pub const fn command(self) -> &'static str {
        match self {
            Self::PowerOff => "poweroff",
            Self::Reboot => "reboot",
            Self::Halt => "halt",
            Self::Suspend(_) => "suspend",
            Self::Sleep => "s3",
            Self::Hibernate => "s4",
        }
    }
}

/// Why a guest has shut down: the reasons of `sched.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// It switched itself off.
    PowerOff,
    /// It wants to begin anew.
    Reboot,
    /// It is to be saved, and goes on.
    Suspend,
    /// It crashed.
    Crash,
    /// Its watchdog was not fed.
    Watchdog,
    /// It wants to begin anew with what is in its memory.
    SoftReset,
    /// A reason that has no name.
    Other(u32),
}

impl From<u32> for Shutdown {
    fn from(reason: u32) -> Self {
        match reason {
            SHUTDOWN_POWEROFF => Self::PowerOff,
            SHUTDOWN_REBOOT => Self::Reboot,
            SHUTDOWN_SUSPEND => Self::Suspend,
            SHUTDOWN_CRASH => Self::Crash,
            SHUTDOWN_WATCHDOG => Self::Watchdog,
            SHUTDOWN_SOFT_RESET => Self::SoftReset,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOff => f.write_str("poweroff"),
            Self::Reboot => f.write_str("reboot"),
            Self::Suspend => f.write_str("suspend"),
            Self::Crash => f.write_str("crash"),
            Self::Watchdog => f.write_str("watchdog"),
            Self::SoftReset => f.write_str("soft reset"),
            Self::Other(reason) => write!(f, "reason {reason}"),
        }
    }
}

/// The toolstack of a machine. Nothing that it asks a guest for is done when a method returns: the guest has to do it.
#[derive(Clone, Debug)]
pub struct Toolstack(Machine);

impl Machine {
    /// Its toolstack.
    #[must_use]
    pub fn toolstack(&self) -> Toolstack {
        Toolstack(self.clone())
    }
}

#[expect(clippy::must_use_candidate, reason = "what is asked for is asked for, whatever it says")]
impl Toolstack {
    /// Gives the guest a device, whose backend begins at once.
    ///
    /// # Panics
    ///
    /// The guest has a device of this class and number.
    pub fn attach(&self, guest: &Guest, device: DeviceConfig) -> DeviceId {
        self.0.with(|world| world.attach(guest.id(), device))
    }

    /// Asks for a device back: it is gone when both halves have closed, which takes a frontend that answers. False, if it is gone already.
    pub fn detach(&self, device: DeviceId) -> bool {
        self.0.with(|world| world.detach(device))
    }

    /// Takes a device away, whatever its two halves are doing. False, if it is gone already.
    pub fn remove(&self, device: DeviceId) -> bool {
        self.0.with(|world| world.remove(device))
    }

    /// The devices that a guest has.
    #[must_use]
    pub fn devices(&self, guest: &Guest) -> Vec<DeviceId> {
        self.0.with(|world| {
            let own = world.backends.iter().filter(|(_, backend)| backend.guest == guest.id());
            own.map(|(id, _)| *id).collect()
        })
    }

    /// Whether the device is still there, on its way out perhaps.
    #[must_use]
    pub fn has(&self, device: DeviceId) -> bool {
        self.0.with(|world| world.backends.contains_key(&device))
    }

    /// Changes the size of a disk, in sectors of 512 bytes.
    pub fn resize(&self, device: DeviceId, sectors: u64) -> bool {
        self.0.with(|world| {
            world.tell_frontend(device, &[("sectors", &sectors.to_string())]) && world.say_state_again(device)
        })
    }

    /// Puts the plug of a network device in, or pulls it.
    pub fn link(&self, device: DeviceId, is_up: bool) -> bool {
        let disconnect = if is_up { "0" } else { "1" };
        self.0.with(|world| world.write_frontend(device, "disconnect", disconnect))
    }

    /// Asks the guest for something, and waits for nothing. False, if it has not said how upcalls come: "PV control interface not
    /// available".
    pub fn request(&self, guest: &Guest, request: Request) -> bool {
        self.0.with(|world| world.request(guest.id(), request))
    }

    /// Says what will become of the guest when it suspends, without asking it to.
    pub fn expect_suspend(&self, guest: &Guest, suspend: Suspend) {
        self.0.with(|world| world.inside_mut(guest.id()).suspend = suspend);
    }

    /// Reads a key, as the control domain.
    #[must_use]
    pub fn read(&self, path: &str) -> Option<String> {
        self.0.with(|world| world.read(path))
    }

    /// Writes a key, as the control domain.
    pub fn write(&self, path: &str, value: &str) {
        self.0.with(|world| world.write(path, value));
    }

    /// Removes a key and all that is below it, as the control domain.
    pub fn rm(&self, path: &str) {
        self.0.with(|world| world.rm(path));
    }

    /// Makes a node the guest's own, as some toolstacks do with more of them than `xl`: the guest may write it, and make others below it.
    pub fn give(&self, guest: &Guest, path: &str) {
        self.0.with(|world| {
            let domain = world.inside_mut(guest.id()).domain;
            world.mknod(path, &[Permission::new(Access::None, domain)]);
        });
    }

    /// Why the guest has shut down, if it has. Its domain stays as it is then.
    #[must_use]
    pub fn shutdown(&self, guest: &Guest) -> Option<Shutdown> {
        self.0.with(|world| world.inside_mut(guest.id()).shutdown)
    }

    /// The emulated devices that the guest has not unplugged.
    #[must_use]
    pub fn emulated(&self, guest: &Guest) -> BTreeSet<Emulated> {
        self.0.with(|world| world.inside_mut(guest.id()).platform.emulated().clone())
    }

    /// The lines that the guest has written to its device model's log: the first 1024.
    #[must_use]
    pub fn log(&self, guest: &Guest) -> Vec<String> {
        self.0.with(|world| world.inside_mut(guest.id()).platform.log().to_vec())
    }

    /// The lines that it has written to Xen's (`xl dmesg`): the first 1024.
    #[must_use]
    pub fn xen_log(&self, guest: &Guest) -> Vec<String> {
        self.0.with(|world| world.inside_mut(guest.id()).platform.xen_log().to_vec())
    }

    /// What it has written to its console (`xl console -t pv`), in whichever domain it was: the first megabyte.
    #[must_use]
    pub fn console(&self, guest: &Guest) -> Vec<u8> {
        self.0.with(|world| world.console_output(guest.id()).to_vec())
    }

    /// Types something at its console.
    pub fn type_in(&self, guest: &Guest, text: impl AsRef<[u8]>) {
        self.0.with(|world| world.type_in(guest.id(), text.as_ref()));
    }
}

impl World {
    pub(crate) fn request(&mut self, id: GuestId, request: Request) -> bool {
        let inside = self.inside_mut(id);
        if let Request::Suspend(suspend) = request {
            inside.suspend = suspend;
        }
        let domain = inside.domain;
        let parameters = self.xen.domains.get(&domain).map(|domain| &domain.parameters);
        let callback = parameters.and_then(|parameters| parameters.get(&HVM_PARAM_CALLBACK_IRQ));
        let listens = callback.is_some_and(|callback| *callback != 0);
        if listens {
            self.say("toolstack", || format!("asks {id} to {}", request.command()));
            self.write(&format!("/local/domain/{domain}/control/shutdown"), request.command());
        } else {
            self.say("toolstack", || format!("cannot ask {id} to {}: it has no drivers", request.command()));
        }
        listens
    }

    /// Whether drivers of this product and build are to keep out: `docs/misc/hvm-emulated-unplug.pandoc`.
    pub(crate) fn is_blacklisted(&mut self, product: u16, build: u32) -> bool {
        let known = PRODUCTS.iter().find(|known| known.number == product);
        known
            .is_some_and(|known| self.read(&format!("/mh/driver-blacklist/{}/{build}", known.name)).is_some())
    }
}
