//! The executor's doorbell is an event, and a system thread of the executor's own answers it.
//!
//! | of kexec's contract | what NT gives |
//! |---|---|
//! | rung from anywhere | `KeSetEvent`, up to `DISPATCH_LEVEL`; from above, a KDPC that sets it |
//! | doorbells merge | an event is set or not; a KDPC is queued once |
//! | one alarm, between two instants | a KTIMER that queues the same KDPC |
//! | one that is rung after a run began is answered | the wait resets a synchronization event before the run begins |
//! | one consumer | the thread: `may_run` knows it by its id |
//! | silence | the thread ends with its executor, and says so by its last touch; `KeFlushQueuedDpcs` waits for the KDPC |
//! | no thread in an image that is gone | `IoCreateSystemThread` keeps the driver loaded until the thread has exited |
//!
//! Not a work item: a task may block, which there would keep one of the system's few workers from everybody else;
//! an item must not be queued twice, and NT has no way to wait for one. And nobody but the thread runs the executor, so
//! that each run was rung for, once: when the last one ends, nobody is between a push and its doorbell.
#![expect(unsafe_code, reason = "NT is given the executor's address, and calls back with it")]

use core::{
    cell::UnsafeCell,
    ffi::c_void,
    fmt,
    mem::MaybeUninit,
    ptr,
    sync::atomic::{AtomicPtr, Ordering::Relaxed},
};

use kexec::{
    Budget, End, Executor, Run,
    irql::{Level, Passive, Raise},
    platform::{Alarm, AnyFuture, Platform, Ring},
    time::Instant,
};
use nt_sys::{
    _EVENT_TYPE, DISPATCH_LEVEL, KDPC, OBJ_KERNEL_HANDLE, OBJECT_ATTRIBUTES, PKDPC, PVOID, SYNCHRONIZE,
    ULONG, ntddk,
};

use crate::{
    alarm::Timer,
    clock::Clock,
    device::Driver,
    event::Event,
    irql::{Cpu, Lower},
    status::Status,
};

/// The platform of an executor that polls at `PASSIVE_LEVEL`, on a thread of its own.
///
/// A task may block: wait for a thread, read the registry, touch paged memory. Its executor's other tasks wait meanwhile.
pub struct Worker {
    doorbell: Event,
    /// Sets the doorbell for who rings above `DISPATCH_LEVEL`, and for the timer.
    relay: UnsafeCell<MaybeUninit<KDPC>>,
    timer: Timer,
    /// Set by the thread when it will not touch the executor any more.
    over: Event,
    /// The thread's id, once it runs.
    thread: AtomicPtr<c_void>,
    clock: Clock,
}

impl Worker {
    /// Makes an executor in its device's memory, and the thread that runs it until it is [closed](Executor::close).
    /// There is no other way to make one, because NT must know its address first.
    ///
    /// Whoever has one must close it before the memory may go, though no task was ever spawned.
    ///
    /// # Errors
    ///
    /// NT has no thread for it: `STATUS_INSUFFICIENT_RESOURCES`. Then nobody uses the memory.
    pub fn executor(
        name: &'static str,
        memory: &'static mut MaybeUninit<Executor<Self>>,
        budget: Budget,
        driver: Driver,
        passive: &mut Passive,
    ) -> Result<&'static Executor<Self>, Status> {
        let platform = Self {
            doorbell: Event::new(),
            relay: UnsafeCell::new(MaybeUninit::uninit()),
            timer: Timer::new(),
            over: Event::new(),
            thread: AtomicPtr::new(ptr::null_mut()),
            clock: Clock::new(),
        };
        let executor: &'static Executor<Self> = memory.write(Executor::named(name, platform, budget));
        let worker = executor.platform();
        // SAFETY: nobody has the executor yet; it stays where it is for as long as it is in use.
        unsafe { worker.doorbell.init(_EVENT_TYPE::SynchronizationEvent) };
        // SAFETY: as above.
        unsafe { worker.over.init(_EVENT_TYPE::NotificationEvent) };
        // SAFETY: as above.
        unsafe { worker.timer.init() };
        let context = ptr::from_ref(worker).cast_mut().cast();
        // SAFETY: as above.
        unsafe { ntddk::KeInitializeDpc(worker.relay(), Some(relay), context) };
        start(executor, driver, passive)?;
        Ok(executor)
    }

    fn relay(&self) -> *mut KDPC {
        self.relay.get().cast()
    }
}

