//! A device's two halves, state by state. What a backend does is from `xen/include/public/io/xenbus.h` and `io/blkif.h`, and from what Linux'
//! does (`frontend_changed`, drivers/block/xen-blkback/xenbus.c).
#![forbid(unsafe_code)]

use xen_abi::io::xenbus::XenbusState::{
    self, Closed, Closing, Connected, InitWait, Initialised, Initialising, Reconfigured, Reconfiguring,
    Unknown,
};
use xen_sim::Fault;

use crate::{
    frontend::{FRONT, Frontend, back},
    kernel::Kernel,
};

/// What a frontend may say of itself, the last two of which are no states.
const SAID: [&str; 11] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "closed"];

/// Where each kind of backend goes, for each of these; with `!`, it says why.
const TABLE: [(XenbusState, [&str; 11]); 5] = [
    //              0    1    2     3    4    5    6    7     8     9     text
    (Initialising, ["6", "2", "5!", "4", "4", "5", "6", "5!", "5!", "5!", "6"]),
    (InitWait, ["6", "2", "5!", "4", "4", "5", "6", "5!", "5!", "5!", "6"]),
    (Connected, ["6", "4", "5!", "4", "4", "5", "6", "5!", "5!", "5!", "6"]),
    (Closing, ["6", "5", "5", "5", "5", "5", "6", "5", "5", "5", "6"]),
    (Closed, ["6", "2", "5!", "4", "4", "5", "6", "5!", "5!", "5!", "6"]),
];

/// A guest with a device whose backend is in this state, and whose frontend has a ring to offer.
fn in_state(state: XenbusState) -> (Kernel, Frontend) {
    let mut kernel = Kernel::alone(3);
    let frontend = match state {
        Initialising => {
            // Its keys are written by the toolstack, so that nobody has gone on meanwhile.
            let device = kernel.attach();
            let frontend = Frontend::unannounced(&mut kernel, device);
            kernel.announce(&frontend);
            frontend
        }
        InitWait => {
            let device = kernel.attach();
            Frontend::offer(&mut kernel, device)
        }
        Connected => Frontend::connected(&mut kernel),
        Closing => {
            let frontend = Frontend::connected(&mut kernel);
            kernel.machine.inject(&kernel.guest, Fault::Close(frontend.device));
            frontend
        }
        Closed => {
            let frontend = Frontend::connected(&mut kernel);
            kernel.say(Closing);
            kernel.say(Closed);
            frontend
        }
        Initialised | Reconfiguring | Reconfigured | Unknown => unreachable!("no backend is in it"),
    };
    if state != Initialising {
        assert_eq!(kernel.backend(), Some(state));
    }
    (kernel, frontend)
}

/// Each backend meets each frontend, also those that there should not be.
#[test]
fn every_state_meets_every_state() {
    for (backend, row) in TABLE {
        for (said, expected) in SAID.into_iter().zip(row) {
            let (mut kernel, frontend) = in_state(backend);
            kernel.machine.toolstack().write(&format!("/local/domain/1/{FRONT}/state"), said);
            let case = format!("{backend}, and the frontend says {said}");
            let state = kernel.backend().map(|state| state.number().to_string());
            assert_eq!(state.as_deref(), Some(&expected[..1]), "{case}");
            assert_eq!(kernel.error().is_some(), expected.ends_with('!'), "{case}: {:?}", kernel.error());
            // It has the ring as long as it is connected, or is asked to close and was.
            let serves = expected == "4" || (expected == "5" && matches!(backend, Connected | Closing));
            assert_eq!(kernel.entry(frontend.reference) & 0b11000 != 0, serves, "{case}");
            // Whatever that was, it ends.
            kernel.say(Closed);
            assert_eq!(kernel.backend(), Some(Closed), "{case}");
            frontend.let_go(&kernel);
        }
    }
}

