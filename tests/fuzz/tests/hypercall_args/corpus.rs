//! What somebody has thought of that guests could do to Xen, in words.
#![forbid(unsafe_code)]

use xen_fuzz::hypercall_args::{
    Action,
    Deed::{
        Backend, Call, Copy, Entry, Event, Extents, Hvm, Kernel, Map, Msr, Place, Sched, Table, Touch, Unmap,
        Vcpu,
    },
    Kind::{Argument, End, Huge, Misaligned, Page, PageAddress, Power, Small},
};

/// The entry 9 lets the domain use the page of this number.
fn granted(to: u8, page: u8) -> Action {
    Action::new(Entry, &[(Small, 9), (Small, 1), (Small, to), (Page, page), (Small, 0)])
}

/// The entry 9 is revoked as it should be.
fn revoked() -> Action {
    Action::new(Entry, &[(Small, 9), (Small, 0), (Small, 0), (Small, 0), (Small, 1)])
}

/// A backend does something with entry 9.
fn backend(what: u8) -> Action {
    Action::new(Backend, &[(Small, what), (Small, 9)])
}

/// A page of this number is given back.
fn freed(page: u8) -> Action {
    Action::new(Kernel, &[(Small, 4), (Page, page)])
}

/// The first guest maps entry 9 of the second's, at the place of this number.
fn mapped(place: u8) -> Action {
    Action::new(Map, &[(PageAddress, place), (Small, 2), (Small, 9), (Small, 2), (Small, 1)])
}

/// An event channel command about two domains.
fn event(command: u8, one: u8, other: u8, port: u8) -> Action {
    Action::new(Event, &[(Small, command), (Small, one), (Small, other), (Small, port)])
}

/// The guest suspends itself, and goes on as another domain or where it was.
fn suspended(migrated: bool) -> Action {
    Action::new(Sched, &[(Small, 2), (Small, 2), (Small, 0), (Small, u8::from(migrated))])
}

type Corpus = Vec<(&'static str, Vec<Action>)>;

/// The inputs, by name.
pub(crate) fn corpus() -> Corpus {
    [about_itself(), about_memory()].concat()
}

/// What a guest does to its events, its processors and itself.
fn about_itself() -> Corpus {
    let vcpu_info = Action::new(Vcpu, &[(Small, 10), (Small, 0), (Page, 1), (Small, 64)]);
    vec![
        ("freed-under-a-vcpu-info", vec![vcpu_info, freed(1), event(7, 0, 0, 0), event(4, 1, 0, 0)]),
        (
            "ports-of-each-other",
            vec![
                event(6, 3, 2, 0),
                event(0, 1, 0, 1).by_the_other(),
                event(4, 1, 0, 0),
                suspended(true),
                event(4, 1, 0, 0).by_the_other(),
                event(10, 3, 0, 0).by_the_other(),
            ],
        ),
        (
            "suspended-with-everything",
            vec![
                granted(0, 1),
                backend(1),
                vcpu_info,
                event(6, 3, 0, 0),
                suspended(false),
                suspended(true),
                backend(5),
                backend(6),
            ],
        ),
        (
            "registers-and-parameters",
            vec![
                Action::new(Msr, &[(Small, 0), (PageAddress, 1)]),
                Action::new(Msr, &[(Small, 0), (Huge, 0)]),
                Action::new(Msr, &[(Small, 1), (PageAddress, 1)]),
                Action::new(Hvm, &[(Small, 0), (Small, 3), (Small, 0), (Power, 57)]),
                Action::new(Hvm, &[(Small, 1), (Small, 3), (Small, 2)]),
            ],
        ),
    ]
}

/// What it does to its memory, and others with it.
fn about_memory() -> Corpus {
    let table = |command, count| Action::new(Table, &[(Small, command), (Small, 3), count, (Argument, 9)]);
    let extents = |command, kind| {
        Action::new(Extents, &[(Small, command), (Small, 0), (Small, 0), kind, kind, kind, (Small, 3)])
    };
    let place = |space, idx, at| Action::new(Place, &[(Small, space), idx, at, (Small, 2), (Small, 3)]);
    vec![
        ("a-right-guest", vec![granted(0, 1), backend(1), backend(5), backend(6), revoked(), freed(1)]),
        (
            "freed-under-a-backend",
            vec![granted(0, 1), backend(1), freed(1), backend(5), revoked(), backend(6)],
        ),
        (
            "given-to-xen-under-a-backend",
            vec![granted(0, 1), backend(1), extents(1, (Page, 1)), backend(5), backend(6)],
        ),
        (
            "mapped-by-a-guest",
            vec![
                granted(1, 1).by_the_other(),
                Action::new(Kernel, &[(Small, 1)]),
                mapped(4),
                Action::new(Touch, &[(Page, 4), (Small, 8), (Small, 0), (Huge, 0)]),
                Action::new(Unmap, &[(PageAddress, 4), (Small, 0), (Small, 1)]),
            ],
        ),
        (
            "mapped-read-only-and-written",
            vec![
                granted(1, 1).by_the_other(),
                Action::new(Map, &[(PageAddress, 1), (Small, 6), (Small, 9), (Small, 2), (Small, 1)]),
                Action::new(Touch, &[(Page, 1), (Small, 8), (Small, 0), (Huge, 0)]),
            ],
        ),
        (
            "mapped-over-ram-and-over-a-mapping",
            vec![granted(1, 1).by_the_other(), mapped(1), mapped(1), mapped(2), mapped(3), freed(1)],
        ),
        (
            "mapped-over-the-table-itself",
            vec![granted(1, 1).by_the_other(), mapped(0), granted(0, 2), backend(0)],
        ),
        ("the-table-is-granted", vec![granted(0, 0), backend(1), backend(5), revoked(), backend(6)]),
        (
            "copied-into-the-table",
            vec![Action::new(
                Copy,
                &[(Page, 1), (Small, 3), (Small, 0), (Page, 0), (Small, 3), (Small, 0), (Small, 4)],
            )],
        ),
        (
            "an-array-that-ends-too-early",
            vec![
                Action::new(Call, &[(Small, 20), (Small, 0), (End, 100), (Power, 30)]),
                Action::new(Call, &[(Small, 20), (Small, 5), (End, 41), (Small, 2)]),
                Action::new(Call, &[(Small, 20), (Small, 6), (Huge, 3), (Small, 1)]),
                Action::new(Call, &[(Small, 12), (Small, 23), (Misaligned, 2)]),
            ],
        ),
        (
            "a-table-that-is-too-large",
            vec![
                table(2, (Small, 2)),
                table(2, (Huge, 0)),
                place(1, (Small, 2), (Page, 1)),
                place(1, (Huge, 0), (Page, 1)),
            ],
        ),
        (
            "a-range-over-itself",
            vec![
                place(3, (Page, 1), (Page, 2)),
                place(3, (Page, 2), (Page, 1)),
                place(3, (Huge, 1), (Page, 1)),
            ],
        ),
        (
            "xens-pages-in-one-place",
            vec![
                place(0, (Small, 0), (Page, 0)),
                place(1, (Small, 1), (Page, 0)),
                place(2, (Page, 0), (Page, 1)),
                extents(1, (Page, 1)),
            ],
        ),
        (
            "no-ram-left",
            vec![
                extents(1, (Page, 2)),
                extents(6, (Power, 35)),
                extents(6, (Power, 36)),
                extents(0, (Small, 0)),
                freed(2),
            ],
        ),
    ]
}
