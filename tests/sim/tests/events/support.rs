//! A guest's side of the hypercalls, and a runtime whose clock stands where a test has put it.
#![expect(unsafe_code, reason = "a hypercall is")]

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use xen_abi::{
    Errno,
    domid::{DOMID_SELF, DomId},
    event_channel::{
        AllocUnbound, BindInterdomain, BindIpi, BindVcpu, BindVirq, Channel, Close, EVTCHNOP_ALLOC_UNBOUND,
        EVTCHNOP_BIND_INTERDOMAIN, EVTCHNOP_BIND_IPI, EVTCHNOP_BIND_VCPU, EVTCHNOP_BIND_VIRQ, EVTCHNOP_CLOSE,
        EVTCHNOP_RESET, EVTCHNOP_SEND, EVTCHNOP_STATUS, EVTCHNOP_UNMASK, EvtchnPort, Reset, Send, Status,
        Unmask,
    },
    hvm::op::{EvtchnUpcallVector, HVMOP_GET_PARAM, HVMOP_SET_EVTCHN_UPCALL_VECTOR, HVMOP_SET_PARAM, Param},
    hypercall::{EVENT_CHANNEL_OP, HVM_OP, MEMORY_OP, SCHED_OP, VCPU_OP},
    memory::{AddToPhysmap, XENMAPSPACE_SHARED_INFO, XENMEM_ADD_TO_PHYSMAP},
    seam::{Access, Gfn, Hypervisor, Memory, PAGE_SIZE, Place},
    shared_info::{VcpuInfo, VcpuInfos},
    vcpu::{RegisterVcpuInfo, VCPUOP_REGISTER_VCPU_INFO},
};
use xen_sim::{Actor, Guest, GuestConfig, GuestFrame, Interrupt, Machine, Release, Runtime};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A machine, and its clock.
pub(crate) struct Lab {
    pub(crate) machine: Machine,
    now: Arc<Mutex<Duration>>,
}

/// It runs nothing: tests let actors go on by themselves.
struct Clock(Arc<Mutex<Duration>>);

impl Runtime for Clock {
    fn now(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    fn ready(&self, _: Actor) {}

    fn boundaries(&self) -> u64 {
        0
    }

    fn tasks(&self) -> Vec<String> {
        Vec::new()
    }

    fn timers(&self) -> usize {
        0
    }
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with_xen(Release::default())
    }

    pub(crate) fn with_xen(release: Release) -> Self {
        let now = Arc::new(Mutex::new(Duration::ZERO));
        let machine = Machine::with_xen(0, release);
        machine.attach(Clock(now.clone()));
        Self { machine, now }
    }

    /// Lets so much time pass.
    pub(crate) fn pass(&self, time: Duration) {
        *self.now.lock().unwrap() += time;
        // Any look at the machine lets it notice.
        let _ready = self.machine.ready();
    }

    /// A guest with so many virtual CPUs.
    pub(crate) fn guest(&self, vcpus: u32) -> Vm {
        self.build(GuestConfig { vcpus: (0..vcpus).collect(), ..GuestConfig::default() })
    }

    /// Without store and console: all of its ports are the test's.
    pub(crate) fn build(&self, config: GuestConfig) -> Vm {
        let config = GuestConfig { has_store: false, ..config };
        let vcpus = config.vcpus.clone();
        Vm { guest: self.machine.create(config), machine: self.machine.clone(), vcpus, log: Arc::default() }
    }
}

/// A guest, and the interrupts that it has had.
#[derive(Clone)]
pub(crate) struct Vm {
    pub(crate) guest: Guest,
    machine: Machine,
    pub(crate) vcpus: BTreeSet<u32>,
    log: Arc<Mutex<Vec<(u32, Interrupt)>>>,
}

pub(crate) type Outcome<T> = Result<T, Errno>;

impl Vm {
    /// The numbers of a hypercall.
    pub(crate) fn call(&self, number: u32, arguments: [u64; 5]) -> Outcome<u64> {
        // SAFETY: the callers below pass structures of the kind that each command takes, or addresses that are refused.
        Errno::check(unsafe { self.guest.hypercall(number, arguments) })
    }

