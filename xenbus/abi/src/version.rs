//! `version.h`: the commands of [`XEN_VERSION`](crate::hypercall::XEN_VERSION).
//!
//! Texts are padded with zero bytes. Xen may answer `<denied>` to a domain that is not to know.
#![forbid(unsafe_code)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// No argument; answers the major version in bits 16 to 31 and the minor one below.
pub const XENVER_VERSION: u64 = 0;
/// Fills an [`ExtraVersion`].
pub const XENVER_EXTRAVERSION: u64 = 1;
/// Fills a [`CompileInfo`].
pub const XENVER_COMPILE_INFO: u64 = 2;
/// Fills a [`CapabilitiesInfo`].
pub const XENVER_CAPABILITIES: u64 = 3;
/// Fills a [`ChangesetInfo`].
pub const XENVER_CHANGESET: u64 = 4;
/// Fills a [`PlatformParameters`].
pub const XENVER_PLATFORM_PARAMETERS: u64 = 5;
/// Answers a [`FeatureInfo`].
pub const XENVER_GET_FEATURES: u64 = 6;
/// No argument; answers the bytes in a page.
pub const XENVER_PAGESIZE: u64 = 7;
/// Fills a [`DomainHandle`].
pub const XENVER_GUEST_HANDLE: u64 = 8;
/// Fills a [`CommandLine`].
pub const XENVER_COMMANDLINE: u64 = 9;
/// Takes a [`BuildId`] and what is behind it; answers how many bytes were written, or, without an argument, how many
/// there are.
pub const XENVER_BUILD_ID: u64 = 10;

/// `xen_extraversion_t`: what comes after the minor version, as in `4.17`**`.5`**.
pub type ExtraVersion = [u8; 16];

/// `xen_capabilities_info_t`: the kinds of guests that this Xen can run, divided by spaces.
pub type CapabilitiesInfo = [u8; 1024];

/// `xen_changeset_info_t`: the commit that Xen was built from.
pub type ChangesetInfo = [u8; 64];

/// `xen_commandline_t`: Xen's command line.
pub type CommandLine = [u8; 1024];

/// `xen_domain_handle_t`: the UUID that the toolstack gave to the guest, its bytes in the order in which it is written.
pub type DomainHandle = [u8; 16];

/// `struct xen_compile_info`: who compiled Xen, where, when and with what.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct CompileInfo {
    /// The compiler and its version.
    pub compiler: [u8; 64],
    /// The user.
    pub compile_by: [u8; 16],
    /// The machine's domain.
    pub compile_domain: [u8; 32],
    /// The date.
    pub compile_date: [u8; 32],
}

/// `struct xen_platform_parameters`: where Xen begins.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PlatformParameters {
    /// The lowest address that is Xen's in a PV guest.
    pub virt_start: u64,
}

/// `struct xen_feature_info`: 32 of the [features](crate::features).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FeatureInfo {
    /// Which 32. In.
    pub submap_idx: u32,
    /// A bit for each. Out.
    pub submap: u32,
}

/// `struct xen_build_id`: the beginning of a buffer. The bytes of the identity come right behind it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BuildId {
    /// How many bytes there is room for.
    pub len: u32,
}
