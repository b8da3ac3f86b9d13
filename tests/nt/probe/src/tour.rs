//! The kernel's answers, as a driver sees them: each as its documentation page says.
#![expect(unsafe_code, reason = "calls of the kernel")]

use core::{
    arch::asm,
    mem::MaybeUninit,
    ptr,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
};

use nt_sys::{
    _EVENT_TYPE, _KDPC_IMPORTANCE, _KWAIT_REASON, _MODE, _POOL_TYPE, _TIMER_TYPE, APC_LEVEL, DISPATCH_LEVEL,
    FALSE, KDPC, KEVENT, KTIMER, LARGE_INTEGER, NTSTATUS, PASSIVE_LEVEL, PROCESSOR_NUMBER, PVOID,
    STATUS_INVALID_PARAMETER, STATUS_SUCCESS, STATUS_TIMEOUT, TRUE,
    ntddk::{
        DbgPrintEx, ExAllocatePoolWithTag, ExFreePoolWithTag, KeCancelTimer, KeClearEvent,
        KeDelayExecutionThread, KeFlushQueuedDpcs, KeGetCurrentIrql, KeGetCurrentProcessorNumberEx,
        KeInitializeDpc, KeInitializeEvent, KeInitializeTimerEx, KeInsertQueueDpc, KeLowerIrql,
        KeQueryActiveProcessorCountEx, KeQueryPerformanceCounter, KeQueryUnbiasedInterruptTime,
        KeRaiseIrqlToDpcLevel, KeReadStateTimer, KeRemoveQueueDpc, KeResetEvent, KeSetCoalescableTimer,
        KeSetEvent, KeSetImportanceDpc, KeSetTargetProcessorDpcEx, KeSetTimerEx, KeStallExecutionProcessor,
        KeWaitForSingleObject, KfRaiseIrql,
    },
};

use crate::{
    crime::{self, PAGE},
    device::Extension,
    thread,
};

/// A millisecond, in units of 100 ns.
const MILLISECOND: i64 = 10_000;
/// The IRQL of the device's interrupt.
const DEVICE_LEVEL: u8 = 9;
/// `POOL_TYPE::PagedPool`.
const PAGED_POOL: i32 = 1;
const ALL_PROCESSOR_GROUPS: u16 = 0xFFFF;

/// Counts facts and remembers the first that does not hold.
pub(crate) struct Facts {
    seen: u32,
    wrong: u32,
}

impl Facts {
    pub(crate) fn holds(&mut self, fact: bool) {
        self.seen += 1;
        if !fact && self.wrong == 0 {
            self.wrong = self.seen;
        }
    }
}

/// Looks at everything; 0, or the number of the first answer that was wrong.
pub(crate) unsafe fn take(extension: *mut Extension) -> u32 {
    let mut facts = Facts { seen: 0, wrong: 0 };
    unsafe {
        levels(&mut facts);
        facts.seen = 100;
        events(&mut facts);
        facts.seen = 200;
        timers(&mut facts);
        facts.seen = 300;
        dpcs(&mut facts);
        facts.seen = 400;
        clocks(&mut facts);
        facts.seen = 500;
        ports(&mut facts);
        facts.seen = 600;
        thread::threads(&mut facts, extension);
        facts.seen = 700;
        thread::registry(&mut facts, extension);
        facts.seen = 800;
        pages(&mut facts);
        let paged = ExAllocatePoolWithTag(PAGED_POOL, 16, crime::TAG);
        ExFreePoolWithTag(paged, crime::TAG);
        let odd: [i8; 3] = [b'a'.cast_signed(), b'b'.cast_signed(), b'c'.cast_signed()];
        DbgPrintEx(
            0,
            0,
            c"%s %d %u %llx %08x %.*s 100%%".as_ptr(),
            c"tour".as_ptr(),
            -1_i32,
            7_u32,
            1_u64 << 40,
            0xAB_u32,
            2_u32,
            odd.as_ptr(),
        );
    }
    facts.wrong
}

unsafe fn levels(facts: &mut Facts) {
    unsafe {
        facts.holds(KeGetCurrentIrql() == PASSIVE_LEVEL);
        facts.holds(KfRaiseIrql(APC_LEVEL) == PASSIVE_LEVEL);
        facts.holds(KeRaiseIrqlToDpcLevel() == APC_LEVEL);
        facts.holds(KeGetCurrentIrql() == DISPATCH_LEVEL);
        let mut number = PROCESSOR_NUMBER { Group: 7, Number: 77, Reserved: 7 };
        let index = KeGetCurrentProcessorNumberEx(&raw mut number);
        facts.holds(index < KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS));
        facts.holds(number.Group == 0 && u32::from(number.Number) == index);
        facts.holds(KfRaiseIrql(DEVICE_LEVEL) == DISPATCH_LEVEL);
        // An interrupt that comes meanwhile waits, or goes to another processor.
        KeStallExecutionProcessor(20);
        KeLowerIrql(DISPATCH_LEVEL);
        KeLowerIrql(APC_LEVEL);
        facts.holds(KeGetCurrentIrql() == APC_LEVEL);
        KeLowerIrql(PASSIVE_LEVEL);
    }
}

