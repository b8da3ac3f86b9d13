//! `io/protocols.h`: the layouts of a ring's slots, which a frontend names in its key `protocol`.
#![forbid(unsafe_code)]

/// That of 32-bit x86.
pub const XEN_IO_PROTO_ABI_X86_32: &str = "x86_32-abi";
/// That of 64-bit x86, which is that of this crate.
pub const XEN_IO_PROTO_ABI_X86_64: &str = "x86_64-abi";
/// That of ARM.
pub const XEN_IO_PROTO_ABI_ARM: &str = "arm-abi";

/// That of this crate: a backend takes it for granted where the key is missing, if it is of the same kind.
pub const XEN_IO_PROTO_ABI_NATIVE: &str = XEN_IO_PROTO_ABI_X86_64;
