//! The seeds in words, and what each of them meets.
#![forbid(unsafe_code)]

use xen_fuzz::xs_wire::{
    Action::{self, Bytes, Connect, Disconnect, Drop, Event, Move, Renew, Reply, Serve, Time, Word},
    Ask, Form, Part,
};

/// An input, and what it is for.
pub(crate) struct Seed {
    pub(crate) name: &'static str,
    pub(crate) actions: Vec<Action>,
    pub(crate) meets: &'static [&'static str],
}

fn seed(
    name: &'static str,
    meets: &'static [&'static str],
    actions: impl IntoIterator<Item = Action>,
) -> Seed {
    Seed { name, actions: actions.into_iter().collect(), meets }
}

fn ask(ask: Ask) -> Action {
    Action::Ask { which: 0, ask }
}

/// The oldest request is answered with this.
fn reply(form: Form, payload: &'static [u8]) -> Action {
    Reply { which: 0, form, payload: vec![Part::Known(payload)] }
}

fn answer(payload: &'static [u8]) -> Action {
    reply(Form::Right, payload)
}

fn refuse(error: &'static [u8]) -> Action {
    reply(Form::Type(16), error)
}

fn event(is_right: bool) -> Action {
    Event { path: Part::Known(b"abc"), is_right }
}

pub(crate) fn seeds() -> Vec<Seed> {
    [questions(), lists(), transactions(), watches(), ends()].into_iter().flatten().collect()
}

fn questions() -> Vec<Seed> {
    vec![
        seed(
            "every-question",
            &["a value", "a number", "written", "made", "removed", "names", "permissions", "permissions set"],
            [
                Ask::Read,
                Ask::Number,
                Ask::Write,
                Ask::Make,
                Ask::Remove,
                Ask::Directory,
                Ask::Permissions,
                Ask::SetPermissions,
            ]
            .into_iter()
            .flat_map(|question| [ask(question), Serve]),
        ),
        seed("a-refusal", &["refused"], [ask(Ask::Read), refuse(b"ENOENT\0")]),
        seed(
            "a-refusal-without-a-name",
            &["refused without a name"],
            [ask(Ask::Read), refuse(b"EWHATEVER\0")],
        ),
        seed("another-type", &["an answer to something else"], [ask(Ask::Read), reply(Form::Type(1), b"12")]),
        seed(
            "another-transaction",
            &["an answer to something else"],
            [ask(Ask::Read), reply(Form::Transaction(7), b"12")],
        ),
        seed(
            "another-request",
            &["a stray", "too late"],
            [ask(Ask::Read), reply(Form::Id(7), b"12"), Time { seconds: 31 }],
        ),
        seed("no-number", &["no number"], [ask(Ask::Number), answer(b"4294967296")]),
        seed(
            "a-value-that-is-too-long",
            &["no room"],
            [ask(Ask::Read), Reply { which: 0, form: Form::Right, payload: vec![Part::Long(65)] }],
        ),
        seed("no-answer", &["too late"], [ask(Ask::Soon), Time { seconds: 4 }]),
        seed("no-permissions", &["nonsense"], [ask(Ask::Permissions), answer(b"x1\0")]),
        seed(
            "an-answer-after-all",
            &["a value"],
            [ask(Ask::Read), Drop { which: 0 }, ask(Ask::Read), Serve, Serve],
        ),
    ]
}

fn lists() -> Vec<Seed> {
    let pieces = (0..8).flat_map(|_| [answer(b"5\0a\0"), answer(b"6\0a\0")]);
    vec![
        seed(
            "no-names",
            &["no names"],
            [ask(Ask::Directory), Reply { which: 0, form: Form::Right, payload: vec![] }],
        ),
        seed("no-list", &["nonsense"], [ask(Ask::Directory), answer(b"a/b\0")]),
        seed(
            "a-list-in-pieces",
            &["names"],
            [ask(Ask::Directory), refuse(b"E2BIG\0"), answer(b"5\0a\0"), answer(b"5\0a\0b\0\0")],
        ),
        seed(
            "a-list-that-changes",
            &["a list that changes"],
            [ask(Ask::Directory), refuse(b"E2BIG\0")].into_iter().chain(pieces),
        ),
        seed(
            "a-list-without-an-end",
            &["no room"],
            [ask(Ask::Directory), refuse(b"E2BIG\0")].into_iter().chain((0..40).map(|_| answer(b"5\0a\0"))),
        ),
    ]
}

