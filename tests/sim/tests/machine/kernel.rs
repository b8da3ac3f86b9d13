//! The small kernel of a guest: hypercalls, pages and grants, interrupts. No executor, no driver of the project's.
#![expect(unsafe_code, reason = "pages are given back")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use xen_abi::{
    Errno, GrantRef,
    domid::{DOMID_SELF, DomId},
    event_channel::{
        AllocUnbound, Channel, Close, EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_CLOSE, EVTCHNOP_SEND, EVTCHNOP_STATUS,
        EvtchnPort, Send, Status,
    },
    grant_table::{ENTRIES, FLAGS, GTF_PERMIT_ACCESS, GTF_READONLY},
    hvm::{
        op::{HVMOP_GET_PARAM, HVMOP_SET_PARAM, Param},
        params::{CallbackVia, HVM_PARAM_CALLBACK_IRQ},
    },
    hypercall::{EVENT_CHANNEL_OP, HVM_OP, MEMORY_OP, SCHED_OP, VCPU_OP},
    memory::{
        AddToPhysmap, RemoveFromPhysmap, XENMAPSPACE_GRANT_TABLE, XENMAPSPACE_SHARED_INFO,
        XENMEM_ADD_TO_PHYSMAP, XENMEM_REMOVE_FROM_PHYSMAP,
    },
    sched::{SCHEDOP_SHUTDOWN, Shutdown},
    seam::{Access as _, Gfn, Memory as _},
    shared_info::{EVTCHN_MASK, EVTCHN_PENDING, VCPU_INFO},
};
use xen_sim::{Arena, Guest, GuestConfig, GuestFrame, Machine, Mistake};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::wire::Connection;

/// Where the arguments of its hypercalls are.
const ARGUMENTS: u64 = 0x7000_0000;

/// So many steps are enough for everything that is asked of a machine at once.
pub(crate) const ENOUGH: u64 = 100_000;

/// The interrupt line by which upcalls come.
const LINE: u8 = 28;

/// How often something has come at each port.
type Come = Arc<Mutex<BTreeMap<u32, u32>>>;

pub(crate) struct Kernel {
    pub(crate) machine: Machine,
    pub(crate) guest: Guest,
    /// Where Xen's two pages are put.
    shared: GuestFrame,
    grants: GuestFrame,
    come: Come,
    next_reference: u32,
    /// Its connection to the store.
    pub(crate) store: Connection,
}

impl Kernel {
    /// The only guest of a machine.
    pub(crate) fn alone(seed: u64) -> Self {
        Self::boot(&Machine::new(seed))
    }

    /// A new guest, which comes up.
    pub(crate) fn boot(machine: &Machine) -> Self {
        Self::boot_with(machine, GuestConfig::default())
    }

    pub(crate) fn boot_with(machine: &Machine, config: GuestConfig) -> Self {
        let guest = machine.create(config);
        let [shared, grants] = [(); 2].map(|()| guest.hole().expect("there is room"));
        let mut kernel = Self {
            machine: machine.clone(),
            guest,
            shared,
            grants,
            come: Come::default(),
            next_reference: 8,
            store: Connection::default(),
        };
        let (guest, gfn, come) = (kernel.guest.clone(), kernel.shared.gfn(), kernel.come.clone());
        kernel.guest.on_upcall(move |_, _| take_pending(&guest.physical(gfn), &come));
        kernel.plug_in();
        kernel
    }

    /// Makes what a new domain does not have.
    pub(crate) fn plug_in(&mut self) {
        self.put(XENMAPSPACE_SHARED_INFO, self.shared.gfn()).expect("it is there");
        self.put(XENMAPSPACE_GRANT_TABLE, self.grants.gfn()).expect("it is there");
        self.set_param(HVM_PARAM_CALLBACK_IRQ, CallbackVia::Gsi(LINE).to_param()).expect("it may");
        self.store = Connection::find(self);
    }

