//! The virtual CPUs: who runs what, and how those begin that Xen has not begun.
//!
//! Each has a stack, an executor, and a number that it finds by its GS segment. They share the page tables, the
//! segments and the interrupt descriptor table, which nobody changes.
//!
//! Xen begins virtual CPU 0. It begins the others, as Xen offers it to PVH guests and HVM guests alike: in 64-bit mode,
//! at a function.
//!
//! Source: `xen/include/public/vcpu.h`, `hvm/hvm_vcpu.h`; `arch_set_info_hvm_guest`, `xen/arch/x86/hvm/domain.c`.
#![expect(unsafe_code, reason = "a processor begins where it is told to")]

use core::{
    arch::{asm, naked_asm},
    cell::UnsafeCell,
    hint,
    sync::atomic::{
        AtomicU32,
        Ordering::{Acquire, Release},
    },
    time::Duration,
};

use kexec::{Budget, Executor, irql::Dispatch};
use xen_abi::{
    Errno, Hypervisor as _,
    hvm::hvm_vcpu::{Context, X86_64},
    hypercall::VCPU_OP,
    vcpu::{VCPUOP_INITIALISE, VCPUOP_IS_UP, VCPUOP_UP},
};
use xenbus::{seam::Processor, x86::Native};

use crate::{
    apic,
    hlt::{self, CLOCK, Hlt},
    interrupts::{self, CODE},
    rendezvous, report,
    seam::Guest,
};

/// As many as can be used.
pub(crate) const MOST: usize = 4;

/// Their numbers, by which Xen knows them, and the lists of those that are there.
pub(crate) static NUMBERS: [u32; MOST] = [0, 1, 2, 3];

static EXECUTORS: [Executor<Hlt>; MOST] = [
    Executor::named("cpu 0", Hlt::of(0), Budget::DEFAULT),
    Executor::named("cpu 1", Hlt::of(1), Budget::DEFAULT),
    Executor::named("cpu 2", Hlt::of(2), Budget::DEFAULT),
    Executor::named("cpu 3", Hlt::of(3), Budget::DEFAULT),
];

/// How many run: each of them counts itself.
static RUNNING: AtomicU32 = AtomicU32::new(0);

/// How long one may take to begin.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of a stack.
const STACK: usize = 128 * 1024;

/// Of all but virtual CPU 0, which has that of the boot code.
static STACKS: [Stack; MOST - 1] = [const { Stack(UnsafeCell::new([0; STACK])) }; MOST - 1];

#[repr(C, align(4096))]
struct Stack(UnsafeCell<[u8; STACK]>);

// SAFETY: it is reached by the stack pointer of one processor only.
unsafe impl Sync for Stack {}

const GS_BASE: u32 = 0xC000_0101;

/// `EFER`: long mode is enabled, and active.
const LONG_MODE: u64 = 1 << 8 | 1 << 10;

/// The executor of a virtual CPU.
///
/// # Panics
///
/// There can be no such.
pub(crate) fn executor(number: usize) -> &'static Executor<Hlt> {
    &EXECUTORS[number]
}

/// Those that run, by their numbers; from 0 on.
pub(crate) fn running() -> &'static [u32] {
    &NUMBERS[..RUNNING.load(Acquire) as usize]
}

/// The number of the virtual CPU that runs this.
pub(crate) fn number() -> usize {
    let number: u32;
    // SAFETY: `name` has put one of `NUMBERS` there.
    unsafe { asm!("mov {:e}, gs:[0]", out(reg) number, options(readonly, nostack, preserves_flags)) };
    number as usize
}

/// Gives the virtual CPU that calls this its number, and interrupts.
///
/// # Safety
///
/// Once on each, with the number by which Xen knows it, and with interrupts off.
pub(crate) unsafe fn begin(number: usize) {
    let base = (&raw const NUMBERS[number]).expose_provenance() as u64;
    // SAFETY: nobody uses the segment but `number`.
    unsafe { Native.write_msr(GS_BASE, base) };
    // SAFETY: passed on.
    unsafe { interrupts::begin(number == 0) };
    RUNNING.fetch_add(1, Release);
}