/// A frontend whose state is gone is one that has closed: its driver has removed its keys, or the toolstack has.
#[test]
fn a_frontend_without_a_state() {
    for backend in [InitWait, Connected, Closing, Closed] {
        let (mut kernel, frontend) = in_state(backend);
        kernel.machine.toolstack().rm(&format!("/local/domain/1/{FRONT}/state"));
        assert_eq!(kernel.backend(), Some(Closed), "{backend}");
        frontend.let_go(&kernel);
    }
}

/// The backend looks at the state that is, not at each that was: two changes at once are one.
#[test]
fn states_that_were_missed() {
    let (mut kernel, frontend) = in_state(Closed);
    let toolstack = kernel.machine.toolstack();
    for state in [Initialising, Initialised] {
        toolstack.write(&format!("/local/domain/1/{FRONT}/state"), &state.number().to_string());
    }
    assert_eq!(kernel.backend(), Some(Connected));
    for state in [Closing, Closed, Initialising] {
        toolstack.write(&format!("/local/domain/1/{FRONT}/state"), &state.number().to_string());
    }
    assert_eq!(
        kernel.backend(),
        Some(Connected),
        "the frontend was away, and nobody has seen it, as on Linux"
    );
    kernel.say(Closed);
    frontend.let_go(&kernel);
}

/// A device that the toolstack wants back goes whatever the backend is doing, as soon as its frontend lets it.
#[test]
fn taken_away_in_every_state() {
    for backend in [Initialising, InitWait, Connected, Closing, Closed] {
        let (mut kernel, frontend) = in_state(backend);
        assert!(kernel.machine.toolstack().detach(frontend.device));
        if backend != Closed {
            assert_eq!(kernel.backend(), Some(Closing), "{backend}");
            kernel.say(Closing);
            assert_eq!(kernel.backend(), Some(Closing), "{backend}");
            kernel.say(Closed);
        }
        assert_eq!(kernel.backend(), None, "{backend}");
        assert_gone(kernel, frontend);
    }
}

/// A backend that is `Closed` has nothing to do any more, even if its frontend has just begun anew: its state stays what it is, and the keys go.
#[test]
fn taken_away_while_it_begins_anew() {
    let (mut kernel, frontend) = in_state(Closed);
    let toolstack = kernel.machine.toolstack();
    toolstack.write(&format!("/local/domain/1/{FRONT}/state"), "1");
    toolstack.detach(frontend.device);
    let state = toolstack.read(&format!("{}/state", back(&kernel)));
    assert_eq!(state.as_deref(), Some("6"), "what is closed is not told to close");
    assert_eq!(kernel.backend(), None);
    assert_gone(kernel, frontend);
}

/// And by force at once.
#[test]
fn removed_by_force_in_every_state() {
    for backend in [Initialising, InitWait, Connected, Closing, Closed] {
        let (mut kernel, frontend) = in_state(backend);
        assert!(kernel.machine.toolstack().remove(frontend.device));
        assert_eq!(kernel.backend(), None, "{backend}");
        assert_gone(kernel, frontend);
    }
}

/// Nothing is left of the device, and there can be another.
#[track_caller]
fn assert_gone(mut kernel: Kernel, frontend: Frontend) {
    let toolstack = kernel.machine.toolstack();
    assert!(!toolstack.has(frontend.device));
    assert!(!toolstack.detach(frontend.device) && !toolstack.remove(frontend.device), "it is gone");
    assert_eq!(kernel.directory("device").as_deref(), Ok(&["suspend".to_owned()][..]));
    assert_eq!(toolstack.read("/local/domain/0/backend"), None, "no empty directories are left");
    assert_eq!(toolstack.read("/local/domain/0/name").as_deref(), Some("Domain-0"), "this one is not empty");
    frontend.let_go(&kernel);
    let mut again = Frontend::connected(&mut kernel);
    again.echo(&kernel, &[1, 2, 3]);
    again.close(&mut kernel);
    kernel.end();
}
