//! `hvm/params.h`: the parameters of a domain ([`Param`](super::op::Param)).
//!
//! Most are between the toolstack and Xen or a device model. Of its own a guest may (`hvm_allow_{get,set}_param`)
//!
//! | | |
//! |---|---|
//! | read and set | `CALLBACK_IRQ`, `STORE_EVTCHN`, `CONSOLE_EVTCHN`, `VM86_TSS`, `VM86_TSS_SIZED`, `ACPI_IOPORTS_LOCATION`, `VM_GENERATION_ID_ADDR`, `X87_FIP_WIDTH` |
//! | read | `STORE_PFN`, `CONSOLE_PFN`, `ALTP2M` |
//! | neither | the rest: `EPERM` |
#![forbid(unsafe_code)]

/// How a guest's upcalls come: a [`CallbackVia`].
pub const HVM_PARAM_CALLBACK_IRQ: u32 = 0;
/// The frame of the xenstore ring.
pub const HVM_PARAM_STORE_PFN: u32 = 1;
/// The guest's port to xenstore, which the toolstack has bound.
pub const HVM_PARAM_STORE_EVTCHN: u32 = 2;
/// The frame through which the device model gets its requests.
pub const HVM_PARAM_IOREQ_PFN: u32 = 5;
/// The frame through which it gets those that need no answer.
pub const HVM_PARAM_BUFIOREQ_PFN: u32 = 6;
/// What Xen offers of Hyper-V's interface: `HVMPV_*`.
pub const HVM_PARAM_VIRIDIAN: u32 = 9;
/// What becomes of a vCPU's ticks while it does not run: `HVMPTM_*`.
pub const HVM_PARAM_TIMER_MODE: u32 = 10;
/// Whether there is an HPET.
pub const HVM_PARAM_HPET_ENABLED: u32 = 11;
/// A page for Intel's EPT while the guest has no paging.
pub const HVM_PARAM_IDENT_PT: u32 = 12;
/// The ACPI S state.
pub const HVM_PARAM_ACPI_S_STATE: u32 = 14;
/// A page for Intel's real mode.
pub const HVM_PARAM_VM86_TSS: u32 = 15;
/// Whether periodic timers are aligned with one another.
pub const HVM_PARAM_VPT_ALIGN: u32 = 16;
/// The frame of the console's ring.
pub const HVM_PARAM_CONSOLE_PFN: u32 = 17;
/// The guest's port to its console, which the toolstack has bound; zero if there is none.
pub const HVM_PARAM_CONSOLE_EVTCHN: u32 = 18;
/// Which of two sets of ports ACPI has.
pub const HVM_PARAM_ACPI_IOPORTS_LOCATION: u32 = 19;
/// The frame of a ring about paging.
pub const HVM_PARAM_PAGING_RING_PFN: u32 = 27;
/// The frame of a ring for introspection.
pub const HVM_PARAM_MONITOR_RING_PFN: u32 = 28;
/// The frame of a ring about shared memory.
pub const HVM_PARAM_SHARING_RING_PFN: u32 = 29;
/// Why the domain shuts down at a triple fault: [`SHUTDOWN_*`](crate::sched::SHUTDOWN_REBOOT).
pub const HVM_PARAM_TRIPLE_FAULT_REASON: u32 = 31;
/// The first frame for device models.
pub const HVM_PARAM_IOREQ_SERVER_PFN: u32 = 32;
/// How many frames there are for device models.
pub const HVM_PARAM_NR_IOREQ_SERVER_PAGES: u32 = 33;
/// The guest-physical address of the VM generation ID.
pub const HVM_PARAM_VM_GENERATION_ID_ADDR: u32 = 34;
/// Who may have several views of the guest's memory: `XEN_ALTP2M_*`.
pub const HVM_PARAM_ALTP2M: u32 = 35;
/// How wide the FPU's last pointers are saved: 8 or 4 bytes, or zero for as it fits.
pub const HVM_PARAM_X87_FIP_WIDTH: u32 = 36;
/// [`HVM_PARAM_VM86_TSS`], its size in the upper half.
pub const HVM_PARAM_VM86_TSS_SIZED: u32 = 37;
/// What machine checks can do: `XEN_HVM_MCA_CAP_*`.
pub const HVM_PARAM_MCA_CAP: u32 = 38;

