//! Where Xen's CPUID leaves are, and how hypercalls are made.
#![forbid(unsafe_code)]

use core::fmt;

use xen_abi::{
    cpuid,
    seam::{Access, Processor},
};

use super::{NotXen, page};
use crate::hypercall::Version;

/// What was found of a Xen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The first of its CPUID leaves.
    pub leaf: u32,
    /// The version that its second leaf tells, without a hypercall.
    pub version: Version,
    /// What calls it.
    pub instruction: Instruction,
}

/// How a hypervisor is called: each instruction exists on some makers' processors, and is an invalid opcode on the
/// others'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Of Intel's processors, and of those that are made after them.
    Vmcall,
    /// Of AMD's, likewise.
    Vmmcall,
}

impl Found {
    /// Looks for the Xen below a processor. Callable at any level; costs up to 256 CPUIDs, each of which is an exit.
    ///
    /// Which instruction calls Xen depends on the processor's maker. If that is nobody who is known, `lend` is asked
    /// for a page of RAM. Xen writes into it how hypercalls are made, keeps nothing of it, and what is read there
    /// decides: no instruction is tried. Nobody else must use the page until this returns; then it is the lender's
    /// again, with other contents. For any other frame than one of RAM, Xen raises a general protection fault.
    ///
    /// ```
    /// use xen_sim::{GuestConfig, Machine};
    /// use xenbus::{seam::Memory, x86::Found};
    ///
    /// let guest = Machine::new(1).create(GuestConfig::default());
    /// let found = Found::on(&guest, || guest.allocate().ok())?;
    /// assert_eq!(found.to_string(), "Xen 4.17 at leaf 0x40000000, called by VMCALL");
    /// # Ok::<(), xenbus::x86::NotXen>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`NotXen`].
    pub fn on<A: Access>(
        processor: &impl Processor,
        lend: impl FnOnce() -> Option<A>,
    ) -> Result<Self, NotXen> {
        let leaves = Leaves::find(processor)?;
        let [version, ..] = processor.cpuid(leaves.leaf(cpuid::VERSION));
        let maker = maker(processor);
        let instruction = match Instruction::of(&maker) {
            Some(instruction) => instruction,
            None => page::instruction(processor, leaves, lend)
                .map_err(|page| NotXen::UnknownProcessor { maker, page })?,
        };
        Ok(Self { leaf: leaves.0, version: Version::from_word(version), instruction })
    }
}

impl Instruction {
    /// By maker, as Xen chooses between its VMX and its SVM code (`xen/arch/x86/hvm/vmx/vmx.c` and `svm/svm.c`).
    fn of(maker: &[u8; 12]) -> Option<Self> {
        match maker {
            b"GenuineIntel" | b"CentaurHauls" | b"  Shanghai  " => Some(Self::Vmcall),
            b"AuthenticAMD" | b"HygonGenuine" => Some(Self::Vmmcall),
            _ => None,
        }
    }
}

/// Xen's CPUID leaves: the first of them has its signature.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaves(u32);

impl Leaves {
    /// Those of the Xen below a processor, if what they say of themselves can be believed.
    fn find(processor: &impl Processor) -> Result<Self, NotXen> {
        let mut leaves = (cpuid::FIRST_LEAF..cpuid::END_OF_LEAVES).step_by(cpuid::LEAF_STEP as usize);
        let found = leaves.find_map(|first| {
            let [last, signature @ ..] = processor.cpuid(first);
            (signature == cpuid::SIGNATURE).then_some((first, last))
        });
        let (first, last) = found.ok_or(NotXen::NoSignature)?;
        match last.checked_sub(first) {
            None | Some(..cpuid::FEWEST_LEAVES) => Err(NotXen::TooFewLeaves { first, last }),
            Some(cpuid::LEAF_STEP..) => Err(NotXen::TooManyLeaves { first, last }),
            Some(_) => Ok(Self(first)),
        }
    }

    /// The leaf so many after the first.
    pub(super) const fn leaf(self, number: u32) -> u32 {
        self.0.saturating_add(number)
    }
}

/// The name of the processor's maker: CPUID leaf 0 has it in EBX, EDX and ECX, in this order.
fn maker(processor: &impl Processor) -> [u8; 12] {
    let [_, b, c, d] = processor.cpuid(0);
    let mut name = [0; 12];
    for (bytes, word) in name.chunks_exact_mut(4).zip([b, d, c]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    name
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Xen {} at leaf {:#x}, called by {}", self.version, self.leaf, self.instruction)
    }
}

impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vmcall => "VMCALL",
            Self::Vmmcall => "VMMCALL",
        })
    }
}
