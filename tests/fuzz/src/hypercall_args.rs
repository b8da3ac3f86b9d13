//! What guests do to Xen, their memory, their grants, their event channels and themselves.
//!
//! An input is a list of [`Action`]s of two guests, which share pages with each other and with backends: hypercalls
//! with any numbers, pointers to arguments that are there in full, in part and not at all, and pages touched in
//! between. After each, Xen's books must agree with each other, and every answer is one that the headers name.
#![deny(unsafe_code)]

mod action;
mod guest;

use std::collections::BTreeSet;

use xen_sim::{GuestConfig, Machine};

pub use self::action::{Action, Deed, Kind, Number, decode, encode};
use self::guest::{Guest, PROCESSORS};

/// Does to a machine what the input says. The names of all errors that were answered, and of all mistakes that were
/// found.
///
/// # Panics
///
/// Xen's books do not agree, or it has answered what it must not.
#[must_use]
pub fn hypercall_args(input: &[u8]) -> BTreeSet<String> {
    let machine = Machine::new(0);
    let (options, actions) = decode(input);
    let limits = limits(options);
    let guest = || Guest::new(machine.create(limits.clone()));
    let mut guests = [guest(), guest()];
    for action in actions {
        guests[usize::from(action.who & 1)].act(action);
        if let Err(problem) = machine.check() {
            panic!("after {action:x?}: {problem}");
        }
    }
    guests.into_iter().flat_map(|guest| guest.audit().into_iter().chain(guest.answers)).collect()
}

/// What the guests may have: one bit makes that so little that it is soon used up.
fn limits(options: u8) -> GuestConfig {
    let vcpus = PROCESSORS.into();
    // Half the machines have no store, which takes most of the time to build.
    let usual = GuestConfig { vcpus, has_store: options & 2 != 0, pages: 1024, ..GuestConfig::default() };
    if options & 1 == 0 {
        usual
    } else {
        GuestConfig { pages: 8, grant_frames: 2, mappings: 2, max_evtchn_port: 4, ..usual }
    }
}
