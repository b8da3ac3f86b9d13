//! Xen on x86-64: found by CPUID, called by VMCALL or VMMCALL. No operating system is in it.
//!
//! - `find`: where Xen's CPUID leaves are, and which instruction the processor's maker has for hypercalls;
//! - `page`: which instruction Xen itself uses, in the page that it fills, if nobody knows the maker;
//! - `not_xen`: what may be missing;
//! - `native`: this processor.
//!
//! All but the last go by a [`Processor`](xen_abi::seam::Processor) and the [`Access`] to a page, and are tested on
//! `made_up` ones.
#![expect(unsafe_code, reason = "the hypercall instruction")]

use core::arch::asm;

use xen_abi::{Hypervisor, seam::Access};

use self::find::{Found, Instruction};
use crate::hypercall::Version;

mod find;
mod native;
mod not_xen;
mod page;

#[cfg(test)]
mod made_up;
#[cfg(test)]
mod tests;

pub use self::{
    native::Native,
    not_xen::{NotXen, PageError},
};

/// The Xen below this guest.
///
/// Whoever has one knows that Xen is there and which instruction calls it: [`detect`](Self::detect) is the only way.
#[derive(Clone, Copy, Debug)]
pub struct Xen(Found);

impl Xen {
    /// Looks for Xen. Callable at any level; costs up to 256 CPUIDs, each of which is an exit.
    ///
    /// Which instruction calls Xen depends on the processor's maker. If that is nobody who is known, `lend` is asked for a
    /// page of RAM. Xen writes into it how hypercalls are made, keeps nothing of it, and what is read there decides: no
    /// instruction is tried. Nobody else must use the page until this returns; then it is the lender's again, with other
    /// contents. For any other frame than one of RAM, Xen raises a general protection fault.
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
