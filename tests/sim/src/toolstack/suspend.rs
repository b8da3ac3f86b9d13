//! A guest that stops, and goes on: here, or as another domain with other event channels, an empty grant table and a new connection.
#![forbid(unsafe_code)]

use std::mem;

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
    /// Takes note of domains that have shut down, and answers those that are suspended.
    pub(crate) fn take_shutdowns(&mut self) -> Vec<(GuestId, u64)> {
        let mut answers = Vec::new();
        for (domain, reason) in mem::take(&mut self.xen.shutdowns) {
            let Some(id) = self.guest_of(domain) else { continue };
            let reason = Shutdown::from(reason);
            self.say("toolstack", || format!("domain {domain} has shut down: {reason}"));
            self.store.domain_shut_down(domain);
            self.store_changed();
            if reason == Shutdown::Suspend {
                answers.push((id, self.suspended(id)));
            } else {
                self.inside_mut(id).shutdown = Some(reason);
            }
        }
        answers
    }

    /// What becomes of a guest that is suspended, and what its hypercall answers.
    fn suspended(&mut self, id: GuestId) -> u64 {
        let from = self.guests[&id].domain;
        match self.guests[&id].suspend {
            Suspend::Cancelled => {
                self.xen.resume(from);
                // It is introduced, as every guest is.
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
        let own = self.backends.iter().filter(|(_, device)| device.guest == id);
        let devices: Vec<_> =
            own.map(|(id, device)| (*id, device.frontend_directory(from), device.directory(from))).collect();
        for (device, front, back) in &devices {
            self.unwatch_keys(*device, front, back);
            self.release(*device);
            self.clean_up(back);
        }
        self.forget_store_port(from);
        self.disconnect_console(id);
        let ram = self.xen.destroy(from).expect("it was a domain until now");
        self.rm(&format!("/local/domain/{from}"));
        self.store.domain_destroyed(from);
        self.store_changed();
        let to = self.new_domid();
        let inside = self.inside_mut(id);
        inside.domain = to;
        inside.platform.begin_again(inside.config.emulated.clone());
        self.restore(id, ram);
        self.say("toolstack", || format!("domain {from} goes on as domain {to}"));
        for (device, ..) in devices {
            // A backend of another machine, or another instance here, which knows nothing of the one before.
            if let Some(backend) = self.backends.get_mut(&device) {
                backend.begin_again();
            }
            self.publish(device);
        }
    }
}
