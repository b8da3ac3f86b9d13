//! What a guest cannot see: its end, its next life, and the control domain's side of both.
#![forbid(unsafe_code)]

use std::{collections::BTreeSet, time::Duration};

use xen_abi::{
    Errno,
    domid::DOMID_SELF,
    event_channel::{
        BindIpi, EVTCHNOP_BIND_IPI, EVTCHNOP_EXPAND_ARRAY, EVTCHNOP_INIT_CONTROL, EvtchnPort,
        fifo::{ExpandArray, InitControl},
        virq::VIRQ_TIMER,
    },
    hvm::{
        op::{EvtchnUpcallVector, HVMOP_SET_EVTCHN_UPCALL_VECTOR, HVMOP_SET_PARAM, Param},
        params::{HVM_PARAM_CALLBACK_IRQ, HVM_PARAM_VM86_TSS, HVM_PARAM_VM86_TSS_SIZED},
    },
    hypercall::{EVENT_CHANNEL_OP, HVM_OP, SCHED_OP, VCPU_OP},
    sched::{
        SCHEDOP_SHUTDOWN, SCHEDOP_SHUTDOWN_CODE, SCHEDOP_WATCHDOG, SHUTDOWN_CRASH, SHUTDOWN_POWEROFF,
        SHUTDOWN_REBOOT, SHUTDOWN_SUSPEND, SHUTDOWN_WATCHDOG, Shutdown, Watchdog,
    },
    seam::{Gfn, Place},
    shared_info::{SharedInfo, VCPU_INFO, VcpuTimeInfo, WC_NSEC, WC_SEC, WC_VERSION},
    vcpu::{
        RegisterVcpuInfo, SetPeriodicTimer, SetSingleshotTimer, VCPUOP_DOWN, VCPUOP_REGISTER_VCPU_INFO,
        VCPUOP_SET_PERIODIC_TIMER, VCPUOP_SET_SINGLESHOT_TIMER,
    },
};
use zerocopy::{FromBytes, IntoBytes};

use super::{
    DOM0, Hypervisor, VcpuId,
    call::{Call, Refusal},
    event::port::Binding,
    shared::Area,
    time::Clock,
    version::Release,
};
use crate::{
    guest::GuestConfig,
    linear::{BadAddress, Linear},
    ram::{Moment, Ram},
};

const GUEST: u16 = 1;
const OTHER: u16 = 2;

/// A guest's linear memory with nothing in it but one argument, at address zero.
struct Argument(Vec<u8>);

impl Linear for Argument {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), BadAddress> {
        let from = usize::try_from(address).ok().and_then(|address| self.0.get(address..)?.get(..into.len()));
        into.copy_from_slice(from.ok_or(BadAddress(address))?);
        Ok(())
    }

    fn write(&mut self, address: u64, from: &[u8]) -> Result<(), BadAddress> {
        let start = usize::try_from(address).ok();
        let to = start.and_then(|start| self.0.get_mut(start..)?.get_mut(..from.len()));
        to.ok_or(BadAddress(address))?.copy_from_slice(from);
        Ok(())
    }
}

fn config() -> GuestConfig {
    GuestConfig { vcpus: BTreeSet::from([0, 1]), ..GuestConfig::default() }
}

fn ram() -> Ram {
    Ram::new(1024)
}

fn xen() -> Hypervisor {
    let mut xen = Hypervisor::new(Release::default());
    xen.create(GUEST, &config(), ram());
    xen.create(OTHER, &config(), ram());
    xen
}

fn call<T: IntoBytes + FromBytes + zerocopy::Immutable>(
    xen: &mut Hypervisor,
    number: u32,
    arguments: [u64; 3],
    argument: &T,
) -> Result<T, Refusal> {
    let mut memory = Argument(argument.as_bytes().to_vec());
    let [one, two, three] = arguments;
    let from = VcpuId { domain: GUEST, vcpu: 0 };
    xen.call(
        number,
        &mut Call { from, site: None, arguments: [one, two, three, 0, 0], memory: &mut memory },
    )?;
    Ok(T::read_from_bytes(&memory.0).expect("as long as it was"))
}

