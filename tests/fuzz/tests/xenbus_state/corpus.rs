//! The seeds in words, and what each of them meets.
#![forbid(unsafe_code)]

use xen_fuzz::xenbus_state::{
    Action, BACKEND, FRONTEND,
    Kind::{
        self, Answer, Behave, Make, Refuse, Remove, RemoveFront, Stay, Stop, Suspend, Take, Time, Vanish,
        Write, WriteFront,
    },
    VALUES,
};

/// An input, and what it is for.
pub(crate) struct Seed {
    pub(crate) name: &'static str,
    pub(crate) actions: Vec<Action>,
    pub(crate) meets: &'static [&'static str],
}

/// A key gets a value.
fn key(kind: Kind, key: &str, value: &str) -> Action {
    let keys = if matches!(kind, Write | Remove) { BACKEND } else { FRONTEND };
    let which = keys.iter().position(|known| *known == key).expect("it is a key");
    let value = VALUES.iter().position(|known| *known == value).expect("it is a value");
    Action::new(kind, number(which), number(value))
}

fn number(number: usize) -> u8 {
    u8::try_from(number).expect("there are few")
}

/// The backend is in this state.
fn is(state: &str) -> Action {
    key(Write, "state", state)
}

fn gone(of: Kind, which: &str) -> Action {
    key(of, which, "0")
}

/// The frontend has published its keys, and the backend is connected.
fn connected() -> Vec<Action> {
    vec![is("2"), is("4")]
}

const BACK: Action = Action::new(Vanish, 0, 0);
const FRONT: Action = Action::new(Vanish, 1, 0);
const BOTH: Action = Action::new(Vanish, 2, 0);
const MAKE: Action = Action::new(Make, 0, 0);
const TAKE: Action = Action::new(Take, 0, 0);
const BEHAVE: Action = Action::new(Behave, 0, 0);
const HANG: Action = Action::new(Behave, 1, 0);
const REFUSE: Action = Action::new(Refuse, 0, 2);
const RESUME: Action = Action::new(Suspend, 0, 0);
const MIGRATE: Action = Action::new(Suspend, 1, 0);
const STAY: Action = Action::new(Stay, 0, 0);
const STOP: Action = Action::new(Stop, 0, 0);
const MINUTE: Action = Action::new(Time, 0, 61);

