//! The control domain, for whoever plays a part of it outside of the simulation: a test, a backend of its own.
#![forbid(unsafe_code)]

use crate::{hypervisor::Hypervisor, machine::Machine};

/// The control domain: what runs in it makes no hypercalls here, but asks for the same by these methods.
///
/// It sees its events by [`notified`](Self::notified), not in pages.
#[derive(Clone, Debug)]
pub struct Dom0(Machine);

impl Machine {
    /// The control domain.
    #[must_use]
    pub fn dom0(&self) -> Dom0 {
        Dom0(self.clone())
    }
}

impl Dom0 {
    pub(crate) fn xen<T>(&self, work: impl FnOnce(&mut Hypervisor) -> T) -> T {
        self.0.with(|world| work(&mut world.xen))
    }
}
