//! Nobody blocks in a closure that runs at `DISPATCH_LEVEL`: the passive token is spent until it returns.

use kexec::irql::{Passive, Raise};

fn block(_: &mut Passive) {}

fn wrong(cpu: &impl Raise, passive: &mut Passive) {
    passive.raised(cpu, |_dispatch| block(passive));
}

fn main() {}
