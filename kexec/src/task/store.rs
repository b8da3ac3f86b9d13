//! Slots for tasks: a pool in a `static`, or a table in memory that a device allocated once.
#![expect(
    unsafe_code,
    reason = "slots are typed when they are filled, and a table's memory comes from outside"
)]

use core::{
    alloc::Layout,
    cell::UnsafeCell,
    fmt,
    future::Future,
    mem::{self, MaybeUninit},
    pin::Pin,
    ptr::{self, NonNull},
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
    task::{Context, Poll},
};

use pin_project::pin_project;

#[cfg(all(feature = "std", feature = "table"))]
use super::waker::TaskRef;
use super::{Header, Task, VTable, state::Snapshot};
#[cfg(feature = "table")]
use crate::task_table::head::Head;
use crate::{
    atomics::{AtomicU32, AtomicU64, const_fn},
    executor::Core,
    sync::{ManualEvent, Wait},
    task_table::Kind,
};

/// Bodies are aligned to this; a task that wants more does not compile.
pub(crate) const ALIGN: usize = 16;

/// Which of two queues a store's tasks wait in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Lane {
    /// Handshakes, resets, watches: ahead of all data tasks, but for one in seventeen turns.
    Control = 0,
    /// Requests and rings.
    #[default]
    Data = 1,
}

/// Room for one task of up to `S` bytes: the largest of its closure, its future and its output, and
/// its epilogue.
#[repr(C, align(16))]
pub struct Slot<const S: usize> {
    header: Header,
    body: UnsafeCell<[MaybeUninit<u8>; S]>,
}

// SAFETY: the header is shared by its protocols; the body is the run's, or the handle's once the task has ended.
unsafe impl<const S: usize> Sync for Slot<S> {}

impl<const S: usize> Slot<S> {
    const_fn! {
        fn new() -> Self {
            Self { header: Header::new(), body: UnsafeCell::new([MaybeUninit::uninit(); S]) }
        }
    }
}

/// Slots and the list of those that are free. Known as [`Pool`] and, of any length, as [`Table`].
///
/// A store tells in its first bytes what it is, so that a copy of its memory can be read: see
/// [`task_table`](crate::task_table).
#[repr(C)]
pub struct Store<T: ?Sized> {
    #[cfg(feature = "table")]
    head: Head,
    free: FreeList,
    slots: T,
}

/// `N` slots of `S` bytes, for a `static`. [`task_size`](crate::task_size) and
/// [`request_size`](crate::request_size) tell `S`:
///
/// ```
/// use kexec::{Pool, irql::Dispatch, task_size};
///
/// async fn read(_: &mut Dispatch, lba: u64) -> u64 {
///     lba
/// }
///
/// static READS: Pool<{ task_size(&read) }, 32> = Pool::new();
/// ```
///
/// A generic `async fn` has a size once its types are named, as a driver does:
///
/// ```
/// use kexec::{Pool, irql::Dispatch, task_size};
///
/// trait Bus: 'static {
///     fn version(&self) -> u32;
/// }
///
/// async fn connect<B: Bus>(_: &mut Dispatch, bus: B) -> u32 {
///     bus.version()
/// }
///
/// struct Native;
/// impl Bus for Native {
///     fn version(&self) -> u32 {
///         4
///     }
/// }
///
/// static CONNECTIONS: Pool<{ task_size(&connect::<Native>) }, 4> = Pool::control();
/// ```
pub type Pool<const S: usize, const N: usize> = Store<[Slot<S>; N]>;

/// Slots of `S` bytes, however many. A `&'static` pool becomes one by itself; [`init`](Self::init) makes one
/// in a device's memory.
pub type Table<const S: usize> = Store<[Slot<S>]>;

impl<const S: usize, const N: usize> Pool<S, N> {
    const_fn! {
        /// A pool of data tasks.
        #[must_use]
        pub fn new() -> Self {
            Self::in_lane(Lane::Data)
        }
    }

    const_fn! {
        /// A pool of control tasks.
        #[must_use]
        pub fn control() -> Self {
            Self::in_lane(Lane::Control)
        }
    }

    const_fn! {
        /// A pool whose tasks wait in `lane`.
        #[must_use]
        pub fn in_lane(lane: Lane) -> Self {
            const { assert!(N <= FreeList::MOST, "a pool has at most 65,535 slots") };
            #[cfg(not(loom))]
            let slots = [const { Slot::new() }; N];
            #[cfg(loom)]
            let slots = core::array::from_fn(|_| Slot::new());
            Self {
                #[cfg(feature = "table")]
                head: Head::new(N, size_of::<Slot<S>>()),
                free: FreeList::new(lane),
                slots,
            }
        }
    }
}