/// All are below this.
pub const HVM_NR_PARAMS: u32 = 39;

/// The bits of [`HVM_PARAM_CALLBACK_IRQ`] that say which kind it is.
pub const HVM_PARAM_CALLBACK_IRQ_TYPE_MASK: u64 = 0xFF << 56;
/// An interrupt of the I/O APIC.
pub const HVM_PARAM_CALLBACK_TYPE_GSI: u64 = 0;
/// An interrupt line of a PCI device.
pub const HVM_PARAM_CALLBACK_TYPE_PCI_INTX: u64 = 1;
/// A vector, the same on each vCPU, which is not acknowledged; see
/// [`XENFEAT_HVM_CALLBACK_VECTOR`](crate::features::XENFEAT_HVM_CALLBACK_VECTOR).
pub const HVM_PARAM_CALLBACK_TYPE_VECTOR: u64 = 2;

/// How upcalls come, as [`HVM_PARAM_CALLBACK_IRQ`] has it.
///
/// ```
/// use xen_abi::hvm::params::CallbackVia;
///
/// assert_eq!(CallbackVia::Vector(0x31).to_param(), 0x0200_0000_0000_0031);
/// assert_eq!(CallbackVia::from_param(28), Some(CallbackVia::Gsi(28)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbackVia {
    /// Not at all.
    None,
    /// [`HVM_PARAM_CALLBACK_TYPE_GSI`]; not zero, which would be none.
    Gsi(u8),
    /// [`HVM_PARAM_CALLBACK_TYPE_PCI_INTX`]
    PciIntx {
        /// The PCI domain.
        domain: u16,
        /// The bus.
        bus: u16,
        /// Device and function.
        devfn: u8,
        /// The line: 0 for A to 3 for D.
        intx: u8,
    },
    /// [`HVM_PARAM_CALLBACK_TYPE_VECTOR`]
    Vector(u8),
}

impl CallbackVia {
    /// As the parameter's value.
    #[must_use]
    pub const fn to_param(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Gsi(gsi) => HVM_PARAM_CALLBACK_TYPE_GSI << TYPE_SHIFT | gsi as u64,
            Self::PciIntx { domain, bus, devfn, intx } => {
                HVM_PARAM_CALLBACK_TYPE_PCI_INTX << TYPE_SHIFT
                    | (domain as u64) << 32
                    | (bus as u64) << 16
                    | (devfn as u64) << 8
                    | (intx & 3) as u64
            }
            Self::Vector(vector) => HVM_PARAM_CALLBACK_TYPE_VECTOR << TYPE_SHIFT | vector as u64,
        }
    }

    /// What the parameter's value says; none if the header does not know this kind. Like Xen, it ignores the bits that
    /// a kind does not use, and of a GSI those above eight.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "each part is so wide")]
    pub const fn from_param(value: u64) -> Option<Self> {
        Some(match value >> TYPE_SHIFT {
            HVM_PARAM_CALLBACK_TYPE_GSI if value as u8 == 0 => Self::None,
            HVM_PARAM_CALLBACK_TYPE_GSI => Self::Gsi(value as u8),
            HVM_PARAM_CALLBACK_TYPE_PCI_INTX => Self::PciIntx {
                domain: (value >> 32) as u16,
                bus: (value >> 16) as u16,
                devfn: (value >> 8) as u8,
                intx: value as u8 & 3,
            },
            HVM_PARAM_CALLBACK_TYPE_VECTOR => Self::Vector(value as u8),
            _ => return None,
        })
    }
}

