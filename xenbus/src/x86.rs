//! Xen on x86-64: found by CPUID, called by VMCALL or VMMCALL.
#![expect(unsafe_code, reason = "the hypercall instruction")]

use core::{
    arch::{asm, x86_64::__cpuid},
    fmt,
};

use xen_abi::{Hypervisor, cpuid};

use crate::hypercall::Version;

/// The Xen below this guest.
///
/// Whoever has one knows that Xen is there and which instruction calls it: [`detect`](Self::detect) is the only way.
#[derive(Clone, Copy, Debug)]
pub struct Xen {
    instruction: Instruction,
    leaf: u32,
    version: Version,
}

/// How this processor's makers call a hypervisor. The other one's instruction is an invalid opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instruction {
    Vmcall,
    Vmmcall,
}

/// Why there is no [`Xen`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotXen {
    /// No CPUID leaf has its signature.
    NoSignature,
    /// Its leaves end at this one, before those that every Xen has.
    TooFewLeaves(u32),
    /// The processor's maker is none of those whose hypercall instruction is known: CPUID leaf 0 says this.
    UnknownProcessor([u8; 12]),
}

impl fmt::Display for NotXen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSignature => {
                f.write_str("no Xen: no CPUID leaf from 0x40000000 on is signed XenVMMXenVMM")
            }
            Self::TooFewLeaves(last) => write!(f, "a Xen whose CPUID leaves end at {last:#x} already"),
            Self::UnknownProcessor(maker) => {
                write!(f, "a processor made by `{}`: VMCALL or VMMCALL?", maker.escape_ascii())
            }
        }
    }
}

impl core::error::Error for NotXen {}

impl Xen {
    /// Looks for Xen. Callable at any level; costs up to 256 CPUIDs, each of which is an exit.
    ///
    /// # Errors
    ///
    /// See [`NotXen`].
    pub fn detect() -> Result<Self, NotXen> {
        Self::find(|leaf| {
            let result = __cpuid(leaf);
            [result.eax, result.ebx, result.ecx, result.edx]
        })
    }

    /// The CPUID leaf at which Xen's begin.
    #[must_use]
    pub fn leaf(&self) -> u32 {
        self.leaf
    }

    /// The version that the CPUID leaf tells, without a hypercall.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// `cpuid` answers EAX, EBX, ECX and EDX.
    fn find(cpuid: impl Fn(u32) -> [u32; 4]) -> Result<Self, NotXen> {
        let mut leaves = (cpuid::FIRST_LEAF..cpuid::END_OF_LEAVES).step_by(cpuid::LEAF_STEP as usize);
        let found = leaves.find_map(|leaf| {
            let [last, signature @ ..] = cpuid(leaf);
            (signature == cpuid::SIGNATURE).then_some((leaf, last))
        });
        let (leaf, last) = found.ok_or(NotXen::NoSignature)?;
        if last < leaf.saturating_add(cpuid::FEWEST_LEAVES) {
            return Err(NotXen::TooFewLeaves(last));
        }
        let [version, ..] = cpuid(leaf.saturating_add(cpuid::VERSION));
        let [_, b, c, d] = cpuid(0);
        let instruction = Instruction::of(maker(b, d, c))?;
        Ok(Self { instruction, leaf, version: Version::from_word(version) })
    }
}

