//! Virtual CPUs: where their `vcpu_info` is, their timers, and whether they run.
#![forbid(unsafe_code)]

use std::{collections::BTreeSet, mem::offset_of, time::Duration};

use xen_abi::{
    Errno,
    event_channel::virq::VIRQ_TIMER,
    sched::SHUTDOWN_POWEROFF,
    seam::{Gfn, PAGE_SIZE, Place},
    shared_info::{VCPU_INFO, VcpuInfo, VcpuTimeInfo},
    vcpu::{
        RUNSTATE_BLOCKED, RUNSTATE_OFFLINE, RUNSTATE_RUNNING, RegisterVcpuInfo, RunstateInfo,
        SetPeriodicTimer, SetSingleshotTimer, VCPU_SSHOTTMR_FUTURE, VCPUOP_DOWN, VCPUOP_GET_RUNSTATE_INFO,
        VCPUOP_INITIALISE, VCPUOP_IS_UP, VCPUOP_REGISTER_VCPU_INFO, VCPUOP_SET_PERIODIC_TIMER,
        VCPUOP_SET_SINGLESHOT_TIMER, VCPUOP_STOP_PERIODIC_TIMER, VCPUOP_STOP_SINGLESHOT_TIMER, VCPUOP_UP,
    },
};

use super::{
    Hypervisor, VcpuId,
    call::{Answer, Call, Refusal, int},
    domain::Domain,
    event::NO_SUCH_DOMAIN,
    shared::{Area, Shared},
    time::Clock,
    timer::Timer,
};
use crate::rule::rules;

rules! {
    /// A virtual CPU that the domain does not have is answered with `ENOENT`.
    VCPU_NUMBER: "xen/arch/x86/domain.c", "do_vcpu_op";
    /// A command that this Xen does not have is answered with `ENOSYS`.
    VCPU_COMMAND: "xen/common/domain.c", "common_vcpu_op";
    /// A virtual CPU is initialised once: `EEXIST`. These begin so.
    VCPU_INITIALISED: "xen/arch/x86/domain.c", "arch_initialise_vcpu";
    /// A periodic timer ticks every millisecond at most: `EINVAL` for a shorter period, or one beyond 2^62 ns.
    PERIOD: "xen/common/domain.c", "VCPUOP_set_periodic_timer";
    /// A virtual CPU sets and stops its own single-shot timer: `EINVAL` for another's.
    OWN_TIMER: "xen/common/domain.c", "VCPUOP_set_singleshot_timer";
    /// Before Xen 4.18, `VCPU_SSHOTTMR_future` refuses a time that has gone by with `ETIME`; since then it says
    /// nothing.
    FUTURE: "xen/include/public/vcpu.h", "VCPU_SSHOTTMR_future";
    /// A `vcpu_info` is moved once: `EINVAL` before Xen 4.18, `EBUSY` since.
    VCPU_INFO_ONCE: "xen/include/public/vcpu.h", "VCPUOP_register_vcpu_info";
    /// Before Xen 4.18, a virtual CPU that is up moves its `vcpu_info` itself: `EINVAL` for another's.
    VCPU_INFO_OWN: "xen/common/domain.c", "map_vcpu_info, before it became map_guest_area";
    /// A `vcpu_info` lies in one page, at a multiple of eight: otherwise `ENXIO`.
    VCPU_INFO_PLACE: "xen/common/domain.c", "map_guest_area";
    /// A `vcpu_info` is moved to RAM, and its frame and offset are one address: otherwise `EINVAL`.
    VCPU_INFO_FRAME: "xen/common/domain.c", "VCPUOP_register_vcpu_info";
}

/// A place of a `vcpu_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InfoAt {
    pub(crate) area: Area,
    whole: Place<VcpuInfo>,
}

impl InfoAt {
    /// In the shared info page, for a virtual CPU that has one there.
    fn legacy(vcpu: u32) -> Option<Self> {
        Some(Self { area: Area::SharedInfo, whole: VCPU_INFO.info.get(vcpu as usize)? })
    }

    pub(crate) const fn whole(self) -> Shared<VcpuInfo> {
        self.area.at(self.whole)
    }