/// The kind is above the rest.
const TYPE_SHIFT: u32 = HVM_PARAM_CALLBACK_IRQ_TYPE_MASK.trailing_zeros();

/// Hyper-V's hypercalls, APIC registers, processor numbers and frequencies.
pub const HVMPV_BASE_FREQ: u64 = 1 << 0;
/// No frequencies.
pub const HVMPV_NO_FREQ: u64 = 1 << 1;
/// The partition's reference counter.
pub const HVMPV_TIME_REF_COUNT: u64 = 1 << 2;
/// The reference page of the time stamp counter.
pub const HVMPV_REFERENCE_TSC: u64 = 1 << 3;
/// A hypercall that flushes other processors' TLBs.
pub const HVMPV_HCALL_REMOTE_TLB_FLUSH: u64 = 1 << 4;
/// The APIC assist page.
pub const HVMPV_APIC_ASSIST: u64 = 1 << 5;
/// The registers for a crash.
pub const HVMPV_CRASH_CTL: u64 = 1 << 6;
/// The synthetic interrupt controller.
pub const HVMPV_SYNIC: u64 = 1 << 7;
/// Synthetic timers.
pub const HVMPV_STIMER: u64 = 1 << 8;
/// A hypercall that sends interrupts to other processors.
pub const HVMPV_HCALL_IPI: u64 = 1 << 9;
/// Hypercalls with sets of more than 64 processors.
pub const HVMPV_EX_PROCESSOR_MASKS: u64 = 1 << 10;
/// No limit of 64 processors.
pub const HVMPV_NO_VP_LIMIT: u64 = 1 << 11;
/// Processors can come later.
pub const HVMPV_CPU_HOTPLUG: u64 = 1 << 12;
/// All of these.
pub const HVMPV_FEATURE_MASK: u64 = (1 << 13) - 1;

/// Missed ticks are delivered later, and the vCPU's time stands still until then.
pub const HVMPTM_DELAY_FOR_MISSED_TICKS: u64 = 0;
/// Missed ticks are delivered later.
pub const HVMPTM_NO_DELAY_FOR_MISSED_TICKS: u64 = 1;
/// Missed ticks are lost.
pub const HVMPTM_NO_MISSED_TICKS_PENDING: u64 = 2;
/// Missed ticks are one tick.
pub const HVMPTM_ONE_MISSED_TICK_PENDING: u64 = 3;

/// Nobody.
pub const XEN_ALTP2M_DISABLED: u64 = 0;
/// The guest and its tools.
pub const XEN_ALTP2M_MIXED: u64 = 1;
/// Its tools.
pub const XEN_ALTP2M_EXTERNAL: u64 = 2;
/// Its tools, and the guest in part.
pub const XEN_ALTP2M_LIMITED: u64 = 3;

/// Machine checks can be signalled to one processor.
pub const XEN_HVM_MCA_CAP_LMCE: u64 = 1 << 0;
/// All of these.
pub const XEN_HVM_MCA_CAP_MASK: u64 = XEN_HVM_MCA_CAP_LMCE;

#[cfg(test)]
mod tests {
    use super::*;

    /// A driver writes with the one what a simulated Xen reads with the other; each part has its own bits.
    #[test]
    fn a_callback_goes_there_and_back() {
        for (via, value) in [
            (CallbackVia::None, 0),
            (CallbackVia::Gsi(255), 255),
            (CallbackVia::PciIntx { domain: 0x1234, bus: 0x56, devfn: 0x78, intx: 3 }, 0x0100_1234_0056_7803),
            (CallbackVia::Vector(0xF3), 0x0200_0000_0000_00F3),
        ] {
            assert_eq!(via.to_param(), value);
            assert_eq!(CallbackVia::from_param(value), Some(via));
        }
        assert_eq!(CallbackVia::from_param(3 << 56), None);
        assert_eq!(CallbackVia::from_param(0x100), Some(CallbackVia::None));
    }
}
