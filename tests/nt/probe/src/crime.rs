//! All crimes, by the names of the services that ask for them, and those that are committed on the spot: in the
//! dispatch routine of a request, at `PASSIVE_LEVEL`.
#![expect(unsafe_code, reason = "each is a wrong use of the kernel's interfaces")]

use core::{
    arch::{asm, naked_asm},
    hint::{black_box, spin_loop},
    ptr,
    sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed},
};

use nt_sys::{
    _EVENT_TYPE, _KWAIT_REASON, _MODE, _POOL_TYPE, _TIMER_TYPE, APC_LEVEL, DISPATCH_LEVEL, FALSE, KDPC,
    KEVENT, KSPIN_LOCK, KTIMER, LARGE_INTEGER, PASSIVE_LEVEL, PVOID, TRUE, ULONG,
    ntddk::{
        DbgPrintEx, ExAllocatePoolWithTag, ExFreePoolWithTag, IoInitializeRemoveLockEx,
        IoReleaseRemoveLockEx, KeAcquireSpinLockAtDpcLevel, KeAcquireSpinLockRaiseToDpc,
        KeDelayExecutionThread, KeFlushQueuedDpcs, KeGetCurrentIrql, KeInitializeDpc, KeInitializeEvent,
        KeInitializeTimerEx, KeInsertQueueDpc, KeLowerIrql, KeRaiseIrqlToDpcLevel, KeReleaseSpinLock,
        KeReleaseSpinLockFromDpcLevel, KeSetEvent, KeSetTimerEx, KeWaitForSingleObject, KfRaiseIrql,
        MmGetPhysicalAddress,
    },
};

use crate::{
    device::{Extension, REMOVE_LOCK_SIZE},
    thread,
};

/// The tag of all that the driver allocates.
pub const TAG: ULONG = u32::from_le_bytes(*b"Prob");
/// The code of the bugcheck that a panic is.
pub const BUGCHECK: ULONG = 0x0000_00E2;
/// On this version of Xen the driver allocates memory while a dump is written,
pub const ALLOCATES_IN_DUMP: u64 = 0x00FF_0001;
/// and on this one it never returns.
pub const NEVER_LEAVES_DUMP: u64 = 0x00FF_0002;

/// Bytes in a page.
pub(crate) const PAGE: usize = 4096;

/// What begins the name of a service, before the crime's name.
const PREFIX: &[u8] = b"\\probe-";

macro_rules! crimes {
    ($($name:ident = $text:literal,)*) => {
        /// What is to be done wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Crime {
            /// Nothing.
            None,
            $(#[doc = $text] $name,)*
        }

        /// All crimes, after none.
        const CRIMES: &[(Crime, &str)] = &[(Crime::None, ""), $((Crime::$name, $text),)*];
    };
}