    pub(crate) const fn upcall_pending(self) -> Shared<u8> {
        self.field(offset_of!(VcpuInfo, evtchn_upcall_pending))
    }

    pub(crate) const fn pending_sel(self) -> Shared<u64> {
        self.field(offset_of!(VcpuInfo, evtchn_pending_sel))
    }

    pub(crate) const fn time(self) -> Shared<VcpuTimeInfo> {
        self.field(offset_of!(VcpuInfo, time))
    }

    /// What is so far in a `vcpu_info` that lies in its page lies there, too.
    const fn field<T>(self, offset: usize) -> Shared<T> {
        self.area.at(Place::new(self.whole.offset() + offset))
    }
}

/// A virtual CPU.
#[derive(Clone, Debug)]
pub(crate) struct Vcpu {
    /// Where the guest has moved its `vcpu_info`, for good.
    pub(crate) registered: Option<InfoAt>,
    /// The vector of its upcalls; zero for the domain's callback.
    pub(super) upcall_vector: u8,
    /// Vectors that its local APIC has accepted and not delivered.
    pub(super) requested: BTreeSet<u8>,
    /// Its handler is at work, and lets no other interrupt in.
    pub(super) in_service: bool,
    /// Zero for none.
    period: Duration,
    last_tick: Duration,
    runstate: Runstate,
}

impl Vcpu {
    /// One that runs.
    pub(super) fn new(now: Duration) -> Self {
        Self {
            registered: None,
            upcall_vector: 0,
            requested: BTreeSet::new(),
            in_service: false,
            period: Duration::ZERO,
            last_tick: Duration::ZERO,
            runstate: Runstate { state: RUNSTATE_RUNNING, since: now, spent: [Duration::ZERO; 4] },
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.runstate.state != RUNSTATE_OFFLINE
    }
}

/// What a virtual CPU has done with its time.
#[derive(Clone, Debug)]
struct Runstate {
    state: i32,
    since: Duration,
    spent: [Duration; 4],
}

impl Runstate {
    fn enter(&mut self, state: i32, now: Duration) {
        if let Some(spent) = self.spent.get_mut(self.state.unsigned_abs() as usize) {
            *spent += now.saturating_sub(self.since);
        }
        self.state = state;
        self.since = now;
    }

    fn info(&self, clock: Clock, now: Duration) -> RunstateInfo {
        let mut until_now = self.clone();
        until_now.enter(self.state, now);
        RunstateInfo {
            state: self.state,
            state_entry_time: clock.system_time(self.since),
            time: until_now.spent.map(|spent| u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX)),
            ..RunstateInfo::default()
        }
    }
}

/// The shortest period of a periodic timer.
const SHORTEST_PERIOD: u64 = 1_000_000;
/// `STIME_DELTA_MAX`: the longest.
const LONGEST_PERIOD: u64 = u64::MAX >> 2;

impl Domain {
    /// Where a virtual CPU's `vcpu_info` is; nowhere for one beyond the first 32 that has not registered a place.
    pub(super) fn info(&self, vcpu: u32) -> Option<InfoAt> {
        self.vcpus.get(&vcpu)?.registered.or_else(|| InfoAt::legacy(vcpu))
    }

    /// Makes an upcall due. Nothing more happens if one was due already.
    pub(super) fn upcall(&mut self, vcpu: u32) {
        let Some(info) = self.info(vcpu) else { return };
        let pending = self.ram.update(info.upcall_pending(), |pending| pending | 1);
        if pending.is_some_and(|pending| pending & 1 == 0) {
            self.assert_upcall(vcpu);
        }
    }

    /// Moves a `vcpu_info`. In its new place everything is pending: nothing gets lost on the way.
    fn move_info(&mut self, vcpu: u32, to: InfoAt, now: Duration) {
        // One that was nowhere begins with its upcalls masked, which means nothing to an HVM guest.
        let masked = VcpuInfo { evtchn_upcall_mask: 1, ..VcpuInfo::default() };
        let old = self.info(vcpu).and_then(|old| self.ram.load(old.whole())).unwrap_or(masked);
        self.ram.store(to.whole(), &VcpuInfo { evtchn_pending_sel: u64::MAX, ..old });
        if let Some(vcpu) = self.vcpus.get_mut(&vcpu) {
            vcpu.registered = Some(to);
        }
        self.upcall(vcpu);
        self.write_clock(vcpu, now);
    }
}