/// The maker's name: CPUID leaf 0 has it in EBX, EDX and ECX, in this order.
fn maker(b: u32, d: u32, c: u32) -> [u8; 12] {
    let mut name = [0; 12];
    for (bytes, word) in name.chunks_exact_mut(4).zip([b, d, c]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    name
}

impl Instruction {
    /// By maker, as Xen chooses between its VMX and its SVM code (`xen/arch/x86/hvm/vmx/vmx.c` and `svm/svm.c`).
    fn of(maker: [u8; 12]) -> Result<Self, NotXen> {
        match &maker {
            b"GenuineIntel" | b"CentaurHauls" | b"  Shanghai  " => Ok(Self::Vmcall),
            b"AuthenticAMD" | b"HygonGenuine" => Ok(Self::Vmmcall),
            _ => Err(NotXen::UnknownProcessor(maker)),
        }
    }
}

// SAFETY: the call goes to Xen, whose headers say what it does.
unsafe impl Hypervisor for Xen {
    #[inline]
    unsafe fn hypercall(&self, number: u32, arguments: [u64; 5]) -> i64 {
        let [first, second, third, fourth, fifth] = arguments;
        let result: i64;
        // Xen may leave anything in the argument registers.
        match self.instruction {
            // SAFETY: `detect` found Xen and this instruction; the caller answers for the arguments.
            Instruction::Vmcall => unsafe {
                asm!(
                    "vmcall",
                    inlateout("rax") u64::from(number) => result,
                    inlateout("rdi") first => _,
                    inlateout("rsi") second => _,
                    inlateout("rdx") third => _,
                    inlateout("r10") fourth => _,
                    inlateout("r8") fifth => _,
                    options(nostack),
                );
            },
            // SAFETY: as above.
            Instruction::Vmmcall => unsafe {
                asm!(
                    "vmmcall",
                    inlateout("rax") u64::from(number) => result,
                    inlateout("rdi") first => _,
                    inlateout("rsi") second => _,
                    inlateout("rdx") third => _,
                    inlateout("r10") fourth => _,
                    inlateout("r8") fifth => _,
                    options(nostack),
                );
            },
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    const SIGNED: [u32; 3] = cpuid::SIGNATURE;

    fn word(text: &[u8]) -> u32 {
        u32::from_le_bytes(text.try_into().expect("four letters"))
    }

    /// A processor of this maker, with Xen's leaves at `leaf`.
    fn processor(maker: &'static [u8; 12], leaf: u32, last: u32) -> impl Fn(u32) -> [u32; 4] {
        let name = [word(&maker[..4]), word(&maker[8..]), word(&maker[4..8])];
        move |asked| match asked {
            0 => [0x16, name[0], name[1], name[2]],
            _ if asked == leaf => [last, SIGNED[0], SIGNED[1], SIGNED[2]],
            _ if asked == leaf + 1 => [0x0004_0011, 0, 0, 0],
            // What a real processor answers beyond its leaves.
            _ => [7, 0x340, 0x340, 0],
        }
    }

    #[test]
    fn the_signature_is_xen() {
        let bytes: Vec<u8> = SIGNED.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(bytes, b"XenVMMXenVMM");
    }

    /// With Viridian in front, Xen is at 0x40000100; nobody promises that it cannot be further on.
    #[test]
    fn finds_xen_wherever_it_is() {
        for step in 0..0x100 {
            let leaf = cpuid::FIRST_LEAF + step * cpuid::LEAF_STEP;
            let xen = Xen::find(processor(b"GenuineIntel", leaf, leaf + 4)).expect("it is there");
            assert_eq!((xen.leaf(), xen.version()), (leaf, Version { major: 4, minor: 17 }));
        }
        let beyond = processor(b"GenuineIntel", cpuid::END_OF_LEAVES, cpuid::END_OF_LEAVES + 4);
        assert_eq!(Xen::find(beyond).unwrap_err(), NotXen::NoSignature);
    }

    #[test]
    fn takes_nothing_else_for_xen() {
        let near = |asked: u32| match asked {
            cpuid::FIRST_LEAF => [4, SIGNED[0], SIGNED[1], SIGNED[2] ^ 1],
            _ => [0; 4],
        };
        assert_eq!(Xen::find(near).unwrap_err(), NotXen::NoSignature);
        let short = Xen::find(processor(b"GenuineIntel", cpuid::FIRST_LEAF, cpuid::FIRST_LEAF + 1));
        assert_eq!(short.unwrap_err(), NotXen::TooFewLeaves(cpuid::FIRST_LEAF + 1));
    }

    /// The wrong instruction is an invalid opcode, so a maker that is not known is an error, not a guess.
    #[test]
    fn chooses_the_instruction_by_maker() {
        let instruction = |maker| {
            Xen::find(processor(maker, cpuid::FIRST_LEAF, cpuid::FIRST_LEAF + 4)).map(|xen| xen.instruction)
        };
        assert_eq!(instruction(b"GenuineIntel"), Ok(Instruction::Vmcall));
        assert_eq!(instruction(b"AuthenticAMD"), Ok(Instruction::Vmmcall));
        assert_eq!(instruction(b"HygonGenuine"), Ok(Instruction::Vmmcall));
        assert_eq!(instruction(b"  Shanghai  "), Ok(Instruction::Vmcall));
        assert_eq!(instruction(b"CyrixInstead"), Err(NotXen::UnknownProcessor(*b"CyrixInstead")));
    }
}
