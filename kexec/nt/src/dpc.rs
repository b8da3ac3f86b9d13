//! The executor's doorbell is a KDPC, and its alarm a KTIMER that queues the same KDPC.
//!
//! | of kexec's contract | what NT gives |
//! |---|---|
//! | rung from anywhere | `KeInsertQueueDpc`, at any IRQL |
//! | doorbells merge | it does nothing while the KDPC is queued |
//! | one that is rung after a run began is answered | NT takes the KDPC off its queue before it calls the routine |
//! | one consumer | not NT's: a KDPC that is queued again may run on another CPU at once; `try_run` refuses that one |
//! | one alarm, between two instants | `KeSetCoalescableTimer`, which replaces what was set, and `KeCancelTimer`; up to `DISPATCH_LEVEL`, where a run is |
//! | whether it has gone off | `KeReadStateTimer`: a timer that has expired is signaled, before its KDPC is queued, until it is set again |
//! | silence | `KeFlushQueuedDpcs` waits for every DPC that is queued or in progress; a late one finds the executor closed |
#![expect(unsafe_code, reason = "NT is given the executor's address, and calls back with it")]

use core::{cell::UnsafeCell, fmt, mem::MaybeUninit, ptr};

use kexec::{
    Budget, Executor,
    irql::{Dispatch, Level, Passive, Raise},
    platform::{Alarm, AnyFuture, Platform, Ring},
    time::Instant,
};
use nt_sys::{KDPC, PKDPC, PVOID, ntddk};

use crate::{
    alarm::Timer,
    clock::Clock,
    irql::{Cpu, Lower},
};

/// The platform of an executor that runs in a DPC, on the CPU whose wake rang.
pub struct Dpc {
    kdpc: UnsafeCell<KDPC>,
    timer: Timer,
    clock: Clock,
}

impl Dpc {
    /// Makes an executor in its device's memory, ready to be rung. There is no other way to make one, because
    /// NT must know its address first.
    ///
    /// Callable at any level.
    pub fn executor(
        name: &'static str,
        memory: &'static mut MaybeUninit<Executor<Self>>,
        budget: Budget,
    ) -> &'static Executor<Self> {
        // A KDPC of zeros is none that NT knows; nobody sees it and the timer before they are initialized below.
        let kdpc = UnsafeCell::new(EMPTY);
        let executor: &'static Executor<Self> = memory.write(Executor::named(
            name,
            Self { kdpc, timer: Timer::new(), clock: Clock::new() },
            budget,
        ));
        let context = ptr::from_ref(executor).cast_mut().cast();
        // SAFETY: nobody has the executor yet; it stays where it is for as long as it is in use.
        unsafe { executor.platform().timer.init() };
        // SAFETY: nobody has the executor yet; it stays where it is for as long as it is in use.
        unsafe { ntddk::KeInitializeDpc(executor.platform().kdpc.get(), Some(run), context) };
        executor
    }
}

const EMPTY: KDPC = KDPC {
    __bindgen_anon_1: nt_sys::KDPC_TARGET { TargetInfoAsUlong: 0 },
    DpcListEntry: nt_sys::SINGLE_LIST_ENTRY { Next: ptr::null_mut() },
    ProcessorHistory: 0,
    DeferredRoutine: None,
    DeferredContext: ptr::null_mut(),
    SystemArgument1: ptr::null_mut(),
    SystemArgument2: ptr::null_mut(),
    DpcData: ptr::null_mut(),
};

/// The DPC's routine.
unsafe extern "C" fn run(_dpc: PKDPC, context: PVOID, _: PVOID, _: PVOID) {
    // SAFETY: the context that `executor` gave; the memory is there until the executor has been silenced.
    let executor: &'static Executor<Dpc> = unsafe { &*context.cast::<Executor<Dpc>>() };
    // SAFETY: NT calls a DPC's routine at `DISPATCH_LEVEL`, and the token ends with this call.
    let mut level = unsafe { Dispatch::assume() };
    executor.try_run(&mut level);
}

// SAFETY: NT serializes what is done to a KDPC and a KTIMER; nothing else is shared.
unsafe impl Sync for Dpc {}

// SAFETY: as `Cpu`.
unsafe impl Raise for Dpc {
    type Restore = Lower;

    #[inline]
    fn raise(&self) -> Lower {
        Cpu.raise()
    }
}

// SAFETY: an image for the kernel has no thread-locals; its PE has no TLS directory.
unsafe impl AnyFuture for Dpc {}

// SAFETY: `silence` waits for every DPC that was queued or running, and a closed executor queues none.
unsafe impl Platform for Dpc {
    type Level = Dispatch;

    #[inline]
    fn ring(&self, _why: Ring) {
        // SAFETY: the KDPC was initialized when the executor was made; callable at any level.
        unsafe { ntddk::KeInsertQueueDpc(self.kdpc.get(), ptr::null_mut(), ptr::null_mut()) };
    }

    fn arm(&self, alarm: Option<Alarm>) {
        // SAFETY: timer and KDPC were initialized when the executor was made; a run is at `DISPATCH_LEVEL`.
        unsafe { self.timer.set(alarm, self.clock.now(), self.kdpc.get()) };
    }

    fn is_armed(&self) -> bool {
        // SAFETY: the timer was initialized when the executor was made; a run is at `DISPATCH_LEVEL`.
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
        true
    }

    /// The timer was cancelled when the executor was closed, or had expired: then its KDPC is one of those.
    fn silence(&self, _passive: &mut Passive) {
        // SAFETY: the caller is at `PASSIVE_LEVEL`, as its token says.
        unsafe { ntddk::KeFlushQueuedDpcs() };
    }
}

impl fmt::Debug for Dpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dpc").field("clock", &self.clock).finish_non_exhaustive()
    }
}
