//! What an exception means: an instruction that the other half answers for, or a driver's mistake.
#![forbid(unsafe_code)]

use std::{error::Error, fmt};

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::{
    context::{Interruption, Registers},
    scan,
};

/// An instruction that driver code cannot execute itself.
///
/// [`registers`](super::Activation::registers) are as they are before it. One that reads something is answered with
/// [`answer`](super::Activation::answer) or [`answer_cpuid`](super::Activation::answer_cpuid).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trap {
    /// CPUID.
    Cpuid {
        /// EAX.
        leaf: u32,
        /// ECX.
        subleaf: u32,
    },
    /// A hypercall: number, arguments and result are in the registers.
    Hypercall {
        /// By which instruction.
        instruction: Hypercall,
    },
    /// RDMSR.
    Rdmsr {
        /// ECX.
        register: u32,
    },
    /// WRMSR.
    Wrmsr {
        /// ECX.
        register: u32,
        /// EDX and EAX.
        value: u64,
    },
    /// IN.
    In {
        /// The port.
        port: u16,
        /// Bytes.
        width: u8,
    },
    /// OUT.
    Out {
        /// The port.
        port: u16,
        /// Bytes.
        width: u8,
        /// What is written.
        value: u32,
    },
    /// A read of CR8: the IRQL.
    ReadCr8,
    /// A write of CR8.
    WriteCr8(u8),
    /// CLI.
    Cli,
    /// STI.
    Sti,
    /// HLT.
    Hlt,
    /// RDTSC.
    Rdtsc,
    /// RDTSCP. RCX is to be set as well.
    Rdtscp,
    /// XGETBV.
    Xgetbv {
        /// ECX.
        register: u32,
    },
    /// INT 29h with its code: the driver has found itself damaged (`__fastfail`). There is no going on.
    FastFail(u32),
    /// INT3.
    Breakpoint,
    /// An atomic operation is next ([`Preempt::Atomics`](super::Preempt::Atomics)).
    Atomic,
    /// Any other privileged instruction, or one that would reach the host. There is no going on.
    Other(String),
}

/// The instruction of a hypercall: each exists on the processors of one vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hypercall {
    /// Intel's.
    Vmcall,
    /// AMD's.
    Vmmcall,
}

impl Trap {
    /// What this instruction asks for, if it is one that traps.
    pub(super) fn decode(instruction: &Instruction, registers: &Registers) -> Option<Self> {
        let [eax, ecx] = [registers.rax as u32, registers.rcx as u32];
        let port = || match instruction.op_kind(u32::from(instruction.mnemonic() == Mnemonic::In)) {
            OpKind::Immediate8 => u16::from(instruction.immediate8()),
            _ => registers.rdx as u16,
        };
        let width = |operand| instruction.op_register(operand).size() as u8;
        Some(match instruction.mnemonic() {
            Mnemonic::Cpuid => Self::Cpuid { leaf: eax, subleaf: ecx },
            Mnemonic::Vmcall => Self::Hypercall { instruction: Hypercall::Vmcall },
            Mnemonic::Vmmcall => Self::Hypercall { instruction: Hypercall::Vmmcall },
            Mnemonic::Rdmsr => Self::Rdmsr { register: ecx },
            Mnemonic::Wrmsr => Self::Wrmsr { register: ecx, value: registers.rdx << 32 | u64::from(eax) },
            Mnemonic::In => Self::In { port: port(), width: width(0) },
            Mnemonic::Out => {
                let width = width(1);
                let value = eax & (u32::MAX >> (32 - 8 * u32::from(width)));
                Self::Out { port: port(), width, value }
            }
            Mnemonic::Mov if instruction.op1_register() == Register::CR8 => Self::ReadCr8,
            Mnemonic::Mov if instruction.op0_register() == Register::CR8 => {
                Self::WriteCr8(registers.numbered(number(instruction.op1_register())) as u8)
            }
            Mnemonic::Cli => Self::Cli,
            Mnemonic::Sti => Self::Sti,
            Mnemonic::Hlt => Self::Hlt,
            Mnemonic::Rdtsc => Self::Rdtsc,
            Mnemonic::Rdtscp => Self::Rdtscp,
            Mnemonic::Xgetbv => Self::Xgetbv { register: ecx },
            Mnemonic::Int if instruction.immediate8() == FAST_FAIL => Self::FastFail(ecx),
            Mnemonic::Int3 => Self::Breakpoint,
            Mnemonic::Int => Self::Other(instruction.to_string()),
            _ if instruction.is_privileged() || scan::is_hidden(instruction) => {
                Self::Other(instruction.to_string())
            }
            _ => return None,
        })
    }

    /// Whether the driver waits for a value.
    pub(super) fn reads(&self) -> bool {
        match self {
            Self::Cpuid { .. }
            | Self::Hypercall { .. }
            | Self::Rdmsr { .. }
            | Self::In { .. }
            | Self::ReadCr8
            | Self::Rdtsc
            | Self::Rdtscp
            | Self::Xgetbv { .. } => true,
            Self::Wrmsr { .. }
            | Self::Out { .. }
            | Self::WriteCr8(_)
            | Self::Cli
            | Self::Sti
            | Self::Hlt
            | Self::FastFail(_)
            | Self::Breakpoint
            | Self::Atomic
            | Self::Other(_) => false,
        }
    }

