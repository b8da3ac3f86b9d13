//! What can be wrong with a guest, or with a backend.
#![forbid(unsafe_code)]

use std::fmt;

/// Who has made a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Culprit {
    /// The guest.
    Guest,
    /// A backend, in the control domain.
    Backend,
    /// Whoever has written the test.
    Test,
}

/// Writes the enumeration of mistakes, their list and their sentences from one table.
macro_rules! mistakes {
    ($($culprit:ident { $($name:ident: $sentence:literal,)* })*) => {
        /// What can be found: one name for each check there is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mistake {
            $($(#[doc = $sentence] $name,)*)*
        }

        impl Mistake {
            /// All of them: a gate can see to it that each has been made.
            pub const ALL: &[Self] = &[$($(Self::$name,)*)*];

            /// What is wrong, in one sentence.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self {
                    $($(Self::$name => $sentence,)*)*
                }
            }

            /// Whose it is.
            #[must_use]
            pub const fn culprit(self) -> Culprit {
                match self {
                    $($(Self::$name)|* => Culprit::$culprit,)*
                }
            }
        }
    };
}

mistakes! {
    Guest {
        // Pages, when they go.
        FreedGranted: "a page was given up that is still granted",
        FreedMapped: "a page was given up that another domain has mapped",
        FreedPinned: "a page was given up to which Xen writes",
        FreedBacked: "a page was given back with something in it that is not RAM of the guest's",
        FreedHollow: "RAM was given back to the kernel where there is none any more",
        FreedTwice: "a page was given back that had been given back",
        FreedForeign: "a page was given back to a memory that it is not from",
        // Pages, when they are touched.
        TouchedFreed: "a page was touched after it was given back",
        TouchedHole: "a place was touched at which there is nothing",
        WroteReadOnly: "a page was written to that is mapped read-only",
        // The grant table.
        GrantedFreed: "a page was granted that had been given back",
        GrantedForeign: "something was granted that is not RAM of the guest's",
        GrantedInPieces: "an entry of the grant table was made valid by a write that is not in one piece",
        EntryChanged: "an entry of the grant table was changed while it was valid",
        XenBits: "the guest wrote the bits of an entry of the grant table that are Xen's",
        RevokedInUse: "a grant was revoked while it was in use",
        RevokedBlindly: "a grant was revoked by something else than a compare-exchange",
        ReservedEntry: "an entry of the grant table was written that is the toolstack's",
        // Hypercalls.
        BadPointer: "a hypercall was given a pointer at which there is nothing",
        CallRefused: "a hypercall was refused that a right guest does not make",
        Crash: "the guest did what a real Xen crashes it for",
        Exception: "the guest did what raises an exception",
        // What is left at the end.
        PageLeft: "a page was never given back",
        HoleBacked: "a hole was never emptied",
        GrantLeft: "a grant was never revoked",
        MappingLeft: "a page of another domain's was never unmapped",
        PortLeft: "an event channel was never closed",
        WatchLeft: "a watch was never removed",
        TransactionLeft: "a transaction was never ended",
        TaskLeft: "a task has not ended",
        TimerLeft: "a timer is armed",
    }
    Backend {
        BackendStale: "a backend touched what it has not mapped",
        BackendLeft: "a backend has not unmapped a page",
    }
    Test {
        NothingTested: "there was no poll boundary: nothing was tested",
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}
