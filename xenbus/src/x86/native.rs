//! The processor that executes this, and the Xen below it.
#![expect(unsafe_code, reason = "instructions that Rust has no words for")]

use core::arch::{
    asm,
    x86_64::{__cpuid, _rdtsc},
};

use xen_abi::{
    Hypervisor,
    seam::{Access, Port, Processor},
};

use super::{Found, Instruction, NotXen};
use crate::hypercall::Version;

/// This processor. Registers and ports are for the kernel: in user mode, they are general protection faults.
#[derive(Clone, Copy, Debug)]
pub struct Native;

// SAFETY: each method is one instruction, which does what the method is for.
unsafe impl Processor for Native {
    fn cpuid(&self, leaf: u32) -> [u32; 4] {
        let answer = __cpuid(leaf);
        [answer.eax, answer.ebx, answer.ecx, answer.edx]
    }

    #[inline]
    fn timestamp(&self) -> u64 {
        // SAFETY: every x86-64 processor has the counter.
        unsafe { _rdtsc() }
    }

    unsafe fn write_msr(&self, register: u32, value: u64) {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
        let (low, high) = (value as u32, (value >> 32) as u32);
        // SAFETY: the caller answers for what the register does. That may be a write to memory, which `asm!` takes for
        // granted.
        unsafe {
            asm!("wrmsr", in("ecx") register, in("eax") low, in("edx") high, options(nostack, preserves_flags));
        }
    }

    unsafe fn read_port<W: Port>(&self, port: u16) -> W {
        // AL and AX are the lowest bytes of EAX, of which the others stay.
        let mut read = 0_u32;
        match size_of::<W>() {
            // SAFETY: the caller answers for what the port does.
            1 => unsafe {
                asm!("in al, dx", in("dx") port, inout("eax") read, options(nostack, preserves_flags));
            },
            // SAFETY: as above.
            2 => unsafe {
                asm!("in ax, dx", in("dx") port, inout("eax") read, options(nostack, preserves_flags));
            },
            // SAFETY: as above.
            _ => unsafe {
                asm!("in eax, dx", in("dx") port, inout("eax") read, options(nostack, preserves_flags));
            },
        }
        let mut word = W::new_zeroed();
        for (to, from) in word.as_mut_bytes().iter_mut().zip(read.to_le_bytes()) {
            *to = from;
        }
        word
    }

    unsafe fn write_port<W: Port>(&self, port: u16, value: W) {
        let value: u32 = value.into();
        match size_of::<W>() {
            // SAFETY: the caller answers for what the port does.
            1 => unsafe {
                asm!("out dx, al", in("dx") port, in("eax") value, options(nostack, preserves_flags));
            },
            // SAFETY: as above.
            2 => unsafe {
                asm!("out dx, ax", in("dx") port, in("eax") value, options(nostack, preserves_flags));
            },
            // SAFETY: as above.
            _ => unsafe {
                asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, preserves_flags));
            },
        }
    }
}

/// The Xen below this guest.
///
/// Whoever has one knows that Xen is there and which instruction calls it: [`detect`](Self::detect) is the only way.
#[derive(Clone, Copy, Debug)]
pub struct Xen(Found);

impl Xen {
    /// Looks for Xen below this processor: see [`Found::on`].
    ///
    /// # Errors
    ///
    /// See [`NotXen`].
    pub fn detect<A: Access>(lend: impl FnOnce() -> Option<A>) -> Result<Self, NotXen> {
        Found::on(&Native, lend).map(Self)
    }

    /// The CPUID leaf at which Xen's begin.
    #[must_use]
    pub fn leaf(&self) -> u32 {
        self.0.leaf
    }

    /// The version that the CPUID leaf tells, without a hypercall.
    #[must_use]
    pub fn version(&self) -> Version {
        self.0.version
    }
}

// SAFETY: the call goes to Xen, whose headers say what it does.
unsafe impl Hypervisor for Xen {
    #[inline]
    unsafe fn hypercall(&self, number: u32, arguments: [u64; 5]) -> i64 {
        let [first, second, third, fourth, fifth] = arguments;
        let result: i64;
        // Xen may leave anything in the argument registers.
        match self.0.instruction {
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
