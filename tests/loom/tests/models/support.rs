//! What the models share: a platform whose doorbell orders nothing, and futures that notice a race.
#![expect(unsafe_code, reason = "a platform is a promise, and the models give their memory back")]

use core::{
    future::Future,
    ops::Deref,
    pin::Pin,
    sync::atomic::AtomicU64,
    task::{Context, Poll, Waker},
};

use kexec_loom::{
    Budget, Executor, Pool,
    irql::{Passive, Raise},
    platform::{Alarm, Platform, Ring},
    time::Instant,
};
use loom::{
    cell::UnsafeCell,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
};

/// Searches all interleavings with at most three preemptions.
pub(crate) fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 10_000;
    builder.check(f);
}

/// A doorbell is a count, an alarm a flag, and nothing is ordered by them: what a run must see, the executor's own
/// atomics have to show it.
pub(crate) struct Bell {
    rung: AtomicUsize,
    answered: AtomicUsize,
    armed: AtomicBool,
    /// The time in nanoseconds. Not loom's: clocks are not what the models search.
    time: AtomicU64,
}

impl Bell {
    pub(crate) fn new() -> Self {
        Self {
            rung: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            armed: AtomicBool::new(false),
            time: AtomicU64::new(0),
        }
    }

    pub(crate) fn set_time(&self, nanos: u64) {
        self.time.store(nanos, Relaxed);
    }

    /// The alarm goes off, if one is armed.
    pub(crate) fn goes_off(&self) -> bool {
        self.armed.swap(false, Relaxed)
    }

    pub(crate) fn rung(&self) -> usize {
        self.rung.load(Relaxed)
    }
}

// SAFETY: loom's threads have no levels.
unsafe impl Raise for Bell {
    type Restore = ();

    fn raise(&self) {}
}

// SAFETY: a doorbell is a count.
unsafe impl Platform for Bell {
    type Level = ();

    fn ring(&self, _why: Ring) {
        self.rung.fetch_add(1, Relaxed);
    }

    fn arm(&self, alarm: Option<Alarm>) {
        // Not a store: loom would let it come before a read-modify-write that has not seen it.
        self.armed.swap(alarm.is_some(), Relaxed);
    }

    fn is_armed(&self) -> bool {
        self.armed.load(Relaxed)
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.time.load(Relaxed))
    }

    fn past(&self, _deadline: Instant) -> bool {
        false
    }

    fn may_run(&self) -> bool {
        true
    }

    fn silence(&self, _passive: &mut Passive) {}
}

/// Memory that is `'static` until the end of a model, where loom sees whether everybody is done with it.
pub(crate) struct Leaked<T: 'static>(&'static T);

impl<T> Leaked<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Box::leak(Box::new(value)))
    }
}

impl<T> Deref for Leaked<T> {
    type Target = &'static T;

    fn deref(&self) -> &&'static T {
        &self.0
    }
}

impl<T> Drop for Leaked<T> {
    fn drop(&mut self) {
        // SAFETY: the models let go of everything before this.
        drop(unsafe { Box::from_raw(core::ptr::from_ref(self.0).cast_mut()) });
    }
}

pub(crate) type Exec = Executor<Bell>;
/// Room for the models' futures, outputs and epilogues.
pub(crate) const ROOM: usize = 192;

pub(crate) fn executor(polls: u32) -> Leaked<Exec> {
    Leaked::new(Executor::new(Bell::new(), Budget::new(polls, core::time::Duration::MAX)))
}

pub(crate) fn pool<const N: usize>() -> Leaked<Pool<ROOM, N>> {
    Leaked::new(Pool::new())
}

/// One CPU, looking for doorbells a few times.
pub(crate) fn serve(executor: &'static Exec, times: usize) {
    for _ in 0..times {
        let bell = executor.platform();
        let answered = bell.answered.load(Relaxed);
        if bell.rung.load(Relaxed) > answered
            && bell.answered.compare_exchange(answered, answered + 1, Relaxed, Relaxed).is_ok()
        {
            executor.try_run(&mut ());
        }
    }
}

/// Answers every doorbell that was rung. Nothing may be lost: at the end, a doorbell is on its way for
/// whatever is left.
pub(crate) fn settle(executor: &'static Exec) {
    let bell = executor.platform();
    while bell.rung.load(Acquire) > bell.answered.load(Acquire) {
        bell.answered.fetch_add(1, AcqRel);
        executor.try_run(&mut ());
    }
}