crimes! {
    // Of the device's life.
    EntryFails = "entry-fails",
    TimerAtUnload = "timer-at-unload",
    StillInitializing = "still-initializing",
    KeepsStart = "keeps-start",
    ConnectsTooEarly = "connects-too-early",
    CopiesPending = "copies-pending",
    CompletesBelow = "completes-below",
    ForwardsUnprepared = "forwards-unprepared",
    AnswersUnknown = "answers-unknown",
    LosesPending = "loses-pending",
    KeepsPower = "keeps-power",
    FailsRemove = "fails-remove",
    KeepsRequests = "keeps-requests",
    LosesRequests = "loses-requests",
    TimerLeft = "timer-left",
    InterruptLeft = "interrupt-left",
    NoFlush = "no-flush",
    DeletedAttached = "deleted-attached",
    DeviceLeft = "device-left",
    RemoveLockTag = "remove-lock-tag",
    RemoveLockHeld = "remove-lock-held",
    RemoveLockUnwaited = "remove-lock-unwaited",
    // Of requests, the interrupt and DPCs.
    StatusUnset = "status-unset",
    OtherStatus = "other-status",
    MuchInformation = "much-information",
    CompletesTwice = "completes-twice",
    TouchesCompleted = "touches-completed",
    TouchesBuffer = "touches-buffer",
    TouchesLater = "touches-later",
    CompletesUnderLock = "completes-under-lock",
    CompletesCancelable = "completes-cancelable",
    MarkedOnly = "marked-only",
    NeitherNor = "neither-nor",
    UnmarkedPending = "unmarked-pending",
    IsrSetsEvent = "isr-sets-event",
    Unclaimed = "unclaimed",
    Unlocked = "unlocked",
    DpcKeepsLock = "dpc-keeps-lock",
    Clobbers = "clobbers",
    // Levels and locks.
    FlushesAtDispatch = "flushes-at-dispatch",
    PagedAtDispatch = "paged-at-dispatch",
    StaysRaised = "stays-raised",
    RaisesDown = "raises-down",
    LowersUp = "lowers-up",
    LowersTooFar = "lowers-too-far",
    LowersUnderLock = "lowers-under-lock",
    LocksTwice = "locks-twice",
    UnlocksFree = "unlocks-free",
    UnlocksMismatch = "unlocks-mismatch",
    WaitsAtDispatch = "waits-at-dispatch",
    LocksInCircle = "locks-in-circle",
    WaitsForever = "waits-forever",
    SpinsForever = "spins-forever",
    LoopsSilently = "loops-silently",
    // Memory.
    Recurses = "recurses",
    Overruns = "overruns",
    Slack = "slack",
    UsesFreed = "uses-freed",
    FreesTwice = "frees-twice",
    FreesOtherTag = "frees-other-tag",
    FreesNothing = "frees-nothing",
    FreesDpc = "frees-dpc",
    FreesTimer = "frees-timer",
    FreesLock = "frees-lock",
    FreesEvent = "frees-event",
    Leaks = "leaks",
    BadPointer = "bad-pointer",
    PagedAddress = "paged-address",
    NullPointer = "null-pointer",
    WritesConstant = "writes-constant",
    // Kernel objects.
    BlankDpc = "blank-dpc",
    BlankTimer = "blank-timer",
    BlankEvent = "blank-event",
    BlankLock = "blank-lock",
    DpcAgain = "dpc-again",
    TimerAgain = "timer-again",
    RemoveLockAgain = "remove-lock-again",
    RemoveLockFree = "remove-lock-free",
    // Threads and handles.
    ThreadLeft = "thread-left",
    UserHandle = "user-handle",
    ClosesTwice = "closes-twice",
    HandleLeft = "handle-left",
    // The machine.
    Panics = "panics",
    WrongHypercall = "wrong-hypercall",
    Disables = "disables",
    ReadsPort = "reads-port",
    WritesPort = "writes-port",
    ReadsRegister = "reads-register",
    HypercallPage = "hypercall-page",
    SecondHypercallPage = "second-hypercall-page",
    HypercallPageBeside = "hypercall-page-beside",
    OtherRegister = "other-register",
    Misaligns = "misaligns",
    CannotUnwind = "cannot-unwind",
    Format = "format",
    WaitsNext = "waits-next",
}

static CHOSEN: AtomicUsize = AtomicUsize::new(0);

/// Chooses the crime that the service's name asks for.
pub(crate) fn choose(registry_path: &[u16]) {
    let start = registry_path.windows(PREFIX.len()).position(|window| same(window, PREFIX));
    let name = start.and_then(|start| registry_path.get(start + PREFIX.len()..)).unwrap_or_default();
    let index = CRIMES.iter().position(|(_, text)| same(name, text.as_bytes()));
    CHOSEN.store(index.unwrap_or(0), Relaxed);
}

fn same(wide: &[u16], narrow: &[u8]) -> bool {
    wide.len() == narrow.len() && wide.iter().zip(narrow).all(|(&wide, &narrow)| wide == u16::from(narrow))
}

/// The crime to be committed.
pub(crate) fn chosen() -> Crime {
    CRIMES.get(CHOSEN.load(Relaxed)).map_or(Crime::None, |(crime, _)| *crime)
}

pub(crate) fn is(crime: Crime) -> bool {
    chosen() == crime
}

pub(crate) unsafe fn allocate(size: u64) -> *mut u8 {
    unsafe { ExAllocatePoolWithTag(_POOL_TYPE::NonPagedPoolNx, size, TAG).cast() }
}

pub(crate) unsafe fn free(block: *mut u8) {
    unsafe { ExFreePoolWithTag(block.cast(), TAG) }
}

/// Memory for a kernel object that is not initialized.
unsafe fn blank<T>() -> *mut T {
    unsafe {
        let block = allocate(size_of::<T>() as u64);
        block.write_bytes(0, size_of::<T>());
        block.cast()
    }
}