unsafe fn wait(object: PVOID, time: i64) -> NTSTATUS {
    let mut timeout = LARGE_INTEGER { QuadPart: time };
    unsafe {
        KeWaitForSingleObject(object, _KWAIT_REASON::Executive, _MODE::KernelMode, FALSE, &raw mut timeout)
    }
}

unsafe fn events(facts: &mut Facts) {
    unsafe {
        let mut event = MaybeUninit::<KEVENT>::uninit();
        let event = event.as_mut_ptr();
        KeInitializeEvent(event, _EVENT_TYPE::SynchronizationEvent, FALSE);
        facts.holds(KeSetEvent(event, 0, FALSE) == 0);
        facts.holds(KeSetEvent(event, 0, FALSE) != 0);
        facts.holds(wait(event.cast(), 0) == STATUS_SUCCESS);
        facts.holds(wait(event.cast(), 0) == STATUS_TIMEOUT);
        KeInitializeEvent(event, _EVENT_TYPE::NotificationEvent, TRUE);
        facts.holds(wait(event.cast(), 0) == STATUS_SUCCESS);
        facts.holds(wait(event.cast(), -MILLISECOND) == STATUS_SUCCESS);
        facts.holds(KeResetEvent(event) != 0);
        facts.holds(KeResetEvent(event) == 0);
        KeSetEvent(event, 0, FALSE);
        KeClearEvent(event);
        facts.holds(wait(event.cast(), -MILLISECOND) == STATUS_TIMEOUT);
    }
}

unsafe fn timers(facts: &mut Facts) {
    unsafe {
        let mut timer = MaybeUninit::<KTIMER>::uninit();
        let timer = timer.as_mut_ptr();
        let due = LARGE_INTEGER { QuadPart: -MILLISECOND };
        KeInitializeTimerEx(timer, _TIMER_TYPE::SynchronizationTimer);
        facts.holds(KeSetTimerEx(timer, due, 0, ptr::null_mut()) == FALSE);
        facts.holds(KeSetTimerEx(timer, due, 0, ptr::null_mut()) == TRUE);
        facts.holds(KeCancelTimer(timer) == TRUE);
        facts.holds(KeCancelTimer(timer) == FALSE);
        KeSetTimerEx(timer, due, 0, ptr::null_mut());
        facts.holds(wait(timer.cast(), -1_000 * MILLISECOND) == STATUS_SUCCESS);
        facts.holds(wait(timer.cast(), 0) == STATUS_TIMEOUT);
        facts.holds(KeCancelTimer(timer) == FALSE);
        KeInitializeTimerEx(timer, _TIMER_TYPE::NotificationTimer);
        facts.holds(KeReadStateTimer(timer) == FALSE);
        facts.holds(KeSetCoalescableTimer(timer, due, 0, 20, ptr::null_mut()) == FALSE);
        facts.holds(KeSetCoalescableTimer(timer, due, 0, 20, ptr::null_mut()) == TRUE);
        facts.holds(KeReadStateTimer(timer) == FALSE);
        facts.holds(wait(timer.cast(), -1_000 * MILLISECOND) == STATUS_SUCCESS);
        facts.holds(KeReadStateTimer(timer) == TRUE);
        facts.holds(KeSetCoalescableTimer(timer, due, 0, 0, ptr::null_mut()) == FALSE);
        facts.holds(KeReadStateTimer(timer) == FALSE);
        facts.holds(KeCancelTimer(timer) == TRUE);
    }
}

/// What the DPC of the tour reports: its CPU, and its arguments.
static CPU: AtomicU32 = AtomicU32::new(0);
static ARGUMENTS: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn reports(_dpc: *mut KDPC, _context: PVOID, first: PVOID, second: PVOID) {
    ARGUMENTS.store(first.addr() * 10 + second.addr(), Relaxed);
    CPU.store(unsafe { KeGetCurrentProcessorNumberEx(ptr::null_mut()) }, Relaxed);
}

