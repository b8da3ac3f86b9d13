//! The public Xen ABI, as a guest sees it: numbers, layouts, and the seam to the hypervisor. No logic.
//!
//! - [`seam`]: what a driver asks of hypervisor, processor and memory;
//! - [`cpuid`]: how a guest finds Xen;
//! - [`hypercall`]: the numbers of hypercalls;
//! - [`errno`]: what a hypercall answers when it fails;
//! - [`version`], the header `xen/include/public/version.h`.
//!
//! Sources are Xen's public headers (`xen/include/public` of Xen 4.17) and are named at each item.
#![no_std]
#![deny(unsafe_code)]

pub mod cpuid;
pub mod errno;
pub mod hypercall;
pub mod seam;
pub mod version;

pub use errno::Errno;
pub use seam::Hypervisor;
