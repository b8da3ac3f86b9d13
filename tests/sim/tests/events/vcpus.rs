//! Virtual CPUs: their `vcpu_info`, their timers, up and down.
#![forbid(unsafe_code)]

use std::time::Duration;

use xen_abi::{
    Errno,
    event_channel::virq::VIRQ_TIMER,
    hvm::op::{GetTime, HVMOP_GET_TIME},
    hypercall::{HVM_OP, SCHED_OP, VCPU_OP},
    sched::SCHEDOP_BLOCK,
    seam::{Access, Gfn},
    shared_info::{EVTCHN_PENDING, VCPU_INFO, VcpuInfo},
    vcpu::{
        RUNSTATE_BLOCKED, RUNSTATE_OFFLINE, RUNSTATE_RUNNING, RunstateInfo, SetPeriodicTimer,
        SetSingleshotTimer, VCPU_SSHOTTMR_FUTURE, VCPUOP_DOWN, VCPUOP_GET_RUNSTATE_INFO, VCPUOP_INITIALISE,
        VCPUOP_IS_UP, VCPUOP_REGISTER_VCPU_INFO, VCPUOP_SET_PERIODIC_TIMER, VCPUOP_SET_SINGLESHOT_TIMER,
        VCPUOP_STOP_PERIODIC_TIMER, VCPUOP_STOP_SINGLESHOT_TIMER, VCPUOP_UP,
    },
};
use xen_sim::{GuestConfig, GuestFrame, Interrupt, Release};

use crate::support::{INFO, Lab, Outcome, PENDING_SEL, UPCALL_PENDING, Vm};

const MILLISECOND: Duration = Duration::from_millis(1);

fn newer() -> Release {
    Release { version: (4, 18), extra: String::new() }
}

/// System time, as the hypercall has it.
fn now(vm: &Vm) -> u64 {
    vm.op(HVM_OP, HVMOP_GET_TIME, GetTime::default()).unwrap().now
}

fn plain(vm: &Vm, command: u64, vcpu: u32) -> Outcome<u64> {
    vm.call(VCPU_OP, [command, vcpu.into(), 0, 0, 0])
}

fn arm(vm: &Vm, timeout_abs_ns: u64, flags: u32) -> Outcome<()> {
    let set = SetSingleshotTimer { timeout_abs_ns, flags, padding: 0 };
    vm.vcpu_op(VCPUOP_SET_SINGLESHOT_TIMER, 0, set).map(drop)
}

fn set_period(vm: &Vm, vcpu: u32, period_ns: u64) -> Outcome<()> {
    vm.vcpu_op(VCPUOP_SET_PERIODIC_TIMER, vcpu, SetPeriodicTimer { period_ns }).map(drop)
}

/// A guest with one virtual CPU whose timer's port can be looked at.
struct Ticking {
    lab: Lab,
    vm: Vm,
    shared: GuestFrame,
    port: u32,
}

impl Ticking {
    fn new(release: Release) -> Self {
        let lab = Lab::with_xen(release);
        let vm = lab.guest(2);
        let (shared, port) = (vm.shared_info(), vm.bind_virq(VIRQ_TIMER, 0).unwrap());
        Self { lab, vm, shared, port }
    }

    /// Whether there was a tick since the last time.
    fn ticked(&self) -> bool {
        let bit = 1_u64 << self.port;
        self.shared.fetch_and(EVTCHN_PENDING.get(0).unwrap(), !bit) & bit != 0
    }
}

/// Virtual CPUs need not be numbered one after the other; each number that is none is refused, by all that take one.
#[test]
fn numbers() {
    let vm = Lab::new().build(GuestConfig { vcpus: [3, 500].into(), ..GuestConfig::default() });
    for vcpu in [0, 3, 500] {
        assert_eq!(plain(&vm, VCPUOP_IS_UP, vcpu), Ok(1), "{vcpu}");
        assert!(vm.bind_virq(VIRQ_TIMER, vcpu).is_ok());
    }
    for vcpu in [1, 2, 4, 499, 501, 512, u32::MAX] {
        for command in 0..=16 {
            assert_eq!(plain(&vm, command, vcpu), Err(Errno::ENOENT), "{command} {vcpu}");
        }
    }
    assert_eq!(plain(&vm, 99, 0), Err(Errno::ENOSYS));
}