fn sched<T: IntoBytes + FromBytes + zerocopy::Immutable>(xen: &mut Hypervisor, command: u64, argument: &T) {
    call(xen, SCHED_OP, [command, 0, 0], argument).expect("a command that is done");
}

fn frame(xen: &mut Hypervisor) -> Gfn {
    let domain = xen.domains.get_mut(&GUEST).expect("it is there");
    domain.ram.allocate(Moment { at: Duration::ZERO, site: None }).expect("there is RAM")
}

/// A guest that is destroyed leaves nothing at the other ends of its channels but ports that wait, and no timers that
/// would go off in whoever has its number next.
#[test]
fn a_destroyed_domain_lets_go_of_its_peers() {
    let mut xen = xen();
    let offered = xen.alloc_unbound(DOM0, DOM0, GUEST).expect("a port");
    xen.bind_interdomain(GUEST, DOM0, offered).expect("it waits");
    let other = xen.alloc_unbound(OTHER, OTHER, GUEST).expect("a port");
    xen.bind_interdomain(GUEST, OTHER, other).expect("it waits");
    xen.builder_alloc_xen(GUEST, 1).expect("a port");
    xen.bind_virq(GUEST, VIRQ_TIMER, 0).expect("a port");
    let timeout_abs_ns = xen.system_time(GUEST) + 1_000;
    let timer = SetSingleshotTimer { timeout_abs_ns, ..Default::default() };
    call(&mut xen, VCPU_OP, [VCPUOP_SET_SINGLESHOT_TIMER, 0, 0], &timer).expect("a timer");
    sched(&mut xen, SCHEDOP_WATCHDOG, &Watchdog { id: 0, timeout: 10 });
    xen.notified.clear();

    assert!(xen.destroy(GUEST).is_some());
    let waits = Some(Binding::Unbound { remote: GUEST });
    assert_eq!(xen.ports(DOM0).and_then(|ports| ports.get(offered)).map(|port| port.binding), waits);
    assert_eq!(xen.ports(OTHER).and_then(|ports| ports.get(other)).map(|port| port.binding), waits);
    assert!(xen.notified.is_empty(), "nobody is told");
    assert_eq!(xen.next_timer(), None);
    xen.send(DOM0, offered).expect("an event that nobody hears");
    assert!(xen.destroy(GUEST).is_none(), "it is gone");
}

/// While a domain is on its end, nobody can make a port in it: it would never be closed.
#[test]
fn a_dying_domain_gets_no_ports() {
    let mut xen = xen();
    let port = xen.builder_alloc_unbound(GUEST).expect("a port");
    xen.destroy_events(GUEST);
    let refused = xen.builder_alloc_unbound(GUEST).expect_err("it is dying");
    assert_eq!((refused.rule.name, refused.error), ("DYING", Errno::EINVAL));
    assert!(xen.bind_interdomain(DOM0, GUEST, port).is_err());
}