    /// A command with an argument, which comes back as Xen has left it.
    pub(crate) fn op<T>(&self, number: u32, command: u64, mut argument: T) -> Outcome<T>
    where
        T: FromBytes + IntoBytes + Immutable,
    {
        let address = (&raw mut argument).expose_provenance() as u64;
        self.call(number, [command, address, 0, 0, 0])?;
        Ok(argument)
    }

    /// A command for a virtual CPU.
    pub(crate) fn vcpu_op<T>(&self, command: u64, vcpu: u32, mut argument: T) -> Outcome<T>
    where
        T: FromBytes + IntoBytes + Immutable,
    {
        let address = (&raw mut argument).expose_provenance() as u64;
        self.call(VCPU_OP, [command, vcpu.into(), address, 0, 0])?;
        Ok(argument)
    }

    pub(crate) fn event<T>(&self, command: u64, argument: T) -> Outcome<T>
    where
        T: FromBytes + IntoBytes + Immutable,
    {
        self.op(EVENT_CHANNEL_OP, command, argument)
    }

    pub(crate) fn sched<T>(&self, command: u64, argument: T) -> Outcome<T>
    where
        T: FromBytes + IntoBytes + Immutable,
    {
        self.op(SCHED_OP, command, argument)
    }

    pub(crate) fn id(&self) -> DomId {
        DomId(self.guest.domain())
    }

    pub(crate) fn alloc(&self, remote_dom: DomId) -> Outcome<u32> {
        let port = EvtchnPort::default();
        let at = self.event(EVTCHNOP_ALLOC_UNBOUND, AllocUnbound { dom: DOMID_SELF, remote_dom, port })?;
        Ok(at.port.0)
    }

    pub(crate) fn bind(&self, remote_dom: DomId, port: u32) -> Outcome<u32> {
        let at = BindInterdomain { remote_dom, remote_port: EvtchnPort(port), ..Default::default() };
        Ok(self.event(EVTCHNOP_BIND_INTERDOMAIN, at)?.local_port.0)
    }

    pub(crate) fn bind_virq(&self, virq: u32, vcpu: u32) -> Outcome<u32> {
        Ok(self.event(EVTCHNOP_BIND_VIRQ, BindVirq { virq, vcpu, ..Default::default() })?.port.0)
    }

    pub(crate) fn bind_ipi(&self, vcpu: u32) -> Outcome<u32> {
        Ok(self.event(EVTCHNOP_BIND_IPI, BindIpi { vcpu, ..Default::default() })?.port.0)
    }

    pub(crate) fn bind_vcpu(&self, port: u32, vcpu: u32) -> Outcome<()> {
        self.event(EVTCHNOP_BIND_VCPU, BindVcpu { port: EvtchnPort(port), vcpu }).map(drop)
    }

    pub(crate) fn close(&self, port: u32) -> Outcome<()> {
        self.event(EVTCHNOP_CLOSE, Close { port: EvtchnPort(port) }).map(drop)
    }

    pub(crate) fn send(&self, port: u32) -> Outcome<()> {
        self.event(EVTCHNOP_SEND, Send { port: EvtchnPort(port) }).map(drop)
    }

    pub(crate) fn unmask(&self, port: u32) -> Outcome<()> {
        self.event(EVTCHNOP_UNMASK, Unmask { port: EvtchnPort(port) }).map(drop)
    }

    pub(crate) fn reset(&self, dom: DomId) -> Outcome<()> {
        self.event(EVTCHNOP_RESET, Reset { dom }).map(drop)
    }

    pub(crate) fn status_of(&self, dom: DomId, port: u32) -> Outcome<(Channel, u32)> {
        let status =
            self.event(EVTCHNOP_STATUS, Status { dom, port: EvtchnPort(port), ..Default::default() })?;
        Ok((status.channel().expect("a status that the header knows"), status.vcpu))
    }

    /// What one of its own ports is.
    pub(crate) fn status(&self, port: u32) -> Channel {
        self.status_of(DOMID_SELF, port).expect("a port of its own").0
    }

    pub(crate) fn set_vector(&self, vcpu: u32, vector: u8) -> Outcome<()> {
        let at = EvtchnUpcallVector { vcpu, vector, ..Default::default() };
        self.op(HVM_OP, HVMOP_SET_EVTCHN_UPCALL_VECTOR, at).map(drop)
    }

