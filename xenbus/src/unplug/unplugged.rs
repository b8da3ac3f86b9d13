//! What was taken away stays away.
#![forbid(unsafe_code)]

use xen_abi::seam::Processor;

use super::{Unplug, UnplugError};
use crate::suspend::{Captured, Listener, ResumeError};

/// Emulated devices that are gone, and that go again whenever the guest has come back as another domain, whose device
/// model has all of them.
///
/// It is to be [registered](crate::suspend::Suspend::register) before everybody else, so that nobody finds a disk
/// twice.
#[derive(Clone, Copy, Debug)]
pub struct Unplugged<C> {
    unplug: Unplug,
    processor: C,
}

impl<C: Processor> Unplugged<C> {
    /// Takes the devices away. See [`Unplug::execute`].
    ///
    /// # Errors
    ///
    /// Nothing has gone.
    pub fn new(unplug: Unplug, processor: C) -> Result<Self, UnplugError> {
        unplug.execute(&processor)?;
        Ok(Self { unplug, processor })
    }

    /// What goes. Callable at any level.
    #[must_use]
    pub const fn unplug(&self) -> &Unplug {
        &self.unplug
    }
}

impl<C: Processor + Sync> Listener for Unplugged<C> {
    fn name(&self) -> &'static str {
        "unplug"
    }

    fn early(&self, _: &Captured<'_>) -> Result<(), ResumeError> {
        self.unplug.execute(&self.processor).map_err(ResumeError::Unplug)
    }
}
