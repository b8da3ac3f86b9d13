//! A guest, as its own code has it.
#![expect(unsafe_code, reason = "it stands where Xen and a kernel's memory would")]

use std::{collections::BTreeSet, fmt, mem, panic::Location, sync::Arc};

use xen_abi::seam::{Access, Beyond, Gfn, Hypervisor, Memory, NoMemory, Place, Port, Processor, Word};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{
    audit::{Finding, How, Mistake, Reach},
    fault::Plan,
    hypervisor::{
        VcpuId,
        call::Call,
        domain::Domain,
        processor::{Cpu, Exception},
        time::Clock,
    },
    linear::{Linear, OwnProcess},
    machine::{GuestId, Machine},
    platform::{AskBlacklist, Emulated, Platform},
    ram::{Moment, Site},
    toolstack::{Shutdown, Suspend},
    world::World,
};

/// What kind of guest to build.
#[derive(Clone, Debug)]
pub struct GuestConfig {
    /// Its name in the toolstack.
    pub name: String,
    /// Its virtual CPUs' ids, which need not follow one another.
    pub vcpus: BTreeSet<u32>,
    /// Pages of RAM that it has, and may have, besides those that the toolstack puts into it.
    pub pages: u64,
    /// Pages that its grant table may have.
    pub grant_frames: u32,
    /// Pages of other domains that it may have mapped at a time.
    pub mappings: u32,
    /// The highest event channel that it may have.
    pub max_evtchn_port: u32,
    /// Whether its Xen has the FIFO ABI for event channels.
    pub fifo: bool,
    /// The clocks of the host that it is on.
    pub clock: Clock,
    /// Whether the toolstack gives it a store and a console. A domain that somebody built by hand may have neither.
    pub has_store: bool,
    /// The processor and the Xen that it sees.
    pub cpu: Cpu,
    /// Whether it has the Xen platform device, through which emulated devices are unplugged.
    pub has_platform: bool,
    /// The emulated devices that it finds plugged in.
    pub emulated: BTreeSet<Emulated>,
}

impl Default for GuestConfig {
    /// 256 MiB, one processor by Intel, the limits that Xen and `xl` have if nobody says anything, and an emulated twin of a disk and of a
    /// network card.
    fn default() -> Self {
        Self {
            name: "guest".into(),
            vcpus: BTreeSet::from([0]),
            pages: 65536,
            grant_frames: 64,
            mappings: 1024 * 256,
            max_evtchn_port: 1023,
            fifo: true,
            clock: Clock::default(),
            has_store: true,
            cpu: Cpu::INTEL,
            has_platform: true,
            emulated: BTreeSet::from([Emulated::PrimaryMaster, Emulated::Nic]),
        }
    }
}

/// What arrives at a virtual CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// The vector that was set for this virtual CPU (`HVMOP_set_evtchn_upcall_vector`).
    Vector(u8),
    /// The interrupt line of `HVM_PARAM_CALLBACK_IRQ`.
    Line(u32),
}

type Handler = Arc<dyn Fn(u32, Interrupt) + Send + Sync>;

/// What the machine knows of a guest besides the domain that it is.
pub(crate) struct Inside {
    /// The domain that it is now.
    pub(crate) domain: u16,
    pub(crate) config: GuestConfig,
    /// The virtual CPU that its code runs on now.
    pub(crate) running: u32,
    handler: Option<Handler>,
    /// The rules that it runs into on purpose.
    pub(crate) tolerated: BTreeSet<String>,
    /// Its device model.
    pub(crate) platform: Platform,
    /// What becomes of it when it suspends.
    pub(crate) suspend: Suspend,
    /// Why it has shut down.
    pub(crate) shutdown: Option<Shutdown>,
    /// What goes wrong.
    pub(crate) plan: Plan,
}

impl Inside {
    pub(crate) fn new(domain: u16, config: GuestConfig) -> Self {
        Self {
            domain,
            running: config.vcpus.first().copied().unwrap_or(0),
            handler: None,
            tolerated: BTreeSet::new(),
            platform: Platform::new(config.has_platform, config.emulated.clone()),
            suspend: Suspend::default(),
            shutdown: None,
            plan: Plan::default(),
            config,
        }
    }

    /// A guest that handles no interrupts has them disabled.
    pub(crate) fn takes_interrupts(&self) -> bool {
        self.handler.is_some()
    }
}

/// A guest, for the code that runs in it: its [`Hypervisor`] and its [`Memory`].
#[derive(Clone)]
pub struct Guest {
    machine: Machine,
    id: GuestId,
}