/// A guest that is saved and restored has its memory, and of what it had arranged with Xen nothing: a driver that
/// forgets to do any of it anew is found out.
#[test]
fn a_restored_domain_begins_anew() {
    let mut xen = xen();
    let page = frame(&mut xen);
    let port = xen.builder_alloc_unbound(GUEST).expect("a port");
    let pending = xen.bind_ipi(GUEST, 0).expect("a port");
    xen.send(GUEST, pending).expect("an event");
    let InitControl { link_bits, .. } = call(
        &mut xen,
        EVENT_CHANNEL_OP,
        [EVTCHNOP_INIT_CONTROL, 0, 0],
        &InitControl { control_gfn: page.0, ..Default::default() },
    )
    .expect("a control block");
    assert_eq!(link_bits, 17);
    let expand = ExpandArray { array_gfn: page.0 };
    call(&mut xen, EVENT_CHANNEL_OP, [EVTCHNOP_EXPAND_ARRAY, 0, 0], &expand).expect("an array");
    let register = RegisterVcpuInfo { mfn: page.0, offset: 1024, rsvd: 0 };
    call(&mut xen, VCPU_OP, [VCPUOP_REGISTER_VCPU_INFO, 0, 0], &register).expect("a place");
    let vector = EvtchnUpcallVector { vcpu: 0, vector: 0x40, ..Default::default() };
    call(&mut xen, HVM_OP, [HVMOP_SET_EVTCHN_UPCALL_VECTOR, 0, 0], &vector).expect("a vector");
    let callback = Param { domid: DOMID_SELF, pad: 0, index: HVM_PARAM_CALLBACK_IRQ, value: 28 };
    call(&mut xen, HVM_OP, [HVMOP_SET_PARAM, 0, 0], &callback).expect("a callback");
    let registered: Vec<_> = xen.domains[&GUEST].registered().collect();
    assert_eq!(registered, [(page, "a vcpu_info"), (page, "event words"), (page, "a control block")]);
    assert_ne!(xen.interrupts().count(), 0);

    let ram = xen.destroy(GUEST).expect("it was there");
    let clock = Clock { frequency: 3_000_000_000, uptime: Duration::from_secs(5) };
    let now = 9;
    xen.create(now, &GuestConfig { clock, ..config() }, ram);
    let domain = &xen.domains[&now];
    assert_eq!(domain.events.ports.open().count(), 0);
    assert!(!domain.events.ports.get(port).is_some_and(super::event::port::Port::is_usable));
    assert_eq!((domain.registered().count(), domain.parameters.len()), (0, 0));
    assert_eq!(xen.interrupts().count(), 0);
    let info = domain.ram.load(Area::Guest(page).at(Place::new(1024))).map(|byte: u8| byte);
    assert_eq!(info, Some(1), "what was written is memory now");
    let SharedInfo { evtchn_pending, vcpu_info, .. } =
        domain.ram.load(Area::SharedInfo.at(Place::new(0))).expect("the page is there");
    assert_eq!((evtchn_pending, vcpu_info[0].evtchn_upcall_pending), ([0; 64], 0));
    assert_eq!(vcpu_info[1].time.system_time, 5_000_000_000, "it is the new host's");

    // The upcall goes nowhere until the guest has chosen anew.
    let Ok(ipi) = xen.bind_ipi(now, 0) else { panic!("a port") };
    xen.send(now, ipi).expect("an event");
    assert_eq!(xen.interrupts().count(), 0);
}

/// The toolstack hears of each shutdown once, with the reason that came first.
#[test]
fn shutdowns_are_told_once() {
    let mut xen = xen();
    sched(&mut xen, SCHEDOP_SHUTDOWN_CODE, &Shutdown { reason: SHUTDOWN_REBOOT });
    assert_eq!(xen.shutdowns, []);
    sched(&mut xen, SCHEDOP_SHUTDOWN_CODE, &Shutdown { reason: SHUTDOWN_CRASH });
    sched(&mut xen, SCHEDOP_SHUTDOWN, &Shutdown { reason: SHUTDOWN_POWEROFF });
    sched(&mut xen, SCHEDOP_SHUTDOWN, &Shutdown { reason: SHUTDOWN_CRASH });
    assert_eq!(std::mem::take(&mut xen.shutdowns), [(GUEST, SHUTDOWN_REBOOT)]);

    // A suspend that was cancelled: the same domain goes on, and can be suspended again.
    xen.resume(GUEST);
    sched(&mut xen, SCHEDOP_SHUTDOWN, &Shutdown { reason: 0x100 | SHUTDOWN_SUSPEND });
    assert_eq!(std::mem::take(&mut xen.shutdowns), [(GUEST, SHUTDOWN_SUSPEND)], "Xen keeps a byte");
}

