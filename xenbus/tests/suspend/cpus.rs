//! All CPUs of a guest, for tests.
#![forbid(unsafe_code)]

use std::sync::{Arc, Mutex};

use kexec::{
    irql::Dispatch,
    platform::{
        mock::{Mock, Plan},
        thread::passive,
    },
};
use xen_sim::Guest;
use xenbus::suspend::Rendezvous;

/// What happened, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn say(&self, what: impl Into<String>) {
        self.0.lock().expect("nobody panics with it").push(what.into());
    }

    /// What was said since the last time.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("nobody panics with it"))
    }
}

/// The CPUs of a guest, none of which runs by itself: whoever calls is alone, and says what it does.
pub(crate) struct Cpus {
    pub(crate) guest: Guest,
    pub(crate) vcpus: Vec<u32>,
    pub(crate) log: Log,
}

impl Rendezvous for Cpus {
    fn hold<T>(&self, _: &Dispatch, work: impl FnOnce() -> T) -> T {
        self.log.say("[");
        let outcome = work();
        self.log.say("]");
        outcome
    }

    fn silence<T>(&self, _: &Dispatch, work: impl FnOnce() -> T) -> T {
        self.log.say("interrupts off");
        let outcome = work();
        self.log.say("interrupts on");
        outcome
    }

    fn on_each_cpu(&self, work: &(dyn Fn(u32) + Sync)) {
        for &vcpu in &self.vcpus {
            self.guest.on(vcpu, || work(vcpu));
        }
    }
}

/// Does something at `DISPATCH_LEVEL`.
pub(crate) fn raised<T>(work: impl FnOnce(&Dispatch) -> T) -> T {
    let cpu: Mock = Mock::new(Plan::CALM);
    passive(|level| level.raised(&cpu, |at| work(at)))
}