    /// Takes Xen's pages out of its memory again: then nothing is left, and there was no mistake.
    pub(crate) fn end(self) {
        for gfn in [self.shared.gfn(), self.grants.gfn()] {
            self.call(
                MEMORY_OP,
                XENMEM_REMOVE_FROM_PHYSMAP,
                RemoveFromPhysmap { domid: DOMID_SELF, gpfn: gfn.0, ..Default::default() },
            )
            .expect("it is there");
        }
        let Self { machine, guest, shared, grants, .. } = self;
        for page in [shared, grants] {
            // SAFETY: nothing is at it any more, and nobody uses it again.
            unsafe { guest.free(page) };
        }
        let audit = machine.audit(&guest);
        assert!(audit.is_clean(), "{audit}");
    }

    /// What was found so far, by name.
    pub(crate) fn mistakes(&self) -> Vec<Mistake> {
        self.machine.audit(&self.guest).findings().iter().map(|finding| finding.mistake).collect()
    }

    /// Lets everybody go on until nobody has anything to do.
    #[track_caller]
    pub(crate) fn settle(&self) {
        assert!(self.machine.run(ENOUGH), "the machine does not come to rest");
    }

    // Hypercalls.

    /// A command, with its argument as Xen has left it.
    pub(crate) fn call<T>(&self, number: u32, command: u64, mut argument: T) -> Result<T, Errno>
    where
        T: FromBytes + IntoBytes + Immutable,
    {
        self.call_with(number, command, &mut argument)?;
        Ok(argument)
    }

    /// The same, with what it answers.
    fn call_with<T>(&self, number: u32, command: u64, argument: &mut T) -> Result<u64, Errno>
    where
        T: FromBytes + IntoBytes + Immutable,
    {
        let mut arena = Arena::new(ARGUMENTS, size_of::<T>());
        arena.put(ARGUMENTS, argument).expect("it fits");
        let answer = self.guest.call_in(&mut arena, number, [command, ARGUMENTS, 0, 0, 0]);
        *argument = arena.get(ARGUMENTS).expect("it fits");
        Errno::check(answer)
    }

    /// `SCHEDOP_shutdown`: what it answers.
    pub(crate) fn shut_down(&self, reason: u32) -> u64 {
        self.call_with(SCHED_OP, SCHEDOP_SHUTDOWN, &mut Shutdown { reason }).expect("it is never refused")
    }

    pub(crate) fn param(&self, index: u32) -> u64 {
        let param = Param { domid: DOMID_SELF, pad: 0, index, value: 0 };
        self.call(HVM_OP, HVMOP_GET_PARAM, param).expect("it may").value
    }

    pub(crate) fn set_param(&self, index: u32, value: u64) -> Result<(), Errno> {
        let param = Param { domid: DOMID_SELF, pad: 0, index, value };
        self.call(HVM_OP, HVMOP_SET_PARAM, param).map(drop)
    }

    pub(crate) fn port_for(&self, remote: u16) -> u32 {
        let port = AllocUnbound { dom: DOMID_SELF, remote_dom: DomId(remote), ..Default::default() };
        self.call(EVENT_CHANNEL_OP, EVTCHNOP_ALLOC_UNBOUND, port).expect("there is room").port.0
    }

    pub(crate) fn send(&self, port: u32) -> Result<(), Errno> {
        self.call(EVENT_CHANNEL_OP, EVTCHNOP_SEND, Send { port: EvtchnPort(port) }).map(drop)
    }

    /// What one of its ports is.
    pub(crate) fn channel(&self, port: u32) -> Channel {
        let status = Status { dom: DOMID_SELF, port: EvtchnPort(port), ..Default::default() };
        let status = self.call(EVENT_CHANNEL_OP, EVTCHNOP_STATUS, status).expect("a port that may be");
        status.channel().expect("a kind that the header knows")
    }

    pub(crate) fn close(&self, port: u32) -> Result<(), Errno> {
        self.call(EVENT_CHANNEL_OP, EVTCHNOP_CLOSE, Close { port: EvtchnPort(port) }).map(drop)
    }

