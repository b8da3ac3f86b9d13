//! What Xen says of itself.
#![forbid(unsafe_code)]

use xen_abi::{
    Errno,
    features::{
        XENFEAT_AUTO_TRANSLATED_PHYSMAP, XENFEAT_HVM_CALLBACK_VECTOR, XENFEAT_HVM_PIRQS,
        XENFEAT_HVM_SAFE_PVCLOCK,
    },
    hypercall::{SET_TRAP_TABLE, XEN_VERSION},
    version::{
        CapabilitiesInfo, ChangesetInfo, CompileInfo, DomainHandle, ExtraVersion, FeatureInfo,
        PlatformParameters, XENVER_BUILD_ID, XENVER_CAPABILITIES, XENVER_CHANGESET, XENVER_COMMANDLINE,
        XENVER_COMPILE_INFO, XENVER_EXTRAVERSION, XENVER_GET_FEATURES, XENVER_GUEST_HANDLE, XENVER_PAGESIZE,
        XENVER_PLATFORM_PARAMETERS, XENVER_VERSION,
    },
};
use xen_sim::{Release, Rule};
use zerocopy::FromZeros;

use crate::support::{Lab, Vm};

fn plain(vm: &Vm, command: u64) -> Result<u64, Errno> {
    vm.call(XEN_VERSION, [command, 0, 0, 0, 0])
}

/// The first thing that a driver asks, and what it must not be fooled by: a long text is cut, and ends with a zero
/// byte.
#[test]
fn version() {
    let vm = Lab::new().guest(1);
    assert_eq!(plain(&vm, XENVER_VERSION), Ok(0x0004_0011));
    let extra: ExtraVersion = vm.op(XEN_VERSION, XENVER_EXTRAVERSION, [0xFF; 16]).unwrap();
    assert_eq!(&extra, b".5\0\0\0\0\0\0\0\0\0\0\0\0\0\0");

    let vm = Lab::with_xen(Release { version: (4, 21), extra: "-a-version-that-is-long".into() }).guest(1);
    assert_eq!(plain(&vm, XENVER_VERSION), Ok(0x0004_0015));
    let extra: ExtraVersion = vm.op(XEN_VERSION, XENVER_EXTRAVERSION, [0xFF; 16]).unwrap();
    assert_eq!(&extra, b"-a-version-that\0");
}

/// The texts, which are padded with zero bytes to their full length.
#[test]
fn texts() {
    let vm = Lab::new().guest(1);
    let kinds: CapabilitiesInfo = vm.op(XEN_VERSION, XENVER_CAPABILITIES, [0xFF; 1024]).unwrap();
    let text = std::str::from_utf8(&kinds).unwrap().trim_end_matches('\0');
    assert!(text.split(' ').any(|kind| kind == "hvm-3.0-x86_64"), "{text}");
    let changeset: ChangesetInfo = vm.op(XEN_VERSION, XENVER_CHANGESET, [0xFF; 64]).unwrap();
    assert_eq!(changeset[63], 0);
    let compiled = vm.op(XEN_VERSION, XENVER_COMPILE_INFO, CompileInfo::new_zeroed()).unwrap();
    assert!(compiled.compiler[0] != 0 && compiled.compile_date[31] == 0);
    let handle: DomainHandle = vm.op(XEN_VERSION, XENVER_GUEST_HANDLE, [0xFF; 16]).unwrap();
    assert_eq!(handle, [0; 16]);
    let platform = PlatformParameters { virt_start: 1 };
    assert_eq!(vm.op(XEN_VERSION, XENVER_PLATFORM_PARAMETERS, platform).unwrap().virt_start, 0);
    let line: [u8; 12] = vm.op(XEN_VERSION, XENVER_COMMANDLINE, [0xFF; 12]).unwrap();
    assert_eq!(&line, b"<denied>\0\xFF\xFF\xFF");
}

/// The features of an HVM guest, by which a driver chooses its callback and its clock.
#[test]
fn features() {
    let vm = Lab::new().guest(1);
    let ask = |submap_idx| {
        vm.op(XEN_VERSION, XENVER_GET_FEATURES, FeatureInfo { submap_idx, submap: 0 }).map(|info| info.submap)
    };
    let features = ask(0).unwrap();
    for feature in [XENFEAT_AUTO_TRANSLATED_PHYSMAP, XENFEAT_HVM_CALLBACK_VECTOR, XENFEAT_HVM_SAFE_PVCLOCK] {
        assert_ne!(features & 1 << feature, 0, "{feature}");
    }
    assert_eq!(features & (1 << XENFEAT_HVM_PIRQS | 1 << 18), 0);
    assert_eq!([ask(1), ask(u32::MAX)], [Err(Errno::EINVAL); 2]);
    let newer = Lab::with_xen(Release { version: (4, 18), extra: String::new() }).guest(1);
    let info = newer.op(XEN_VERSION, XENVER_GET_FEATURES, FeatureInfo::default()).unwrap();
    assert_eq!(info.submap, features | 1 << 18 | 1 << 19);
}

/// What is refused.
#[test]
fn refusals() {
    let vm = Lab::new().guest(1);
    for command in [1, 2, 3, 4, 5, 6, 8, 9] {
        assert_eq!(plain(&vm, command), Err(Errno::EFAULT), "{command}");
    }
    assert_eq!(plain(&vm, XENVER_PAGESIZE), Ok(4096));
    assert_eq!(vm.call(XEN_VERSION, [XENVER_PAGESIZE, 8, 0, 0, 0]), Err(Errno::EINVAL));
    assert_eq!(plain(&vm, XENVER_BUILD_ID), Err(Errno::EPERM));
    assert_eq!(plain(&vm, 99), Err(Errno::ENOSYS));
    assert_eq!(vm.call(SET_TRAP_TABLE, [0; 5]), Err(Errno::ENOSYS), "a PV guest's");
    assert_eq!(vm.call(9_999, [0; 5]), Err(Errno::ENOSYS));
}

/// A rule is found by its name, and can be looked up: no two have one name, and none has no source.
#[test]
fn rules_have_names_and_sources() {
    let mut rules: Vec<&Rule> = Rule::all().collect();
    assert!(rules.len() > 50, "{}", rules.len());
    for rule in &rules {
        assert!(!rule.document.is_empty() && !rule.section.is_empty() && !rule.says.is_empty(), "{rule:?}");
    }
    rules.sort_by_key(|rule| rule.name);
    for pair in rules.windows(2) {
        assert_ne!(pair[0].name, pair[1].name);
    }
}