impl Guest {
    pub(crate) const fn new(machine: Machine, id: GuestId) -> Self {
        Self { machine, id }
    }

    /// The machine that it runs on.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// What the toolstack calls it by, which survives a migration.
    #[must_use]
    pub fn id(&self) -> GuestId {
        self.id
    }

    /// The domain that it is now.
    #[must_use]
    pub fn domain(&self) -> u16 {
        self.inside(|inside| inside.domain)
    }

    /// Runs code of the guest on this virtual CPU: hypercalls in it come from there.
    pub fn on<T>(&self, vcpu: u32, code: impl FnOnce() -> T) -> T {
        let before = self.inside(|inside| mem::replace(&mut inside.running, vcpu));
        let outcome = code();
        self.inside(|inside| inside.running = before);
        outcome
    }

    /// Sets what is done when an interrupt arrives. It is called on the virtual CPU at which the interrupt arrives, and may do whatever the
    /// guest does at interrupt level.
    pub fn on_upcall(&self, handler: impl Fn(u32, Interrupt) + Send + Sync + 'static) {
        self.inside(|inside| inside.handler = Some(Arc::new(handler)));
    }

    /// Lets the n-th request for a page from now fail, once; none, if that is zero.
    pub fn fail_allocation(&self, nth: u64) {
        self.machine.with(|world| world.domain_mut(self.id).ram.refuse(nth));
    }

    /// Says that the guest runs into a rule of Xen's on purpose, so that it is no mistake to be refused by it.
    pub fn tolerate(&self, rule: &str) {
        self.inside(|inside| inside.tolerated.insert(rule.into()));
    }

    /// Whatever is at a place of the guest's memory, for a simulated kernel that has page tables of its own. It is not handed out.
    #[must_use]
    pub fn physical(&self, gfn: Gfn) -> GuestFrame {
        GuestFrame { guest: self.clone(), gfn }
    }

    /// Makes a hypercall from memory that is not this process's: a simulated kernel's, with addresses of its own.
    #[track_caller]
    pub fn call_in(&self, memory: &mut dyn Linear, number: u32, arguments: [u64; 5]) -> i64 {
        let site = Location::caller();
        self.machine.with(|world| world.hypercall(self.id, memory, number, arguments, site))
    }

    /// Lets the interrupt arrive that is on its way to a virtual CPU, if there is one.
    pub(crate) fn interrupt(&self, vcpu: u32) {
        let arrived = self.machine.with(|world| world.take_interrupt(self.id, vcpu));
        if let Some((handler, interrupt)) = arrived {
            self.on(vcpu, || handler(vcpu, interrupt));
            self.machine.with(|world| world.end_of_interrupt(self.id, vcpu));
        }
    }

    fn inside<T>(&self, work: impl FnOnce(&mut Inside) -> T) -> T {
        self.machine
            .with(|world| work(world.guests.get_mut(&self.id).expect("a guest stays known to its machine")))
    }
}

// SAFETY: what a call reads and writes is the memory that its arguments name, as the headers say.
unsafe impl Hypervisor for Guest {
    #[track_caller]
    unsafe fn hypercall(&self, number: u32, arguments: [u64; 5]) -> i64 {
        // SAFETY: the caller's promise is the same.
        let mut memory = unsafe { OwnProcess::new() };
        self.call_in(&mut memory, number, arguments)
    }
}

// SAFETY: nothing is touched but what the machine simulates; a page whose address is written to the MSR is found in the guest's RAM.
unsafe impl Processor for Guest {
    fn cpuid(&self, leaf: u32) -> [u32; 4] {
        self.machine.with(|world| world.xen.cpuid(world.running(self.id), leaf))
    }

    fn timestamp(&self) -> u64 {
        self.machine.with(|world| world.xen.timestamp(world.guests[&self.id].domain))
    }

    #[track_caller]
    unsafe fn write_msr(&self, register: u32, value: u64) {
        let site = Location::caller();
        self.machine.with(|world| world.write_msr(self.id, register, value, site));
    }

    unsafe fn read_port<W: Port>(&self, port: u16) -> W {
        let value = self.inside(|inside| inside.platform.read(port, size_of::<W>()));
        W::read_from_bytes(&value.to_le_bytes()[..size_of::<W>()]).expect("a word has its size")
    }

    unsafe fn write_port<W: Port>(&self, port: u16, value: W) {
        self.machine.with(|world| world.write_port(self.id, port, size_of::<W>(), value.into()));
    }
}

/// A page of a guest: see [`Access`].
///
/// Each access is one step of the machine: it is seen, and between two of them others may go on.
pub struct GuestFrame {
    guest: Guest,
    gfn: Gfn,
}