fn transactions() -> Vec<Seed> {
    // The greeting comes first: it is asked whether watches can be reset, and then they are.
    let started = || [ask(Ask::Transaction), Serve, Serve, Serve, Serve];
    vec![
        seed("a-transaction", &["committed"], started().into_iter().chain([Serve])),
        seed("an-aborted-one", &["aborted"], [ask(Ask::Abort), Serve, Serve, Serve, Serve, Serve]),
        seed(
            "a-conflict",
            &["a conflict", "committed"],
            started().into_iter().chain([refuse(b"EAGAIN\0"), Serve, Serve, Serve]),
        ),
        seed(
            "conflicts-without-an-end",
            &["a conflict"],
            started().into_iter().chain((0..18).flat_map(|_| [refuse(b"EAGAIN\0"), Serve, Serve])),
        ),
        seed("a-lost-commit", &["committed perhaps"], started().into_iter().chain([Connect])),
        seed(
            "a-transaction-without-a-number",
            &["nonsense"],
            [ask(Ask::Transaction), Serve, Serve, answer(b"0\0")],
        ),
        seed(
            "a-number-that-nobody-waits-for",
            &[],
            [ask(Ask::Transaction), Serve, Serve, Drop { which: 0 }, answer(b"17\0"), Serve],
        ),
    ]
}

fn watches() -> Vec<Seed> {
    let watched = || [ask(Ask::Watch), Serve, Serve, Serve];
    vec![
        seed(
            "a-watch",
            &["the first event", "an event", "watched"],
            watched().into_iter().chain([event(true), event(true)]),
        ),
        seed(
            "a-watch-in-another-domain",
            &["the first event", "an event after the connection was lost"],
            watched().into_iter().chain([Connect, Serve, Serve, Serve]),
        ),
        seed("an-event-of-nothing", &["a stray"], watched().into_iter().chain([event(false)])),
        seed("a-watch-that-is-refused", &["refused"], [ask(Ask::Watch), Serve, Serve, refuse(b"ENOSPC\0")]),
        seed(
            "a-watch-that-is-there",
            &["the first event"],
            [ask(Ask::Watch), Serve, Serve, refuse(b"EEXIST\0")],
        ),
        seed(
            "too-many-watches",
            &["too many watches"],
            (0..3).map(|which| Action::Ask { which, ask: Ask::Watch }),
        ),
        seed(
            "a-watch-that-nobody-waits-for",
            &[],
            [ask(Ask::Watch), Serve, Serve, Drop { which: 0 }, Serve, Serve],
        ),
    ]
}

fn ends() -> Vec<Seed> {
    vec![
        seed("disconnected", &["disconnected"], [ask(Ask::Read), Disconnect]),
        seed(
            "an-absurd-index-of-requests",
            &["absurd index of requests"],
            [ask(Ask::Read), Word { word: 0, value: 5000 }],
        ),
        seed(
            "an-absurd-index-of-replies",
            &["absurd index of replies"],
            [ask(Ask::Read), Move { word: 3, by: -1 }],
        ),
        seed("an-absurd-length", &["absurd length"], [ask(Ask::Read), reply(Form::Length(4097), b"12")]),
        seed("the-end", &["ended by xenstored"], [ask(Ask::Read), Word { word: 6, value: 1 }]),
        seed(
            "a-new-beginning",
            &["a connection that is asked for anew", "ended by xenstored", "a value"],
            [
                Word { word: 4, value: 3 },
                ask(Ask::Read),
                Word { word: 6, value: 3 },
                Renew,
                ask(Ask::Read),
                Serve,
            ],
        ),
        seed(
            "a-watch-after-a-new-beginning",
            &["an event after the connection was lost"],
            [
                Word { word: 4, value: 1 },
                ask(Ask::Watch),
                Serve,
                Serve,
                Serve,
                Move { word: 3, by: 2000 },
                Action::Ask { which: 1, ask: Ask::Read },
                Renew,
                Serve,
                Serve,
            ],
        ),
        seed(
            "half-a-header",
            &["too late"],
            [ask(Ask::Read), Bytes(vec![2, 0, 0, 0, 1]), Time { seconds: 31 }],
        ),
        seed(
            "half-a-message-and-another-ring",
            &["a value"],
            [ask(Ask::Write), Word { word: 0, value: 0 }, Connect, ask(Ask::Read), Serve, Serve],
        ),
    ]
}
