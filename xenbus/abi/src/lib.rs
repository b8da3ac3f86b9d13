//! The public Xen ABI, as a 64-bit HVM guest sees it: numbers, layouts, and the seam to the hypervisor. No logic.
//!
//! What runs below a driver:
//!
//! - [`seam`]: what a driver asks of hypervisor, processor and memory.
//!
//! How a guest and Xen talk:
//!
//! - [`cpuid`]: how a guest finds Xen;
//! - [`hypercall`]: how it calls, and the numbers of the calls;
//! - [`errno`]: what a call answers when it fails;
//! - [`domid`]: the numbers of domains;
//! - [`version`] and [`features`]: what this Xen is, and can;
//! - [`hvm`]: parameters, upcalls, and the end of emulated devices;
//! - [`memory`]: pages that come and go;
//! - [`shared_info`]: the page with events and time;
//! - [`event_channel`]: ports and their events;
//! - [`grant_table`]: pages for others;
//! - [`sched`] and [`vcpu`]: to wait, to shut down, to suspend;
//! - [`console_io`]: Xen's own console.
//!
//! How two domains talk:
//!
//! - [`io`]: rings, disks, NICs, the console, and the states of their two halves.
//!
//! # Names
//!
//! A module is a header of `xen/include/public`, which it names, or a section of one. A constant has the header's name,
//! in capitals; a structure has the header's name without what its module says already. Where that is not enough to
//! find it there, the documentation of an item begins with its name in C. A field has the header's name, and `padding`
//! where the header has none.
//!
//! Structures are of integers only and have no holes, so that they come from bytes and become bytes without `unsafe`,
//! and so that every sequence of bytes is one. A union of the header is its bytes, with methods that read them as each
//! member. A pointer is a `u64`.
//!
//! Layouts and numbers are those of Xen 4.17: `tests/headers` compares all of them with its headers. Where a text says
//! what Xen does, it is what the headers and `docs/misc` of Xen say, or, where they are silent, what Xen itself does.
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod console_io;
pub mod cpuid;
pub mod domid;
pub mod errno;
pub mod event_channel;
pub mod features;
pub mod grant_table;
pub mod hvm;
pub mod hypercall;
pub mod io;
pub mod memory;
pub mod sched;
pub mod seam;
pub mod shared_info;
pub mod vcpu;
pub mod version;

pub use domid::DomId;
pub use errno::Errno;
pub use event_channel::EvtchnPort;
pub use grant_table::GrantRef;
pub use seam::Hypervisor;