/// Commands that read their argument find out that there is none.
#[test]
fn no_argument() {
    let vm = Lab::new().guest(1);
    for command in [
        VCPUOP_INITIALISE,
        VCPUOP_GET_RUNSTATE_INFO,
        VCPUOP_SET_PERIODIC_TIMER,
        VCPUOP_SET_SINGLESHOT_TIMER,
        VCPUOP_REGISTER_VCPU_INFO,
    ] {
        assert_eq!(plain(&vm, command, 0), Err(Errno::EFAULT), "{command}");
    }
    assert_eq!(vm.vcpu_op(VCPUOP_INITIALISE, 0, [0_u8; 128]).map(drop), Err(Errno::EEXIST));
}

/// What can be wrong with a place, on an older Xen and on a newer one.
#[test]
fn places_of_a_vcpu_info() {
    for (release, again, other) in
        [(Release::default(), Errno::EINVAL, Err(Errno::EINVAL)), (newer(), Errno::EBUSY, Ok(()))]
    {
        let vm = Lab::with_xen(release).guest(3);
        let frame = vm.page();
        for offset in [1, 4, 4033, 4036, 4040, 4095] {
            assert_eq!(vm.register_info(0, frame.gfn(), offset), Err(Errno::ENXIO), "{offset}");
        }
        assert_eq!(vm.register_info(0, Gfn(0x9999_9999), 0), Err(Errno::EINVAL));
        assert_eq!(vm.register_info(0, Gfn(u64::MAX), 8), Err(Errno::EINVAL));
        assert_eq!(vm.register_info(1, frame.gfn(), 64), other, "from vCPU 0");
        assert_eq!(vm.register_info(0, frame.gfn(), 4096 - 64), Ok(()));
        assert_eq!(vm.register_info(0, frame.gfn(), 0), Err(again));
        plain(&vm, VCPUOP_DOWN, 2).unwrap();
        assert_eq!(vm.register_info(2, frame.gfn(), 128), Ok(()), "one that is down");
    }
    let vm = Lab::with_xen(newer()).guest(1);
    assert_eq!(vm.register_info(0, vm.page().gfn(), 4096), Err(Errno::EINVAL), "another frame");
    assert_eq!(Lab::new().guest(1).register_info(0, Gfn(1), 4096), Err(Errno::ENXIO));
}

/// What was pending in the old place is pending in the new one, and everything else besides: the guest looks at all.
#[test]
fn a_vcpu_info_moves_with_what_is_in_it() {
    let lab = Lab::new();
    let vm = lab.guest(1);
    let (shared, frame) = (vm.shared_info(), vm.page());
    lab.pass(MILLISECOND);
    let mut old: VcpuInfo = shared.read(VCPU_INFO.info.get(0).unwrap());
    old.arch.cr2 = 0x1234_5678;
    shared.write(VCPU_INFO.info.get(0).unwrap(), &old);
    vm.register_info(0, frame.gfn(), 0).unwrap();
    let new: VcpuInfo = frame.read(INFO.info.get(0).unwrap());
    assert_eq!((new.evtchn_upcall_pending, new.evtchn_pending_sel), (1, u64::MAX));
    assert_eq!(new.arch, old.arch);
    assert_eq!((new.time.system_time, new.time.version % 2), (now(&vm), 0), "its clock is written at once");

    // From now on, the old place is none of Xen's.
    frame.store(UPCALL_PENDING, 0);
    frame.store(PENDING_SEL, 0);
    vm.send(vm.bind_ipi(0).unwrap()).unwrap();
    assert_eq!((frame.load(UPCALL_PENDING), frame.load(PENDING_SEL)), (1, 1));
    assert_eq!(shared.load(VCPU_INFO.evtchn_upcall_pending.get(0).unwrap()), 0);
}

