//! `hvm/*.h`: what is there only for HVM guests.
//!
//! - [`params`]: a domain's parameters, by which it finds xenstore and its console, and chooses how upcalls come;
//! - [`op`]: the commands of [`HVM_OP`](crate::hypercall::HVM_OP);
//! - [`hvm_vcpu`]: with which registers a vCPU begins;
//! - [`emulated_unplug`]: how a guest takes its emulated disks and NICs away.
#![forbid(unsafe_code)]

pub mod emulated_unplug;
pub mod hvm_vcpu;
pub mod op;
pub mod params;
