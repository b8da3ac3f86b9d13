//! `xen/include/public/xen.h`, section "HYPERCALLS".
#![forbid(unsafe_code)]

/// `__HYPERVISOR_xen_version`: see [`version`](crate::version).
pub const XEN_VERSION: u32 = 17;