// SAFETY: a page is the guest's alone until it is given back, and frame numbers are not used again.
unsafe impl Memory for Guest {
    type Frame = GuestFrame;

    #[track_caller]
    fn allocate(&self) -> Result<GuestFrame, NoMemory> {
        let site = Location::caller();
        let gfn = self.machine.with(|world| world.allocate(self.id, site))?;
        Ok(GuestFrame { guest: self.clone(), gfn })
    }

    #[track_caller]
    fn hole(&self) -> Result<GuestFrame, NoMemory> {
        let site = Location::caller();
        let gfn = self.machine.with(|world| world.hole(self.id, site))?;
        Ok(GuestFrame { guest: self.clone(), gfn })
    }

    #[track_caller]
    unsafe fn existing(&self, gfn: Gfn) -> Result<GuestFrame, NoMemory> {
        let site = Location::caller();
        self.machine.with(|world| world.existing(self.id, gfn, site))?;
        Ok(GuestFrame { guest: self.clone(), gfn })
    }

    #[track_caller]
    unsafe fn free(&self, frame: GuestFrame) {
        let site = Location::caller();
        let is_own = frame.guest.id == self.id;
        self.machine.with(|world| world.free(self.id, frame.gfn, is_own, site));
    }
}

impl GuestFrame {
    /// One access to some bytes.
    #[track_caller]
    fn touch<T>(&self, reach: Reach, work: impl FnOnce(&mut [u8]) -> T) -> T {
        let site = Location::caller();
        self.guest.machine.with(|world| {
            world.interleave();
            let moment = world.moment(site);
            world.domain_mut(self.guest.id).touch(self.gfn, reach, moment, work)
        })
    }

    /// One access to a word: what it was, and what it is to be, if anything.
    #[track_caller]
    fn update<W: Word>(&self, place: Place<W>, how: How, new: impl FnOnce(W) -> Option<W>) -> W {
        self.touch(Reach { offset: place.offset(), length: size_of::<W>(), how }, |bytes| {
            let old = W::read_from_bytes(bytes).expect("a word has its size");
            if let Some(new) = new(old) {
                bytes.copy_from_slice(new.as_bytes());
            }
            old
        })
    }
}

/// Combines two words byte by byte.
fn bytewise<W: Word>(mut one: W, other: W, combine: impl Fn(u8, u8) -> u8) -> W {
    for (one, other) in one.as_mut_bytes().iter_mut().zip(other.as_bytes()) {
        *one = combine(*one, *other);
    }
    one
}

// SAFETY: each method is one access under the machine's lock, and returns a copy.
unsafe impl Access for GuestFrame {
    fn gfn(&self) -> Gfn {
        self.gfn
    }

    #[track_caller]
    fn load<W: Word>(&self, place: Place<W>) -> W {
        self.update(place, How::Word, |_| None)
    }

    #[track_caller]
    fn store<W: Word>(&self, place: Place<W>, value: W) {
        self.update(place, How::Word, |_| Some(value));
    }

    #[track_caller]
    fn swap<W: Word>(&self, place: Place<W>, value: W) -> W {
        self.update(place, How::Word, |_| Some(value))
    }

    #[track_caller]
    fn fetch_or<W: Word>(&self, place: Place<W>, bits: W) -> W {
        self.update(place, How::Word, |old| Some(bytewise(old, bits, |one, other| one | other)))
    }

    #[track_caller]
    fn fetch_and<W: Word>(&self, place: Place<W>, bits: W) -> W {
        self.update(place, How::Word, |old| Some(bytewise(old, bits, |one, other| one & other)))
    }

    #[track_caller]
    fn compare_exchange<W: Word>(&self, place: Place<W>, current: W, new: W) -> Result<W, W> {
        let old = self.update(place, How::Exchange, |old| (old == current).then_some(new));
        if old == current { Ok(old) } else { Err(old) }
    }

    #[track_caller]
    fn read_bytes(&self, offset: usize, into: &mut [u8]) -> Result<(), Beyond> {
        Beyond::check(offset, into.len())?;
        let reach = Reach { offset, length: into.len(), how: How::Bytes };
        self.touch(reach, |bytes| into.copy_from_slice(bytes));
        Ok(())
    }

    #[track_caller]
    fn write_bytes(&self, offset: usize, from: &[u8]) -> Result<(), Beyond> {
        Beyond::check(offset, from.len())?;
        let reach = Reach { offset, length: from.len(), how: How::Bytes };
        self.touch(reach, |bytes| bytes.copy_from_slice(from));
        Ok(())
    }

    // As the seam has them, but for the place in the guest's code.

