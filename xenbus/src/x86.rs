//! Xen on x86-64: found by CPUID, called by VMCALL or VMMCALL. No operating system is in it.
//!
//! - `find`: where Xen's CPUID leaves are, and which instruction the processor's maker has for hypercalls: [`Found`];
//! - `page`: which instruction Xen itself uses, in the page that it fills, if nobody knows the maker;
//! - `not_xen`: what may be missing: [`NotXen`];
//! - `privileged`: the registers and ports by which Xen and its device model are told something;
//! - `native`: this processor, [`Native`], and the [`Xen`] below it.
//!
//! All but the last go by a [`Processor`](xen_abi::seam::Processor) and the [`Access`](xen_abi::seam::Access) to a
//! page: any will do, a simulated one too, and the code is there for every architecture.
#![deny(unsafe_code)]

mod find;
#[cfg(target_arch = "x86_64")]
mod native;
mod not_xen;
mod page;
pub(crate) mod privileged;

#[cfg(target_arch = "x86_64")]
pub use self::native::{Native, Xen};
pub use self::{
    find::{Found, Instruction},
    not_xen::{NotXen, PageError},
};
