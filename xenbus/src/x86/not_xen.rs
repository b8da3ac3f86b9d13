//! Why there is no Xen to be called.
#![forbid(unsafe_code)]

use core::fmt;

use xen_abi::hypercall::ENTRY_SIZE;

/// Why there is no [`Xen`](super::Xen).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotXen {
    /// No CPUID leaf has its signature.
    NoSignature,
    /// Its leaves are said to end before those that every Xen has.
    TooFewLeaves {
        /// The first one, with the signature.
        first: u32,
        /// The last one.
        last: u32,
    },
    /// Its leaves are said to end among those of another hypervisor.
    TooManyLeaves {
        /// The first one, with the signature.
        first: u32,
        /// The last one.
        last: u32,
    },
    /// Nobody knows the processor's maker, and Xen's hypercall page does not tell the instruction either.
    UnknownProcessor {
        /// The maker's name, from CPUID leaf 0.
        maker: [u8; 12],
        /// What is wrong with the page.
        page: PageError,
    },
}

/// Why Xen's hypercall page does not tell how hypercalls are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageError {
    /// Nobody lends a page that Xen could fill.
    NotLent,
    /// Xen says that it has none.
    NotOffered,
    /// The register that is said to take the page's address is none of a hypervisor's.
    StrangeRegister(u32),
    /// What Xen has written for a hypercall makes none, as far as is known.
    StrangeEntry([u8; ENTRY_SIZE]),
}

impl fmt::Display for NotXen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSignature => {
                f.write_str("no Xen: no CPUID leaf from 0x40000000 on is signed XenVMMXenVMM")
            }
            Self::TooFewLeaves { first, last } => {
                write!(f, "a Xen whose CPUID leaves begin at {first:#x} and end at {last:#x} already")
            }
            Self::TooManyLeaves { first, last } => {
                write!(f, "a Xen whose CPUID leaves begin at {first:#x} and end at {last:#x} only")
            }
            Self::UnknownProcessor { maker, page } => {
                write!(f, "a processor made by `{}`: VMCALL or VMMCALL? {page}", maker.escape_ascii())
            }
        }
    }
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLent => f.write_str("There is no page to ask Xen with"),
            Self::NotOffered => f.write_str("Xen offers no hypercall page"),
            Self::StrangeRegister(register) => {
                write!(f, "Xen's hypercall page goes by MSR {register:#x}, which is no hypervisor's")
            }
            Self::StrangeEntry(bytes) => {
                f.write_str("Xen's hypercall page says")?;
                bytes.iter().try_for_each(|byte| write!(f, " {byte:02x}"))
            }
        }
    }
}

impl core::error::Error for NotXen {}
impl core::error::Error for PageError {}
