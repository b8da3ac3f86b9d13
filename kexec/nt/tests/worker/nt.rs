//! What of NT the worker calls: the IRQL is a thread's own, and each DPC is a thread.
//!
//! A double that is called where it must not be panics, which aborts the test: nothing unwinds through NT.

use std::{
    cell::Cell,
    collections::BTreeMap,
    ffi::c_void,
    ptr,
    sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use kexec::Executor;
use kexec_nt::Worker;
use nt_sys::{
    _EVENT_TYPE, _TIMER_TYPE, APC_LEVEL, DISPATCH_LEVEL, EVENT_TYPE, HANDLE, KDPC, KEVENT, KTIMER,
    LARGE_INTEGER, NTSTATUS, OBJ_KERNEL_HANDLE, PASSIVE_LEVEL, PCLIENT_ID, PHANDLE, PKDEFERRED_ROUTINE,
    PKSTART_ROUTINE, PLARGE_INTEGER, POBJECT_ATTRIBUTES, PVOID, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_SUCCESS, TIMER_TYPE,
};

/// What there is, by address.
static NT: Mutex<Nt> = Mutex::new(Nt {
    events: BTreeMap::new(),
    dpcs: BTreeMap::new(),
    running: 0,
    queued_ever: 0,
    threads: BTreeMap::new(),
    timers: BTreeMap::new(),
});
static CHANGED: Condvar = Condvar::new();
/// When the performance counter began to count.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

struct Nt {
    events: BTreeMap<usize, Event>,
    dpcs: BTreeMap<usize, Dpc>,
    /// DPCs that are queued, or whose routine runs.
    running: u32,
    queued_ever: u32,
    /// Whether it has ended, by the address of its context.
    threads: BTreeMap<usize, bool>,
    timers: BTreeMap<usize, Timer>,
}

/// A KTIMER. Each setting has a number, so that an expiry that was meant for another one is none.
#[derive(Clone, Copy, Default)]
struct Timer {
    setting: u64,
    is_set: bool,
    has_expired: bool,
}

struct Event {
    is_notification: bool,
    is_set: bool,
}

#[derive(Clone, Copy)]
struct Dpc {
    routine: PKDEFERRED_ROUTINE,
    context: usize,
    is_queued: bool,
}

thread_local! {
    static IRQL: Cell<u8> = const { Cell::new(PASSIVE_LEVEL) };
    static HAS_THREADS: Cell<bool> = const { Cell::new(true) };
    /// Its address is the thread's id.
    static ID: u8 = const { 0 };
}

fn nt() -> MutexGuard<'static, Nt> {
    NT.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait_while(condition: impl FnMut(&mut Nt) -> bool) -> MutexGuard<'static, Nt> {
    CHANGED.wait_while(nt(), condition).unwrap_or_else(PoisonError::into_inner)
}

/// Does something at this IRQL.
pub(crate) fn at<R>(irql: u8, f: impl FnOnce() -> R) -> R {
    let before = IRQL.replace(irql);
    let result = f();
    IRQL.set(before);
    result
}

/// Does something in a system that has no thread to give.
pub(crate) fn without_threads<R>(f: impl FnOnce() -> R) -> R {
    HAS_THREADS.set(false);
    let result = f();
    HAS_THREADS.set(true);
    result
}

/// How many DPCs have been queued.
pub(crate) fn dpcs() -> u32 {
    nt().queued_ever
}

/// Whether the thread of an executor has exited.
pub(crate) fn has_exited(executor: &'static Executor<Worker>) -> bool {
    nt().threads[&ptr::from_ref(executor).addr()]
}

#[unsafe(no_mangle)]
extern "C" fn KeGetCurrentIrql() -> u8 {
    IRQL.get()
}

#[unsafe(no_mangle)]
extern "C" fn KeRaiseIrqlToDpcLevel() -> u8 {
    assert!(IRQL.get() <= DISPATCH_LEVEL);
    IRQL.replace(DISPATCH_LEVEL)
}

#[unsafe(no_mangle)]
extern "C" fn KeLowerIrql(irql: u8) {
    assert!(irql <= IRQL.replace(irql));
}