impl<const S: usize, const N: usize> Pool<S, N> {
    /// The pool as a table, whose methods it has then.
    #[must_use]
    pub const fn as_table(&self) -> &Table<S> {
        self
    }
}

impl<const S: usize, const N: usize> Default for Pool<S, N> {
    fn default() -> Self {
        Self::new()
    }
}

/// A slot that is off the list, and still empty.
#[derive(Clone, Copy)]
pub(crate) struct Claimed {
    pub(crate) task: Task,
    /// None while a stale wake's entry for this slot is in the queue: it will serve the tenant.
    tenant: Option<Snapshot>,
    control: bool,
    handle: bool,
}

impl Claimed {
    /// Moves the tenant in: `fill` puts it into the slot, which is then queued. Returns its generation.
    ///
    /// # Safety
    ///
    /// `core` is what the slot was claimed for, with provenance over the whole executor; `vtable` is for what
    /// `fill` puts there, and the executor counts the tenant.
    #[inline]
    pub(crate) unsafe fn move_in(
        self,
        core: NonNull<Core>,
        vtable: &'static VTable,
        fill: impl FnOnce(Task),
    ) -> u64 {
        let Self { task, tenant, control, handle } = self;
        // SAFETY: no run looks at the slot before it is queued as live.
        unsafe { task.set_vtable(vtable) };
        fill(task);
        let (queued, tenant) = if let Some(tenant) = tenant {
            // SAFETY: the claim has set `QUEUED`, so that nobody reads it.
            unsafe { task.set_core(core) };
            (false, tenant)
        } else {
            let (before, tenant) = task.state().publish(control, handle);
            (before.is_queued(), tenant)
        };
        if !queued {
            // SAFETY: `QUEUED` is set, and was not before.
            unsafe { task.enqueue() };
        }
        tenant.generation()
    }

    /// Gives the slot back empty.
    pub(crate) fn give_back(self) {
        if self.tenant.is_some() {
            self.task.state().unclaim();
        }
        // SAFETY: the slot is off the list, and nobody's.
        unsafe { self.task.release() };
    }
}

/// Why a table could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableError {
    /// More slots than a table can have.
    TooMany(usize),
    /// The memory is not aligned to this many bytes.
    Misaligned(usize),
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany(slots) => {
                write!(f, "a table of {slots} slots; at most {} are possible", FreeList::MOST)
            }
            Self::Misaligned(align) => write!(f, "the memory of a table must be aligned to {align} bytes"),
        }
    }
}

impl core::error::Error for TableError {}

impl<const S: usize> Table<S> {
    /// The memory that a table of `slots` takes: size and alignment in bytes. None if that cannot be told.
    #[must_use]
    pub fn layout(slots: usize) -> Option<Layout> {
        let (table, _) = Layout::new::<Pool<S, 0>>().extend(Layout::array::<Slot<S>>(slots).ok()?).ok()?;
        Some(table.pad_to_align())
    }

