//! A system that has crashed and writes its dump: the same image, entered a second time.
//!
//! "Restrictions on Miniport Drivers that Manage the Boot Drive": the system passes null arguments to `DriverEntry`, and
//! calls above `PASSIVE_LEVEL`. Nothing else runs: no other CPU, no interrupt, no timer, no DPC.
#![forbid(unsafe_code)]

use nt_sys::NTSTATUS;

use crate::{
    cpu::HIGH_LEVEL,
    driver::as_status,
    kernel::{Kernel, World},
    nt::Options,
    verdict::Failure,
};

/// The world in which a dump is written.
#[derive(Debug)]
pub struct Dump {
    kernel: Kernel,
    entry: u64,
}

impl Dump {
    /// Crashes, and loads an image once more, afresh.
    ///
    /// # Errors
    ///
    /// The image imports something that the kernel does not export.
    ///
    /// # Panics
    ///
    /// The image is missing or older than its sources.
    pub fn load(image: &str, options: Options) -> Result<Self, Failure> {
        let mut kernel = Kernel::new(options, World::Dump);
        let entry = kernel.load_image(image)?;
        Ok(Self { kernel, entry })
    }

    /// Calls `DriverEntry` as for a dump; its status.
    ///
    /// # Errors
    ///
    /// What a check found.
    pub fn enter(&mut self) -> Result<NTSTATUS, Failure> {
        self.kernel.call("DriverEntry for a dump", HIGH_LEVEL, self.entry, [0; 2]).map(as_status)
    }

    /// How often a hypercall of this number was made.
    #[must_use]
    pub fn hypercalls(&self, number: u64) -> u64 {
        self.kernel.xen.calls(number)
    }

    /// What the driver has said, call by call.
    #[must_use]
    pub fn said(&self) -> &[String] {
        &self.kernel.said
    }

    /// A number for all that has happened.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.kernel.trace.digest()
    }
}
