//! The interrupt descriptor table: events and alarms come, exceptions are the end.
//!
//! | vector | |
//! |---|---|
//! | 0 to 31 | exceptions: what the processor was at is told, and the guest has crashed; but 2 is for [`stall`] |
//! | [`UPCALL`] | Xen has events: the callback of the domain, which no APIC knows of |
//! | [`TIMER`] | the alarm of kexec |
//! | [`BELL`] | another virtual CPU has rung: it is enough that it comes |
//! | [`SPURIOUS`] | an interrupt of the APIC's that was withdrawn |
#![expect(unsafe_code, reason = "where the processor jumps to at an interrupt")]

use core::{
    arch::{asm, naked_asm},
    cell::UnsafeCell,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use crate::{apic, life, report, stall};

/// Events.
pub(crate) const UPCALL: u8 = 0x30;
/// The alarm.
pub(crate) const TIMER: u8 = 0x31;
/// Another has rung.
pub(crate) const BELL: u8 = 0x32;
/// Nothing.
pub(crate) const SPURIOUS: u8 = 0xFF;

/// The code segment of the boot code.
pub(crate) const CODE: u16 = 8;

const EXCEPTIONS: usize = 32;
/// That by which another asks where this one is.
const NMI: u64 = 2;
/// Bytes of the stub of an exception.
const STUB: usize = 16;

/// A gate: present, for an interrupt, which turns others off.
const PRESENT_INTERRUPT: u64 = 0x8E << 40;

static TABLE: Table = Table(UnsafeCell::new([[0; 2]; 256]));

#[repr(C, align(16))]
struct Table(UnsafeCell<[[u64; 2]; 256]>);

// SAFETY: it is written before interrupts come, while there is one processor only.
unsafe impl Sync for Table {}

/// What `lidt` takes.
#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

/// Fills the table.
///
/// # Safety
///
/// Once, while the first processor is the only one, and before it has interrupts.
pub(crate) unsafe fn prepare() {
    let mut gates = [[0; 2]; 256];
    for (exception, gate) in gates.iter_mut().take(EXCEPTIONS).enumerate() {
        *gate = gate_to(exceptions as *const () as usize + exception * STUB);
    }
    for (vector, handler) in [
        (UPCALL, upcall_entry as *const () as usize),
        (TIMER, timer_entry as *const () as usize),
        (BELL, bell_entry as *const () as usize),
        (SPURIOUS, spurious_entry as *const () as usize),
    ] {
        gates[usize::from(vector)] = gate_to(handler);
    }
    // SAFETY: nobody reads it yet.
    unsafe { *TABLE.0.get() = gates };
}

/// Has interrupts come, and the alarm's among them.
///
/// # Safety
///
/// Once on each processor, the first one or not, which has them off and knows its number; after [`prepare`].
pub(crate) unsafe fn begin(is_first: bool) {
    let limit = u16::try_from(size_of::<Table>() - 1).unwrap_or(u16::MAX);
    let pointer = Pointer { limit, base: TABLE.0.get().expose_provenance() as u64 };
    // SAFETY: the table stays, and its gates lead to handlers.
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer, options(readonly, nostack, preserves_flags)) };
    // SAFETY: both have handlers.
    unsafe { apic::enable(is_first, TIMER, SPURIOUS) };
    // SAFETY: the table is there.
    unsafe { on() };
}

/// Lets interrupts come.
///
/// # Safety
///
/// Nothing that runs here counts on it that none comes.
pub(crate) unsafe fn on() {
    // SAFETY: the caller answers for it. That memory may change is what `asm!` takes for granted.
    unsafe { asm!("sti", options(nostack)) };
}

/// Lets no interrupt come.
///
/// # Safety
///
/// Until [`on`], nothing here waits for what an interrupt brings.
pub(crate) unsafe fn off() {
    // SAFETY: as above.
    unsafe { asm!("cli", options(nostack)) };
}

/// The segments of this processor, for `lgdt`: for good, in a place of their own.
pub(crate) fn segments() -> *const u8 {
    static SEGMENTS: Segments = Segments(UnsafeCell::new([0; 10]));
    let pointer = SEGMENTS.0.get().cast::<u8>();
    // SAFETY: each time it writes what is there, by the first processor.
    unsafe { asm!("sgdt [{}]", in(reg) pointer, options(nostack, preserves_flags)) };
    pointer
}

#[repr(C, align(16))]
struct Segments(UnsafeCell<[u8; 10]>);

// SAFETY: others read it when it has been written.
unsafe impl Sync for Segments {}