/// Starts the executor's thread.
fn start(executor: &'static Executor<Worker>, driver: Driver, _passive: &mut Passive) -> Result<(), Status> {
    #[expect(clippy::cast_possible_truncation, reason = "48 bytes")]
    let mut attributes = OBJECT_ATTRIBUTES {
        Length: size_of::<OBJECT_ATTRIBUTES>() as ULONG,
        RootDirectory: ptr::null_mut(),
        ObjectName: ptr::null_mut(),
        Attributes: OBJ_KERNEL_HANDLE,
        SecurityDescriptor: ptr::null_mut(),
        SecurityQualityOfService: ptr::null_mut(),
    };
    let mut thread = ptr::null_mut();
    // SAFETY: at `PASSIVE_LEVEL`, as the token says; the driver is loaded, since its code runs. The executor is there until
    // it has been silenced, for which the thread says that it is over.
    Status::check(unsafe {
        ntddk::IoCreateSystemThread(
            driver.object().cast(),
            &raw mut thread,
            SYNCHRONIZE,
            &raw mut attributes,
            ptr::null_mut(),
            ptr::null_mut(),
            Some(serve),
            ptr::from_ref(executor).cast_mut().cast(),
        )
    })?;
    // It lives without its handle.
    // SAFETY: the handle was made just now, for this call alone.
    unsafe { ntddk::ZwClose(thread) };
    Ok(())
}

/// The thread's routine.
unsafe extern "C" fn serve(context: PVOID) {
    // SAFETY: the context that `start` gave; the memory is there until the thread has said that it is over.
    let executor: &'static Executor<Worker> = unsafe { &*context.cast::<Executor<Worker>>() };
    // SAFETY: NT calls a thread's routine at `PASSIVE_LEVEL`, and the token ends with this call.
    let mut level = unsafe { Passive::assume() };
    let worker = executor.platform();
    // SAFETY: callable at any level.
    worker.thread.store(unsafe { ntddk::PsGetCurrentThreadId() }, Relaxed);
    loop {
        worker.doorbell.wait(&mut level);
        if let Some(Run { end: End::Closed, .. }) = executor.try_run(&mut level) {
            break;
        }
    }
    // The last touch: the memory may be gone before this returns. NT keeps the image until the thread has exited.
    worker.over.set();
}

/// The routine of the KDPC.
unsafe extern "C" fn relay(_dpc: PKDPC, context: PVOID, _: PVOID, _: PVOID) {
    // SAFETY: the context that `executor` gave; the memory is there until the executor has been silenced.
    let worker = unsafe { &*context.cast::<Worker>() };
    worker.doorbell.set();
}

// SAFETY: NT serializes what is done to events and KDPCs; the rest is atomic or constant.
unsafe impl Sync for Worker {}

// SAFETY: as `Cpu`.
unsafe impl Raise for Worker {
    type Restore = Lower;

    #[inline]
    fn raise(&self) -> Lower {
        Cpu.raise()
    }
}

// SAFETY: an image for the kernel has no thread-locals; its PE has no TLS directory. And `may_run` is true of one thread.
unsafe impl AnyFuture for Worker {}

// SAFETY: nobody but the thread runs the executor, and `silence` waits until it will not do so any more.
unsafe impl Platform for Worker {
    type Level = Passive;

    #[inline]
    fn ring(&self, _why: Ring) {
        // SAFETY: callable at any level.
        if unsafe { ntddk::KeGetCurrentIrql() } <= DISPATCH_LEVEL {
            self.doorbell.set();
        } else {
            // SAFETY: the KDPC was initialized when the executor was made; callable at any level.
            unsafe { ntddk::KeInsertQueueDpc(self.relay(), ptr::null_mut(), ptr::null_mut()) };
        }
    }

    fn arm(&self, alarm: Option<Alarm>) {
        // SAFETY: timer and KDPC were initialized when the executor was made; a run is at `PASSIVE_LEVEL`.
        unsafe { self.timer.set(alarm, self.clock.now(), self.relay()) };
    }

    fn is_armed(&self) -> bool {
        // SAFETY: the timer was initialized when the executor was made; a run is at `PASSIVE_LEVEL`.
        unsafe { self.timer.is_set() }
    }

    #[inline]
    fn now(&self) -> Instant {
        self.clock.now()
    }

    #[inline]
    fn past(&self, deadline: Instant) -> bool {
        self.clock.now() >= deadline
    }

    #[inline]
    fn may_run(&self) -> bool {
        // SAFETY: callable at any level.
        self.thread.load(Relaxed) == unsafe { ntddk::PsGetCurrentThreadId() }
    }

    /// Waits for the thread, which the last run has ended, and then for the KDPC: it may have rung for that run, or the timer
    /// had expired before it was cancelled.
    fn silence(&self, passive: &mut Passive) {
        self.over.wait(passive);
        // SAFETY: the caller is at `PASSIVE_LEVEL`, as its token says.
        unsafe { ntddk::KeFlushQueuedDpcs() };
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("thread", &self.thread)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}