impl Hypervisor {
    /// `VCPU_OP`
    pub(super) fn vcpu_op(&mut self, call: &mut Call<'_>) -> Answer {
        let [command, vcpu, argument, ..] = call.arguments;
        let (command, vcpu) = (int(command), VcpuId { domain: call.from.domain, vcpu: narrow(vcpu) });
        let state = self.vcpu(vcpu)?;
        match command {
            VCPUOP_INITIALISE => {
                call.memory.get::<[u8; VCPU_HVM_CONTEXT]>(argument)?;
                return Err(VCPU_INITIALISED.refuses(Errno::EEXIST));
            }
            VCPUOP_UP => self.bring_up(vcpu),
            VCPUOP_DOWN => self.bring_down(vcpu),
            VCPUOP_IS_UP => return Ok(u64::from(state.is_up())),
            VCPUOP_GET_RUNSTATE_INFO => {
                let runstate = state.runstate.clone();
                let info = runstate.info(self.domain(vcpu.domain)?.clock, self.now);
                call.memory.put(argument, &info)?;
            }
            VCPUOP_SET_PERIODIC_TIMER => {
                let SetPeriodicTimer { period_ns } = call.memory.get(argument)?;
                if !(SHORTEST_PERIOD..=LONGEST_PERIOD).contains(&period_ns) {
                    return Err(PERIOD.refuses(Errno::EINVAL));
                }
                state.period = Duration::from_nanos(period_ns);
                self.periodic(vcpu);
            }
            VCPUOP_STOP_PERIODIC_TIMER => {
                state.period = Duration::ZERO;
                self.timers.stop(Timer::Periodic(vcpu));
            }
            VCPUOP_SET_SINGLESHOT_TIMER | VCPUOP_STOP_SINGLESHOT_TIMER if vcpu != call.from => {
                return Err(OWN_TIMER.refuses(Errno::EINVAL));
            }
            VCPUOP_SET_SINGLESHOT_TIMER => self.set_singleshot(vcpu, call.memory.get(argument)?)?,
            VCPUOP_STOP_SINGLESHOT_TIMER => self.timers.stop(Timer::Singleshot(vcpu)),
            VCPUOP_REGISTER_VCPU_INFO => {
                self.register_info(call.from, vcpu, call.memory.get(argument)?)?;
            }
            _ => return Err(VCPU_COMMAND.refuses(Errno::ENOSYS)),
        }
        Ok(0)
    }

    fn vcpu(&mut self, id: VcpuId) -> Result<&mut Vcpu, Refusal> {
        let domain = self.domains.get_mut(&id.domain).ok_or(NO_SUCH_DOMAIN.refuses(Errno::ESRCH))?;
        domain.vcpus.get_mut(&id.vcpu).ok_or(VCPU_NUMBER.refuses(Errno::ENOENT))
    }

    fn bring_up(&mut self, id: VcpuId) {
        let now = self.now;
        if let Ok(vcpu) = self.vcpu(id)
            && !vcpu.is_up()
        {
            vcpu.runstate.enter(RUNSTATE_RUNNING, now);
            self.periodic(id);
        }
    }

    /// The last one that goes takes the domain with it.
    fn bring_down(&mut self, id: VcpuId) {
        let Some(domain) = self.domains.get_mut(&id.domain) else { return };
        if !domain.vcpus.iter().any(|(other, vcpu)| *other != id.vcpu && vcpu.is_up()) {
            self.shut_down(id.domain, SHUTDOWN_POWEROFF);
        } else if let Some(vcpu) = domain.vcpus.get_mut(&id.vcpu) {
            vcpu.runstate.enter(RUNSTATE_OFFLINE, self.now);
            self.timers.stop(Timer::Periodic(id));
        }
    }

    /// A virtual CPU waits for an event. Its periodic timer rests with it.
    pub(super) fn block(&mut self, id: VcpuId) {
        let now = self.now;
        if let Ok(vcpu) = self.vcpu(id)
            && vcpu.runstate.state == RUNSTATE_RUNNING
        {
            vcpu.runstate.enter(RUNSTATE_BLOCKED, now);
            self.timers.stop(Timer::Periodic(id));
        }
    }

