//! What the machine does, shown on the [`fixture`](super::fixture).
#![forbid(unsafe_code)]

use super::{Activation, Arguments, Fault, Resume, Trap, Yield, fixture::ASK};

mod calls;
mod faults;
mod loading;
mod traps;
mod unwinding;

/// Starts a call that stops at the import.
fn start_asking(call: &mut Activation) -> Arguments {
    asked(call.resume(Resume::Start, 0))
}

fn asked(at: Yield) -> Arguments {
    match at {
        Yield::Export { index: ASK, arguments } => arguments,
        other => panic!("{other:?} instead of a call of the import"),
    }
}

fn trapped(at: Yield) -> Trap {
    match at {
        Yield::Trap(trap) => trap,
        other => panic!("{other:?} instead of a trap"),
    }
}

fn finished(at: Yield) -> u64 {
    match at {
        Yield::Finished(value) => value,
        other => panic!("{other:?} instead of the end"),
    }
}

fn faulted(at: Yield) -> Fault {
    match at {
        Yield::Fault(fault) => fault,
        other => panic!("{other:?} instead of a fault"),
    }
}