/// The last virtual CPU that goes down, a task state segment that cannot be and a watchdog that is not fed end a
/// domain.
#[test]
fn domains_end_by_themselves() {
    let mut xen = xen();
    for vcpu in [1, 0] {
        assert_eq!(xen.shutdowns, []);
        call(&mut xen, VCPU_OP, [VCPUOP_DOWN, vcpu, 0], &0_u8).expect("it goes down");
    }
    assert_eq!(std::mem::take(&mut xen.shutdowns), [(GUEST, SHUTDOWN_POWEROFF)]);
    for (index, value) in [(HVM_PARAM_VM86_TSS, 1 << 32), (HVM_PARAM_VM86_TSS_SIZED, 103 << 32)] {
        xen.resume(GUEST);
        let bad = Param { domid: DOMID_SELF, pad: 0, index, value };
        assert!(call(&mut xen, HVM_OP, [HVMOP_SET_PARAM, 0, 0], &bad).is_err());
        assert_eq!(std::mem::take(&mut xen.shutdowns), [(GUEST, SHUTDOWN_CRASH)], "{index}");
    }
    xen.resume(GUEST);
    sched(&mut xen, SCHEDOP_WATCHDOG, &Watchdog { id: 0, timeout: 10 });
    sched(&mut xen, SCHEDOP_WATCHDOG, &Watchdog { id: 0, timeout: 11 });
    assert_eq!(xen.next_timer(), Some(Duration::from_secs(10)));
    xen.pass(Duration::from_secs(20));
    assert_eq!(xen.shutdowns, [(GUEST, SHUTDOWN_WATCHDOG)], "two are one end");
}

/// Whoever runs the machine must know when to look again, and when there is nothing to wait for.
#[test]
fn the_next_timer() {
    let mut xen = xen();
    assert_eq!(xen.next_timer(), None, "clocks that are written now and then wake nobody");
    let period = SetPeriodicTimer { period_ns: 30_000_000 };
    call(&mut xen, VCPU_OP, [VCPUOP_SET_PERIODIC_TIMER, 1, 0], &period).expect("a timer");
    let timeout_abs_ns = xen.system_time(GUEST) + 20_000_000;
    let timer = SetSingleshotTimer { timeout_abs_ns, ..Default::default() };
    call(&mut xen, VCPU_OP, [VCPUOP_SET_SINGLESHOT_TIMER, 0, 0], &timer).expect("a timer");
    for expected in [20, 30, 60, 90] {
        assert_eq!(xen.next_timer(), Some(Duration::from_millis(expected)));
        xen.pass(Duration::from_millis(expected));
    }
}

/// A time beyond all bounds is as good as never.
#[test]
fn absurd_times() {
    let mut xen = xen();
    let timer = SetSingleshotTimer { timeout_abs_ns: u64::MAX, ..Default::default() };
    call(&mut xen, VCPU_OP, [VCPUOP_SET_SINGLESHOT_TIMER, 0, 0], &timer).expect("a timer");
    sched(&mut xen, SCHEDOP_WATCHDOG, &Watchdog { id: 0, timeout: u32::MAX });
    let period = SetPeriodicTimer { period_ns: u64::MAX >> 2 };
    call(&mut xen, VCPU_OP, [VCPUOP_SET_PERIODIC_TIMER, 0, 0], &period).expect("a timer");
    xen.pass(Duration::from_secs(1 << 31));
    assert_eq!(xen.shutdowns, []);
    xen.pass(Duration::MAX);
    assert_eq!(xen.shutdowns, [(GUEST, SHUTDOWN_WATCHDOG)]);
    assert!(xen.timestamp(GUEST) > 0 && xen.system_time(GUEST) == u64::MAX);
}

/// System time as the header says to count it, from a counter of a later moment.
fn count(clock: VcpuTimeInfo, counter: u64) -> u64 {
    let delta = counter.wrapping_sub(clock.tsc_timestamp);
    let shifted = match clock.tsc_shift {
        shift @ 0.. => u128::from(delta) << shift,
        shift => u128::from(delta) >> -shift,
    };
    let since = u64::try_from((shifted * u128::from(clock.tsc_to_system_mul)) >> 32).expect("not so long");
    clock.system_time + since
}