    pub(crate) fn set_param(&self, index: u32, value: u64) -> Outcome<()> {
        self.op(HVM_OP, HVMOP_SET_PARAM, Param { domid: DOMID_SELF, pad: 0, index, value }).map(drop)
    }

    pub(crate) fn get_param(&self, index: u32) -> Outcome<u64> {
        Ok(self.op(HVM_OP, HVMOP_GET_PARAM, Param { domid: DOMID_SELF, pad: 0, index, value: 0 })?.value)
    }

    pub(crate) fn page(&self) -> GuestFrame {
        self.guest.allocate().expect("a page")
    }

    /// Maps the shared info page.
    pub(crate) fn shared_info(&self) -> GuestFrame {
        let frame = self.guest.hole().expect("a hole");
        let Gfn(gpfn) = frame.gfn();
        let at =
            AddToPhysmap { domid: DOMID_SELF, space: XENMAPSPACE_SHARED_INFO, gpfn, ..Default::default() };
        self.op(MEMORY_OP, XENMEM_ADD_TO_PHYSMAP, at).expect("the shared info page can be mapped");
        frame
    }

    /// Moves a virtual CPU's `vcpu_info`, from that virtual CPU, to the beginning of a new page.
    pub(crate) fn move_info(&self, vcpu: u32) -> GuestFrame {
        let frame = self.page();
        self.guest.on(vcpu, || self.register_info(vcpu, frame.gfn(), 0)).expect("a place");
        frame
    }

    pub(crate) fn register_info(&self, vcpu: u32, Gfn(mfn): Gfn, offset: u32) -> Outcome<()> {
        let at = RegisterVcpuInfo { mfn, offset, rsvd: 0 };
        self.vcpu_op(VCPUOP_REGISTER_VCPU_INFO, vcpu, at).map(drop)
    }

    /// Notes interrupts, and does nothing about them.
    pub(crate) fn note_interrupts(&self) {
        let log = self.log.clone();
        self.guest.on_upcall(move |vcpu, interrupt| log.lock().unwrap().push((vcpu, interrupt)));
    }

    /// Lets each interrupt arrive that is on its way, once.
    pub(crate) fn step(&self) {
        for actor in self.machine.ready() {
            self.machine.step(actor);
        }
    }

    /// Lets interrupts arrive until there are none.
    pub(crate) fn settle(&self) {
        for _ in 0..10_000 {
            let ready = self.machine.ready();
            if ready.is_empty() {
                return;
            }
            for actor in ready {
                self.machine.step(actor);
            }
        }
        panic!("interrupts do not end");
    }

    /// The interrupts that were noted since the last time.
    pub(crate) fn interrupts(&self) -> Vec<(u32, Interrupt)> {
        self.step();
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

/// Moves the first virtual CPU's `vcpu_info` of a guest that has no [`Vm`] around it.
pub(crate) fn move_info_of(guest: &Guest) -> GuestFrame {
    let frame = guest.allocate().expect("a page");
    let Gfn(mfn) = frame.gfn();
    let at = RegisterVcpuInfo { mfn, offset: 0, rsvd: 0 };
    let address = (&raw const at).expose_provenance() as u64;
    // SAFETY: the command takes this structure.
    let answer = unsafe { guest.hypercall(VCPU_OP, [VCPUOP_REGISTER_VCPU_INFO, 0, address, 0, 0]) };
    assert_eq!(answer, 0);
    frame
}

/// The places of a `vcpu_info` at the beginning of a page.
pub(crate) const INFO: VcpuInfos = VcpuInfos::new(0, 1);
pub(crate) const UPCALL_PENDING: Place<u8> = INFO.evtchn_upcall_pending.get(0).unwrap();
pub(crate) const PENDING_SEL: Place<u64> = INFO.evtchn_pending_sel.get(0).unwrap();
const _: () = assert!(size_of::<VcpuInfo>() <= PAGE_SIZE);

/// The bits that are set in a word.
pub(crate) fn bits(word: u64) -> impl Iterator<Item = u32> {
    (0..u64::BITS).filter(move |bit| word & (1 << bit) != 0)
}