    /// Whether the driver can go on after it.
    pub(super) fn can_continue(&self) -> bool {
        !matches!(self, Self::FastFail(_) | Self::Other(_))
    }

    /// Puts a value where the instruction leaves it.
    pub(super) fn answer(&self, value: u64, instruction: &Instruction, registers: &mut Registers) {
        match self {
            Self::Hypercall { .. } => registers.rax = value,
            Self::ReadCr8 => *registers.numbered_mut(number(instruction.op0_register())) = value,
            // Only a write of 32 bits clears the rest of the register.
            Self::In { width: 4, .. } => registers.rax = value & 0xffff_ffff,
            Self::In { width, .. } => {
                let written = (1 << (8 * width)) - 1;
                registers.rax = registers.rax & !written | value & written;
            }
            Self::Rdmsr { .. } | Self::Rdtsc | Self::Rdtscp | Self::Xgetbv { .. } => {
                registers.rax = value & 0xffff_ffff;
                registers.rdx = value >> 32;
            }
            _ => panic!("{self:?} is not answered by a value"),
        }
    }
}

/// `RtlFailFast` ("__fastfail", Microsoft Learn).
const FAST_FAIL: u8 = 0x29;

fn number(register: Register) -> u8 {
    register.number() as u8
}

/// A mistake that the processor noticed. The activation can only be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind of mistake.
    pub kind: FaultKind,
    /// The instruction. If that is none of the driver's, the return address of the call that led there.
    pub rip: u64,
    /// The address that could not be reached, for a page fault and a stack overflow; else the stack pointer.
    pub address: u64,
}

/// The kinds of mistakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A read from where nothing is.
    Read,
    /// A write to where nothing is, or nothing may be written.
    Write,
    /// A jump to where no code is.
    Execute,
    /// The guard below the stack was touched.
    StackOverflow,
    /// An import was called with a stack pointer that is not a multiple of 16.
    Misaligned,
    /// An import was called with a stack pointer that points elsewhere.
    StrayStack,
    /// A function returned with another value in a register that it must preserve.
    Clobbered(&'static str),
    /// An invalid opcode; UD2 is how a compiler says "never reached".
    IllegalInstruction,
    /// A general protection fault at an ordinary instruction: a non-canonical address, or a misaligned operand.
    GeneralProtection,
    /// Any other exception: its vector.
    Exception(u8),
}

/// Vectors ("Intel 64 and IA-32 Architectures Software Developer's Manual", volume 3, 6.15).
pub(super) const BREAKPOINT: u8 = 3;
const INVALID_OPCODE: u8 = 6;
pub(super) const GENERAL_PROTECTION: u8 = 13;
const PAGE_FAULT: u8 = 14;

/// Bits of a page fault's error code (ibid., 4.7).
const WRITE: u64 = 1 << 1;
const FETCH: u64 = 1 << 4;

impl Interruption {
    /// The address that could not be reached, for a page fault.
    pub(super) fn page_fault(&self) -> Option<u64> {
        (self.vector == PAGE_FAULT).then_some(self.address)
    }

    /// The kind of mistake.
    pub(super) fn kind(&self) -> FaultKind {
        match self.vector {
            PAGE_FAULT if self.error & FETCH != 0 => FaultKind::Execute,
            PAGE_FAULT if self.error & WRITE != 0 => FaultKind::Write,
            PAGE_FAULT => FaultKind::Read,
            INVALID_OPCODE => FaultKind::IllegalInstruction,
            GENERAL_PROTECTION => FaultKind::GeneralProtection,
            vector => FaultKind::Exception(vector),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, rip, address } = self;
        match kind {
            FaultKind::Read => write!(f, "{rip:#x} reads {address:#x}, where nothing is"),
            FaultKind::Write => write!(f, "{rip:#x} writes to {address:#x}, where it may not"),
            FaultKind::Execute => write!(f, "{rip:#x} leads to {address:#x}, where no code is"),
            FaultKind::StackOverflow => write!(f, "{rip:#x} overflows the stack, at {address:#x}"),
            FaultKind::Misaligned => {
                write!(f, "the call that returns to {rip:#x} is made with a misaligned stack, {address:#x}")
            }
            FaultKind::StrayStack => {
                write!(f, "the stack pointer is {address:#x}, which is not on the stack")
            }
            FaultKind::Clobbered(register) => {
                write!(f, "the function at {rip:#x} returned without having preserved {register}")
            }
            FaultKind::IllegalInstruction => write!(f, "{rip:#x} is an invalid instruction"),
            FaultKind::GeneralProtection => {
                write!(f, "{rip:#x} caused a general protection fault: a wild or misaligned address")
            }
            FaultKind::Exception(vector) => write!(f, "{rip:#x} caused exception {vector}"),
        }
    }
}

impl Error for Fault {}
