//! What can be seen of a virtual CPU that does not do what it should.
#![expect(unsafe_code, reason = "another processor is interrupted, whatever it does")]

use core::{
    hint,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Release},
    },
    time::Duration,
};

use crate::{
    apic,
    hlt::CLOCK,
    report,
    smp::{self, MOST, executor},
};

/// Where each was, when it was asked: its instruction and its flags; zero, if it has not been, or does not answer.
static WHERE: [[AtomicU64; 2]; MOST] = [const { [const { AtomicU64::new(0) }; 2] }; MOST];

/// How long it is waited for an answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tells of a virtual CPU's bell and alarm, and at which instruction it is, and with which flags (0x200: interrupts are
/// on). It has missed nothing of what can end its `hlt`, if it is behind that.
///
/// It is the last that the other one does. Not to be asked of itself.
pub(crate) fn tell_of(number: usize) {
    report::note(format_args!("{:?}", executor(number).platform()));
    // SAFETY: the exception notes it.
    unsafe { apic::interrupt_anyway(number) };
    let is_late = CLOCK.limit(PATIENCE);
    while WHERE[number][0].load(Acquire) == 0 && !is_late() {
        hint::spin_loop();
    }
    let [at, flags] = WHERE[number].each_ref().map(|word| word.load(Acquire));
    report::note(format_args!("cpu {number} was at {at:#x}, with flags {flags:#x}"));
}

/// This virtual CPU was asked where it is. The end of what it does.
pub(crate) fn answer(at: u64, flags: u64) -> ! {
    let [its_place, its_flags] = &WHERE[smp::number()];
    its_flags.store(flags, Release);
    its_place.store(at, Release);
    loop {
        hint::spin_loop();
    }
}
