//! Tasks: where they live and how they are reached.
//!
//! In reading order: [`state`] is the word that says what a task may do next; this file, its header and
//! the pointer that everyone else holds; [`body`], the closure, future or output behind the header;
//! [`store`], the slots; [`waker`] and [`handle`], the ways in from outside.
#![expect(unsafe_code, reason = "one type-erased pointer stands for a slot of any size")]

use core::{
    ptr::{self, NonNull},
    sync::atomic::{AtomicPtr as PlainPtr, AtomicU32 as PlainU32, Ordering::Relaxed},
    task::Waker,
};

#[cfg(feature = "table")]
use crate::task_table::record::Record;
use crate::{
    atomics::{AtomicU32, Owned, const_fn},
    executor::{Consumer, Core},
    scope::{Scope, members::Siblings},
    task::{state::State, store::FreeList},
};

pub(crate) mod body;
pub(crate) mod handle;
pub(crate) mod state;
pub(crate) mod store;
pub(crate) mod waker;

/// What the run does with a task at its turn: changes as the task goes from closure to future.
#[derive(Debug)]
pub(crate) struct VTable {
    /// Polls it.
    pub(crate) poll: unsafe fn(Task, &mut Consumer),
    /// Drops it, unless it is shielded.
    pub(crate) cancel: unsafe fn(Task, &mut Consumer),
}

/// The head of a slot. What the wake and the run touch comes first.
#[repr(C, align(16))]
pub(crate) struct Header {
    pub(crate) state: State,
    /// The next in the queue. Owned by whoever set `QUEUED` until its push, then by the run.
    pub(crate) next: Owned<Link>,
    /// Whose task this is. Written by the claim; read by whoever set `QUEUED`.
    core: Owned<*mut Core>,
    /// Written by the claim, then owned by the run.
    vtable: Owned<&'static VTable>,
    /// The neighbours in the executor's list of started tasks. Owned by the run.
    pub(crate) links: Owned<Links>,
    /// The scope that it is a member of. Written by the claim, then owned by the run.
    scope: Owned<Option<&'static Scope>>,
    /// Its neighbours there. Behind the scope's lock.
    pub(crate) siblings: Owned<Siblings>,
    /// How many shielded sections it is in. Written by its own polls.
    shields: PlainU32,
    /// Who waits for the outcome: see `WAITING` in [`state`].
    waiter: Owned<Option<Waker>>,
    /// The same as `core`, for whoever has no proof that it is not being written: see [`Home`](crate::home::Home).
    pub(crate) home: PlainPtr<Core>,
    /// The list that the slot goes back to, and its place in it. Written at the slot's first use.
    list: Owned<*const FreeList>,
    index: AtomicU32,
    /// The free slot below this one: see [`FreeList`].
    pub(crate) below: AtomicU32,
    /// What the task table shows.
    #[cfg(feature = "table")]
    pub(crate) record: Record,
}

/// A task in a list, or the end of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link(*mut Header);

impl Link {
    pub(crate) const END: Self = Self(ptr::null_mut());

    /// # Safety
    ///
    /// `slot` is null, or a task's [`as_ptr`](Task::as_ptr).
    #[inline]
    pub(crate) const unsafe fn new(slot: *mut Header) -> Self {
        Self(slot)
    }

    #[inline]
    pub(crate) fn is_end(self) -> bool {
        self.0.is_null()
    }

    #[inline]
    pub(crate) fn task(self) -> Option<Task> {
        NonNull::new(self.0).map(Task)
    }
}

impl From<Task> for Link {
    #[inline]
    fn from(task: Task) -> Self {
        Self(task.as_ptr())
    }
}

/// The neighbours of a started task.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Links {
    pub(crate) previous: Option<Task>,
    pub(crate) next: Option<Task>,
}

impl Header {
    const_fn! {
        /// The header of a free slot.
        pub(crate) fn new() -> Self {
            Self::with(State::new(), &NOTHING)
        }
    }

    const_fn! {
        /// A header without a body, whose turn is `vtable`'s.
        pub(crate) fn resident(vtable: &'static VTable) -> Self {
            Self::with(State::resident(), vtable)
        }
    }