/// Commits the crime, if it is one that is committed on the spot.
pub(crate) unsafe fn commit(extension: *mut Extension) {
    let lock = unsafe { &raw mut (*extension).lock };
    unsafe {
        match chosen() {
            Crime::FlushesAtDispatch
            | Crime::PagedAtDispatch
            | Crime::StaysRaised
            | Crime::RaisesDown
            | Crime::LowersUp
            | Crime::LowersTooFar
            | Crime::LowersUnderLock => levels(lock),
            Crime::LocksTwice
            | Crime::UnlocksFree
            | Crime::UnlocksMismatch
            | Crime::WaitsAtDispatch
            | Crime::LocksInCircle
            | Crime::WaitsForever
            | Crime::SpinsForever
            | Crime::LoopsSilently => locks(extension, lock),
            Crime::Recurses => {
                black_box(recurse(black_box(100)));
            }
            Crime::BadPointer => {
                KeSetEvent(ptr::without_provenance_mut(0x7000), 0, FALSE);
            }
            Crime::NullPointer => {
                black_box(ptr::null::<u32>()).read_volatile();
            }
            Crime::WritesConstant => {
                let constant = black_box(&raw const CONSTANT);
                constant.cast_mut().write_volatile(1);
            }
            Crime::BlankDpc
            | Crime::BlankTimer
            | Crime::BlankEvent
            | Crime::BlankLock
            | Crime::DpcAgain
            | Crime::TimerAgain
            | Crime::RemoveLockAgain
            | Crime::RemoveLockFree => objects(extension),
            Crime::ThreadLeft | Crime::UserHandle | Crime::ClosesTwice | Crime::HandleLeft => {
                thread::commit(extension);
            }
            Crime::Panics
            | Crime::WrongHypercall
            | Crime::Disables
            | Crime::ReadsPort
            | Crime::WritesPort
            | Crime::ReadsRegister
            | Crime::OtherRegister
            | Crime::HypercallPage
            | Crime::SecondHypercallPage
            | Crime::HypercallPageBeside
            | Crime::Misaligns
            | Crime::CannotUnwind
            | Crime::Format
            | Crime::WaitsNext => machine(extension),
            _ => memory(extension),
        }
    }
}

static CONSTANT: u32 = 0;

unsafe fn levels(lock: *mut KSPIN_LOCK) {
    unsafe {
        match chosen() {
            Crime::FlushesAtDispatch => {
                let irql = KeRaiseIrqlToDpcLevel();
                KeFlushQueuedDpcs();
                KeLowerIrql(irql);
            }
            Crime::PagedAtDispatch => {
                let irql = KeRaiseIrqlToDpcLevel();
                black_box(ExAllocatePoolWithTag(1, 16, TAG));
                KeLowerIrql(irql);
            }
            Crime::StaysRaised => {
                KfRaiseIrql(APC_LEVEL);
            }
            Crime::RaisesDown => {
                let irql = KfRaiseIrql(DISPATCH_LEVEL);
                KfRaiseIrql(APC_LEVEL);
                KeLowerIrql(irql);
            }
            Crime::LowersUp => KeLowerIrql(DISPATCH_LEVEL),
            Crime::LowersTooFar => {
                KfRaiseIrql(APC_LEVEL);
                KeRaiseIrqlToDpcLevel();
                KeLowerIrql(PASSIVE_LEVEL);
            }
            _ => {
                let irql = KeRaiseIrqlToDpcLevel();
                KeAcquireSpinLockAtDpcLevel(lock);
                KeLowerIrql(irql);
            }
        }
    }
}

unsafe fn locks(extension: *mut Extension, lock: *mut KSPIN_LOCK) {
    unsafe {
        let other = &raw mut (*extension).other_lock;
        match chosen() {
            Crime::LocksTwice => {
                let irql = KeAcquireSpinLockRaiseToDpc(lock);
                KeAcquireSpinLockAtDpcLevel(lock);
                KeReleaseSpinLock(lock, irql);
            }
            Crime::UnlocksFree => {
                let irql = KeRaiseIrqlToDpcLevel();
                KeReleaseSpinLockFromDpcLevel(lock);
                KeLowerIrql(irql);
            }
            Crime::UnlocksMismatch => {
                KeAcquireSpinLockRaiseToDpc(lock);
                KeReleaseSpinLockFromDpcLevel(lock);
            }
            Crime::WaitsAtDispatch => {
                let irql = KeRaiseIrqlToDpcLevel();
                wait(&raw mut (*extension).event);
                KeLowerIrql(irql);
            }
            Crime::LocksInCircle => {
                static TURN: AtomicUsize = AtomicUsize::new(0);
                let first = TURN.fetch_add(1, Relaxed).is_multiple_of(2);
                let (one, two) = if first { (lock, other) } else { (other, lock) };
                let irql = KeAcquireSpinLockRaiseToDpc(one);
                KeAcquireSpinLockAtDpcLevel(two);
                KeReleaseSpinLockFromDpcLevel(two);
                KeReleaseSpinLock(one, irql);
            }
            Crime::WaitsForever => wait(&raw mut (*extension).event),
            Crime::LoopsSilently => loop {
                spin_loop();
            },
            _ => loop {
                KeGetCurrentIrql();
            },
        }
    }
}

