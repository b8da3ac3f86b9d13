//! `hvm/hvm_vcpu.h`: with which registers a vCPU of an HVM guest begins.
#![forbid(unsafe_code)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, transmute};

/// It begins in 32-bit mode, with paging or without.
pub const VCPU_HVM_MODE_32B: u32 = 0;
/// It begins in 64-bit mode: [`X86_64`]. Its segments are flat, and of privilege level 0; their selectors are zero.
pub const VCPU_HVM_MODE_64B: u32 = 1;

/// `struct vcpu_hvm_x86_64`: the registers of 64-bit mode.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "the processor's own names")]
pub struct X86_64 {
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rbx: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rip: u64,
    pub rflags: u64,
    /// With paging.
    pub cr0: u64,
    pub cr3: u64,
    /// With physical address extension.
    pub cr4: u64,
    /// With long mode enabled.
    pub efer: u64,
}

/// `struct vcpu_hvm_context`, for [`VCPUOP_INITIALISE`](crate::vcpu::VCPUOP_INITIALISE).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Context {
    /// One of `VCPU_HVM_MODE_*`.
    pub mode: u32,
    /// Zero.
    pub pad: u32,
    /// The registers of that mode: [`in_64_bit_mode`](Self::in_64_bit_mode).
    pub cpu_regs: [u64; 15],
}

/// `cpu_regs`, of which the registers of 32-bit mode take one word more.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct CpuRegs {
    x86_64: X86_64,
    rest: u64,
}

impl Context {
    /// Of a vCPU that begins in 64-bit mode.
    #[must_use]
    pub const fn in_64_bit_mode(x86_64: X86_64) -> Self {
        Self { mode: VCPU_HVM_MODE_64B, pad: 0, cpu_regs: transmute!(CpuRegs { x86_64, rest: 0 }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Xen takes the registers from the beginning of the union.
    #[test]
    fn registers_are_where_the_mode_has_them() {
        let context = Context::in_64_bit_mode(X86_64 { rax: 1, rip: 9, efer: 14, ..X86_64::default() });
        assert_eq!(context.mode, VCPU_HVM_MODE_64B);
        assert_eq!(context.cpu_regs, [1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 14, 0]);
    }
}