    /// Makes a table in memory that a device owns.
    ///
    /// # Safety
    ///
    /// `memory` is valid for reads and writes of [`layout`](Self::layout)`(slots)`, at any level and from
    /// any CPU; nobody else uses it, and it is not given back, until
    /// 1. every executor that was given tasks of this table has been [run down](crate::Rundown);
    /// 2. no waker, [name](crate::TaskRef) or handle of any of its tasks is left, and no call of theirs is in progress.
    ///
    /// # Errors
    ///
    /// See [`TableError`]; the memory was not touched.
    pub unsafe fn init(memory: NonNull<u8>, slots: usize, lane: Lane) -> Result<&'static Self, TableError> {
        if slots > FreeList::MOST {
            return Err(TableError::TooMany(slots));
        }
        if !memory.addr().get().is_multiple_of(align_of::<Pool<S, 0>>()) {
            return Err(TableError::Misaligned(align_of::<Pool<S, 0>>()));
        }
        let empty = memory.cast::<Pool<S, 0>>();
        let store = Store {
            #[cfg(feature = "table")]
            head: Head::new(slots, size_of::<Slot<S>>()),
            free: FreeList::new(lane),
            slots: [],
        };
        // SAFETY: the layout begins with the table's own part.
        unsafe { empty.write(store) };
        // SAFETY: the slots follow it.
        let mut slot = unsafe { empty.add(1) }.cast::<Slot<S>>();
        for _ in 0..slots {
            // SAFETY: the layout has room for so many.
            unsafe { slot.write(Slot::new()) };
            // SAFETY: at most one past the last of them.
            slot = unsafe { slot.add(1) };
        }
        let table = ptr::slice_from_raw_parts(memory.as_ptr().cast::<Slot<S>>(), slots) as *const Self;
        // SAFETY: written in full, just now; shared from now on, for as long as the caller promises.
        Ok(unsafe { &*table })
    }

    /// Waits until a slot is free, for whoever was told [`Full`](crate::SpawnError::Full).
    ///
    /// No slot is reserved: another spawn may take it, and then there is another wait. To be polled up to
    /// `DISPATCH_LEVEL`.
    ///
    /// **Cancel-safe:** loses nothing.
    #[track_caller]
    pub fn vacancy(&'static self) -> Vacancy {
        Vacancy {
            free: &self.free,
            slots: self.slots.len(),
            asked: false,
            freed: self.free.freed.wait_as(&VACANCY),
        }
    }

    /// Claims a free slot for a new tenant of `core`, which is to have a handle or not.
    #[inline]
    pub(crate) fn claim(&'static self, core: NonNull<Core>, handle: bool) -> Option<Claimed> {
        let control = self.free.lane == Lane::Control;
        // Slots that a stale wake has queued on another executor: they can be had when that has run.
        let mut aside = FreeList::END;
        let claimed = loop {
            let Some(task) = self.take() else { break None };
            let tenant = task.state().claim(control, handle);
            // SAFETY: the slot is off the list.
            if tenant.is_some() || unsafe { task.is_of(core) } {
                break Some(Claimed { task, tenant, control, handle });
            }
            aside = task.put_on(aside);
        };
        while let Some(task) = self.task(aside) {
            aside = task.header().below.load(Relaxed);
            // SAFETY: the slot was taken off the list and not claimed.
            unsafe { task.release() };
        }
        claimed
    }

    /// Takes a slot off the list: the one freed last, or else one that was never used.
    #[inline]
    fn take(&'static self) -> Option<Task> {
        if let Some(task) = self.take_freed() {
            return Some(task);
        }
        #[cfg(feature = "table")]
        self.head.sign();
        let index = self.free.first_use(self.slots.len())?;
        let task = self.task(index)?;
        // SAFETY: nobody else has ever had the slot.
        unsafe { task.set_list(&self.free, index) };
        Some(task)
    }

    /// Takes the slot that was freed last.
    ///
    /// Acquire, for the slot under the top one, and for the slot itself.
    #[inline]
    fn take_freed(&'static self) -> Option<Task> {
        let mut seen = self.free.top.load(Acquire);
        while let Some(task) = self.task(FreeList::index(seen)) {
            let rest = FreeList::changed(seen, task.header().below.load(Relaxed));
            match self.free.top.compare_exchange_weak(seen, rest, Relaxed, Acquire) {
                Ok(_) => return Some(task),
                Err(now) => seen = now,
            }
        }
        None
    }

    /// Puts the free slots in the order in which a new store gives them out, so that tasks which are spawned in the same
    /// order are found in the same order. How many slots that were used are not free.
    #[cfg(all(feature = "std", feature = "table"))]
    pub(crate) fn tidy(&'static self) -> u32 {
        let mut free: std::vec::Vec<_> = core::iter::from_fn(|| self.take_freed()).collect();
        let lost = self.high_water().saturating_sub(free.len().try_into().unwrap_or(u32::MAX));
        free.sort_unstable_by_key(|task| core::cmp::Reverse(task.header().index.load(Relaxed)));
        for task in free {
            // SAFETY: the slot was taken off the list and not claimed.
            unsafe { task.release() };
        }
        lost
    }

    /// The name of the task that a row of this table is of.
    #[cfg(all(feature = "std", feature = "table"))]
    pub(crate) fn name_of(&'static self, row: &crate::task_table::Row<'_>) -> Option<TaskRef> {
        Some(TaskRef::new(self.task(row.slot)?, row.generation))
    }

    #[inline]
    fn task(&'static self, index: u32) -> Option<Task> {
        let slot = self.slots.get(usize::try_from(index).ok()?)?;
        // SAFETY: the pointer is to a whole slot, which is there for as long as the store.
        Some(unsafe { Task::new(NonNull::from(slot).cast()) })
    }
}

static VACANCY: Kind = Kind::new("free slot");

/// The future of [`Table::vacancy`].
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Vacancy {
    free: &'static FreeList,
    slots: usize,
    asked: bool,
    #[pin]
    freed: Wait<'static, ManualEvent>,
}

impl Future for Vacancy {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        // Asked after the wait has begun: a slot that is freed from now on ends it.
        if !mem::replace(this.asked, true) && this.free.want(*this.slots) {
            return Poll::Ready(());
        }
        this.freed.poll(cx)
    }
}

