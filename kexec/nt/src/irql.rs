//! The calling CPU, raised and restored.
#![expect(unsafe_code, reason = "the CPU's IRQL is changed")]

use core::marker::PhantomData;

use kexec::irql::Raise;
use nt_sys::{DISPATCH_LEVEL, KIRQL, ntddk};

/// The CPU on which the caller runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu;

// SAFETY: at `DISPATCH_LEVEL` and above NT neither preempts nor moves the caller, and `Lower` restores what was found.
unsafe impl Raise for Cpu {
    type Restore = Lower;

    /// One call when the level is high enough already, as in a DPC or an interrupt; three in all from below.
    #[inline]
    fn raise(&self) -> Lower {
        // SAFETY: callable at any level.
        let found = unsafe { ntddk::KeGetCurrentIrql() };
        if found < DISPATCH_LEVEL {
            // SAFETY: the level is not above `DISPATCH_LEVEL`.
            unsafe { ntddk::KeRaiseIrqlToDpcLevel() };
        }
        Lower { to: (found < DISPATCH_LEVEL).then_some(found), _on_this_cpu: PhantomData }
    }
}

/// Restores the level when it is dropped.
#[derive(Debug)]
#[must_use = "the level is restored as soon as this is dropped"]
pub struct Lower {
    to: Option<KIRQL>,
    _on_this_cpu: PhantomData<*mut ()>,
}

impl Drop for Lower {
    #[inline]
    fn drop(&mut self) {
        if let Some(level) = self.to {
            // SAFETY: this is the level from which `raise` raised, on the CPU on which it did.
            unsafe { ntddk::KeLowerIrql(level) };
        }
    }
}