/// A virtual CPU beyond the first 32 has no place before it registers one: the port is pending, and nobody is told.
#[test]
fn vcpus_beyond_the_first_32() {
    let vm = Lab::new().build(GuestConfig { vcpus: [0, 31, 32].into(), ..GuestConfig::default() });
    vm.note_interrupts();
    for vcpu in [31, 32] {
        vm.set_vector(vcpu, 0x50).unwrap();
    }
    vm.interrupts();
    let shared = vm.shared_info();
    let (last, beyond) = (vm.bind_ipi(31).unwrap(), vm.bind_ipi(32).unwrap());
    vm.send(last).unwrap();
    vm.send(beyond).unwrap();
    assert_eq!(vm.interrupts(), [(31, Interrupt::Vector(0x50))]);
    assert!(crate::two_level::is_pending(&shared, beyond));

    let info = vm.move_info(32);
    assert_eq!(vm.interrupts(), [(32, Interrupt::Vector(0x50))]);
    let found: VcpuInfo = info.read(INFO.info.get(0).unwrap());
    assert_eq!((found.evtchn_upcall_pending, found.evtchn_pending_sel), (1, u64::MAX));
}

/// A timer fires when system time has got there, once.
#[test]
fn a_singleshot_timer() {
    let t = Ticking::new(Release::default());
    arm(&t.vm, now(&t.vm) + 5_000_000, 0).unwrap();
    t.lab.pass(4 * MILLISECOND);
    assert!(!t.ticked());
    t.lab.pass(MILLISECOND);
    assert!(t.ticked());
    t.lab.pass(Duration::from_secs(100));
    assert!(!t.ticked());

    arm(&t.vm, now(&t.vm) + 5_000_000, 0).unwrap();
    arm(&t.vm, now(&t.vm) + 50_000_000, VCPU_SSHOTTMR_FUTURE).unwrap();
    t.lab.pass(10 * MILLISECOND);
    assert!(!t.ticked(), "it was set anew");
    plain(&t.vm, VCPUOP_STOP_SINGLESHOT_TIMER, 0).unwrap();
    t.lab.pass(Duration::from_secs(100));
    assert!(!t.ticked(), "it was stopped");
}

/// A time that has gone by: the event comes at once, unless the guest asked to be told, on an older Xen.
#[test]
fn a_singleshot_timer_in_the_past() {
    for (release, future) in [(Release::default(), Err(Errno::ETIME)), (newer(), Ok(()))] {
        let t = Ticking::new(release);
        t.lab.pass(MILLISECOND);
        arm(&t.vm, now(&t.vm) + 1_000, 0).unwrap();
        arm(&t.vm, now(&t.vm) - 1, 0).unwrap();
        assert!(t.ticked());
        t.lab.pass(MILLISECOND);
        assert!(!t.ticked(), "it has taken the other's place");
        assert_eq!(arm(&t.vm, now(&t.vm) - 1, VCPU_SSHOTTMR_FUTURE), future);
        assert_eq!(t.ticked(), future.is_ok());
        assert_eq!(arm(&t.vm, now(&t.vm), VCPU_SSHOTTMR_FUTURE), Ok(()), "now is not in the past");
        assert_eq!(arm(&t.vm, u64::MAX, 0), Ok(()), "nor will that be");
    }
}

/// A virtual CPU has to do with its own timer only.
#[test]
fn anothers_singleshot_timer() {
    let vm = Lab::new().guest(2);
    for command in [VCPUOP_SET_SINGLESHOT_TIMER, VCPUOP_STOP_SINGLESHOT_TIMER] {
        assert_eq!(plain(&vm, command, 1), Err(Errno::EINVAL), "before its argument is read");
    }
    assert_eq!(vm.guest.on(1, || plain(&vm, VCPUOP_STOP_SINGLESHOT_TIMER, 1)), Ok(0));
}

/// Ticks come by the period, the first at once; those that nobody saw in time are one.
#[test]
fn a_periodic_timer() {
    let t = Ticking::new(Release::default());
    for wrong in [0, 999_999, (1 << 62), u64::MAX] {
        assert_eq!(set_period(&t.vm, 0, wrong), Err(Errno::EINVAL), "{wrong}");
    }
    set_period(&t.vm, 0, 10_000_000).unwrap();
    assert!(t.ticked());
    for _ in 0..5 {
        t.lab.pass(9 * MILLISECOND);
        assert!(!t.ticked());
        t.lab.pass(MILLISECOND);
        assert!(t.ticked());
    }
    t.lab.pass(Duration::from_secs(1));
    assert!(t.ticked());
    t.lab.pass(9 * MILLISECOND);
    assert!(!t.ticked(), "it is counted from the last tick");
    plain(&t.vm, VCPUOP_STOP_PERIODIC_TIMER, 0).unwrap();
    t.lab.pass(Duration::from_secs(1));
    assert!(!t.ticked());
}