    /// A virtual CPU is seen to run. A tick that fell due while it waited comes now.
    pub(super) fn run(&mut self, id: VcpuId) {
        let now = self.now;
        if let Ok(vcpu) = self.vcpu(id)
            && vcpu.runstate.state == RUNSTATE_BLOCKED
        {
            vcpu.runstate.enter(RUNSTATE_RUNNING, now);
            self.periodic(id);
        }
    }

    fn set_singleshot(&mut self, id: VcpuId, set: SetSingleshotTimer) -> Result<(), Refusal> {
        let past = set.timeout_abs_ns < self.system_time(id.domain);
        if past && set.flags & VCPU_SSHOTTMR_FUTURE != 0 && !self.release.is_since(4, 18) {
            return Err(FUTURE.refuses(Errno::ETIME));
        }
        if past {
            self.timers.stop(Timer::Singleshot(id));
            self.tick(id);
        } else {
            let at = self.domain(id.domain)?.clock.at(set.timeout_abs_ns);
            self.timers.set(Timer::Singleshot(id), at);
        }
        Ok(())
    }

    /// A virtual CPU's timer is due.
    pub(super) fn tick(&mut self, id: VcpuId) {
        self.raise_virq(id.domain, id.vcpu, VIRQ_TIMER);
    }

    /// Looks whether a periodic timer is due, and when it will be. It is counted from the last tick that there ever
    /// was: the first comes at once.
    pub(super) fn periodic(&mut self, id: VcpuId) {
        let now = self.now;
        let Ok(clock) = self.domain(id.domain).map(|domain| domain.clock) else { return };
        let Ok(vcpu) = self.vcpu(id) else { return };
        if vcpu.period.is_zero() || vcpu.runstate.state != RUNSTATE_RUNNING {
            return;
        }
        let system_time = Duration::from_nanos(clock.system_time(now));
        let due = system_time >= vcpu.last_tick.saturating_add(vcpu.period);
        if due {
            vcpu.last_tick = system_time;
        }
        let next = vcpu.last_tick.saturating_add(vcpu.period).saturating_sub(clock.uptime);
        // At the end of all time there is no next tick.
        if next > now {
            self.timers.set(Timer::Periodic(id), next);
        }
        if due {
            self.tick(id);
        }
    }

    fn register_info(&mut self, from: VcpuId, id: VcpuId, at: RegisterVcpuInfo) -> Result<(), Refusal> {
        let (offset, now) = (at.offset as usize, self.now);
        let in_page = Place::at(offset).filter(|_| offset.is_multiple_of(align_of::<u64>()));
        let place = in_page.ok_or(VCPU_INFO_PLACE.refuses(Errno::ENXIO));
        let vcpu = self.vcpu(id)?;
        let (moved, up) = (vcpu.registered.is_some(), vcpu.is_up());
        let whole = if self.release.is_since(4, 18) {
            if offset >= PAGE_SIZE || at.mfn >> 52 != 0 {
                return Err(VCPU_INFO_FRAME.refuses(Errno::EINVAL));
            }
            if moved {
                return Err(VCPU_INFO_ONCE.refuses(Errno::EBUSY));
            }
            place?
        } else {
            let whole = place?;
            if moved {
                return Err(VCPU_INFO_ONCE.refuses(Errno::EINVAL));
            }
            if up && id != from {
                return Err(VCPU_INFO_OWN.refuses(Errno::EINVAL));
            }
            whole
        };
        let domain = self.domain(id.domain)?;
        let page = Gfn(at.mfn);
        if !domain.ram.can_share(page) {
            return Err(VCPU_INFO_FRAME.refuses(Errno::EINVAL));
        }
        domain.move_info(id.vcpu, InfoAt { area: Area::Guest(page), whole }, now);
        Ok(())
    }
}

/// Bytes of `struct vcpu_hvm_context`.
const VCPU_HVM_CONTEXT: usize = 128;

/// A virtual CPU's number, which is an `unsigned int`.
#[expect(clippy::cast_possible_truncation, reason = "Xen does not look at the rest")]
const fn narrow(argument: u64) -> u32 {
    argument as u32
}
