//! `XEN_VERSION`: what kind of Xen this is.
#![forbid(unsafe_code)]

use xen_abi::{
    Errno,
    features::{
        XENFEAT_AUTO_TRANSLATED_PHYSMAP, XENFEAT_HVM_CALLBACK_VECTOR, XENFEAT_HVM_SAFE_PVCLOCK,
        XENFEAT_MEMORY_OP_VNODE_SUPPORTED, XENFEAT_NOT_DIRECT_MAPPED, XENFEAT_NR_SUBMAPS,
        XENFEAT_WRITABLE_PAGE_TABLES,
    },
    seam::PAGE_SIZE,
    version::{
        CapabilitiesInfo, ChangesetInfo, CompileInfo, ExtraVersion, FeatureInfo, PlatformParameters,
        XENVER_BUILD_ID, XENVER_CAPABILITIES, XENVER_CHANGESET, XENVER_COMMANDLINE, XENVER_COMPILE_INFO,
        XENVER_EXTRAVERSION, XENVER_GET_FEATURES, XENVER_GUEST_HANDLE, XENVER_PAGESIZE,
        XENVER_PLATFORM_PARAMETERS, XENVER_VERSION,
    },
};
use zerocopy::{FromBytes, IntoBytes};

use super::{
    Hypervisor,
    call::{Answer, Call, int},
};
use crate::rule::rules;

rules! {
    /// A command that this Xen does not have is answered with `ENOSYS`.
    VERSION_COMMAND: "xen/common/kernel.c", "do_xen_version";
    /// There is one submap of features: `EINVAL` for another.
    FEATURE_SUBMAP: "xen/common/kernel.c", "XENVER_get_features";
    /// The size of a page is asked for without an argument: `EINVAL` with one.
    PAGESIZE_ARGUMENT: "xen/common/kernel.c", "XENVER_pagesize";
    /// Only a domain with privilege hears the identity of the build: `EPERM` for others. The command line is
    /// `<denied>` to them.
    BUILD_ID: "xen/include/xsm/dummy.h", "xsm_xen_version";
}

/// Which Xen it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The major and the minor version. Some calls behave as that version's do.
    pub version: (u16, u16),
    /// What comes after it.
    pub extra: String,
}

impl Default for Release {
    /// 4.17.5
    fn default() -> Self {
        Self { version: (4, 17), extra: ".5".into() }
    }
}

impl Release {
    /// Whether this version is that one, or a newer one.
    pub(super) fn is_since(&self, major: u16, minor: u16) -> bool {
        self.version >= (major, minor)
    }
}

/// The features of an HVM guest without physical interrupts.
const FEATURES: u32 = 1 << XENFEAT_WRITABLE_PAGE_TABLES
    | 1 << XENFEAT_AUTO_TRANSLATED_PHYSMAP
    | 1 << XENFEAT_HVM_CALLBACK_VECTOR
    | 1 << XENFEAT_HVM_SAFE_PVCLOCK
    | 1 << XENFEAT_MEMORY_OP_VNODE_SUPPORTED
    | 1 << XENFEAT_NOT_DIRECT_MAPPED;
/// `XENFEAT_runstate_phys_area` and `XENFEAT_vcpu_time_phys_area`, which Xen has since 4.18.
const PHYS_AREAS: u32 = 1 << 18 | 1 << 19;

/// The kinds of guests.
const CAPABILITIES: &str = "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64";

/// What a domain without privilege reads instead.
const DENIED: &[u8] = b"<denied>\0";

impl Hypervisor {
    /// `XEN_VERSION`
    pub(super) fn xen_version(&mut self, call: &mut Call<'_>) -> Answer {
        let argument = call.arguments[1];
        match int(call.arguments[0]) {
            XENVER_VERSION => {
                let (major, minor) = self.release.version;
                return Ok(u64::from(major) << 16 | u64::from(minor));
            }
            XENVER_EXTRAVERSION => {
                let text: ExtraVersion = text(&self.release.extra);
                call.memory.put(argument, &text)?;
            }
            XENVER_COMPILE_INFO => {
                let info = CompileInfo {
                    compiler: text("rustc"),
                    compile_by: text("xen-sim"),
                    compile_domain: text("localdomain"),
                    compile_date: text("Thu Jan  1 00:00:00 UTC 2026"),
                };
                call.memory.put(argument, &info)?;
            }
            XENVER_CAPABILITIES => {
                let text: CapabilitiesInfo = text(CAPABILITIES);
                call.memory.put(argument, &text)?;
            }
            XENVER_CHANGESET => {
                let text: ChangesetInfo = text("");
                call.memory.put(argument, &text)?;
            }
            XENVER_PLATFORM_PARAMETERS => {
                call.memory.put(argument, &PlatformParameters::default())?;
            }
            XENVER_GET_FEATURES => {
                let mut info: FeatureInfo = call.memory.get(argument)?;
                if info.submap_idx >= XENFEAT_NR_SUBMAPS {
                    return Err(FEATURE_SUBMAP.refuses(Errno::EINVAL));
                }
                info.submap = FEATURES | if self.release.is_since(4, 18) { PHYS_AREAS } else { 0 };
                call.memory.put(argument, &info)?;
            }
            XENVER_PAGESIZE if argument == 0 => return Ok(PAGE_SIZE as u64),
            XENVER_PAGESIZE => return Err(PAGESIZE_ARGUMENT.refuses(Errno::EINVAL)),
            XENVER_GUEST_HANDLE => {
                let handle = self.domain(call.from.domain)?.handle;
                call.memory.put(argument, &handle)?;
            }
            XENVER_COMMANDLINE => call.memory.write(argument, DENIED)?,
            XENVER_BUILD_ID => return Err(BUILD_ID.refuses(Errno::EPERM)),
            _ => return Err(VERSION_COMMAND.refuses(Errno::ENOSYS)),
        }
        Ok(0)
    }
}

/// A text, cut so that a zero byte is left behind it.
fn text<T: FromBytes + IntoBytes>(of: &str) -> T {
    let mut padded = T::new_zeroed();
    let bytes = padded.as_mut_bytes();
    let length = of.len().min(bytes.len() - 1);
    bytes[..length].copy_from_slice(&of.as_bytes()[..length]);
    padded
}