#[unsafe(no_mangle)]
extern "C" fn KeQueryPerformanceCounter(frequency: PLARGE_INTEGER) -> LARGE_INTEGER {
    if !frequency.is_null() {
        // SAFETY: it is a place for the answer.
        unsafe { frequency.write(LARGE_INTEGER { QuadPart: 1_000_000_000 }) };
    }
    LARGE_INTEGER { QuadPart: START.elapsed().as_nanos().try_into().expect("it is less than an age") }
}

#[unsafe(no_mangle)]
extern "C" fn KeInitializeEvent(event: *mut KEVENT, kind: EVENT_TYPE, state: u8) {
    let is_notification = kind == _EVENT_TYPE::NotificationEvent;
    nt().events.insert(event.addr(), Event { is_notification, is_set: state != 0 });
}

/// `KeSetEvent`: up to `DISPATCH_LEVEL`.
#[unsafe(no_mangle)]
extern "C" fn KeSetEvent(event: *mut KEVENT, _increment: i32, wait: u8) -> i32 {
    assert!(IRQL.get() <= DISPATCH_LEVEL && wait == 0);
    let mut nt = nt();
    let was_set = &mut nt.events.get_mut(&event.addr()).expect("it was initialized").is_set;
    let before = std::mem::replace(was_set, true);
    CHANGED.notify_all();
    before.into()
}

