//! The auditor, audited: for each mistake there is a small guest that makes it, and is found out; and the same guest done right, in
//! which nothing is found.
#![deny(unsafe_code)]

mod finer;
mod grants;
#[path = "../kernel/mod.rs"]
mod kernel;
mod leaks;
mod others;
mod pages;
mod store;

use std::collections::BTreeSet;

use kernel::Kernel;
use xen_sim::{GuestConfig, Mistake};

/// A guest: what it does, rightly or wrongly.
type Broken = fn(&Kernel, wrong: bool);

/// Writes a test for each guest, and the list of them.
macro_rules! guests {
    ($($mistake:ident: $module:ident::$guest:ident,)*) => {
        /// Each mistake, and the guest that makes it.
        const GUESTS: &[(Mistake, Broken)] = &[$((Mistake::$mistake, $module::$guest),)*];

        $(
            #[doc = concat!("`", stringify!($mistake), "` is found, and nothing else; and nothing if it is not made.")]
            #[test]
            fn $guest() {
                found_by_name_and_nothing_else(Mistake::$mistake, $module::$guest);
            }
        )*
    };
}

guests! {
    FreedGranted: pages::freed_granted,
    FreedMapped: pages::freed_mapped,
    FreedPinned: others::freed_pinned,
    FreedBacked: pages::freed_backed,
    FreedHollow: pages::freed_hollow,
    FreedTwice: pages::freed_twice,
    FreedForeign: pages::freed_foreign,
    TouchedFreed: pages::touched_freed,
    TouchedHole: pages::touched_hole,
    WroteReadOnly: pages::wrote_read_only,
    GrantedFreed: grants::granted_freed,
    GrantedForeign: grants::granted_foreign,
    GrantedInPieces: grants::granted_in_pieces,
    EntryChanged: grants::entry_changed,
    XenBits: grants::xen_bits,
    RevokedInUse: grants::revoked_in_use,
    RevokedBlindly: grants::revoked_blindly,
    ReservedEntry: grants::reserved_entry,
    BadPointer: others::bad_pointer,
    CallRefused: others::call_refused,
    Crash: others::crash,
    Exception: others::exception,
    PageLeft: leaks::page_left,
    HoleBacked: leaks::hole_backed,
    GrantLeft: leaks::grant_left,
    MappingLeft: leaks::mapping_left,
    PortLeft: leaks::port_left,
    WatchLeft: store::watch_left,
    TransactionLeft: store::transaction_left,
    TaskLeft: leaks::task_left,
    TimerLeft: leaks::timer_left,
    BackendStale: others::backend_stale,
    BackendLeft: leaks::backend_left,
    NothingTested: leaks::nothing_tested,
}

/// The mistakes that are found in a guest.
fn found(guest: Broken, wrong: bool) -> (BTreeSet<Mistake>, String) {
    let kernel = Kernel::new(GuestConfig::default());
    guest(&kernel, wrong);
    assert_eq!(kernel.machine.check(), Ok(()), "the simulation stays right whatever the guest does");
    let audit = kernel.machine.audit(&kernel.guest);
    let mistakes = audit.findings().iter().map(|finding| finding.mistake).collect();
    assert_eq!(audit.is_clean(), audit.findings().is_empty());
    (mistakes, audit.to_string())
}

fn found_by_name_and_nothing_else(mistake: Mistake, guest: Broken) {
    let (mistakes, text) = found(guest, true);
    assert_eq!(mistakes, BTreeSet::from([mistake]), "{text}");
    assert!(text.contains(&format!("\n{mistake:?}: {mistake}\n")), "{text}");
    let (mistakes, text) = found(guest, false);
    assert_eq!(mistakes, BTreeSet::new(), "{text}");
    assert!(text.starts_with("audit: clean: "), "{text}");
}

/// A check that nobody has seen find anything may find nothing: no mistake without a guest that makes it.
#[test]
fn each_mistake_has_its_guest() {
    let made: BTreeSet<_> = GUESTS.iter().map(|(mistake, _)| *mistake).collect();
    assert_eq!(made, Mistake::ALL.iter().copied().collect());
}

/// The same guest is found to have done the same, word for word: a verdict can be compared, and searched for.
#[test]
fn the_verdict_is_the_same_each_time() {
    for (_, guest) in GUESTS {
        assert_eq!(found(*guest, true), found(*guest, true));
    }
}