/// The periodic timer of a virtual CPU that has blocked does not wake it. It ticks when something else has.
#[test]
fn a_periodic_timer_of_a_blocked_vcpu() {
    let t = Ticking::new(Release::default());
    set_period(&t.vm, 0, 10_000_000).unwrap();
    assert!(t.ticked());
    t.vm.call(SCHED_OP, [SCHEDOP_BLOCK, 0, 0, 0, 0]).unwrap();
    t.lab.pass(Duration::from_secs(1));
    assert!(!t.ticked());
    now(&t.vm);
    assert!(t.ticked(), "it runs again");
}

/// One that has an interrupt to take does not block, and goes on ticking.
#[test]
fn blocking_with_an_interrupt_due() {
    let t = Ticking::new(Release::default());
    set_period(&t.vm, 0, 10_000_000).unwrap();
    assert!(t.ticked());
    t.vm.set_vector(0, 0x40).unwrap();
    t.vm.call(SCHED_OP, [SCHEDOP_BLOCK, 0, 0, 0, 0]).unwrap();
    t.lab.pass(Duration::from_secs(1));
    assert!(t.ticked());
}

/// The periodic timer of a virtual CPU that is down begins when it is up.
#[test]
fn a_periodic_timer_of_a_vcpu_that_is_down() {
    let vm = Lab::new().guest(2);
    let (shared, port) = (vm.shared_info(), vm.bind_virq(VIRQ_TIMER, 1).unwrap());
    plain(&vm, VCPUOP_DOWN, 1).unwrap();
    set_period(&vm, 1, 10_000_000).unwrap();
    assert!(!crate::two_level::is_pending(&shared, port));
    plain(&vm, VCPUOP_UP, 1).unwrap();
    assert!(crate::two_level::is_pending(&shared, port));
}

/// A virtual CPU that is down takes no interrupts, and has them when it is up again.
#[test]
fn up_and_down() {
    let vm = Lab::new().guest(2);
    vm.note_interrupts();
    vm.set_vector(1, 0x50).unwrap();
    assert_eq!(vm.interrupts().len(), 1);
    let port = vm.bind_ipi(1).unwrap();
    assert_eq!(plain(&vm, VCPUOP_DOWN, 1), Ok(0));
    assert_eq!(plain(&vm, VCPUOP_IS_UP, 1), Ok(0));
    vm.guest.on(1, || vm.call(SCHED_OP, [SCHEDOP_BLOCK, 0, 0, 0, 0])).unwrap();
    assert_eq!(plain(&vm, VCPUOP_IS_UP, 1), Ok(0), "what still runs on it does not bring it up");
    vm.send(port).unwrap();
    assert_eq!(vm.interrupts(), []);
    assert_eq!(plain(&vm, VCPUOP_UP, 1), Ok(0));
    assert_eq!(vm.interrupts(), [(1, Interrupt::Vector(0x50))]);
    assert_eq!(plain(&vm, VCPUOP_UP, 1), Ok(0), "it is up");
}

/// How a virtual CPU has spent its time adds up to the time that there was.
#[test]
fn runstate() {
    let lab = Lab::new();
    let vm = lab.guest(2);
    let begin = now(&vm);
    let of = |vcpu| -> RunstateInfo {
        vm.vcpu_op(VCPUOP_GET_RUNSTATE_INFO, vcpu, RunstateInfo::default()).unwrap()
    };
    lab.pass(3 * MILLISECOND);
    plain(&vm, VCPUOP_DOWN, 1).unwrap();
    lab.pass(4 * MILLISECOND);
    let info = of(1);
    assert_eq!((info.state, info.state_entry_time), (RUNSTATE_OFFLINE, begin + 3_000_000));
    assert_eq!(info.time, [3_000_000, 0, 0, 4_000_000]);
    assert_eq!((of(0).state, of(0).time), (RUNSTATE_RUNNING, [7_000_000, 0, 0, 0]));
    plain(&vm, VCPUOP_UP, 1).unwrap();
    vm.guest.on(1, || vm.call(SCHED_OP, [SCHEDOP_BLOCK, 0, 0, 0, 0])).unwrap();
    lab.pass(2 * MILLISECOND);
    assert_eq!((of(1).state, of(1).time), (RUNSTATE_BLOCKED, [3_000_000, 0, 2_000_000, 4_000_000]));
}
