//! How a guest begins, and what there is for it to meet.
#![forbid(unsafe_code)]

use std::fmt;

/// The kind of a guest: which way the same file begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Xen's domain builder begins it: there are no devices at all.
    Pvh,
    /// A BIOS begins it from a disk, as it does Windows: with emulated devices, and Viridian's CPUID leaves before
    /// Xen's.
    Hvm,
}

impl Kind {
    /// All there are; whatever machine is enough for one of them is enough for those before it.
    pub const ALL: [Self; 2] = [Self::Pvh, Self::Hvm];

    /// What the guest is told that it is, and a configuration of `xl` has for its type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pvh => "pvh",
            Self::Hvm => "hvm",
        }
    }

    /// MiB of the machine's memory.
    pub(crate) const fn memory(self) -> u32 {
        self.control_domain() + 240
    }

    /// MiB of the control domain's memory. Its files are in it, a device model among them; and while the kernel
    /// unpacks them, they are there twice.
    pub(crate) const fn control_domain(self) -> u32 {
        match self {
            Self::Pvh => 400,
            Self::Hvm => 480,
        }
    }

    /// MiB that must be free on the host: of memory, for QEMU as well, and of the disk, for packages that are being
    /// unpacked.
    pub(crate) const fn free_memory(self) -> u64 {
        self.memory() as u64 + 160
    }

    pub(crate) const fn free_disk(self) -> u64 {
        match self {
            Self::Pvh => 1200,
            Self::Hvm => 1400,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