unsafe fn wait(event: *mut KEVENT) {
    let (reason, mode) = (_KWAIT_REASON::Executive, _MODE::KernelMode);
    unsafe {
        KeWaitForSingleObject(event.cast(), reason, mode, FALSE, ptr::null_mut());
    }
}

#[inline(never)]
fn recurse(depth: u32) -> u32 {
    let frame = black_box([depth; 100]);
    if depth == 0 { 0 } else { recurse(depth - 1) + frame[99] }
}

unsafe fn memory(extension: *mut Extension) {
    unsafe {
        match chosen() {
            Crime::Overruns => {
                let block = allocate(32);
                block.add(black_box(32)).write_volatile(1);
                free(block);
            }
            Crime::Slack => {
                let block = allocate(20);
                block.add(black_box(22)).write_volatile(1);
                free(block);
            }
            Crime::UsesFreed => {
                let block = allocate(32);
                free(block);
                black_box(block.read_volatile());
            }
            Crime::FreesTwice => {
                let block = allocate(32);
                free(block);
                free(block);
            }
            Crime::FreesOtherTag => ExFreePoolWithTag(allocate(32).cast(), TAG + 1),
            Crime::FreesNothing => free(extension.cast()),
            Crime::FreesDpc => {
                let dpc: *mut KDPC = blank();
                KeInitializeDpc(dpc, Some(nothing), ptr::null_mut());
                let irql = KeRaiseIrqlToDpcLevel();
                KeInsertQueueDpc(dpc, ptr::null_mut(), ptr::null_mut());
                free(dpc.cast());
                KeLowerIrql(irql);
            }
            Crime::FreesTimer => {
                let timer: *mut KTIMER = blank();
                KeInitializeTimerEx(timer, _TIMER_TYPE::NotificationTimer);
                KeSetTimerEx(timer, LARGE_INTEGER { QuadPart: -10_000 }, 0, ptr::null_mut());
                free(timer.cast());
            }
            Crime::FreesLock => {
                let lock: *mut KSPIN_LOCK = blank();
                let irql = KeAcquireSpinLockRaiseToDpc(lock);
                free(lock.cast());
                KeReleaseSpinLock(lock, irql);
            }
            Crime::FreesEvent => frees_event(),
            Crime::PagedAddress => {
                let paged: *mut u8 = ExAllocatePoolWithTag(1, 16, TAG).cast();
                physical(paged);
                free(paged);
            }
            Crime::Leaks => {
                black_box(allocate(100));
            }
            _ => {}
        }
    }
}

unsafe extern "C" fn nothing(_dpc: *mut KDPC, _context: PVOID, _first: PVOID, _second: PVOID) {}

/// The first caller waits for an event in pool memory; the second frees that, a millisecond later.
unsafe fn frees_event() {
    static EVENT: AtomicPtr<KEVENT> = AtomicPtr::new(ptr::null_mut());
    unsafe {
        let event: *mut KEVENT = blank();
        KeInitializeEvent(event, _EVENT_TYPE::NotificationEvent, FALSE);
        if EVENT.compare_exchange(ptr::null_mut(), event, Relaxed, Relaxed).is_ok() {
            wait(event);
        } else {
            let mut interval = LARGE_INTEGER { QuadPart: -10_000 };
            KeDelayExecutionThread(_MODE::KernelMode, FALSE, &raw mut interval);
            free(EVENT.load(Relaxed).cast());
        }
    }
}