const fn gate_to(handler: usize) -> [u64; 2] {
    let address = handler as u64;
    let low = address & 0xFFFF | (CODE as u64) << 16 | PRESENT_INTERRUPT | (address >> 16 & 0xFFFF) << 48;
    [low, address >> 32]
}

/// Lets interrupts come, and waits for one.
///
/// None comes between the two instructions, or so `sti` promises. An emulated processor forgets that, if it has left the
/// guest just there (`README.md`, "Lost wake-ups"). So an interrupt that comes there goes back behind the `hlt`, which
/// has nothing left to wait for.
///
/// # Safety
///
/// As for [`on`].
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn on_and_halt() {
    // An instruction of one byte each.
    naked_asm!("sti", "hlt", "ret")
}

static UNTIMELY: AtomicU32 = AtomicU32::new(0);

/// How many interrupts have come between the two instructions of [`on_and_halt`], where none may come.
pub(crate) fn untimely() -> u32 {
    UNTIMELY.load(Relaxed)
}

/// Saves what a function may change, calls it, and goes back to where the processor was. That was with the stack at a
/// multiple of 16 bytes, below which the processor has put five words, and this puts nine; or, in
/// [`on_and_halt`], eight bytes less.
macro_rules! entry {
    ($(#[doc = $says:literal])+ $name:ident calls $handler:ident) => {
        $(#[doc = $says])+
        #[unsafe(naked)]
        extern "C" fn $name() {
            naked_asm!(
                "push rax",
                "push rcx",
                "push rdx",
                "push rsi",
                "push rdi",
                "push r8",
                "push r9",
                "push r10",
                "push r11",
                "cld",
                "lea rax, [rip + {halt} + 1]",
                "cmp [rsp + 72], rax",
                "jne 2f",
                "inc qword ptr [rsp + 72]",
                "lock inc dword ptr [rip + {untimely}]",
                "2:",
                "call {handler}",
                "pop r11",
                "pop r10",
                "pop r9",
                "pop r8",
                "pop rdi",
                "pop rsi",
                "pop rdx",
                "pop rcx",
                "pop rax",
                "iretq",
                halt = sym on_and_halt,
                untimely = sym UNTIMELY,
                handler = sym $handler,
            )
        }
    };
}

entry! {
    /// Xen has events.
    upcall_entry calls upcall
}
entry! {
    /// The timer's time has come.
    timer_entry calls timer
}
entry! {
    /// Another virtual CPU has rung.
    bell_entry calls bell
}

extern "C" fn upcall() {
    life::upcall();
}

extern "C" fn timer() {
    apic::end_of_interrupt();
    life::alarm();
}

extern "C" fn bell() {
    apic::end_of_interrupt();
}

/// Nothing has come, which needs no end.
#[unsafe(naked)]
extern "C" fn spurious_entry() {
    naked_asm!("iretq")
}

/// A stub for each exception, every [`STUB`] bytes: it puts a zero where the processor has put no error code, and the
/// number of the exception.
#[unsafe(naked)]
extern "C" fn exceptions() {
    naked_asm!(
        ".set exception, 0",
        ".rept {count}",
        ".balign {stub}",
        // Those with an error code: 8, 10 to 14, 17, 21, 29 and 30.
        ".if ((0x60227d00 >> exception) & 1) == 0",
        "push 0",
        ".endif",
        "push exception",
        "jmp {handler}",
        ".set exception, exception + 1",
        ".endr",
        count = const EXCEPTIONS,
        stub = const STUB,
        handler = sym exception_entry,
    )
}

/// What is on the stack then.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Frame {
    exception: u64,
    code: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

#[unsafe(naked)]
extern "C" fn exception_entry() -> ! {
    naked_asm!(
        "cld",
        "mov rdi, rsp",
        "and rsp, -16",
        "call {handler}",
        "ud2",
        handler = sym exception,
    )
}

/// There is nothing that an exception could be but the end.
extern "C" fn exception(frame: &Frame) -> ! {
    let Frame { exception, code, rip, rsp, rflags, .. } = *frame;
    if exception == NMI {
        stall::answer(rip, rflags);
    }
    let address: u64;
    // SAFETY: it says where the last page fault was.
    unsafe { asm!("mov {}, cr2", out(reg) address, options(nomem, nostack, preserves_flags)) };
    report::crash(format_args!(
        "exception {exception}, code {code:#x}, at {rip:#x}, with the stack at {rsp:#x} and CR2 {address:#x}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The processor finds the parts of the address where it looks for them.
    #[test]
    fn a_gate_has_its_parts() {
        assert_eq!(gate_to(0x1122_3344_5566_7788), [0x5566_8E00_0008_7788, 0x1122_3344]);
    }
}