    const_fn! {
        fn with(state: State, vtable: &'static VTable) -> Self {
            Self {
                state,
                next: Owned::new(Link::END),
                core: Owned::new(ptr::null_mut()),
                vtable: Owned::new(vtable),
                links: Owned::new(Links { previous: None, next: None }),
                scope: Owned::new(None),
                siblings: Owned::new(Siblings::NONE),
                shields: PlainU32::new(0),
                waiter: Owned::new(None),
                home: PlainPtr::new(ptr::null_mut()),
                list: Owned::new(ptr::null()),
                index: AtomicU32::new(0),
                below: AtomicU32::new(0),
                #[cfg(feature = "table")]
                record: Record::new(),
            }
        }
    }
}

/// The turn of a slot that never had a tenant; a run does not come to it, since it is not `LIVE`.
static NOTHING: VTable = VTable { poll: idle, cancel: idle };

fn idle(_task: Task, _consumer: &mut Consumer) {}

/// A pointer to a whole slot: header and body.
///
/// It is valid for as long as anyone can hold one. That is the contract of giving a store's or an
/// executor's memory back, and why everything here can be safe to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub(crate) struct Task(NonNull<Header>);

// SAFETY: a header is made of atomics, and of cells whose protocols are written down beside them.
unsafe impl Send for Task {}
// SAFETY: as above.
unsafe impl Sync for Task {}

impl Task {
    /// # Safety
    ///
    /// `slot` points to a header, with provenance over the whole slot, and is valid for as long as any copy
    /// of the result, or anything made from one, exists.
    #[inline]
    pub(crate) const unsafe fn new(slot: NonNull<Header>) -> Self {
        Self(slot)
    }

    #[inline]
    pub(crate) const fn pointer(self) -> NonNull<Header> {
        self.0
    }

    #[inline]
    pub(crate) const fn as_ptr(self) -> *mut Header {
        self.0.as_ptr()
    }

