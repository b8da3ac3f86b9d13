//! A guest that stops, and goes on: here, or as another domain with other event channels, an empty grant table and a new connection.
#![forbid(unsafe_code)]

use xen_abi::sched::SHUTDOWN_SUSPEND;

use super::Shutdown;
use crate::{machine::GuestId, rule::rules, world::World};

rules! {
    /// A guest that is resumed where it was finds everything as it left it, and one as the answer.
    CANCELLED: "xen/include/public/sched.h", "SCHEDOP_shutdown";
    /// A guest that is restored finds zero as the answer, and nothing of what it had arranged with Xen but its memory.
    RESTORED: "xen/include/public/sched.h", "SCHEDOP_shutdown";
    /// A domain that shuts down, and is resumed, can shut down again (`RESUME`).
    RESUMED: "docs/misc/xenstore.txt", "RESUME";
    /// The keys of a restored guest are the toolstack's: what the guest had written to the old ones is gone.
    KEYS_ANEW: "tools/libs/light/libxl_create.c", "libxl__domain_make";
}

/// What becomes of a guest that suspends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Suspend {
    /// It is resumed at once, in the same domain: a checkpoint, or a migration that has failed.
    #[default]
    Cancelled,
    /// It is restored in a new domain, here or on another machine.
    Migrated,
}

impl World {
    /// A guest has suspended itself. What its hypercall answers.
    pub(crate) fn suspended(&mut self, id: GuestId) -> u64 {
        let from = self.guests[&id].domain;
        self.store.domain_shut_down(from);
        match self.guests[&id].suspend {
            Suspend::Cancelled => {
                self.xen.resume(from);
                // It was introduced, or it could not have been asked.
                let _ = self.store.tools(&self.tools).resume(from);
                self.say("toolstack", || format!("resumes domain {from}, which has lost nothing"));
                1
            }
            Suspend::Migrated => {
                self.migrate(id);
                0
            }
        }
    }

    /// Moves a guest into a new domain, with its memory and nothing else.
    fn migrate(&mut self, id: GuestId) {
        let from = self.guests[&id].domain;
        let devices: Vec<_> =
            self.backends.iter().filter(|(_, device)| device.guest == id).map(|(id, _)| *id).collect();
        for &device in &devices {
            let (front, back) = {
                let device = &self.backends[&device];
                (device.frontend_directory(from), device.directory(from))
            };
            self.unwatch_keys(device, &front, &back);
            self.release(device);
            self.rm(&back);
        }
        self.forget_store_port(from);
        let ram = self.xen.destroy(from).expect("the guest runs, or it could not suspend itself");
        self.rm(&format!("/local/domain/{from}"));
        self.store.domain_destroyed(from);
        let to = self.new_domid();
        self.inside_mut(id).domain = to;
        self.restore(id, ram);
        self.say("toolstack", || format!("domain {from} goes on as domain {to}"));
        for device in devices {
            // A backend of another machine, or another instance here, which knows nothing of the one before.
            if let Some(backend) = self.backends.get_mut(&device) {
                backend.begin_again();
            }
            self.publish(device);
        }
    }

    /// Takes note of domains that have shut down.
    pub(crate) fn take_shutdowns(&mut self) {
        for (domain, reason) in std::mem::take(&mut self.xen.shutdowns) {
            let Some(id) = self.guest_of(domain) else { continue };
            if reason == SHUTDOWN_SUSPEND {
                self.inside_mut(id).is_suspending = true;
                continue;
            }
            let reason = Shutdown::from(reason);
            self.inside_mut(id).shutdown.get_or_insert(reason);
            self.say("toolstack", || format!("domain {domain} has shut down: {reason}"));
            self.store.domain_shut_down(domain);
        }
    }
}
