//! A table that lives, its compact copy, and a copy of its memory say the same.

use kexec::{
    Lane, Pool,
    platform::mock::keep,
    task_table::{
        BuildId, Label, Place, Row, ScopeHead, ScopeState, State, UNLABELLED,
        read::{Found, NoImage, TableCopy, find},
    },
    yield_now,
};

use crate::support::{ROOM, Slots, executor, never, slots, spawn};

/// A table with a task that is queued and has been at a leaf, one that is parked, and one whose output waits.
pub(crate) fn sample() -> Slots {
    let (first, executor, slots) = (executor(), executor(), slots());
    spawn(first, slots, async || yield_now().label("again").await).detach();
    first.step();
    spawn(executor, slots, never).detach();
    // Its output is never taken.
    keep(spawn(executor, slots, async || ()));
    executor.settle();
    slots
}

pub(crate) fn compact(slots: Slots) -> Vec<u8> {
    let mut bytes = vec![0xEE; slots.saved_size()];
    assert_eq!(slots.save(&mut bytes), Ok(bytes.len()));
    bytes
}

/// The one table in some bytes.
pub(crate) fn parse(bytes: &[u8]) -> TableCopy<'_> {
    let found: Vec<_> = find(bytes).collect();
    match found[..] {
        [(0, Ok(Found::Table(table)))] => table,
        _ => panic!("one table, and nothing else: {found:?}"),
    }
}

/// A row as a reader without the image sees it.
fn without_texts(row: Row<'static>) -> Row<'static> {
    let lost = |text: &'static str| if text.is_empty() { "" } else { "?" };
    let place = |place: Option<Place<'static>>| place.map(|_| Place { file: "?", line: 0, column: 0 });
    let mut executor = row.executor;
    executor.name = lost(executor.name);
    Row {
        name: lost(row.name),
        site: place(row.site),
        executor,
        kind: row.kind.map(|kind| if kind == UNLABELLED { kind } else { "?" }),
        place: place(row.place),
        label: row.label.map(lost),
        ..row
    }
}

fn live(slots: Slots) -> Vec<Row<'static>> {
    slots.tasks().map(without_texts).collect()
}

#[test]
fn the_compact_copy_says_the_same() {
    let slots = sample();
    let states: Vec<State> = slots.tasks().map(|row| row.state).collect();
    assert_eq!(states, [State::Queued, State::Parked, State::Ended { output: true }]);
    let bytes = compact(slots);
    let table = parse(&bytes);
    assert_eq!((table.slots(), table.used(), table.lane()), (4, 3, Lane::Data));
    assert_eq!(table.rows(&NoImage).collect::<Vec<_>>(), live(slots));
    assert_ne!(table.anchor(), 0);
    assert_eq!(table.build(), BuildId::UNKNOWN, "nobody has said it in this program");
}

/// Polls that were timed are shown; others have no time.
#[test]
fn polls_that_were_timed() {
    let mut bytes = compact(sample());
    let untimed = parse(&bytes).rows(&NoImage).next().expect("it has rows").to_string();
    assert!(!untimed.contains("longest"), "{untimed}");
    let longest = 144 + 16 + 60;
    bytes[longest..longest + 4].copy_from_slice(&1_500_u32.to_le_bytes());
    bytes[longest + 4..longest + 8].copy_from_slice(&20_u32.to_le_bytes());
    let timed = parse(&bytes).rows(&NoImage).next().expect("it has rows").to_string();
    assert_eq!(timed, format!("{untimed}, longest poll 1.5µs, last 20ns"));
}

/// What a page dump has of a store: this process reads its own memory, as a debugger would.
#[cfg(all(target_os = "linux", not(miri)))]
#[test]
fn the_memory_says_the_same() {
    let slots = sample();
    let bytes = memory(slots);
    let table = parse(&bytes);
    assert_eq!((table.slots(), table.used(), table.lane()), (4, 3, Lane::Data));
    assert_eq!(table.rows(&NoImage).collect::<Vec<_>>(), live(slots));
    assert_eq!(table.anchor(), parse(&compact(slots)).anchor());
}

#[cfg(all(target_os = "linux", not(miri)))]
fn memory<T: ?Sized>(of: &T) -> Vec<u8> {
    use std::{fs::File, os::unix::fs::FileExt};

    let mut bytes = vec![0; size_of_val(of)];
    let at = std::ptr::from_ref(of).addr() as u64;
    File::open("/proc/self/mem").expect("it is Linux").read_exact_at(&mut bytes, at).expect("it is mapped");
    bytes
}

/// The same of a scope's head.
#[cfg(all(target_os = "linux", not(miri)))]
#[test]
fn the_memory_of_a_scope() {
    let [outer, inner] = [keep(ScopeHead::new()), keep(ScopeHead::new())];
    outer.open("outer", None);
    inner.open("inner", Some(outer));
    inner.set_state(ScopeState::Ended);
    let (bytes, seen) = (memory(inner), inner.read().expect("it was opened"));
    let found: Vec<_> = find(&bytes).collect();
    let [(0, Ok(Found::Scope(scope)))] = found[..] else { panic!("one scope: {found:?}") };
    let read = scope.read(&NoImage).expect("it was opened");
    assert_eq!((read.address, read.parent, read.state), (seen.address, seen.parent, ScopeState::Ended));
    assert_eq!((read.name, scope.anchor()), ("?", parse(&compact(sample())).anchor()));
}

/// A table of which no slot was ever used is one without rows; its copy says no image, and needs none.
#[test]
fn a_table_that_was_never_used() {
    let slots: Slots = keep(Pool::<ROOM, 2>::control());
    let bytes = compact(slots);
    let table = parse(&bytes);
    assert_eq!((table.slots(), table.used(), table.lane()), (2, 0, Lane::Control));
    assert_eq!((table.anchor(), table.rows(&NoImage).count()), (0, 0));
}

/// A copy that does not fit is refused with both sizes, and writes nothing.
#[test]
fn a_copy_without_room() {
    let slots = sample();
    let needed = slots.saved_size();
    let mut bytes = vec![0xEE; needed - 1];
    let error = slots.save(&mut bytes).expect_err("a byte is missing");
    assert_eq!((error.needed, error.given), (needed, needed - 1));
    assert_eq!(
        error.to_string(),
        format!("a copy of the table takes {needed} bytes, and there are {}: give it more", needed - 1)
    );
    assert!(bytes.iter().all(|byte| *byte == 0xEE));
    let mut bytes = vec![0xEE; needed + 1];
    assert_eq!(slots.save(&mut bytes), Ok(needed));
    assert_eq!(bytes[needed], 0xEE, "what is behind the copy is not touched");
}
