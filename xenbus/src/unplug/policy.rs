//! Which emulated devices go.
#![forbid(unsafe_code)]

use super::Devices;

/// What is wanted of a class of emulated devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// Nobody has asked for it: they stay.
    #[default]
    Stay,
    /// A driver asked for it when it ran last. A guest that has started without one since has not, and has them again.
    Asked {
        /// Whether the guest has seen a paravirtual device of the class: without one it would have none at all.
        has_other: bool,
    },
    /// An operator has: they go, whatever the guest is left with.
    Forced,
}

impl Wish {
    const fn unplugs(self) -> bool {
        matches!(self, Self::Forced | Self::Asked { has_other: true })
    }
}

/// What an operator, the drivers and the guest's past say about its emulated devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// About disks.
    pub disks: Wish,
    /// About NICs.
    pub nics: Wish,
    /// The guest boots from its emulated disk, and goes on with it: that one stays when disks go.
    pub boot_emulated: bool,
}

impl Policy {
    /// What goes.
    #[must_use]
    pub const fn devices(self) -> Devices {
        let disks = match (self.disks.unplugs(), self.boot_emulated) {
            (false, _) => Devices::empty(),
            (true, false) => Devices::DISKS.union(Devices::NVME_DISKS),
            // It may be any of the others.
            (true, true) => Devices::AUX_IDE_DISKS,
        };
        let nics = if self.nics.unplugs() { Devices::NICS } else { Devices::empty() };
        disks.union(nics)
    }
}
