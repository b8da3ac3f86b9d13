//! `xen/include/public/version.h`: the commands of [`XEN_VERSION`](crate::hypercall::XEN_VERSION).
#![forbid(unsafe_code)]

/// `XENVER_version`: no second argument; answers the major version in bits 16 to 31 and the minor one below.
pub const XENVER_VERSION: u64 = 0;