    /// `VCPUOP_*` for virtual CPU 0.
    pub(crate) fn call_vcpu<T: IntoBytes + Immutable>(
        &self,
        command: u64,
        argument: &T,
    ) -> Result<(), Errno> {
        let mut arena = Arena::new(ARGUMENTS, size_of::<T>());
        arena.put(ARGUMENTS, argument).expect("it fits");
        Errno::check(self.guest.call_in(&mut arena, VCPU_OP, [command, 0, ARGUMENTS, 0, 0])).map(drop)
    }

    // Interrupts.

    /// How often something has come at a port since the last time.
    pub(crate) fn come(&self, port: u32) -> u32 {
        self.come.lock().expect("no test panics in it").remove(&port).unwrap_or(0)
    }

    // Pages and grants.

    /// Another frame for the page that Xen shares.
    pub(crate) fn shared_info(&self) -> GuestFrame {
        self.guest.physical(self.shared.gfn())
    }

    pub(crate) fn page(&self) -> GuestFrame {
        self.guest.allocate().expect("there is RAM")
    }

    pub(crate) fn free(&self, page: GuestFrame) {
        // SAFETY: the simulation takes pages back in any state, and says what is wrong with it.
        unsafe { self.guest.free(page) };
    }

    pub(crate) fn put(&self, space: u32, Gfn(gpfn): Gfn) -> Result<(), Errno> {
        let add = AddToPhysmap { domid: DOMID_SELF, space, gpfn, ..Default::default() };
        self.call(MEMORY_OP, XENMEM_ADD_TO_PHYSMAP, add).map(drop)
    }

    /// Grants a page to the control domain.
    pub(crate) fn grant(&mut self, page: Gfn) -> GrantRef {
        self.grant_to(0, page, 0)
    }

    pub(crate) fn grant_to(&mut self, domain: u16, Gfn(page): Gfn, flags: u16) -> GrantRef {
        let reference = self.next_reference;
        self.next_reference += 1;
        let index = reference as usize;
        self.grants
            .store(ENTRIES.get(index).expect("in the first page"), u64::from(domain) << 16 | page << 32);
        self.grants.store(FLAGS.get(index).expect("in the first page"), GTF_PERMIT_ACCESS | flags);
        GrantRef(reference)
    }

    /// An entry of the grant table.
    pub(crate) fn entry(&self, GrantRef(reference): GrantRef) -> u64 {
        self.grants.load(ENTRIES.get(reference as usize).expect("in the first page"))
    }

    /// Revokes a grant; whether nobody uses it any more.
    pub(crate) fn revoke(&self, GrantRef(reference): GrantRef) -> bool {
        let flags = FLAGS.get(reference as usize).expect("in the first page");
        let idle = self.grants.load(flags) & (GTF_PERMIT_ACCESS | GTF_READONLY);
        self.grants.compare_exchange(flags, idle, 0).is_ok()
    }
}

/// Takes what is pending at virtual CPU 0, as the header has it ("2-level").
fn take_pending(shared: &GuestFrame, come: &Come) {
    let upcall = VCPU_INFO.evtchn_upcall_pending.get(0).expect("in the page");
    let selector = VCPU_INFO.evtchn_pending_sel.get(0).expect("in the page");
    let mut come = come.lock().expect("no test panics in it");
    while shared.swap(upcall, 0) != 0 {
        let words = shared.swap(selector, 0);
        for word in (0..64_u32).filter(|word| words & (1 << word) != 0) {
            let index = word as usize;
            let mask = shared.load(EVTCHN_MASK.get(index).expect("in the page"));
            let due = shared.fetch_and(EVTCHN_PENDING.get(index).expect("in the page"), mask) & !mask;
            for bit in (0..64_u32).filter(|bit| due & (1 << bit) != 0) {
                *come.entry(word * 64 + bit).or_default() += 1;
            }
        }
    }
}
