//! The base of GS: on NT, the control region of the processor that runs (KPCR). Linux leaves it to the program.
#![expect(unsafe_code, reason = "sets a segment base")]

use std::{arch::asm, io};

/// `HWCAP2_FSGSBASE` (Linux, arch/x86/include/uapi/asm/hwcap2.h): user code may use RDGSBASE and WRGSBASE.
const FSGSBASE: u64 = 2;

const ARCH_SET_GS: i32 = 0x1001;
const ARCH_GET_GS: i32 = 0x1004;

/// How the base is read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GsBase {
    /// By instructions.
    Instructions,
    /// By system calls, where the processor or the kernel is older than the instructions.
    SystemCalls,
}

impl GsBase {
    /// What this machine has.
    pub(super) fn detect() -> Self {
        // SAFETY: reads the auxiliary vector.
        let capabilities = unsafe { libc::getauxval(libc::AT_HWCAP2) };
        if capabilities & FSGSBASE != 0 { Self::Instructions } else { Self::SystemCalls }
    }

    pub(super) fn get(self) -> u64 {
        let mut base: u64 = 0;
        match self {
            // SAFETY: the kernel has said that user code may.
            Self::Instructions => unsafe { asm!("rdgsbase {}", out(reg) base, options(nomem, nostack)) },
            Self::SystemCalls => {
                // SAFETY: stores the base in the variable.
                check(unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_GET_GS, &raw mut base) });
            }
        }
        base
    }

    pub(super) fn set(self, base: u64) {
        match self {
            // SAFETY: as above; on Linux x86-64 no host code reaches memory through GS.
            Self::Instructions => unsafe { asm!("wrgsbase {}", in(reg) base, options(nostack)) },
            // SAFETY: no host code reaches memory through GS.
            Self::SystemCalls => check(unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, base) }),
        }
    }
}

fn check(result: i64) {
    assert_eq!(result, 0, "could not reach the base of GS: {}", io::Error::last_os_error());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_reach_the_same_base() {
        let detected = GsBase::detect();
        let before = detected.get();
        GsBase::SystemCalls.set(0x1234_5000);
        assert_eq!((GsBase::SystemCalls.get(), detected.get()), (0x1234_5000, 0x1234_5000));
        detected.set(before);
        assert_eq!(GsBase::SystemCalls.get(), before);
    }
}
