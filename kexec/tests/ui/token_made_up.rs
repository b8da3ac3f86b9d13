//! Safe code makes no token: whoever makes one promises, in `unsafe`, that the CPU is at the level.

use kexec::irql::{Dispatch, Level};

fn wrong() -> Dispatch {
    Dispatch::assume()
}

fn main() {}
