//! The hypervisor and the processor, as a guest reaches them.
#![expect(unsafe_code, reason = "a hypercall reads and writes whatever memory its arguments name")]

use super::Port;

/// Whoever makes hypercalls for a guest: Xen itself, or a simulation of it.
///
/// # Safety
///
/// What each method promises under *Implementation safety* holds.
pub unsafe trait Hypervisor: Sync {
    /// Makes hypercall `number` and returns what it answered: see [`Errno::check`](crate::Errno::check).
    ///
    /// Callable at any level. It may take as long as Xen likes; it does not wait for an event unless that is
    /// what the call is for.
    ///
    /// # Implementation safety
    ///
    /// The call has the effects on memory that Xen's public headers give to it, and no other.
    ///
    /// # Safety
    ///
    /// The arguments are what the call takes, and the memory that they name is there for as long, and
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

/// The processor that a guest runs on, as far as it is used to find Xen and to talk past it.
///
/// # Safety
///
/// What each method promises under *Implementation safety* holds.
pub unsafe trait Processor: Sync {
    /// EAX, EBX, ECX and EDX of a CPUID leaf, sub-leaf zero. Callable at any level; in a guest it is an exit.
    ///
    /// **Implementation safety.** No memory is touched.
    fn cpuid(&self, leaf: u32) -> [u32; 4];

    /// The time stamp counter (`RDTSC`), which may be read before what stands in front of it is done. Callable at any
    /// level.
    ///
    /// **Implementation safety.** No memory is touched.
    fn timestamp(&self) -> u64;

    /// Writes a model-specific register. Callable at any level.
    ///
    /// # Implementation safety
    ///
    /// That register is written, in one piece, and no other.
    ///
    /// # Safety
    ///
    /// The register exists, and what it does with this value is what the caller may do: if it takes the address of
    /// a page, the page is the caller's and nobody uses it.
    unsafe fn write_msr(&self, register: u32, value: u64);

    /// Reads one, two or four bytes from a port, the size being that of `W`. Callable at any level.
    ///
    /// # Implementation safety
    ///
    /// That port is read, once and in one piece, and no memory is touched.
    ///
    /// # Safety
    ///
    /// Reading the port has no effect on memory that anybody uses.
    unsafe fn read_port<W: Port>(&self, port: u16) -> W;

    /// Writes one, two or four bytes to a port. Callable at any level.
    ///
    /// # Implementation safety
    ///
    /// That port is written, once and in one piece, and no memory is touched.
    ///
    /// # Safety
    ///
    /// What the port does with the value has no effect on memory that anybody uses.
    unsafe fn write_port<W: Port>(&self, port: u16, value: W);
}
