//! Xen's own console, for debugging: the commands of [`CONSOLE_IO`](crate::hypercall::CONSOLE_IO) (`xen.h`) and the
//! port (`arch-x86/xen.h`). The guest's console is [`io::console`](crate::io::console).
#![forbid(unsafe_code)]

/// Writes bytes. Of a guest's, only what can be printed, perhaps not before a newline, and only if Xen was built to.
pub const CONSOLEIO_WRITE: u64 = 0;
/// Reads bytes; answers how many. The hardware domain's.
pub const CONSOLEIO_READ: u64 = 1;

/// The port that takes one byte after the other for Xen's log, a line at a time.
pub const XEN_HVM_DEBUGCONS_IOPORT: u16 = 0xE9;
