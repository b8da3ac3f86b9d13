//! Parameters, and the rest of `HVM_OP`.
#![forbid(unsafe_code)]

use std::time::Duration;

use xen_abi::{
    Errno,
    domid::{DOMID_SELF, DomId},
    hvm::{
        op::{
            GetTime, HVMOP_FLUSH_TLBS, HVMOP_GET_PARAM, HVMOP_GET_TIME, HVMOP_PAGETABLE_DYING,
            HVMOP_SET_EVTCHN_UPCALL_VECTOR, HVMOP_SET_PARAM, PagetableDying, Param,
        },
        params::{
            HVM_NR_PARAMS, HVM_PARAM_ACPI_IOPORTS_LOCATION, HVM_PARAM_ALTP2M, HVM_PARAM_CALLBACK_IRQ,
            HVM_PARAM_CONSOLE_EVTCHN, HVM_PARAM_CONSOLE_PFN, HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN,
            HVM_PARAM_VM_GENERATION_ID_ADDR, HVM_PARAM_VM86_TSS, HVM_PARAM_VM86_TSS_SIZED,
            HVM_PARAM_X87_FIP_WIDTH,
        },
    },
    hypercall::HVM_OP,
};

use crate::support::Lab;

/// Of all 39, these can be set by the guest, and a value that fits each.
const SETTABLE: [u32; 8] = [
    HVM_PARAM_CALLBACK_IRQ,
    HVM_PARAM_STORE_EVTCHN,
    HVM_PARAM_VM86_TSS,
    HVM_PARAM_CONSOLE_EVTCHN,
    HVM_PARAM_ACPI_IOPORTS_LOCATION,
    HVM_PARAM_VM_GENERATION_ID_ADDR,
    HVM_PARAM_X87_FIP_WIDTH,
    HVM_PARAM_VM86_TSS_SIZED,
];
/// And these can be read besides.
const READABLE: [u32; 3] = [HVM_PARAM_STORE_PFN, HVM_PARAM_CONSOLE_PFN, HVM_PARAM_ALTP2M];
/// These are no longer in use.
const DEPRECATED: [u32; 10] = [4, 13, 20, 21, 22, 23, 24, 25, 26, 30];

fn value(index: u32) -> u64 {
    match index {
        HVM_PARAM_ACPI_IOPORTS_LOCATION => 1,
        HVM_PARAM_X87_FIP_WIDTH => 8,
        HVM_PARAM_VM86_TSS_SIZED => 200 << 32 | 0x5000,
        _ => 0x1234,
    }
}

/// Each parameter: who is refused, and with which error.
#[test]
fn permissions() {
    let vm = Lab::new().guest(1);
    for index in 0..HVM_NR_PARAMS {
        let set = vm.set_param(index, value(index));
        let get = vm.get_param(index);
        let (may_set, may_get) = match index {
            _ if DEPRECATED.contains(&index) => (Err(Errno::EINVAL), Err(Errno::EINVAL)),
            _ if SETTABLE.contains(&index) => (Ok(()), Ok(value(index))),
            HVM_PARAM_ALTP2M => (Err(Errno::EEXIST), Ok(0)),
            _ if READABLE.contains(&index) => (Err(Errno::EPERM), Ok(0)),
            _ => (Err(Errno::EPERM), Err(Errno::EPERM)),
        };
        assert_eq!((set, get), (may_set, may_get), "{index}");
    }
    assert_eq!(vm.set_param(HVM_NR_PARAMS, 0), Err(Errno::EINVAL));
    assert_eq!(vm.get_param(u32::MAX), Err(Errno::EINVAL));
}

/// A guest has to do with its own parameters only.
#[test]
fn whose() {
    let lab = Lab::new();
    let (vm, other) = (lab.guest(1), lab.guest(1));
    for command in [HVMOP_SET_PARAM, HVMOP_GET_PARAM] {
        let of = |domid, index| vm.op(HVM_OP, command, Param { domid, pad: 0, index, value: 0 }).map(drop);
        assert_eq!(of(DomId(777), HVM_NR_PARAMS), Err(Errno::EINVAL), "the number comes first");
        assert_eq!(of(DomId(777), 0), Err(Errno::ESRCH));
        assert_eq!(of(DomId(0), 0), Err(Errno::EINVAL), "the control domain is no HVM guest");
        assert_eq!(of(other.id(), 4), Err(Errno::EPERM));
        assert_eq!(of(vm.id(), 0), Ok(()));
    }
}

/// Values that a parameter cannot have leave it as it was.
#[test]
fn values() {
    let vm = Lab::new().guest(1);
    for (index, good, bad) in [
        (HVM_PARAM_X87_FIP_WIDTH, 4, 5),
        (HVM_PARAM_ACPI_IOPORTS_LOCATION, 1, 2),
        (HVM_PARAM_ACPI_IOPORTS_LOCATION, 1, 3),
        (HVM_PARAM_VM86_TSS, 0x1000, 1 << 32),
        (HVM_PARAM_VM86_TSS_SIZED, 104 << 32, 103 << 32),
    ] {
        vm.set_param(index, good).unwrap();
        assert_eq!(vm.set_param(index, bad), Err(Errno::EINVAL), "{index}: {bad:#x}");
        assert_eq!(vm.get_param(index), Ok(good), "{index}");
    }
    // Old firmware gives no size; one that is too large is made smaller.
    vm.set_param(HVM_PARAM_VM86_TSS, 0x1000).unwrap();
    assert_eq!(vm.get_param(HVM_PARAM_VM86_TSS_SIZED), Ok(128 << 32 | 0x1000));
    vm.set_param(HVM_PARAM_VM86_TSS_SIZED, u64::MAX).unwrap();
    assert_eq!(vm.get_param(HVM_PARAM_VM86_TSS_SIZED), Ok(8329 << 32 | 0xFFFF_FFFF));
}

/// The rest.
#[test]
fn other_commands() {
    let lab = Lab::new();
    let (vm, other) = (lab.guest(1), lab.guest(1));
    let call = |command, argument| vm.call(HVM_OP, [command, argument, 0, 0, 0]);
    for command in [
        HVMOP_SET_PARAM,
        HVMOP_GET_PARAM,
        HVMOP_SET_EVTCHN_UPCALL_VECTOR,
        HVMOP_PAGETABLE_DYING,
        HVMOP_GET_TIME,
    ] {
        assert_eq!(call(command, 0), Err(Errno::EFAULT), "{command}");
    }
    assert_eq!([call(HVMOP_FLUSH_TLBS, 0), call(HVMOP_FLUSH_TLBS, 1)], [Ok(0), Err(Errno::EINVAL)]);
    assert_eq!(call(99, 0), Err(Errno::ENOSYS));
    assert_eq!(call(1 << 32, 0), Err(Errno::ENOSYS), "this one is an `unsigned long`");

    let dying = |domid| {
        vm.op(HVM_OP, HVMOP_PAGETABLE_DYING, PagetableDying { domid, ..Default::default() }).map(drop)
    };
    assert_eq!(dying(DomId(777)), Err(Errno::ESRCH));
    assert_eq!(dying(other.id()), Err(Errno::EOPNOTSUPP));
    assert_eq!(dying(DOMID_SELF), Err(Errno::EINVAL));

    let time = || vm.op(HVM_OP, HVMOP_GET_TIME, GetTime::default()).unwrap().now;
    let before = time();
    lab.pass(Duration::from_nanos(12_345));
    assert_eq!(time() - before, 12_345);
}