impl<T: ?Sized> Store<T> {
    /// How many slots have ever been used at the same time: what the store's size should be judged by.
    pub fn high_water(&self) -> u32 {
        self.free.used.load(Relaxed)
    }
}

/// What the task table reads.
#[cfg(feature = "table")]
impl<const S: usize> Table<S> {
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    pub(crate) fn lane(&self) -> Lane {
        self.free.lane
    }

    pub(crate) fn header(&self, index: u32) -> Option<&Header> {
        self.slots.get(usize::try_from(index).ok()?).map(|slot| &slot.header)
    }
}

#[cfg(feature = "table")]
impl Lane {
    /// How a store's memory tells it.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn of_code(code: u8) -> Option<Self> {
        [Self::Control, Self::Data].into_iter().find(|lane| lane.code() == code)
    }
}

#[cfg(all(feature = "table", not(loom)))]
const _: () = {
    use core::mem::offset_of;

    use crate::task_table::head::at;
    assert!(offset_of!(Pool<0, 0>, head) == 0 && offset_of!(Pool<0, 0>, free) == at::FREE_LIST);
    assert!(offset_of!(Pool<0, 0>, free.used) == at::USED);
    assert!(offset_of!(Pool<0, 0>, free.lane) == at::LANE && offset_of!(Pool<0, 0>, slots) == at::SLOT);
    assert!(offset_of!(Slot<0>, header) == 0, "what is in a header is as far in its slot");
};

impl<T: ?Sized> fmt::Debug for Store<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("lane", &self.free.lane).finish_non_exhaustive()
    }
}

impl<const S: usize> fmt::Debug for Slot<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot<{S}>")
    }
}

/// The free slots of a store: a stack of indices, the last one freed on top; below all of them, the slots that
/// were never used, whose memory is not touched before.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct FreeList {
    /// The index on top in the low 16 bits; then [`WANTED`](Self::WANTED); above it a count of changes, so that a slow
    /// reader cannot take an old top for the present one.
    top: AtomicU64,
    /// How many slots have ever been used.
    used: AtomicU32,
    /// Which lane their tasks wait in.
    lane: Lane,
    /// Set and reset at once when a slot is freed that somebody waits for.
    freed: ManualEvent,
}

impl FreeList {
    /// The most slots that can be told apart.
    const MOST: usize = 0xFFFF;
    /// No slot.
    const END: u32 = 0xFFFF;
    const INDEX: u64 = 0xFFFF;
    /// Somebody waits for a slot to be freed.
    const WANTED: u64 = 1 << 16;

    const_fn! {
        fn new(lane: Lane) -> Self {
            Self {
                top: AtomicU64::new(Self::INDEX),
                used: AtomicU32::new(0),
                lane,
                freed: ManualEvent::new(false),
            }
        }
    }

    /// The slot on top.
    #[inline]
    fn index(word: u64) -> u32 {
        (word & Self::INDEX) as u32
    }

    /// The word after `word`, with another slot on top.
    #[inline]
    fn changed(word: u64, top: u32) -> u64 {
        (word & !Self::INDEX).wrapping_add(Self::WANTED << 1) | u64::from(top)
    }

    /// A slot that was never used, of so many.
    fn first_use(&self, slots: usize) -> Option<u32> {
        let slots = u32::try_from(slots).ok()?;
        let mut seen = self.used.load(Relaxed);
        while seen < slots {
            match self.used.compare_exchange_weak(seen, seen.wrapping_add(1), Relaxed, Relaxed) {
                Ok(_) => return Some(seen),
                Err(now) => seen = now,
            }
        }
        None
    }

    /// Puts a slot on top, whose place for what is below it is `below`.
    ///
    /// Release: whoever takes the slot writes to it.
    #[inline]
    pub(crate) fn put(&self, index: u32, below: &AtomicU32) {
        let mut seen = self.top.load(Relaxed);
        loop {
            below.store(Self::index(seen), Relaxed);
            let put = Self::changed(seen, index) & !Self::WANTED;
            match self.top.compare_exchange_weak(seen, put, Release, Relaxed) {
                Ok(_) if seen & Self::WANTED == 0 => return,
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        self.freed.set();
        self.freed.reset();
    }

    /// Asks to be told of the next slot that is freed; true if there is a free one, of so many.
    ///
    /// Relaxed: the slot is taken by a spawn, which looks for itself.
    fn want(&self, slots: usize) -> bool {
        let seen = self.top.fetch_or(Self::WANTED, Relaxed);
        let used = usize::try_from(self.used.load(Relaxed)).unwrap_or(usize::MAX);
        Self::index(seen) != Self::END || used < slots
    }
}
