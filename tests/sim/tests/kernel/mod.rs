//! A small kernel for tests: it makes hypercalls from an arena, and grants pages as the header says.
#![expect(unsafe_code, reason = "pages are given back")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use xen_abi::{
    Errno, GrantRef,
    domid::DOMID_SELF,
    grant_table::{ENTRIES, FLAGS, GTF_PERMIT_ACCESS, GTF_READONLY},
    hypercall::{GRANT_TABLE_OP, MEMORY_OP},
    memory::*,
    seam::{Access as _, Gfn, Memory as _},
};
use xen_sim::{Actor, Arena, Guest, GuestConfig, GuestFrame, Machine, Runtime};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A runtime that runs nothing, and says what it is told to.
#[derive(Default)]
pub(crate) struct Run {
    pub(crate) boundaries: AtomicU64,
    pub(crate) tasks: AtomicU64,
    pub(crate) timers: AtomicU64,
}

struct Ran(Arc<Run>);

impl Runtime for Ran {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn ready(&self, _: Actor) {}

    fn boundaries(&self) -> u64 {
        self.0.boundaries.load(Relaxed)
    }

    fn tasks(&self) -> Vec<String> {
        (0..self.0.tasks.load(Relaxed)).map(|task| format!("task {task}")).collect()
    }

    fn timers(&self) -> usize {
        usize::try_from(self.0.timers.load(Relaxed)).expect("they are few")
    }
}

/// Where its hypercalls' arguments are,
pub(crate) const ARGUMENTS: u64 = 0x7000_0000;
/// the arrays that they name,
pub(crate) const ARRAYS: u64 = ARGUMENTS + 0x1000;
/// and how much there is.
pub(crate) const LENGTH: usize = 0x3000;

/// The kernel.
pub(crate) struct Kernel {
    pub(crate) machine: Machine,
    pub(crate) guest: Guest,
    pub(crate) run: Arc<Run>,
}

impl Kernel {
    pub(crate) fn new(config: GuestConfig) -> Self {
        let machine = Machine::new(1);
        let run = Arc::new(Run::default());
        run.boundaries.store(1, Relaxed);
        machine.attach(Ran(Arc::clone(&run)));
        let guest = machine.create(config);
        Self { machine, guest, run }
    }

    /// Another guest on the same machine.
    pub(crate) fn beside(&self) -> Self {
        let guest = self.machine.create(GuestConfig::default());
        Self { machine: self.machine.clone(), guest, run: Arc::clone(&self.run) }
    }

    /// Makes a hypercall with these arguments at [`ARGUMENTS`], and reads back what became of them.
    pub(crate) fn call<T: FromBytes + IntoBytes + Immutable>(
        &self,
        number: u32,
        command: u64,
        count: u64,
        argument: &mut T,
        arena: &mut Arena,
    ) -> Result<u64, Errno> {
        arena.put(ARGUMENTS, argument).expect("it fits");
        let answer = self.guest.call_in(arena, number, [command, ARGUMENTS, count, 0, 0]);
        *argument = arena.get(ARGUMENTS).expect("it fits");
        Errno::check(answer)
    }

    /// A grant table command with one argument.
    pub(crate) fn grant_op<T: FromBytes + IntoBytes + Immutable>(
        &self,
        command: u64,
        argument: &mut T,
    ) -> Result<u64, Errno> {
        self.call(GRANT_TABLE_OP, command, 1, argument, &mut Arena::new(ARGUMENTS, LENGTH))
    }

    /// A memory command.
    pub(crate) fn memory_op<T: FromBytes + IntoBytes + Immutable>(
        &self,
        command: u64,
        mut argument: T,
    ) -> Result<u64, Errno> {
        self.call(MEMORY_OP, command, 0, &mut argument, &mut Arena::new(ARGUMENTS, LENGTH))
    }

    /// Puts a page of a space somewhere.
    pub(crate) fn place(&self, space: u32, idx: u64, gfn: Gfn) -> Result<u64, Errno> {
        let op = AddToPhysmap { domid: DOMID_SELF, size: 0, space, idx, gpfn: gfn.0 };
        self.memory_op(XENMEM_ADD_TO_PHYSMAP, op)
    }

    /// Takes out what is at a place.
    pub(crate) fn remove(&self, gfn: Gfn) -> Result<u64, Errno> {
        let op = RemoveFromPhysmap { domid: DOMID_SELF, gpfn: gfn.0, ..Default::default() };
        self.memory_op(XENMEM_REMOVE_FROM_PHYSMAP, op)
    }

    /// Changes the reservation by these extents, and answers how many were done.
    pub(crate) fn extents(&self, command: u64, order: u32, extents: &[u64]) -> u64 {
        let mut arena = Arena::new(ARGUMENTS, LENGTH);
        arena.put(ARRAYS, extents).expect("they fit");
        let mut op = Reservation {
            extent_start: ARRAYS,
            nr_extents: extents.len() as u64,
            extent_order: order,
            mem_flags: 0,
            domid: DOMID_SELF,
            padding: [0; 3],
        };
        self.call(MEMORY_OP, command, 0, &mut op, &mut arena).expect("it answers a count")
    }

    /// A page of RAM.
    #[track_caller]
    pub(crate) fn page(&self) -> GuestFrame {
        self.guest.allocate().expect("there is RAM")
    }

    /// A page without RAM.
    #[track_caller]
    pub(crate) fn hole(&self) -> GuestFrame {
        self.guest.hole().expect("there is room")
    }

    /// A page that the toolstack has put there.
    #[track_caller]
    pub(crate) fn existing(&self, gfn: Gfn) -> GuestFrame {
        // SAFETY: the toolstack has put it there, and shares it with nobody in a test.
        unsafe { self.guest.existing(gfn) }.expect("it can be mapped")
    }

    /// Gives a page back.
    #[track_caller]
    pub(crate) fn free(&self, frame: GuestFrame) {
        // SAFETY: the simulation takes pages back in any state: that it finds what is wrong with it is what is tested.
        unsafe { self.guest.free(frame) };
    }

    /// Another frame for the same page.
    pub(crate) fn again(&self, frame: &GuestFrame) -> GuestFrame {
        self.guest.physical(frame.gfn())
    }

    /// The first page of the grant table.
    pub(crate) fn table(&self) -> GuestFrame {
        let frame = self.hole();
        assert_eq!(self.place(XENMAPSPACE_GRANT_TABLE, 0, frame.gfn()), Ok(0));
        frame
    }

    /// Takes it out.
    pub(crate) fn end(&self, table: GuestFrame) {
        assert_eq!(self.remove(table.gfn()), Ok(0));
        self.free(table);
    }
}

/// Grants a page to a domain, by an entry of the first page of the table.
#[track_caller]
pub(crate) fn grant(table: &GuestFrame, reference: GrantRef, to: u16, page: Gfn, flags: u16) {
    let entry = ENTRIES.get(reference.0 as usize).expect("in the first page");
    table.store(entry, u64::from(to) << 16 | page.0 << 32);
    let place = FLAGS.get(reference.0 as usize).expect("in the first page");
    table.store(place, GTF_PERMIT_ACCESS | flags);
}

/// Revokes a grant, if it is not in use.
#[track_caller]
pub(crate) fn revoke(table: &GuestFrame, reference: GrantRef) -> Result<u16, u16> {
    let place = FLAGS.get(reference.0 as usize).expect("in the first page");
    let idle = table.load(place) & (GTF_PERMIT_ACCESS | GTF_READONLY);
    table.compare_exchange(place, idle, 0)
}