unsafe fn objects(extension: *mut Extension) {
    unsafe {
        match chosen() {
            Crime::BlankDpc => {
                let dpc: *mut KDPC = blank();
                KeInsertQueueDpc(dpc, ptr::null_mut(), ptr::null_mut());
                free(dpc.cast());
            }
            Crime::BlankTimer => {
                let timer: *mut KTIMER = blank();
                KeSetTimerEx(timer, LARGE_INTEGER { QuadPart: -10_000 }, 0, ptr::null_mut());
                free(timer.cast());
            }
            Crime::BlankEvent => {
                let event: *mut KEVENT = blank();
                KeSetEvent(event, 0, FALSE);
                free(event.cast());
            }
            Crime::BlankLock => {
                let lock = allocate(8).cast();
                let irql = KeAcquireSpinLockRaiseToDpc(lock);
                KeReleaseSpinLock(lock, irql);
                free(lock.cast());
            }
            Crime::DpcAgain => {
                let dpc: *mut KDPC = blank();
                KeInitializeDpc(dpc, Some(nothing), ptr::null_mut());
                let irql = KeRaiseIrqlToDpcLevel();
                KeInsertQueueDpc(dpc, ptr::null_mut(), ptr::null_mut());
                KeInitializeDpc(dpc, Some(nothing), ptr::null_mut());
                KeLowerIrql(irql);
            }
            Crime::TimerAgain => {
                KeInitializeTimerEx(&raw mut (*extension).timer, _TIMER_TYPE::NotificationTimer);
            }
            Crime::RemoveLockAgain => {
                IoInitializeRemoveLockEx(&raw mut (*extension).remove_lock, TAG, 0, 0, REMOVE_LOCK_SIZE);
            }
            _ => IoReleaseRemoveLockEx(&raw mut (*extension).remove_lock, extension.cast(), REMOVE_LOCK_SIZE),
        }
    }
}

unsafe fn machine(extension: *mut Extension) {
    unsafe {
        match chosen() {
            Crime::Panics => {
                let list = black_box([1, 2, 3]);
                black_box(list[black_box(7)]);
            }
            // Right on a processor of the other vendor.
            Crime::WrongHypercall => {
                asm!("vmmcall", inout("rax") 17_u64 => _, inout("rdi") 0_u64 => _, inout("rsi") 0_u64 => _);
            }
            Crime::Disables => asm!("cli"),
            Crime::ReadsPort => asm!("in al, 0x60", out("al") _),
            Crime::WritesPort => asm!("out 0x60, al", in("al") 0_u8),
            Crime::ReadsRegister => {
                asm!("rdmsr", in("ecx") 0xC000_0080_u32, out("eax") _, out("edx") _);
            }
            Crime::OtherRegister => {
                asm!("wrmsr", in("ecx") 0xC000_0080_u32, in("eax") 0_u32, in("edx") 0_u32);
            }
            // Of memory that nobody has said is there, as another page than the first, over what lies around a block.
            Crime::HypercallPage => write_hypercall_page(0x1000),
            Crime::SecondHypercallPage => {
                let page = allocate(PAGE as u64);
                write_hypercall_page(physical(page) + 1);
                free(page);
            }
            Crime::HypercallPageBeside => {
                let block = allocate(100);
                write_hypercall_page(physical(block) & !0xFFF);
                free(block);
            }
            Crime::Misaligns => misaligned(),
            Crime::CannotUnwind => without_unwind_data(),
            Crime::Format => {
                DbgPrintEx(0, 0, c"%n".as_ptr(), extension);
            }
            _ => {
                KeSetEvent(&raw mut (*extension).event, 0, TRUE);
            }
        }
    }
}

/// Where something is in physical memory.
pub(crate) unsafe fn physical(address: *mut u8) -> u64 {
    unsafe { MmGetPhysicalAddress(address.cast()).QuadPart }.cast_unsigned()
}

/// Has Xen write its hypercalls to a physical address.
pub(crate) unsafe fn write_hypercall_page(address: u64) {
    unsafe {
        asm!("wrmsr", in("ecx") 0x4000_0000_u32, in("rax") address, in("rdx") address >> 32);
    }
}

/// Calls an export with the stack as it was when this was called.
#[unsafe(naked)]
unsafe extern "C" fn misaligned() {
    naked_asm!("sub rsp, 32", "call {}", "add rsp, 32", "ret", sym KeGetCurrentIrql)
}

/// Calls an export from a frame that the kernel cannot unwind: it moves the stack pointer and has no unwind data.
#[unsafe(naked)]
unsafe extern "C" fn without_unwind_data() {
    naked_asm!("sub rsp, 40", "call {}", "add rsp, 40", "ret", sym KeGetCurrentIrql)
}

/// Changes a register that belongs to the caller, if that is the crime.
pub(crate) fn clobber() {
    if is(Crime::Clobbers) {
        unsafe { asm!("xor r12, r12", "not r12") };
    }
}
