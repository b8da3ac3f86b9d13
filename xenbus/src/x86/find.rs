//! Where Xen's CPUID leaves are, and how hypercalls are made.
#![forbid(unsafe_code)]

use xen_abi::{
    cpuid,
    seam::{Access, Processor},
};

use super::{NotXen, page};
use crate::hypercall::Version;

/// What was found of a Xen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The first of its leaves.
    pub(super) leaf: u32,
    pub(super) version: Version,
    pub(super) instruction: Instruction,
}

/// How a hypervisor is called: each instruction exists on some makers' processors, and is an invalid opcode on the
/// others'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instruction {
    Vmcall,
    Vmmcall,
}

impl Found {
    /// The Xen below this processor. `lend` is asked for a page if the processor's maker is not known.
    pub(super) fn on<A: Access>(
        processor: &impl Processor,
        lend: impl FnOnce() -> Option<A>,
    ) -> Result<Self, NotXen> {
        let leaf = first_leaf(processor)?;
        let [version, ..] = processor.cpuid(leaf.saturating_add(cpuid::VERSION));
        let maker = maker(processor);
        let instruction = match Instruction::of(&maker) {
            Some(instruction) => instruction,
            None => page::instruction(processor, leaf, lend)
                .map_err(|page| NotXen::UnknownProcessor { maker, page })?,
        };
        Ok(Self { leaf, version: Version::from_word(version), instruction })
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

/// The leaf with Xen's signature, if those after it can be believed.
fn first_leaf(processor: &impl Processor) -> Result<u32, NotXen> {
    let mut leaves = (cpuid::FIRST_LEAF..cpuid::END_OF_LEAVES).step_by(cpuid::LEAF_STEP as usize);
    let found = leaves.find_map(|first| {
        let [last, signature @ ..] = processor.cpuid(first);
        (signature == cpuid::SIGNATURE).then_some((first, last))
    });
    let (first, last) = found.ok_or(NotXen::NoSignature)?;
    match last.checked_sub(first) {
        None | Some(..cpuid::FEWEST_LEAVES) => Err(NotXen::TooFewLeaves { first, last }),
        Some(cpuid::LEAF_STEP..) => Err(NotXen::TooManyLeaves { first, last }),
        Some(_) => Ok(first),
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
