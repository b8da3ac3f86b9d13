//! The local APIC, as far as there is one alarm to be set, and others to be woken: its timer, its interrupts for other
//! processors, and the end of an interrupt.
//!
//! It is used by its registers' MSRs (x2APIC), which cost Xen no decoding of an instruction.
//!
//! Source: Intel's Software Developer's Manual, volume 3, "Advanced Programmable Interrupt Controller (APIC)".
#![expect(unsafe_code, reason = "registers of the processor")]

use core::time::Duration;

use xenbus::{seam::Processor, x86::Native};

/// `IA32_APIC_BASE`: where it is, and in which mode.
const BASE: u32 = 0x1B;
const BASE_ADDRESS: u64 = 0xFEE0_0000;
const BOOT_PROCESSOR: u64 = 1 << 8;
const X2APIC: u64 = 1 << 10;
const ENABLED: u64 = 1 << 11;

const END_OF_INTERRUPT: u32 = 0x80B;
const COMMAND: u32 = 0x830;
/// To put a processor back to where it was before it began.
const COMMAND_NMI: u64 = 0b100 << 8 | 1 << 14;
const COMMAND_RESET: u64 = 0b101 << 8 | 1 << 14;
const SPURIOUS: u32 = 0x80F;
const SPURIOUS_ENABLE: u64 = 1 << 8;
const TIMER: u32 = 0x832;
const TIMER_INITIAL: u32 = 0x838;
const TIMER_DIVIDE: u32 = 0x83E;
const DIVIDE_BY_1: u64 = 0b1011;

/// The bus that the timer counts has 100 MHz, whatever the processor's clock is: `APIC_BUS_CYCLE_NS` in
/// `xen/arch/x86/include/asm/apicdef.h`.
const NANOSECONDS_PER_TICK: u128 = 10;

/// Turns it on, on the first processor or another, with one vector for the timer's interrupts and one for those that
/// are none.
///
/// # Safety
///
/// Both vectors have handlers, that of the timer calls [`end_of_interrupt`].
pub(crate) unsafe fn enable(is_first: bool, timer: u8, spurious: u8) {
    let first = if is_first { BOOT_PROCESSOR } else { 0 };
    let registers = [
        (BASE, BASE_ADDRESS | first | X2APIC | ENABLED),
        (SPURIOUS, SPURIOUS_ENABLE | u64::from(spurious)),
        (TIMER_DIVIDE, DIVIDE_BY_1),
        (TIMER, u64::from(timer)),
    ];
    for (register, value) in registers {
        // SAFETY: the base is what it was but for the mode, and the others choose interrupts that have handlers.
        unsafe { Native.write_msr(register, value) };
    }
}

/// Has the timer's interrupt come once after so long, or sooner if it cannot count so far; never, for None. What was
/// set before is not.
///
/// On a processor on which it was [enabled](enable).
pub(crate) fn set_timer(after: Option<Duration>) {
    let ticks = match after {
        None => 0,
        // Rounded up: not too soon; and zero would be never.
        Some(after) => {
            u32::try_from(after.as_nanos().div_ceil(NANOSECONDS_PER_TICK).max(1)).unwrap_or(u32::MAX)
        }
    };
    // SAFETY: the timer's interrupt has a handler.
    unsafe { Native.write_msr(TIMER_INITIAL, ticks.into()) };
}

/// Interrupts another virtual CPU, on which it was [enabled](enable).
///
/// # Safety
///
/// The vector has a handler, which calls [`end_of_interrupt`].
pub(crate) unsafe fn interrupt(number: usize, vector: u8) {
    // SAFETY: passed on; and what was written before is seen there, for the write of this register is an exit to Xen.
    unsafe { Native.write_msr(COMMAND, destination(number) | u64::from(vector)) };
}

/// Interrupts another virtual CPU, whether it lets interrupts come or not.
///
/// # Safety
///
/// The exception that it gets for that has a handler.
pub(crate) unsafe fn interrupt_anyway(number: usize) {
    // SAFETY: passed on.
    unsafe { Native.write_msr(COMMAND, destination(number) | COMMAND_NMI) };
}

/// Puts another virtual CPU back to where it was before it began.
///
/// # Safety
///
/// It has never run anything of this guest's.
pub(crate) unsafe fn reset(number: usize) {
    // SAFETY: passed on.
    unsafe { Native.write_msr(COMMAND, destination(number) | COMMAND_RESET) };
}

/// Xen numbers the APICs by two: `set_x2apic_id`, `xen/arch/x86/hvm/vlapic.c`.
const fn destination(number: usize) -> u64 {
    (number as u64 * 2) << 32
}

/// Lets the next interrupt come. By the handler of an interrupt of the APIC's.
pub(crate) fn end_of_interrupt() {
    // SAFETY: that is all that it does.
    unsafe { Native.write_msr(END_OF_INTERRUPT, 0) };
}
