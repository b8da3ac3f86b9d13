//! What somebody has thought of that could be in the queues, in words.
#![forbid(unsafe_code)]

use xen_fuzz::evtchn_fifo::{
    Action,
    Kind::{Ask, Head, Later, Ready, Restless, Upcall, Word},
};

/// The bits of a word.
const PENDING: u32 = 1 << 31;
const MASKED: u32 = 1 << 30;
const LINKED: u32 = 1 << 29;
const BUSY: u32 = 1 << 28;

/// The queue of a new port.
const QUEUE: u8 = 7;

/// The word of a port, of those that have channels: 1 to 8 come first.
fn word(port: u8, bits: u32) -> Action {
    Action::new(Word, port - 1, bits)
}

/// It is this again, after one more access.
fn again(port: u8, bits: u32) -> Action {
    Action::new(Later, port - 1, bits)
}

/// A queue that begins with this port.
fn queue(head: u32) -> [Action; 2] {
    [Action::new(Head, QUEUE, head), Action::new(Ready, 0, 1 << QUEUE)]
}

fn upcall(budget: u8) -> Action {
    Action::new(Upcall, budget - 1, 0)
}

fn ask(port: u8) -> Action {
    Action::new(Ask, port - 1, 0)
}

type Corpus = Vec<(&'static str, Vec<&'static str>, Vec<Action>)>;

/// The inputs: their names, what they are meant to meet, and what they are.
pub(crate) fn corpus() -> Corpus {
    const EVENT: u32 = PENDING | LINKED;
    let case = |name, meant: &[&'static str], words: &[Action], head: u32, rest: &[Action]| {
        (name, meant.to_vec(), [words, &queue(head), rest].concat())
    };
    vec![
        case(
            "a-right-queue",
            &["told", "armed"],
            &[ask(1), ask(2), word(1, EVENT | 2), word(2, EVENT)],
            1,
            &[upcall(8), ask(1), ask(2), ask(1)],
        ),
        case("linked-to-itself", &["told", "not linked"], &[word(1, EVENT | 1)], 1, &[upcall(8)]),
        case(
            "linked-in-a-circle",
            &["told", "not linked"],
            &[word(1, EVENT | 2), word(2, EVENT | 3), word(3, EVENT | 1)],
            1,
            &[upcall(64)],
        ),
        case(
            "linked-again-and-again",
            &["told", "more"],
            &[word(1, EVENT | 1)],
            1,
            &[&[again(1, EVENT | 1); 12][..], &[upcall(3)]].concat(),
        ),
        case("a-head-beyond-the-array", &["beyond"], &[], 0x1_FFFF, &[upcall(8)]),
        case("a-head-beyond-all-ports", &["beyond"], &[], u32::MAX, &[upcall(8)]),
        case("a-link-beyond-the-array", &["beyond", "told"], &[word(1, EVENT | 0x800)], 1, &[upcall(8)]),
        case("the-head-is-zero", &["not linked"], &[], 0, &[upcall(8)]),
        case("nobody-has-the-port", &["stray"], &[Action::new(Word, 12, EVENT)], 9, &[upcall(8)]),
        case("nobody-has-sent-to-it", &["not linked"], &[], 500, &[upcall(8)]),
        case("masked-and-linked", &["taken"], &[word(1, EVENT | MASKED)], 1, &[upcall(8), ask(1)]),
        case("linked-without-an-event", &["armed"], &[word(1, LINKED)], 1, &[upcall(8), ask(1)]),
        case("busy-for-ever", &["armed"], &[word(1, MASKED | BUSY)], 1, &[ask(1), upcall(8), ask(1)]),
        case("never-still", &["restless"], &[word(1, EVENT)], 1, &[Action::new(Restless, 0, 1), upcall(8)]),
        case(
            "all-queues-at-once",
            &["told", "more"],
            &[word(1, EVENT), Action::new(Head, 0, 1), Action::new(Head, 15, 1)],
            1,
            &[Action::new(Ready, 0, u32::MAX), upcall(2), upcall(64)],
        ),
        case(
            "in-the-second-page",
            &["told"],
            &[Action::new(Word, 8, EVENT | 0x401), Action::new(Word, 9, EVENT | 1)],
            1024,
            &[upcall(8)],
        ),
    ]
}