    #[track_caller]
    fn read<T: FromBytes + IntoBytes>(&self, place: Place<T>) -> T {
        let mut value = T::new_zeroed();
        self.read_bytes(place.offset(), value.as_mut_bytes()).expect("a place lies in the page");
        value
    }

    #[track_caller]
    fn write<T: IntoBytes + Immutable>(&self, place: Place<T>, value: &T) {
        self.write_bytes(place.offset(), value.as_bytes()).expect("a place lies in the page");
    }
}

impl World {
    /// The virtual CPU on which a guest's code runs.
    fn running(&self, id: GuestId) -> VcpuId {
        let inside = &self.guests[&id];
        VcpuId { domain: inside.domain, vcpu: inside.running }
    }

    fn take_interrupt(&mut self, id: GuestId, vcpu: u32) -> Option<(Handler, Interrupt)> {
        let inside = self.guests.get(&id).filter(|inside| inside.takes_interrupts())?;
        let handler = inside.handler.clone()?;
        let to = VcpuId { domain: inside.domain, vcpu };
        let interrupt = self.xen.take_interrupt(to)?;
        self.count("interrupts");
        Some((handler, interrupt))
    }

    fn end_of_interrupt(&mut self, id: GuestId, vcpu: u32) {
        let domain = self.guests[&id].domain;
        self.xen.end_of_interrupt(VcpuId { domain, vcpu });
    }

    fn write_msr(&mut self, id: GuestId, register: u32, value: u64, site: Site) {
        let from = self.running(id);
        if let Err(Exception(rule)) = self.xen.write_msr(from, register, value) {
            let moment = self.moment(site);
            let facts = format!("MSR {register:#x} = {value:#x}: {}", rule.says.trim());
            self.domain_mut(id).ram.books.find(Finding::new(Mistake::Exception, facts, moment));
        }
    }

    fn write_port(&mut self, id: GuestId, port: u16, bytes: usize, value: u32) {
        let asked = self.inside_mut(id).platform.write(port, bytes, value);
        if let Some(AskBlacklist { product, build }) = asked {
            let is_blacklisted = self.is_blacklisted(product, build);
            self.inside_mut(id).platform.answer_blacklist(is_blacklisted);
        }
    }

    pub(crate) fn domain_mut(&mut self, id: GuestId) -> &mut Domain {
        let domain = self.guests[&id].domain;
        self.xen.domains.get_mut(&domain).expect("a guest is a domain")
    }

    fn moment(&self, site: Site) -> Moment {
        Moment { at: self.xen.now, site: Some(site) }
    }

    /// A hypercall of a guest's. To be refused is a mistake, but for those refusals that a right guest has to cope with.
    fn hypercall(
        &mut self,
        id: GuestId,
        memory: &mut dyn Linear,
        number: u32,
        arguments: [u64; 5],
        site: Site,
    ) -> i64 {
        let inside = &self.guests[&id];
        let from = VcpuId { domain: inside.domain, vcpu: inside.running };
        self.count("hypercalls");
        let answer = self.xen.call(number, &mut Call { from, site: Some(site), arguments, memory });
        let resumed = self.take_shutdowns().into_iter().find(|(suspended, _)| *suspended == id);
        match answer {
            Ok(value) => resumed.map_or(value, |(_, answer)| answer).cast_signed(),
            Err(refusal) => {
                if !self.guests[&id].tolerated.contains(refusal.rule.name) {
                    let moment = self.moment(site);
                    self.domain_mut(id).judge_refusal(number, arguments, refusal, moment);
                }
                -i64::from(refusal.error.number())
            }
        }
    }

    fn allocate(&mut self, id: GuestId, site: Site) -> Result<Gfn, NoMemory> {
        let moment = self.moment(site);
        self.domain_mut(id).ram.allocate(moment)
    }

    fn hole(&mut self, id: GuestId, site: Site) -> Result<Gfn, NoMemory> {
        let moment = self.moment(site);
        self.domain_mut(id).ram.hole(moment)
    }

    fn existing(&mut self, id: GuestId, gfn: Gfn, site: Site) -> Result<(), NoMemory> {
        let moment = self.moment(site);
        self.domain_mut(id).ram.existing(gfn, moment)
    }

    fn free(&mut self, id: GuestId, gfn: Gfn, is_own: bool, site: Site) {
        let moment = self.moment(site);
        self.domain_mut(id).give_back(gfn, is_own, moment);
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").field("id", &self.id).finish_non_exhaustive()
    }
}

impl fmt::Debug for GuestFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestFrame").field("gfn", &self.gfn).finish_non_exhaustive()
    }
}
