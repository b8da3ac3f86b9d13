//! The seam to the hypervisor, and the numbers of `xen/include/public/xen.h`, section "HYPERCALLS".
#![expect(unsafe_code, reason = "a hypercall reads and writes whatever memory its arguments name")]

/// `__HYPERVISOR_xen_version`: see [`version`](crate::version).
pub const XEN_VERSION: u32 = 17;

/// Whoever makes hypercalls for a guest: Xen itself, or a simulation of it.
///
/// # Safety
///
/// **Implementation safety.** A call has the effects on memory that Xen's public headers give to it, and
/// no other.
pub unsafe trait Hypervisor: Sync {
    /// Makes hypercall `number` and returns what it answered: see [`Errno::check`](crate::Errno::check).
    ///
    /// Callable at any level. It may take as long as Xen likes; it does not wait for an event unless that is
    /// what the call is for.
    ///
    /// # Safety
    ///
    /// **Safety.** The arguments are what the call takes, and the memory that they name is there for as long, and
    /// in the way, as the call uses it.
    unsafe fn hypercall(&self, number: u32, arguments: [u64; 5]) -> i64;
}

// SAFETY: the calls are another's, who promises the same.
unsafe impl<H: Hypervisor> Hypervisor for &H {
    unsafe fn hypercall(&self, number: u32, arguments: [u64; 5]) -> i64 {
        // SAFETY: passed on.
        unsafe { H::hypercall(self, number, arguments) }
    }
}
