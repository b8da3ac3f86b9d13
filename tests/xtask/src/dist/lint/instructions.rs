//! Which instructions an image is made of.
//!
//! A kernel driver runs on whatever thread happens to be there, and the state of the processor's units belongs
//! to that thread. On x64 a driver may use the SSE registers. It must not use those of x87 and MMX
//! ("Floating-Point Support for Older Code"), nor the wide ones of AVX without asking first
//! ("`KeSaveExtendedProcessorState` function").

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{CpuidFeature, Decoder, DecoderOptions, EncodingKind, Instruction};
use object::{LittleEndian as LE, pe::IMAGE_SCN_MEM_EXECUTE};

use crate::dist::pe::{Pe, Section};

/// The kinds of instructions that must not be in the image, each with the first place and how many there are.
pub(super) fn unsuitable(pe: &Pe<'_>) -> Vec<String> {
    let starts: BTreeSet<u32> = pe.functions.iter().map(|function| function.begin_address.get(LE)).collect();
    let mut found = BTreeMap::<_, Vec<String>>::new();
    for section in pe.sections.iter().filter(|section| section.is(IMAGE_SCN_MEM_EXECUTE)) {
        for instruction in instructions(section, &starts) {
            if let Some(kind) = kind(&instruction) {
                let (name, address) = (instruction.mnemonic(), instruction.ip());
                found.entry(kind).or_default().push(format!("{name:?} at {address:#x} in {}", section.name));
            }
        }
    }
    let sentence = |(kind, places): (&&str, &Vec<String>)| {
        format!("{kind}: {} of them, first {}", places.len(), places[0])
    };
    found.iter().map(sentence).collect()
}

/// The instructions of a section. Decoding begins afresh where the unwind information says that a function does;
/// the small functions between those have none.
fn instructions(section: &Section<'_>, starts: &BTreeSet<u32>) -> Vec<Instruction> {
    let mut starts = starts.range(section.memory.clone());
    let mut begin = section.memory.start;
    let mut rest = section.data;
    let mut instructions = Vec::new();
    while !rest.is_empty() {
        let next = starts.find(|start| **start > begin).copied();
        let length = next.map_or(rest.len(), |next| usize::try_from(next - begin).unwrap_or(rest.len()));
        let (function, after) = rest.split_at(length.min(rest.len()));
        instructions.extend(Decoder::with_ip(64, function, begin.into(), DecoderOptions::NONE).iter());
        begin = next.unwrap_or(section.memory.end);
        rest = after;
    }
    instructions
}

/// What is wrong with an instruction, if anything is.
fn kind(instruction: &Instruction) -> Option<&'static str> {
    let features = instruction.cpuid_features();
    let is_any = |kinds: &[CpuidFeature]| features.iter().any(|feature| kinds.contains(feature));
    let has_mmx_register = || (0..instruction.op_count()).any(|index| instruction.op_register(index).is_mm());
    if instruction.is_invalid() {
        Some("bytes that are no instruction")
    } else if is_any(&[
        CpuidFeature::FPU,
        CpuidFeature::FPU287,
        CpuidFeature::FPU287XL_ONLY,
        CpuidFeature::FPU387,
        CpuidFeature::FPU387SL_ONLY,
    ]) {
        Some("x87 instructions")
    } else if is_any(&[CpuidFeature::MMX, CpuidFeature::D3NOW, CpuidFeature::D3NOWEXT]) || has_mmx_register()
    {
        Some("MMX instructions")
    } else if instruction.encoding() != EncodingKind::Legacy {
        Some("AVX instructions, or others that not every x64 processor has")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::lint::sound::{self, PDATA, TEXT};

    fn kind_of(bytes: &[u8]) -> Option<&'static str> {
        let mut decoder = Decoder::new(64, bytes, DecoderOptions::NONE);
        let instruction = decoder.decode();
        assert!(instruction.is_invalid() || instruction.len() == bytes.len(), "{bytes:x?}");
        kind(&instruction)
    }

    #[test]
    fn ordinary_code_is_suitable() {
        for bytes in [
            &[0xc3][..],                                       // ret
            &[0x0f, 0xa2],                                     // cpuid
            &[0x0f, 0x01, 0xc1],                               // vmcall
            &[0x0f, 0x01, 0xd9],                               // vmmcall
            &[0x0f, 0x10, 0x07],                               // movups xmm0, [rdi]
            &[0xf2, 0x0f, 0x58, 0xc1],                         // addsd xmm0, xmm1
            &[0xf0, 0x48, 0x0f, 0xb1, 0x0f],                   // lock cmpxchg [rdi], rcx
            &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00], // nop
            &[0xcc],                                           // int3
        ] {
            assert_eq!(kind_of(bytes), None, "{bytes:x?}");
        }
    }

    #[test]
    fn state_that_belongs_to_a_thread_is_not() {
        for (bytes, expected) in [
            (&[0xd9, 0xe8][..], "x87"),                     // fld1
            (&[0xdb, 0xe9], "x87"),                         // fucomi st, st(1)
            (&[0x0f, 0x77], "MMX"),                         // emms
            (&[0x0f, 0x6f, 0xc1], "MMX"),                   // movq mm0, mm1
            (&[0xf2, 0x0f, 0xd6, 0xc1], "MMX"),             // movdq2q mm0, xmm1
            (&[0xc5, 0xf4, 0x58, 0xc2], "AVX"),             // vaddps ymm0, ymm1, ymm2
            (&[0xc4, 0xe2, 0x78, 0xf2, 0xc1], "AVX"),       // andn eax, eax, ecx
            (&[0x62, 0xf1, 0x74, 0x48, 0x58, 0xc2], "AVX"), // vaddps zmm0, zmm1, zmm2
            (&[0x06], "no instruction"),                    // push es, gone in 64-bit code
        ] {
            let kind = kind_of(bytes).unwrap_or_default();
            assert!(kind.contains(expected), "{bytes:x?}: {kind}");
        }
    }

    #[test]
    fn a_function_is_decoded_from_its_start() {
        let mut image = sound::image();
        let start = TEXT + 0x40;
        sound::put(&mut image, PDATA, &start.to_le_bytes());
        // What is before it would take eight bytes of it for an operand: mov rax, ..; fld1.
        sound::put(&mut image, start - 2, &[0x48, 0xb8, 0xd9, 0xe8]);
        let found = unsuitable(&Pe::parse(&image).expect("it is an image"));
        let x87 = "x87 instructions: 1 of them, first Fld1 at 0x1040 in .text";
        assert!(found.iter().any(|sentence| sentence == x87), "{found:?}");
    }
}