/// `KeWaitForSingleObject`: a synchronization event is reset by the wait that it ends.
#[unsafe(no_mangle)]
extern "C" fn KeWaitForSingleObject(
    object: PVOID,
    _reason: i32,
    _mode: i8,
    alertable: u8,
    timeout: PLARGE_INTEGER,
) -> NTSTATUS {
    assert!(IRQL.get() <= APC_LEVEL && alertable == 0 && timeout.is_null());
    let mut nt = wait_while(|nt| !nt.events[&object.addr()].is_set);
    let event = nt.events.get_mut(&object.addr()).expect("it was initialized");
    event.is_set = event.is_notification;
    STATUS_SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn KeInitializeDpc(dpc: *mut KDPC, routine: PKDEFERRED_ROUTINE, context: PVOID) {
    nt().dpcs.insert(dpc.addr(), Dpc { routine, context: context.expose_provenance(), is_queued: false });
}

/// `KeInsertQueueDpc`: a DPC leaves its queue before its routine is called.
#[unsafe(no_mangle)]
extern "C" fn KeInsertQueueDpc(dpc: *mut KDPC, _first: PVOID, _second: PVOID) -> u8 {
    let address = dpc.addr();
    {
        let mut nt = nt();
        let queued = nt.dpcs.get_mut(&address).expect("it was initialized");
        if std::mem::replace(&mut queued.is_queued, true) {
            return 0;
        }
        nt.running += 1;
        nt.queued_ever += 1;
    }
    thread::spawn(move || {
        let Dpc { routine, context, .. } = {
            let mut nt = nt();
            let dpc = nt.dpcs.get_mut(&address).expect("it was initialized");
            dpc.is_queued = false;
            *dpc
        };
        let routine = routine.expect("it has one");
        let context = ptr::with_exposed_provenance_mut::<c_void>(context);
        // SAFETY: the routine and its context, as the worker has given them.
        let call = || unsafe { routine(ptr::null_mut(), context, ptr::null_mut(), ptr::null_mut()) };
        at(DISPATCH_LEVEL, call);
        nt().running -= 1;
        CHANGED.notify_all();
    });
    1
}

#[unsafe(no_mangle)]
extern "C" fn KeInitializeTimerEx(timer: *mut KTIMER, kind: TIMER_TYPE) {
    assert_eq!(kind, _TIMER_TYPE::NotificationTimer);
    nt().timers.insert(timer.addr(), Timer::default());
}

/// `KeSetCoalescableTimer`: a negative time is from now on, in units of 100 ns; what was set before is not any more, and
/// the timer is not signaled until it expires. It may expire up to the tolerable delay later; this one uses all of it.
#[unsafe(no_mangle)]
extern "C" fn KeSetCoalescableTimer(
    timer: *mut KTIMER,
    due: LARGE_INTEGER,
    period: u32,
    tolerable: u32,
    dpc: *mut KDPC,
) -> u8 {
    assert!(IRQL.get() <= DISPATCH_LEVEL && period == 0);
    // SAFETY: any value is an integer.
    let ticks = unsafe { due.QuadPart };
    assert!(ticks < 0, "a time of the calendar");
    let wait = Duration::from_nanos(ticks.unsigned_abs().saturating_mul(100));
    let wait = wait.saturating_add(Duration::from_millis(tolerable.into()));
    let (address, dpc) = (timer.addr(), dpc.expose_provenance());
    let (was_set, setting) = {
        let mut nt = nt();
        let timer = nt.timers.get_mut(&address).expect("it was initialized");
        let was_set = std::mem::replace(&mut timer.is_set, true);
        timer.has_expired = false;
        timer.setting += 1;
        (was_set, timer.setting)
    };
    thread::spawn(move || {
        // Nobody waits for this thread: one whose time is beyond the test ends with the process.
        thread::sleep(wait);
        let mut nt = nt();
        let timer = nt.timers.get_mut(&address).expect("it was initialized");
        if !timer.is_set || timer.setting != setting {
            return;
        }
        (timer.is_set, timer.has_expired) = (false, true);
        // Until the KDPC is queued, no flush may pass: both are one step of the clock's interrupt.
        nt.running += 1;
        drop(nt);
        KeInsertQueueDpc(ptr::with_exposed_provenance_mut(dpc), ptr::null_mut(), ptr::null_mut());
        self::nt().running -= 1;
        CHANGED.notify_all();
    });
    was_set.into()
}

#[unsafe(no_mangle)]
extern "C" fn KeCancelTimer(timer: *mut KTIMER) -> u8 {
    assert!(IRQL.get() <= DISPATCH_LEVEL);
    let mut nt = nt();
    let timer = nt.timers.get_mut(&timer.addr()).expect("it was initialized");
    std::mem::replace(&mut timer.is_set, false).into()
}

/// `KeReadStateTimer`: whether it has expired since it was set.
#[unsafe(no_mangle)]
extern "C" fn KeReadStateTimer(timer: *mut KTIMER) -> u8 {
    assert!(IRQL.get() <= DISPATCH_LEVEL);
    nt().timers[&timer.addr()].has_expired.into()
}

#[unsafe(no_mangle)]
extern "C" fn KeFlushQueuedDpcs() {
    assert_eq!(IRQL.get(), PASSIVE_LEVEL);
    drop(wait_while(|nt| nt.running != 0));
}

#[unsafe(no_mangle)]
extern "C" fn PsGetCurrentThreadId() -> HANDLE {
    ID.with(|id| ptr::from_ref(id).cast_mut().cast())
}

/// `IoCreateSystemThread`: the thread exits when its routine returns.
#[unsafe(no_mangle)]
extern "C" fn IoCreateSystemThread(
    _object: PVOID,
    handle: PHANDLE,
    _access: u32,
    attributes: POBJECT_ATTRIBUTES,
    _process: HANDLE,
    _id: PCLIENT_ID,
    routine: PKSTART_ROUTINE,
    context: PVOID,
) -> NTSTATUS {
    // SAFETY: the caller's attributes are there for the call.
    assert_eq!(unsafe { (*attributes).Attributes }, OBJ_KERNEL_HANDLE);
    if !HAS_THREADS.get() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let (routine, context) = (routine.expect("it has one"), context.expose_provenance());
    nt().threads.insert(context, false);
    thread::spawn(move || {
        // SAFETY: the routine and its context, as the worker has given them.
        unsafe { routine(ptr::with_exposed_provenance_mut(context)) };
        nt().threads.insert(context, true);
    });
    // SAFETY: it is a place for the answer.
    unsafe { handle.write(THREAD) };
    STATUS_SUCCESS
}

const THREAD: HANDLE = ptr::without_provenance_mut(4);

#[unsafe(no_mangle)]
extern "C" fn ZwClose(handle: HANDLE) -> NTSTATUS {
    assert_eq!((handle, IRQL.get()), (THREAD, PASSIVE_LEVEL));
    STATUS_SUCCESS
}
