//! A token is neither copied nor cloned: there is one for each time that the level was reached.

use kexec::irql::Dispatch;

fn copied(at: &Dispatch) -> Dispatch {
    *at
}

fn cloned(at: &Dispatch) -> Dispatch {
    at.clone()
}

fn main() {}