unsafe fn dpcs(facts: &mut Facts) {
    unsafe {
        let dpc: *mut KDPC =
            ExAllocatePoolWithTag(_POOL_TYPE::NonPagedPoolNx, 2 * size_of::<KDPC>() as u64, crime::TAG)
                .cast();
        KeInitializeDpc(dpc, Some(reports), ptr::null_mut());
        let (one, two): (PVOID, PVOID) = (ptr::without_provenance_mut(4), ptr::without_provenance_mut(2));
        let irql = KeRaiseIrqlToDpcLevel();
        facts.holds(KeInsertQueueDpc(dpc, one, two) == TRUE);
        facts.holds(KeInsertQueueDpc(dpc, two, one) == FALSE);
        facts.holds(KeRemoveQueueDpc(dpc) == TRUE);
        facts.holds(KeRemoveQueueDpc(dpc) == FALSE);
        KeLowerIrql(irql);
        // Of high importance, it overtakes the one that was queued before it on this processor.
        let hurried = dpc.add(1);
        KeInitializeDpc(hurried, Some(reports), ptr::null_mut());
        KeSetImportanceDpc(hurried, _KDPC_IMPORTANCE::HighImportance);
        let irql = KeRaiseIrqlToDpcLevel();
        KeInsertQueueDpc(dpc, one, two);
        KeInsertQueueDpc(hurried, two, one);
        KeLowerIrql(irql);
        KeFlushQueuedDpcs();
        facts.holds(ARGUMENTS.load(Relaxed) == 42);
        let count = KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS);
        let mut number = PROCESSOR_NUMBER { Group: 0, Number: 0, Reserved: 0 };
        for cpu in 0..count {
            facts.holds(KeSetTargetProcessorDpcEx(dpc, &raw mut number) == STATUS_SUCCESS);
            CPU.store(count, Relaxed);
            KeInsertQueueDpc(dpc, one, two);
            KeFlushQueuedDpcs();
            facts.holds(CPU.load(Relaxed) == cpu);
            facts.holds(ARGUMENTS.load(Relaxed) == 42);
            number.Number += 1;
        }
        facts.holds(KeSetTargetProcessorDpcEx(dpc, &raw mut number) == STATUS_INVALID_PARAMETER);
        ExFreePoolWithTag(dpc.cast(), crime::TAG);
    }
}

unsafe fn clocks(facts: &mut Facts) {
    unsafe {
        let mut frequency = LARGE_INTEGER { QuadPart: 0 };
        let before = KeQueryPerformanceCounter(&raw mut frequency).QuadPart;
        KeStallExecutionProcessor(20);
        let after = KeQueryPerformanceCounter(ptr::null_mut()).QuadPart;
        let per_second = frequency.QuadPart;
        facts.holds((after - before) * 1_000_000 >= 20 * per_second);
        let mut interval = LARGE_INTEGER { QuadPart: -MILLISECOND };
        facts.holds(KeDelayExecutionThread(_MODE::KernelMode, FALSE, &raw mut interval) == STATUS_SUCCESS);
        let later = KeQueryPerformanceCounter(ptr::null_mut()).QuadPart;
        facts.holds((later - after) * 1_000 >= per_second);
        let interrupt_time = KeQueryUnbiasedInterruptTime();
        facts.holds(interrupt_time <= KeQueryUnbiasedInterruptTime());
    }
}

/// Where memory is, and what Xen writes there when it is given a page for its hypercalls.
unsafe fn pages(facts: &mut Facts) {
    unsafe {
        let block = crime::allocate(2 * PAGE as u64);
        let next = block.add(PAGE);
        let [first, second] = [block, next].map(|page| crime::physical(page));
        facts.holds(first % 4096 == 0 && second % 4096 == 0);
        facts.holds(first != second);
        facts.holds(crime::physical(block) == first);
        facts.holds(crime::physical(block.add(5)) == first + 5);
        crime::write_hypercall_page(second);
        // The entry of `xen_version`: `mov eax, 17`.
        let entry = next.add(17 * 32).cast::<[u8; 5]>();
        facts.holds(entry.read_volatile() == [0xB8, 17, 0, 0, 0]);
        crime::free(block);
    }
}

/// The ports of Xen's unplug protocol, of which nothing is unplugged.
unsafe fn ports(facts: &mut Facts) {
    let (magic, protocol): (u16, u8);
    unsafe {
        asm!("in ax, 0x10", out("ax") magic);
        asm!("in al, 0x12", out("al") protocol);
        // A letter for the log.
        asm!("out 0x12, al", in("al") b't');
    }
    facts.holds(magic == 0x49D2);
    facts.holds(protocol == 1);
}
