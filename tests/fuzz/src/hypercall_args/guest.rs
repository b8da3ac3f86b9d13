//! A guest that does anything.
#![expect(unsafe_code, reason = "pages are given back in any state")]

use std::collections::BTreeSet;

use xen_abi::{
    DomId, Errno, GrantRef,
    domid::DOMID_SELF,
    grant_table::{
        ENTRIES, FLAGS, GTF_PERMIT_ACCESS, GrantEntryV1,
        op::{
            CopyPtr, GNTTABOP_COPY, GNTTABOP_MAP_GRANT_REF, GNTTABOP_UNMAP_GRANT_REF, GrantCopy, GrantHandle,
            MapGrantRef, UnmapGrantRef,
        },
        status::GrantError,
    },
    hypercall::{EVENT_CHANNEL_OP, GRANT_TABLE_OP, HVM_OP, MEMORY_OP, SCHED_OP, VCPU_OP},
    memory::{
        AddToPhysmap, RemoveFromPhysmap, Reservation, XENMAPSPACE_GRANT_TABLE, XENMEM_ADD_TO_PHYSMAP,
        XENMEM_REMOVE_FROM_PHYSMAP,
    },
    seam::{Access, Gfn, Memory, Place, Processor},
};
use xen_sim::{Arena, Dom0, Mapping, Suspend};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::action::{Action, Deed, Kind, Number};

/// Where its arguments are, and how many bytes of them there are.
const ARGUMENTS: u64 = 0x7000_0000;
const LENGTH: usize = 0x1000;

/// The first of the registers that Xen has.
const MSRS: u32 = 0x4000_0000;

/// The processors that it has.
pub(super) const PROCESSORS: [u32; 2] = [0, 3];

/// A guest.
pub(super) struct Guest {
    inside: xen_sim::Guest,
    arguments: Arena,
    /// The pages that it has or had, the place of its grant table first.
    pages: Vec<Gfn>,
    dom0: Dom0,
    mapped: Vec<Mapping>,
    /// What it was answered.
    pub(super) answers: BTreeSet<String>,
}

impl Guest {
    pub(super) fn new(guest: xen_sim::Guest) -> Self {
        let dom0 = guest.machine().dom0();
        let arguments = Arena::new(ARGUMENTS, LENGTH);
        let mut new = Self {
            inside: guest,
            arguments,
            pages: Vec::new(),
            dom0,
            mapped: Vec::new(),
            answers: BTreeSet::new(),
        };
        let table = new.inside.hole().expect("nothing is used yet").gfn();
        new.pages.push(table);
        for _ in 0..3 {
            new.pages.push(new.inside.allocate().expect("there is RAM").gfn());
        }
        new.place(XENMAPSPACE_GRANT_TABLE, 0, table.0, 0, DOMID_SELF, 0);
        new
    }

    fn number(&self, Number { kind, which }: Number) -> u64 {
        let which_64 = u64::from(which);
        let page = || self.pages[usize::from(which) % self.pages.len()].0;
        match kind {
            Kind::Small => which_64,
            Kind::Argument => ARGUMENTS + which_64 * 8,
            Kind::Misaligned => ARGUMENTS + which_64 * 8 + 3,
            Kind::End => ARGUMENTS + LENGTH as u64 - which_64,
            Kind::Page => page(),
            Kind::PageAddress => page() << 12,
            Kind::Power => 1 << (which % 64),
            Kind::Huge => u64::MAX - which_64,
        }
    }