    #[inline]
    pub(crate) fn header(self) -> &'static Header {
        // SAFETY: valid by the contract of `new`, and shared: nobody ever makes a `&mut Header`.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    pub(crate) fn state(self) -> &'static State {
        &self.header().state
    }

    /// What follows the header.
    #[inline]
    pub(crate) const fn body<T>(self) -> NonNull<T> {
        // SAFETY: the header is followed by the slot's body, if only by an empty one.
        unsafe { self.0.add(1) }.cast()
    }

    /// The executor of the current tenant, with provenance over all of it.
    ///
    /// # Safety
    ///
    /// The caller has set `QUEUED`, is the run, or holds one of the tenant's two references.
    #[inline]
    pub(crate) unsafe fn core(self) -> NonNull<Core> {
        // SAFETY: the only writer is the claim, and whatever the caller is, it is so after the claim.
        let core = unsafe { self.header().core.read() };
        // SAFETY: only a slot that was never claimed has a null there, and it has no wakers and no references.
        unsafe { NonNull::new_unchecked(core) }
    }

    /// Pushes the task, and rings if that is needed.
    ///
    /// # Safety
    ///
    /// The caller has set `QUEUED`.
    #[inline]
    pub(crate) unsafe fn enqueue(self) {
        // SAFETY: the caller has set `QUEUED`.
        let core = unsafe { self.core() };
        // SAFETY: written by the claim; an executor outlives its tasks and their wakers.
        let enqueue = unsafe { core.as_ref() }.way_in.get();
        // SAFETY: the pointer and the function are of one executor; the caller has set `QUEUED`.
        unsafe { enqueue(core, self) }
    }

    /// Whether the last tenant's executor was this one.
    ///
    /// # Safety
    ///
    /// The caller has taken the slot off its list.
    pub(crate) unsafe fn is_of(self, core: NonNull<Core>) -> bool {
        // SAFETY: only who has the slot writes the cell.
        let last = unsafe { self.header().core.read() };
        last == core.as_ptr()
    }

    /// Says which executor the slot's new tenant belongs to.
    ///
    /// # Safety
    ///
    /// The caller has claimed the slot and not pushed it yet.
    #[inline]
    pub(crate) unsafe fn set_core(self, core: NonNull<Core>) {
        // SAFETY: the claim owns the cell.
        unsafe { self.header().core.write(core.as_ptr()) };
        self.header().home.store(core.as_ptr(), Relaxed);
    }

    /// Says which list the slot belongs to, and its place there.
    ///
    /// # Safety
    ///
    /// The caller is the slot's first user.
    pub(crate) unsafe fn set_list(self, list: &'static FreeList, index: u32) {
        // SAFETY: nobody else has the slot yet.
        unsafe { self.header().list.write(list) };
        self.header().index.store(index, Relaxed);
    }

    /// Puts the slot back on its list: the last thing that is done for a tenant.
    ///
    /// # Safety
    ///
    /// The caller has taken the slot off its list, or let go of the last of the tenant's references.
    #[inline]
    pub(crate) unsafe fn release(self) {
        // SAFETY: until it is on the list, the slot is the caller's.
        let list = unsafe { self.header().list.read() };
        // SAFETY: a store outlives every use of its slots.
        let list = unsafe { &*list };
        list.put(self.header().index.load(Relaxed), &self.header().below);
    }

    /// Notes which free slot is below this one. Returns this one's index.
    pub(crate) fn put_on(self, below: u32) -> u32 {
        self.header().below.store(below, Relaxed);
        self.header().index.load(Relaxed)
    }

    /// The task's turn in a run: a poll, or its end if it was cancelled.
    ///
    /// # Safety
    ///
    /// The caller is the run of this task's executor, and has just taken the task off the queue as `LIVE`.
    #[inline]
    pub(crate) unsafe fn turn(self, cancelled: bool, consumer: &mut Consumer) {
        // SAFETY: the run owns the cell.
        let vtable = unsafe { self.header().vtable.read() };
        let turn = if cancelled { vtable.cancel } else { vtable.poll };
        // SAFETY: what the claim and the turns before this one put there, called as it wants to be.
        unsafe { turn(self, consumer) }
    }

    /// Its name, if the task table has one.
    pub(crate) fn name(self) -> Option<&'static str> {
        #[cfg(feature = "table")]
        return self.header().record.origin().0;
        #[cfg(not(feature = "table"))]
        None
    }

    /// Whether the task is in a shielded section.
    #[inline]
    pub(crate) fn is_shielded(self) -> bool {
        self.header().shields.load(Relaxed) != 0
    }

    /// The task enters a shielded section.
    pub(crate) fn shield(self) {
        let shields = &self.header().shields;
        shields.store(shields.load(Relaxed).saturating_add(1), Relaxed);
    }

    /// It leaves one.
    pub(crate) fn unshield(self) {
        let shields = &self.header().shields;
        shields.store(shields.load(Relaxed).saturating_sub(1), Relaxed);
    }

    /// Says which scope the slot's new tenant is to be a member of.
    ///
    /// # Safety
    ///
    /// The caller has claimed the slot and not pushed it yet.
    #[inline]
    pub(crate) unsafe fn set_scope(self, scope: Option<&'static Scope>) {
        // SAFETY: the claim owns the cell.
        unsafe { self.header().scope.write(scope) };
        self.header().shields.store(0, Relaxed);
    }

    /// The scope that the task is a member of.
    ///
    /// # Safety
    ///
    /// The caller is the run, and the task has not ended.
    #[inline]
    pub(crate) unsafe fn scope(self) -> Option<&'static Scope> {
        // SAFETY: the run owns the cell.
        unsafe { self.header().scope.read() }
    }

    /// Changes what the next turn does.
    ///
    /// # Safety
    ///
    /// The caller is the run, in this task's turn, or has taken the slot off its list.
    #[inline]
    pub(crate) unsafe fn set_vtable(self, vtable: &'static VTable) {
        // SAFETY: the run owns the cell while the task is live, and who has the slot while it is not.
        unsafe { self.header().vtable.write(vtable) }
    }

    /// Fills or empties the cell of who waits for the outcome.
    ///
    /// # Safety
    ///
    /// The cell is the caller's: see `WAITING`.
    pub(crate) unsafe fn set_waiter(self, waiter: Option<Waker>) -> Option<Waker> {
        // SAFETY: the caller's promise.
        unsafe { self.header().waiter.with(|cell| core::mem::replace(cell, waiter)) }
    }
}