/// Begins all the others that Xen has made, up to [`MOST`], one after the other. By virtual CPU 0, once it has begun
/// itself and the clock goes.
pub(crate) fn begin_others(guest: &Guest) {
    for number in 1..MOST {
        match vcpu_op(guest, VCPUOP_IS_UP, number, None) {
            Err(Errno::ENOENT) => return,
            _ => begin_other(guest, number).unwrap_or_else(|errno| {
                report::crash(format_args!("Xen does not begin virtual CPU {number}: {errno}"))
            }),
        }
    }
}

fn begin_other(guest: &Guest, number: usize) -> Result<(), Errno> {
    let context = context(number);
    match vcpu_op(guest, VCPUOP_INITIALISE, number, Some(&context)) {
        // Firmware has begun it, and has left it halted.
        Err(Errno::EEXIST) => {
            // SAFETY: it is halted since.
            unsafe { apic::reset(number) };
            vcpu_op(guest, VCPUOP_INITIALISE, number, Some(&context))?;
        }
        initialised => _ = initialised?,
    }
    vcpu_op(guest, VCPUOP_UP, number, None)?;
    let is_late = CLOCK.limit(PATIENCE);
    while running().len() <= number {
        if is_late() {
            report::crash(format_args!("virtual CPU {number} has not begun after {PATIENCE:?}"));
        }
        hint::spin_loop();
    }
    Ok(())
}

/// A call for a virtual CPU that this one knows of, or [`VCPUOP_IS_UP`].
fn vcpu_op(guest: &Guest, command: u64, number: usize, context: Option<&Context>) -> Result<u64, Errno> {
    let context = context.map_or(0, |context| (&raw const *context).expose_provenance() as u64);
    // SAFETY: Xen reads the context, which is there or not asked for. It has the virtual CPU begin where no other runs.
    let answer = unsafe { guest.hypercall(VCPU_OP, [command, number as u64, context, 0, 0]) };
    Errno::check(answer)
}

/// Like this one, but on a stack of its own, at `enter`.
fn context(number: usize) -> Context {
    let (cr0, cr3, cr4): (u64, u64, u64);
    // SAFETY: they are only read.
    unsafe {
        asm!(
            "mov {}, cr0",
            "mov {}, cr3",
            "mov {}, cr4",
            out(reg) cr0,
            out(reg) cr3,
            out(reg) cr4,
            options(nomem, nostack, preserves_flags)
        );
    }
    Context::in_64_bit_mode(X86_64 {
        rdi: number as u64,
        rsi: interrupts::segments().expose_provenance() as u64,
        rsp: STACKS[number - 1].0.get().expose_provenance() as u64 + STACK as u64,
        rip: enter as *const () as u64,
        cr0,
        cr3,
        cr4,
        efer: LONG_MODE,
        ..X86_64::default()
    })
}

/// Takes the segments of the boot code, by their selectors: an interrupt puts those on the stack, and comes back to
/// them.
#[unsafe(naked)]
extern "C" fn enter(number: usize, segments: *const u8) -> ! {
    naked_asm!(
        "lgdt [rsi]",
        "mov eax, 16",
        "mov ss, eax",
        "push {code}",
        "lea rax, [rip + 2f]",
        "push rax",
        "retfq",
        "2:",
        "xor ebp, ebp",
        "call {run}",
        "ud2",
        code = const CODE,
        run = sym run_other,
    )
}

/// What another virtual CPU does, for ever.
extern "C" fn run_other(number: usize) -> ! {
    // SAFETY: this is where it begins.
    unsafe { begin(number) };
    loop {
        // SAFETY: interrupts are on, and nothing else runs here.
        unsafe { hlt::run(&EXECUTORS[number], |at: &Dispatch| rendezvous::attend(at, number), || false) };
    }
}
