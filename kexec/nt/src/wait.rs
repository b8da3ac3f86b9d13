//! A thread at `PASSIVE_LEVEL` waits for a task, or for an executor to close.
#![expect(unsafe_code, reason = "a waker of our own, counted, with an event that NT waits for")]

use core::{
    future::Future,
    pin::pin,
    ptr::NonNull,
    sync::atomic::{
        AtomicUsize,
        Ordering::{AcqRel, Relaxed},
    },
    task::{Context, Poll, RawWaker, RawWakerVTable, Waker},
};

use kexec::{Close, JoinHandle, irql::Passive};
use nt_sys::{_EVENT_TYPE, _MODE, _POOL_TYPE::NonPagedPoolNx, LARGE_INTEGER, ntddk};

use crate::{dpc::Dpc, event::Event, worker::Worker};

const TAG: u32 = u32::from_le_bytes(*b"Kexw");

/// What a thread may wait for: futures whose waker a run wakes, at `DISPATCH_LEVEL` or below, where an event may be set.
/// (A future that an interrupt wakes is awaited by a task.)
pub trait WokenByRun: Future + sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
}

impl<T> sealed::Sealed for JoinHandle<T> {}
impl<T> WokenByRun for JoinHandle<T> {}
impl sealed::Sealed for Close<Dpc> {}
impl WokenByRun for Close<Dpc> {}
impl sealed::Sealed for Close<Worker> {}
impl WokenByRun for Close<Worker> {}

/// Blocks the calling thread until the future is ready.
///
/// This allocates the event that it waits for; without memory for one it looks every ten milliseconds.
pub fn block_on<F: WokenByRun>(passive: &mut Passive, future: F) -> F::Output {
    let mut future = pin!(future);
    let Some(parker) = Parker::new() else {
        return look_for(passive, || match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        });
    };
    let waker = Parker::waker(parker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        // SAFETY: `waker` keeps the parker.
        unsafe { parker.as_ref() }.event.wait(passive);
    }
}

/// Blocks the calling thread until there is something: it looks every ten milliseconds. For what is hardly ever waited for.
pub fn look_for<T>(_passive: &mut Passive, mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = look() {
            return found;
        }
        // Negative: from now on, in units of 100 ns.
        let mut time = LARGE_INTEGER { QuadPart: -100_000 };
        // SAFETY: at `PASSIVE_LEVEL`, as the token says.
        unsafe { ntddk::KeDelayExecutionThread(_MODE::KernelMode, nt_sys::FALSE, &raw mut time) };
    }
}

/// An event, and how many wakers would set it. Counted, because a wake may still be on its way when the thread
/// has long seen what it was about.
struct Parker {
    wakers: AtomicUsize,
    event: Event,
}

impl Parker {
    /// With one waker, which is still to be [made](Self::waker).
    fn new() -> Option<NonNull<Self>> {
        // SAFETY: the caller has a token for `PASSIVE_LEVEL`.
        let room = unsafe { ntddk::ExAllocatePoolWithTag(NonPagedPoolNx, size_of::<Self>() as u64, TAG) };
        let parker = NonNull::new(room.cast::<Self>())?;
        // SAFETY: new memory, large enough and aligned as the pool aligns.
        unsafe { parker.write(Self { wakers: AtomicUsize::new(1), event: Event::new() }) };
        // SAFETY: written just now.
        let event = unsafe { &parker.as_ref().event };
        // SAFETY: nobody has the event yet; it stays where it is.
        unsafe { event.init(_EVENT_TYPE::SynchronizationEvent) };
        Some(parker)
    }

    fn waker(parker: NonNull<Self>) -> Waker {
        // SAFETY: the table keeps the contract of wakers: counted, and callable from any thread. No future of
        // `WokenByRun` is woken above `DISPATCH_LEVEL`.
        unsafe { Waker::new(parker.as_ptr().cast_const().cast(), &WAKER) }
    }
}

static WAKER: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, release);

unsafe fn clone(parker: *const ()) -> RawWaker {
    // SAFETY: the waker that is being cloned keeps the parker.
    unsafe { &*parker.cast::<Parker>() }.wakers.fetch_add(1, Relaxed);
    RawWaker::new(parker, &WAKER)
}

unsafe fn wake(parker: *const ()) {
    // SAFETY: the waker is this call's.
    unsafe { wake_by_ref(parker) };
    // SAFETY: and it is used up.
    unsafe { release(parker) };
}

unsafe fn wake_by_ref(parker: *const ()) {
    // SAFETY: the waker keeps the parker.
    unsafe { &*parker.cast::<Parker>() }.event.set();
}

unsafe fn release(parker: *const ()) {
    // SAFETY: the waker keeps the parker until it has been counted down.
    let before = unsafe { &*parker.cast::<Parker>() }.wakers.fetch_sub(1, AcqRel);
    if before == 1 {
        // SAFETY: it came from the pool, with this tag; this was the last waker, and the caller is at `DISPATCH_LEVEL` at most.
        unsafe { ntddk::ExFreePoolWithTag(parker.cast_mut().cast(), TAG) };
    }
}
