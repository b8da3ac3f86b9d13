//! Nobody blocks while a guard keeps the CPU raised: the guard borrows the passive token.

use kexec::irql::{Passive, Raise};

fn block(_: &mut Passive) {}

fn wrong(cpu: &impl Raise, passive: &mut Passive) {
    let raised = passive.raise(cpu);
    block(passive);
    drop(raised);
}

fn main() {}
