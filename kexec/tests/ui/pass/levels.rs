//! Blocking before and after the CPU is raised, and work at `DISPATCH_LEVEL` in between.

use kexec::{
    irql::{Dispatch, Passive, Raise},
    platform::thread::{Thread, passive},
};

fn block(_: &mut Passive) {}

fn touch_ring(_: &Dispatch) {}

fn right(cpu: &impl Raise, passive: &mut Passive) {
    block(passive);
    passive.raised(cpu, |dispatch| touch_ring(dispatch));
    let raised = passive.raise(cpu);
    touch_ring(&raised);
    drop(raised);
    block(passive);
}

fn main() {
    let cpu = Thread::<Passive>::new();
    passive(|passive| right(&cpu, passive));
}