fn clock_of(xen: &Hypervisor, domain: u16) -> VcpuTimeInfo {
    let time = VCPU_INFO.time.get(0).expect("vCPU 0 has one");
    xen.domains[&domain].ram.load(Area::SharedInfo.at(time)).expect("the page is there")
}

/// Counters of all speeds, among them those whose shift is zero, above and below, lead to the same time.
#[test]
fn counters_of_all_speeds() {
    let mut shifts = BTreeSet::new();
    for frequency in [
        0,
        1_000_000,
        1_193_182,
        10_000_000,
        999_999_999,
        1_000_000_000,
        1_000_000_001,
        1_999_999_999,
        2_000_000_000,
        2_000_000_001,
        2_400_000_000,
        3_333_333_333,
        8_000_000_001,
        u64::MAX,
    ] {
        let mut xen = xen();
        let clock = Clock { frequency, uptime: Duration::from_secs(3) };
        xen.create(3, &GuestConfig { clock, ..config() }, ram());
        let info = clock_of(&xen, 3);
        shifts.insert(info.tsc_shift);
        assert!(info.tsc_to_system_mul >= 1 << 31, "{frequency} Hz: the factor has all its bits");
        let later = Duration::from_millis(900);
        xen.now = later;
        let counted = count(info, xen.timestamp(3));
        let exact = info.system_time + 900_000_000;
        // What is cut off a factor of 32 bits, and the tick that has not ended.
        assert!(counted.abs_diff(exact) <= 2_000, "{frequency} Hz: {counted} for {exact}");
    }
    assert!(
        shifts.contains(&0)
            && shifts.iter().any(|shift| *shift > 5)
            && shifts.iter().any(|shift| *shift < -1)
    );
}

/// A wall clock that is set has its new seconds beside its old fraction for a moment, and says so.
#[test]
fn the_wall_clock_is_set_in_two_steps() {
    let mut xen = xen();
    let read = |xen: &Hypervisor| {
        let ram = &xen.domains[&GUEST].ram;
        let load = |place| ram.load(Area::SharedInfo.at(place)).expect("the page is there");
        (load(WC_VERSION), load(WC_SEC), load(WC_NSEC))
    };
    let (version, _, before) = read(&xen);
    xen.pass(Duration::from_secs(10));
    xen.set_wall_clock(Duration::new(2_000_000_000, 123));
    // System time zero was a day and ten seconds earlier.
    let seconds = 2_000_000_000 - 86_400 - 10;
    assert_eq!(read(&xen), (version + 1, seconds, before));
    xen.pass(Duration::from_secs(10));
    let (done, after, fraction) = read(&xen);
    assert_eq!((done % 2, after, fraction), (0, seconds, 123));
    assert_ne!(done, version);
}

/// An argument that can be read and not written: what was done stays, as it does on a real Xen.
#[test]
fn an_argument_that_is_not_there_to_be_written() {
    struct ReadOnly(Argument);
    impl Linear for ReadOnly {
        fn read(&self, address: u64, into: &mut [u8]) -> Result<(), BadAddress> {
            self.0.read(address, into)
        }
        fn write(&mut self, address: u64, _: &[u8]) -> Result<(), BadAddress> {
            Err(BadAddress(address))
        }
    }
    let mut xen = xen();
    let mut memory = ReadOnly(Argument(BindIpi { vcpu: 0, port: EvtchnPort(0) }.as_bytes().to_vec()));
    let from = VcpuId { domain: GUEST, vcpu: 0 };
    let arguments = [EVTCHNOP_BIND_IPI, 0, 0, 0, 0];
    let answer = xen.call(EVENT_CHANNEL_OP, &mut Call { from, site: None, arguments, memory: &mut memory });
    assert_eq!(answer.map_err(|refusal| refusal.error), Err(Errno::EFAULT));
    assert_eq!(xen.domains[&GUEST].events.ports.open().count(), 1);
}
