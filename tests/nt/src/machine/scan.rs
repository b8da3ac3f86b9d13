//! Finds the instructions that must not run natively.
//!
//! Most of what a driver may do and a program may not faults by itself. Some does not, and would reach the host: CPUID,
//! the time-stamp counter, the hypercall instructions, whose fate depends on the host's own hypervisor, and a few more.
//! The first byte of each is replaced by HLT, which is one byte long, faults outside the kernel with the address of the
//! instruction, and costs a quarter of the invalid opcode where a hypervisor intercepts that.
//!
//! Instructions are found by decoding along the functions of .pdata and the gaps between them, where functions
//! without unwind information are; never by searching for bytes, which are mostly inside other instructions.
#![forbid(unsafe_code)]

use std::ops::Range;

use iced_x86::{
    BlockEncoder, BlockEncoderOptions, Code, Decoder, DecoderOptions, IcedError, Instruction,
    InstructionBlock, Mnemonic, OpKind,
};

/// HLT.
pub(super) const HALT: u8 = 0xf4;

/// The longest instruction ("Intel 64 and IA-32 Architectures Software Developer's Manual", volume 2, 2.3.11).
pub(super) const LONGEST: usize = 15;

/// A byte that begins no instruction.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Undecodable {
    pub(super) at: u64,
    /// The function, or the gap between functions, that it is in.
    pub(super) within: Range<u64>,
}

/// Which instructions are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preempt {
    /// Those that must trap. Driver code is interrupted where it calls or traps.
    Calls,
    /// Atomic operations, too: two of them with nothing between are where races of lock-free code are.
    Atomics,
}

/// The code of a section, at the address of its first byte.
pub(super) struct CodeSection<'image> {
    pub(super) bytes: &'image [u8],
    pub(super) at: u64,
}

impl CodeSection<'_> {
    /// Every instruction to be patched, in the order of addresses. `functions` are in that order, too.
    pub(super) fn scan(
        &self,
        functions: impl Iterator<Item = Range<u64>>,
        preempt: Preempt,
    ) -> Result<Vec<Instruction>, Undecodable> {
        let end = self.at + self.bytes.len() as u64;
        let mut found = Vec::new();
        let mut next = self.at;
        for function in functions.filter(|function| function.start >= self.at && function.end <= end) {
            let start = function.start.max(next);
            self.scan_region(self.after_padding(next..start), preempt, &mut found)?;
            self.scan_region(start..function.end.max(start), preempt, &mut found)?;
            next = function.end.max(next);
        }
        self.scan_region(self.after_padding(next..end), preempt, &mut found)?;
        Ok(found)
    }

    fn scan_region(
        &self,
        region: Range<u64>,
        preempt: Preempt,
        found: &mut Vec<Instruction>,
    ) -> Result<(), Undecodable> {
        for instruction in decoder(self.slice(&region), region.start) {
            if instruction.is_invalid() {
                return Err(Undecodable { at: instruction.ip(), within: region });
            }
            if is_hidden(&instruction) || (preempt == Preempt::Atomics && is_atomic(&instruction)) {
                found.push(instruction);
            }
        }
        Ok(())
    }

    /// What remains of a gap behind the bytes that align a function or fill a page.
    fn after_padding(&self, gap: Range<u64>) -> Range<u64> {
        let padding = self.slice(&gap).iter().take_while(|&&byte| matches!(byte, 0 | 0x90 | 0xcc)).count();
        gap.start + padding as u64..gap.end
    }

    fn slice(&self, region: &Range<u64>) -> &[u8] {
        let offset = |address: u64| (address - self.at) as usize;
        &self.bytes[offset(region.start)..offset(region.end)]
    }
}

/// Whether it runs outside the kernel, where it would reach the host itself: tell the truth about it, give a run what no
/// seed decides, or call Linux.
pub(super) fn is_hidden(instruction: &Instruction) -> bool {
    matches!(
        instruction.mnemonic(),
        Mnemonic::Cpuid
            | Mnemonic::Vmcall
            | Mnemonic::Vmmcall
            | Mnemonic::Rdtsc
            | Mnemonic::Rdtscp
            | Mnemonic::Xgetbv
            | Mnemonic::Rdrand
            | Mnemonic::Rdseed
            | Mnemonic::Rdpid
            | Mnemonic::Wrfsbase
            | Mnemonic::Wrgsbase
            | Mnemonic::Syscall
    )
}

/// Whether it locks the bus. XCHG with memory does so without being told.
pub(super) fn is_atomic(instruction: &Instruction) -> bool {
    let has_memory =
        (0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory);
    instruction.has_lock_prefix() || (instruction.mnemonic() == Mnemonic::Xchg && has_memory)
}

/// The one instruction there.
pub(super) fn decode(bytes: &[u8], at: u64) -> Instruction {
    decoder(bytes, at).decode()
}

fn decoder(bytes: &[u8], at: u64) -> Decoder<'_> {
    Decoder::with_ip(64, bytes, at, DecoderOptions::NONE)
}

/// The same instruction for another place, followed by a jump to what comes after it at home.
pub(super) fn out_of_line(instruction: Instruction, at: u64) -> Result<Vec<u8>, IcedError> {
    let back = Instruction::with_branch(Code::Jmp_rel32_64, instruction.next_ip())?;
    let both = [instruction, back];
    let block = InstructionBlock::new(&both, at);
    Ok(BlockEncoder::encode(64, block, BlockEncoderOptions::DONT_FIX_BRANCHES)?.code_buffer)
}