/// Closes an executor that nobody else touches any more.
pub(crate) fn close(executor: &'static Exec) {
    let mut close = core::pin::pin!(executor.close().expect("nobody else closes it"));
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..4 {
        if close.as_mut().poll(&mut cx).is_ready() {
            return;
        }
        settle(executor);
    }
    panic!("the executor does not close; {} tasks are left", executor.live());
}

/// Ready once all flags are up. It counts its polls in a cell that no two consumers may touch at once.
pub(crate) struct Wait {
    flags: Vec<Arc<AtomicBool>>,
    polls: UnsafeCell<u32>,
    waker: Arc<WakerCell>,
    dropped: Counted,
}

/// Lets the future's waker out, the way an interrupt's task is bound at connect time.
pub(crate) struct WakerCell {
    full: AtomicBool,
    waker: UnsafeCell<Option<Waker>>,
}

// SAFETY: written before `full` is raised, read after.
unsafe impl Sync for WakerCell {}
// SAFETY: as above.
unsafe impl Send for WakerCell {}

impl WakerCell {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { full: AtomicBool::new(false), waker: UnsafeCell::new(None) })
    }

    fn put(&self, waker: &Waker) {
        if !self.full.load(Relaxed) {
            // SAFETY: the one future that this cell is for writes it once.
            self.waker.with_mut(|cell| unsafe { *cell = Some(waker.clone()) });
            self.full.store(true, loom::sync::atomic::Ordering::Release);
        }
    }

    pub(crate) fn get(&self) -> Option<Waker> {
        // SAFETY: full cells are not written.
        self.full.load(Acquire).then(|| self.waker.with(|cell| unsafe { (*cell).clone() })).flatten()
    }
}

/// Counts drops.
#[derive(Clone)]
pub(crate) struct Counted(pub(crate) Arc<AtomicUsize>);

impl Counted {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicUsize::new(0)))
    }

    pub(crate) fn drops(&self) -> usize {
        self.0.load(Acquire)
    }
}

impl Wait {
    pub(crate) fn new(flags: &[&Arc<AtomicBool>]) -> Self {
        Self::with(flags, WakerCell::new(), Counted::new())
    }

    pub(crate) fn with(flags: &[&Arc<AtomicBool>], waker: Arc<WakerCell>, dropped: Counted) -> Self {
        Self {
            flags: flags.iter().map(|&flag| flag.clone()).collect(),
            polls: UnsafeCell::new(0),
            waker,
            dropped,
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.dropped.0.fetch_add(1, AcqRel);
        // SAFETY: the future is being dropped; loom checks that nobody else is at it.
        self.polls.with_mut(|polls| unsafe { *polls += 1 });
    }
}

impl Future for Wait {
    type Output = u32;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u32> {
        self.waker.put(cx.waker());
        // SAFETY: the future is being polled; loom checks that nobody else is at it.
        self.polls.with_mut(|polls| unsafe { *polls += 1 });
        // SAFETY: as above.
        let polls = self.polls.with(|polls| unsafe { *polls });
        // Relaxed on purpose: the wake has to order it.
        if self.flags.iter().all(|flag| flag.load(Relaxed)) { Poll::Ready(polls) } else { Poll::Pending }
    }
}

/// A place that is written on one thread and read on another: loom sees whether the two are ordered.
#[derive(Clone)]
pub(crate) struct Place(Arc<UnsafeCell<u32>>);

// SAFETY: loom checks that accesses are ordered; that is what it is for.
unsafe impl Send for Place {}
// SAFETY: as above.
unsafe impl Sync for Place {}

impl Place {
    pub(crate) fn new() -> Self {
        Self(Arc::new(UnsafeCell::new(0)))
    }

    pub(crate) fn write(&self) {
        // SAFETY: loom checks it.
        self.0.with_mut(|place| unsafe { *place += 1 });
    }

    pub(crate) fn read(&self) -> u32 {
        // SAFETY: loom checks it.
        self.0.with(|place| unsafe { *place })
    }
}

/// Writes to its place when it is dropped; as a waker, when the last clone is.
pub(crate) struct Mark(pub(crate) Place);

impl Drop for Mark {
    fn drop(&mut self) {
        self.0.write();
    }
}

impl std::task::Wake for Mark {
    fn wake(self: std::sync::Arc<Self>) {
        drop(self);
    }
}

pub(crate) fn flag(up: bool) -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(up))
}