    /// A domain: itself, and those that there are, more often than others.
    fn domain(&self, number: Number) -> DomId {
        match number {
            Number { kind: Kind::Small, which: 3 } => DOMID_SELF,
            _ => DomId(low(self.number(number))),
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        let processor = PROCESSORS[usize::from(action.who >> 1) % PROCESSORS.len()];
        let guest = self.inside.clone();
        guest.on(processor, || self.act_here(action));
    }

    fn act_here(&mut self, Action { deed, numbers, .. }: Action) {
        let n = numbers.map(|number| self.number(number));
        let domain = |index: usize| self.domain(numbers[index]);
        match deed {
            Deed::Call => self.call(low(n[0]), [n[1], n[2], n[3], n[4], n[5]]),
            // Where nothing is, nothing is written.
            Deed::Poke => _ = self.arguments.put(n[0], &n[1]),
            Deed::Map => {
                let op = MapGrantRef {
                    host_addr: n[0],
                    flags: low(n[1]),
                    r#ref: GrantRef(low(n[2])),
                    dom: domain(3),
                    ..Default::default()
                };
                self.grant_op(GNTTABOP_MAP_GRANT_REF, &op, n[4], |op| op.status);
            }
            Deed::Unmap => {
                let handle = GrantHandle(low(n[1]));
                let op = UnmapGrantRef { host_addr: n[0], handle, ..Default::default() };
                self.grant_op(GNTTABOP_UNMAP_GRANT_REF, &op, n[2], |op| op.status);
            }
            Deed::Copy => {
                let side = |first: usize| CopyPtr {
                    u: n[first],
                    domid: domain(first + 1),
                    offset: low(n[first + 2]),
                    padding: 0,
                };
                let op = GrantCopy {
                    source: side(0),
                    dest: side(3),
                    len: u16::from(numbers[6].which) * 32,
                    flags: numbers[6].kind as u16,
                    status: 0,
                    padding: 0,
                };
                self.grant_op(GNTTABOP_COPY, &op, 1, |op| op.status);
            }
            Deed::Table => {
                let words = [u64::from(domain(1).0) | n[2] << 32, n[3], n[4]];
                self.call_with(GRANT_TABLE_OP, n[0], &words, 1);
            }
            Deed::Place => self.place(low(n[0]), n[1], n[2], low(n[3]), domain(4), n[5]),
            Deed::Remove => {
                let op = RemoveFromPhysmap { domid: domain(1), gpfn: n[0], ..Default::default() };
                self.call_with(MEMORY_OP, XENMEM_REMOVE_FROM_PHYSMAP, &op, 0);
            }
            Deed::Extents => self.extents(n[0], low(n[1]), low(n[2]), [n[3], n[4], n[5]], domain(6)),
            Deed::Entry => self.entry(n[0], low(n[1]), domain(2), low(n[3]), n[4]),
            Deed::Touch => self.touch(Gfn(n[0]), n[1], n[2], n[3]),
            Deed::Kernel => self.kernel(n[0], Gfn(n[1])),
            Deed::Backend => self.backend(n[0], GrantRef(low(n[1])), low(n[2]), n[3]),
            Deed::Event => {
                let domains = u64::from(domain(1).0) | u64::from(domain(2).0) << 16;
                self.call_with(EVENT_CHANNEL_OP, n[0], &[domains | n[3] << 32, n[4], n[5]], 0);
            }
            Deed::Vcpu => {
                self.arguments.put(ARGUMENTS, &[n[2], n[3]]).expect("they fit");
                self.call(VCPU_OP, [n[0], n[1], ARGUMENTS, 0, 0]);
            }
            Deed::Hvm => {
                self.call_with(HVM_OP, n[0], &[u64::from(domain(1).0) | n[2] << 32, n[3]], 0);
            }
            Deed::Sched => {
                let suspend = if n[3] % 2 == 0 { Suspend::Cancelled } else { Suspend::Migrated };
                self.inside.machine().toolstack().expect_suspend(&self.inside, suspend);
                self.call_with(SCHED_OP, n[0], &[n[1], n[2]], 0);
            }
            // SAFETY: what the simulation makes of the value stays in the guest's own pages.
            Deed::Msr => unsafe { self.inside.write_msr(MSRS.wrapping_add(low(n[0])), n[1]) },
        }
    }

    /// Makes a hypercall. Whatever it says, it is answered by a value, or by an error that Xen's headers name.
    fn call(&mut self, number: u32, arguments: [u64; 5]) {
        let answer = self.inside.call_in(&mut self.arguments, number, arguments);
        if let Err(error) = Errno::check(answer) {
            let name = error.name().unwrap_or_else(|| panic!("{number} {arguments:x?} answered {answer}"));
            self.answers.insert(name.into());
        }
    }

    /// Makes a hypercall with an argument of this kind.
    fn call_with<T: IntoBytes + Immutable + ?Sized>(
        &mut self,
        number: u32,
        command: u64,
        argument: &T,
        count: u64,
    ) {
        self.arguments.put(ARGUMENTS, argument).expect("it fits");
        self.call(number, [command, ARGUMENTS, count, 0, 0]);
    }

    /// Makes a grant table call. Its argument's status is one that the header names.
    fn grant_op<T: FromBytes + IntoBytes + Immutable>(
        &mut self,
        command: u64,
        op: &T,
        count: u64,
        status: impl FnOnce(T) -> i16,
    ) {
        self.call_with(GRANT_TABLE_OP, command, op, count.max(1));
        let op = self.arguments.get(ARGUMENTS).expect("it is there");
        if let Err(error) = GrantError::check(status(op)) {
            let name = error.name().unwrap_or_else(|| panic!("{command} ended with {error:?}"));
            self.answers.insert(name.into());
        }
    }

    fn place(&mut self, space: u32, idx: u64, gpfn: u64, size: u16, domid: DomId, start: u64) {
        let op = AddToPhysmap { domid, size, space, idx, gpfn };
        self.call_with(MEMORY_OP, XENMEM_ADD_TO_PHYSMAP | start << 6, &op, 0);
    }

    fn extents(&mut self, command: u64, order: u32, flags: u32, extents: [u64; 3], domid: DomId) {
        let op = Reservation {
            extent_start: ARGUMENTS + size_of::<Reservation>() as u64,
            nr_extents: extents.len() as u64,
            extent_order: order,
            mem_flags: flags,
            domid,
            padding: [0; 3],
        };
        self.arguments.put(op.extent_start, &extents).expect("they fit");
        self.call_with(MEMORY_OP, command, &op, 0);
    }

    /// Writes an entry of the grant table as it should be done, or as it should not.
    fn entry(&self, reference: u64, flags: u16, domid: DomId, frame: u32, how: u64) {
        let table = self.inside.physical(self.pages[0]);
        let index = usize::try_from(reference % 512).unwrap_or(0);
        let (Some(word), Some(half)) = (ENTRIES.get(index), FLAGS.get(index)) else { return };
        let entry = GrantEntryV1 { flags, domid, frame };
        let as_word = u64::from(flags) | u64::from(domid.0) << 16 | u64::from(frame) << 32;
        match how % 5 {
            0 => {
                table.store(word, as_word & !0xFFFF);
                table.store(half, flags);
            }
            1 => {
                // Whether it is in use is what the answer says: a right guest would look at it.
                let _ = table.compare_exchange(half, GTF_PERMIT_ACCESS, 0);
            }
            2 => table.store(word, as_word),
            3 => table.write(Place::<GrantEntryV1>::new(0), &entry),
            _ => table.write_bytes(index * 8 + 1, &entry.as_bytes()[1..]).expect("it lies in the page"),
        }
    }

    fn touch(&self, gfn: Gfn, offset: u64, how: u64, value: u64) {
        let page = self.inside.physical(gfn);
        let offset = usize::try_from(offset % 4096).unwrap_or(0);
        let Some(place) = Place::<u64>::at(offset & !7) else { return };
        match how % 5 {
            0 => page.store(place, value),
            1 => _ = page.load(place),
            2 => _ = page.fetch_or(place, value),
            // It is answered, whatever was there.
            3 => _ = page.compare_exchange(place, 0, value),
            _ => _ = page.write_bytes(offset, value.as_bytes()),
        }
    }

    fn kernel(&mut self, what: u64, gfn: Gfn) {
        let new = match what % 5 {
            0 => self.inside.allocate(),
            1 => self.inside.hole(),
            // SAFETY: nothing but the simulation has the page, and takes any use of it.
            2 => unsafe { self.inside.existing(gfn) },
            3 => {
                self.inside.fail_allocation(gfn.0);
                return;
            }
            _ => {
                // SAFETY: the simulation takes pages back in any state.
                return unsafe { self.inside.free(self.inside.physical(gfn)) };
            }
        };
        if let Ok(page) = new {
            self.pages.push(page.gfn());
        }
    }

    fn backend(&mut self, what: u64, reference: GrantRef, offset: usize, which: u64) {
        use xen_sim::Access::{Read, Write};
        let mut bytes = [0; 24];
        let mapped = usize::try_from(which).unwrap_or(0).checked_rem(self.mapped.len());
        let mapping = mapped.map(|index| self.mapped[index]);
        // Whether it could: that is the guest's doing, and told to the backend.
        match (what % 7, mapping) {
            (0, _) => self.mapped.extend(self.dom0.map(&self.inside, reference, Read)),
            (1, _) => self.mapped.extend(self.dom0.map(&self.inside, reference, Write)),
            (2, _) => _ = self.dom0.copy_from(&self.inside, reference, offset, &mut bytes),
            (3, _) => _ = self.dom0.copy_to(&self.inside, reference, offset, &bytes),
            (4, Some(mapping)) => _ = self.dom0.read(mapping, offset, &mut bytes),
            (5, Some(mapping)) => _ = self.dom0.write(mapping, offset, &bytes),
            (_, Some(mapping)) => _ = self.dom0.unmap(mapping),
            (_, None) => {}
        }
    }

    /// The verdict, whatever it is.
    pub(super) fn audit(&self) -> BTreeSet<String> {
        let audit = self.inside.machine().audit(&self.inside);
        assert!(!audit.to_string().is_empty());
        audit.findings().iter().map(|finding| format!("{:?}", finding.mistake)).collect()
    }
}

/// As much of a number as there is room for.
fn low<T: FromBytes>(number: u64) -> T {
    T::read_from_prefix(number.as_bytes()).map(|(low, _)| low).expect("it has no more bytes than a number")
}
