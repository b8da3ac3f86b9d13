//! The local APIC, as far as there is one alarm to be set: its timer, and the end of the timer's interrupt.
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
const SPURIOUS: u32 = 0x80F;
const SPURIOUS_ENABLE: u64 = 1 << 8;
const TIMER: u32 = 0x832;
const TIMER_INITIAL: u32 = 0x838;
const TIMER_DIVIDE: u32 = 0x83E;
const DIVIDE_BY_1: u64 = 0b1011;

/// The bus that the timer counts has 100 MHz, whatever the processor's clock is: `APIC_BUS_CYCLE_NS` in
/// `xen/arch/x86/include/asm/apicdef.h`.
const NANOSECONDS_PER_TICK: u128 = 10;

/// Turns it on, with one vector for the timer's interrupts and one for those that are none.
///
/// # Safety
///
/// Both vectors have handlers, that of the timer calls [`end_of_interrupt`].
pub(crate) unsafe fn enable(timer: u8, spurious: u8) {
    let registers = [
        (BASE, BASE_ADDRESS | BOOT_PROCESSOR | X2APIC | ENABLED),
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

/// Lets the next interrupt come. By the timer's handler.
pub(crate) fn end_of_interrupt() {
    // SAFETY: that is all that it does.
    unsafe { Native.write_msr(END_OF_INTERRUPT, 0) };
}