fn seed(name: &'static str, meets: &'static [&'static str], of: &[&[Action]]) -> Seed {
    Seed { name, actions: of.concat(), meets }
}

pub(crate) fn seeds() -> Vec<Seed> {
    [states(), wanted_back(), broken_and_suspended(), vanished_and_refused()].into_iter().flatten().collect()
}

/// What a backend says of itself.
fn states() -> Vec<Seed> {
    let offered = &[is("2")][..];
    let connected = &connected()[..];
    vec![
        seed(
            "a-good-life",
            &["waits", "connected", "finished", "closed", "gone"],
            &[&[BEHAVE, MINUTE, key(Write, "online", "0"), is("5"), MINUTE, BOTH]],
        ),
        seed("never-connected", &["never connected", "closed"], &[offered, &[MINUTE, MINUTE, MINUTE]]),
        seed(
            "closed-by-the-backend",
            &["connected", "finished", "closed"],
            &[connected, &[is("5"), is("6")]],
        ),
        seed("closed-without-a-word", &["connected", "lost"], &[connected, &[is("6")]]),
        seed("begun-anew", &["connected", "lost"], &[connected, &[is("1"), is("2"), is("4")]]),
        seed(
            "never-closed",
            &["connected", "never closed", "lost"],
            &[connected, &[is("5"), is("4"), MINUTE, MINUTE]],
        ),
        seed("closes-for-ever", &["never closed"], &[connected, &[is("5"), MINUTE, MINUTE, MINUTE]]),
        seed(
            "states-that-are-none",
            &["connected", "lost"],
            &[
                &[
                    is("9"),
                    is("04"),
                    is("+4"),
                    is("connected"),
                    is(""),
                    is("4294967296"),
                    is("\u{e4}"),
                    is("2"),
                    is("8"),
                ],
                &[is("4"), is("7"), is("-1")],
            ],
        ),
        seed("no-state", &["connected", "lost"], &[connected, &[gone(Remove, "state"), is("2")]]),
        seed(
            "taken-away-before-it-began",
            &["said that it ends", "gone"],
            &[&[key(Write, "online", "0"), MINUTE]],
        ),
        seed(
            "online-is-anything",
            &["connected"],
            &[
                &[key(Write, "online", "connected"), is("2"), key(Write, "online", ""), is("4")],
                &[gone(Remove, "online"), MINUTE, is("5"), is("6")],
            ],
        ),
    ]
}

/// A device that the toolstack wants back, and a driver that is stopped.
fn wanted_back() -> Vec<Seed> {
    let online = |value| key(Write, "online", value);
    let connected = &connected()[..];
    vec![
        seed(
            "stays-until-it-is-stopped",
            &["stays", "stopped while it stayed", "finished", "closed", "gone"],
            &[&[STAY, BEHAVE, online("0"), is("5"), MINUTE, is("4"), is("5"), STOP, MINUTE]],
        ),
        seed(
            "stays-until-it-is-lost",
            &["stays", "lost"],
            &[&[STAY], connected, &[online("0"), is("5"), online("1"), MINUTE, is("6")]],
        ),
        seed(
            "stays-until-it-has-moved",
            &["stays", "ended by a suspend"],
            &[&[STAY], connected, &[online("0"), RESUME, is("5"), MIGRATE]],
        ),
        seed("stopped-while-it-closes", &["stopped while it closed"], &[connected, &[is("5"), STOP]]),
        seed(
            "stopped-at-any-time",
            &["stopped"],
            &[&[STOP, is("2"), STOP], connected, &[STOP, is("5"), STOP]],
        ),
    ]
}

/// A backend that breaks the protocol, and a guest that is suspended.
fn broken_and_suspended() -> Vec<Seed> {
    let connected = &connected()[..];
    vec![
        seed("a-broken-backend", &["broken"], &[&[key(Write, "sectors", "/")], connected, &[MINUTE, MINUTE]]),
        seed(
            "broken-and-refused",
            &["broken"],
            &[&[key(Write, "sectors", "/"), is("2")], &[is("4"), REFUSE, MINUTE]],
        ),
        seed(
            "broken-and-made-anew",
            &["broken", "gone"],
            &[
                &[key(Write, "sectors", "-1")],
                connected,
                &[MINUTE, MINUTE, MINUTE, BOTH, MAKE, MINUTE, MAKE, MINUTE],
            ],
        ),
        seed(
            "broken-and-migrated",
            &["broken", "connected"],
            &[&[key(Write, "sectors", "-1")], connected, &[MINUTE, MINUTE, MIGRATE, BEHAVE, MINUTE]],
        ),
        seed(
            "suspended",
            &["connected", "ended by a suspend"],
            &[connected, &[RESUME, MIGRATE, RESUME], connected],
        ),
        seed(
            "suspended-while-it-closes",
            &["ended by a suspend"],
            &[connected, &[is("5"), MIGRATE, is("2"), MIGRATE]],
        ),
    ]
}

/// Directories that go, and a xenstored that refuses.
fn vanished_and_refused() -> Vec<Seed> {
    let connected = &connected()[..];
    vec![
        seed("the-backend-vanishes", &["connected", "lost"], &[connected, &[BACK, MINUTE]]),
        seed(
            "the-frontend-vanishes",
            &["connected", "lost", "gone"],
            &[connected, &[FRONT, is("5"), MINUTE, MINUTE]],
        ),
        seed("both-vanish", &["connected", "lost", "gone"], &[connected, &[BOTH, MINUTE, MINUTE]]),
        seed("made-anew-at-once", &["connected", "lost"], &[connected, &[MAKE, is("2"), is("4")]]),
        seed("it-may-not-write", &["no store"], &[&[TAKE, MAKE, TAKE, is("2"), MINUTE, MINUTE]]),
        seed("no-backend", &["gone"], &[&[BOTH, MINUTE, key(WriteFront, "backend-id", "0"), MINUTE]]),
        seed(
            "another-backend-while-it-waits",
            &["waits", "gone"],
            &[&[key(Write, "online", "0"), key(WriteFront, "backend", "1"), MINUTE]],
        ),
        seed(
            "back-to-the-first-backend",
            &["gone", "connected"],
            &[&[
                key(Write, "online", "0"),
                key(WriteFront, "backend", "1"),
                MINUTE,
                MAKE,
                BEHAVE,
                MINUTE,
                MINUTE,
            ]],
        ),
        seed(
            "another-backend",
            &["no store"],
            &[&[
                key(WriteFront, "backend", "/a//b"),
                key(WriteFront, "backend-id", "connected"),
                is("4"),
                MINUTE,
                MINUTE,
                gone(RemoveFront, "backend-id"),
                MINUTE,
            ]],
        ),
        seed("refused", &["no store"], &[&[REFUSE, is("2"), REFUSE, REFUSE, REFUSE, is("4"), MINUTE]]),
        seed(
            "not-published",
            &["not published"],
            &[&[Action::new(Answer, 0, 1), Action::new(Answer, 0, 1), REFUSE, is("2"), MINUTE]],
        ),
        seed(
            "answered-with-anything",
            &["waits"],
            &[
                &[
                    Action::new(Answer, 0, 0),
                    is("2"),
                    Action::new(Answer, 0, 3),
                    is("4"),
                    Action::new(Answer, 0, 1),
                ],
                &[is("5"), MINUTE, HANG],
            ],
        ),
        seed(
            "somebody-was-here-before",
            &["waits", "connected"],
            &[&[
                key(WriteFront, "state", "4"),
                key(WriteFront, "ring-ref", "8"),
                is("4"),
                BEHAVE,
                MINUTE,
                MINUTE,
            ]],
        ),
        seed(
            "the-hotplug-script",
            &["connected"],
            &[
                &[key(Write, "hotplug-status", "connected")],
                connected,
                &[gone(Remove, "hotplug-status"), gone(RemoveFront, "ring-ref"), MINUTE],
            ],
        ),
    ]
}
