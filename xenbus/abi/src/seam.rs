//! The seam: what a driver asks of its hypervisor, of its processor and of the memory that it shares.
//!
//! Whatever runs below a driver implements these traits: the real Xen with a real kernel's memory, or a simulation of
//! both. Everything above them is the same bytes.
//!
//! - [`Hypervisor`] makes hypercalls;
//! - [`Processor`] is CPUID, the MSR of the hypercall page, the time stamp counter, ports;
//! - [`Memory`] is pages that Xen or another domain reads and writes, and [`Access`], the only way to their bytes;
//! - [`Place`] and [`Places`] say where in a page something is. They are made from layouts, in constants, and cannot
//!   lie outside;
//! - [`Mapped`] is [`Access`] for whoever has the page at an address.
//!
//! # No references
//!
//! There is no reference to a byte that somebody else can write. A value is read once, as a whole, into memory that is
//! one's own; then it is judged; then it is used.

mod hypervisor;
mod mapped;
mod memory;
mod place;
mod word;

pub use self::{
    hypervisor::{Hypervisor, Processor},
    mapped::Mapped,
    memory::{Access, Memory, NoMemory},
    place::{Beyond, PAGE_SIZE, Place, Places},
    word::{Port, Word},
};

/// The number of a page in the guest's physical memory (`xen_pfn_t`, a GFN): its address, divided by [`PAGE_SIZE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gfn(pub u64);
