//! A Xen that now and then says something else.
#![expect(unsafe_code, reason = "it stands where the simulated Xen would")]

use std::{
    ptr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use xen_abi::{
    Errno,
    grant_table::{
        op::{GNTTABOP_MAP_GRANT_REF, GNTTABOP_QUERY_SIZE, GNTTABOP_UNMAP_GRANT_REF, MapGrantRef, QuerySize},
        status::GrantError,
    },
    hypercall::{GRANT_TABLE_OP, MEMORY_OP},
    memory::XENMEM_ADD_TO_PHYSMAP,
    seam::{Gfn, Hypervisor, Memory, NoMemory},
};
use xen_sim::{Guest, GuestFrame};

/// What Xen says instead, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// After so many pages that it puts somewhere, it has no memory for one.
    NoPageAfter(u32),
    /// The table may have so many frames.
    MostFrames(u32),
    /// A page cannot be mapped just now, so many times.
    NotNow(u32),
    /// A page is not unmapped.
    KeepsMapping,
}

/// A guest's platform.
#[derive(Clone)]
pub(crate) struct Platform {
    guest: Guest,
    mood: Arc<Mutex<Option<Mood>>>,
    calls: Arc<AtomicU64>,
}

impl Platform {
    pub(crate) fn new(guest: Guest) -> Self {
        Self { guest, mood: Arc::default(), calls: Arc::default() }
    }

    /// Says something else from now on.
    pub(crate) fn mood(&self, mood: Mood) {
        *self.mood.lock().expect("nobody panics with it") = Some(mood);
    }

    /// Hypercalls that were made.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// What the next call of this kind meets, if anything: whether it is not made at all, and what its answer is.
    fn meets(&self, number: u32, command: u64) -> Option<Mood> {
        let mut place = self.mood.lock().expect("nobody panics with it");
        let met = (*place)?;
        let (of, next) = match met {
            Mood::NoPageAfter(0) => ((MEMORY_OP, XENMEM_ADD_TO_PHYSMAP), None),
            Mood::NoPageAfter(more) => {
                ((MEMORY_OP, XENMEM_ADD_TO_PHYSMAP), Some(Mood::NoPageAfter(more - 1)))
            }
            Mood::MostFrames(_) => ((GRANT_TABLE_OP, GNTTABOP_QUERY_SIZE), None),
            Mood::NotNow(1) => ((GRANT_TABLE_OP, GNTTABOP_MAP_GRANT_REF), None),
            Mood::NotNow(more) => ((GRANT_TABLE_OP, GNTTABOP_MAP_GRANT_REF), Some(Mood::NotNow(more - 1))),
            Mood::KeepsMapping => ((GRANT_TABLE_OP, GNTTABOP_UNMAP_GRANT_REF), None),
        };
        if of != (number, command) {
            return None;
        }
        *place = next;
        (!matches!(met, Mood::NoPageAfter(1..))).then_some(met)
    }
}

// SAFETY: what it does instead touches nothing but the call's argument.
unsafe impl Hypervisor for Platform {
    #[track_caller]
    unsafe fn hypercall(&self, number: u32, arguments: [u64; 5]) -> i64 {
        self.calls.fetch_add(1, Relaxed);
        let argument = usize::try_from(arguments[1]).expect("an address");
        match self.meets(number, arguments[0]) {
            Some(Mood::NoPageAfter(_)) => -i64::from(Errno::ENOMEM.number()),
            Some(Mood::KeepsMapping) => -i64::from(Errno::EFAULT.number()),
            Some(Mood::NotNow(_)) => {
                let op = ptr::with_exposed_provenance_mut::<MapGrantRef>(argument);
                // SAFETY: it is the argument of the call.
                unsafe { (*op).status = GrantError::EAGAIN.number() };
                0
            }
            Some(Mood::MostFrames(most)) => {
                // SAFETY: passed on.
                let answer = unsafe { self.guest.hypercall(number, arguments) };
                let op = ptr::with_exposed_provenance_mut::<QuerySize>(argument);
                // SAFETY: it is the argument of the call.
                unsafe { (*op).max_nr_frames = most };
                answer
            }
            // SAFETY: passed on.
            None => unsafe { self.guest.hypercall(number, arguments) },
        }
    }
}

// SAFETY: the pages are the guest's.
unsafe impl Memory for Platform {
    type Frame = GuestFrame;

    #[track_caller]
    fn allocate(&self) -> Result<GuestFrame, NoMemory> {
        self.guest.allocate()
    }

    #[track_caller]
    fn hole(&self) -> Result<GuestFrame, NoMemory> {
        self.guest.hole()
    }

    #[track_caller]
    unsafe fn existing(&self, gfn: Gfn) -> Result<GuestFrame, NoMemory> {
        // SAFETY: passed on.
        unsafe { self.guest.existing(gfn) }
    }

    #[track_caller]
    unsafe fn free(&self, frame: GuestFrame) {
        // SAFETY: passed on.
        unsafe { self.guest.free(frame) };
    }
}
