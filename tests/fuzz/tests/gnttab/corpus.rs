//! What somebody has thought of that backends could do with what they are granted, in words.
#![forbid(unsafe_code)]

use xen_fuzz::gnttab::{
    Action,
    Deed::{
        self, Bytes, Close, Copy, Drop, DropLoan, End, FailAllocation, Flags, Lend, Map, MapForeign, Reserve,
        Restart, Return, Share, Suspend, Tend, Unmap, UnmapForeign, Write,
    },
};

/// The large queue shares one page, with the control domain, for writing.
const SHARED: (Deed, [u8; 3]) = (Share, [1, 1, 0]);
/// The control domain maps the first page that is shared.
const MAPPED: (Deed, [u8; 3]) = (Map, [0, 1, 0]);
/// The large queue takes the first page back.
const ENDED: (Deed, [u8; 3]) = (End, [1, 0, 0]);
/// The control domain lets go of the first page.
const LET_GO: (Deed, [u8; 3]) = (Unmap, [0, 0, 0]);
/// The guest is moved.
const MOVED: (Deed, [u8; 3]) = (Suspend, [0, 0, 0]);
/// The first entry that the large queue takes, by its number less 24.
const FIRST: u8 = 39;

/// What is done: deeds, and their numbers.
type Deeds = &'static [(Deed, [u8; 3])];

/// The inputs: a name, what is met on the way, and what is done.
pub(crate) fn corpus() -> Vec<(&'static str, &'static str, Vec<Action>)> {
    let inputs: &[(_, _, Deeds)] = &[
        ("sent-and-back", "Ended", &[SHARED, MAPPED, (Write, [0, 9, 7]), LET_GO, ENDED]),
        ("held-on-to", "InUse", &[SHARED, MAPPED, ENDED, (Write, [0, 0, 1]), ENDED, LET_GO, ENDED]),
        (
            "quarantined",
            "Quarantined",
            &[SHARED, MAPPED, (Drop, [0; 3]), (Tend, [0; 3]), LET_GO, (Tend, [0; 3])],
        ),
        (
            "moved-while-it-is-mapped",
            "Resumed",
            &[SHARED, MAPPED, MOVED, (Write, [0, 0, 1]), ENDED, LET_GO, SHARED],
        ),
        ("not-moved-after-all", "Cancelled", &[SHARED, MAPPED, (Suspend, [1, 0, 0]), ENDED, LET_GO, ENDED]),
        (
            "lent-and-held",
            "Held",
            &[(Lend, [1, 5, 0]), (Map, [FIRST, 0x81, 0]), (Return, [1, 0, 0]), LET_GO, (Return, [1, 0, 0])],
        ),
        ("lent-and-kept", "Kept", &[(Lend, [1, 5, 0]), (Map, [FIRST, 0x81, 0]), (DropLoan, [0; 3]), LET_GO]),
        (
            "lent-too-high",
            "NoRoom",
            &[(Lend, [0, 8, 0]), (Lend, [0, 4, 0]), (Return, [0; 3]), (DropLoan, [0; 3])],
        ),
        (
            "full",
            "Full",
            &[
                (Share, [1, 0, 63]),
                (Share, [1, 0, 63]),
                (Share, [1, 0, 63]),
                (Share, [1, 0, 63]),
                (Share, [1, 0, 63]),
                (Share, [1, 0, 63]),
                (Share, [1, 0, 63]),
                (FailAllocation, [34, 0, 0]),
                (Share, [0, 0, 63]),
                (Share, [0, 0, 63]),
                (Share, [1, 0, 63]),
                (Share, [1, 0, 63]),
                (Share, [1, 0, 63]),
                (Share, [1, 0, 63]),
                (Share, [1, 0, 63]),
                (Share, [1, 0, 63]),
                (Share, [1, 0, 63]),
                (Reserve, [0, 40, 0]),
                MOVED,
                (Close, [0; 3]),
            ],
        ),
        (
            "mapped-by-itself",
            "InUse",
            &[
                (Share, [1, 5, 0]),
                (MapForeign, [0, 0, 0]),
                ENDED,
                (UnmapForeign, [0; 3]),
                ENDED,
                (Share, [1, 5, 1]),
                (MapForeign, [0, 1, 0]),
                MOVED,
                (UnmapForeign, [0; 3]),
            ],
        ),
        (
            "begun-anew",
            "StillGranted",
            &[SHARED, (Restart, [0; 3]), (Close, [0; 3]), ENDED, (Restart, [0; 3]), (Close, [0; 3]), SHARED],
        ),
        (
            "copied",
            "Ended",
            &[(Share, [0, 2, 0]), (Copy, [0, 0, 4]), (Copy, [0, 1, 4]), (Copy, [7, 0x80, 0]), (End, [0; 3])],
        ),
        (
            "scribbled",
            "InUse",
            &[
                SHARED,
                MAPPED,
                (Flags, [0, 0, 0]),
                ENDED,
                SHARED,
                (Flags, [0, 0xFF, 0xFF]),
                ENDED,
                SHARED,
                (Bytes, [0, 0xE0, 0xFF]),
                ENDED,
                (Flags, [FIRST, 0x18, 0]),
                SHARED,
                LET_GO,
            ],
        ),
    ];
    let actions = |deeds: Deeds| {
        deeds.iter().map(|(deed, numbers)| Action { deed: *deed, numbers: *numbers }).collect()
    };
    inputs.iter().map(|(name, met, deeds)| (*name, *met, actions(deeds))).collect()
}
