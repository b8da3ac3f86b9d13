//! The conformance suite of xenstore, on whatever xenstored there is.
#![forbid(unsafe_code)]

use core::fmt;

use kexec::irql::Dispatch;
use xenbus::{
    console::Console,
    store::{Store, StoreError, Xenstore as _, optional},
};
use xenstore_suite::{CASES, Ground, Profile, ROOM};

use crate::{report, seam::Guest};

/// Where it works.
const HOME: &str = "data/suite";

/// What the toolstack says of its daemon: `xenstored` if it says nothing.
const DAEMON: &str = "data/lab/store";

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    passed: u32,
    failed: u32,
}

/// Runs all cases, and says what came of each.
pub(crate) async fn run(
    at: &Dispatch,
    console: &Console<Guest>,
    store: &Store<Guest>,
    room: &'static mut [u8; ROOM],
) -> Tally {
    let mut tally = Tally::default();
    let (domain, profile) = match ask(at, store).await {
        Ok(answers) => answers,
        Err(error) => {
            report::say(at, console, format_args!("store: {error}")).await;
            tally.failed += 1;
            return tally;
        }
    };
    report::say(at, console, format_args!("the store is taken for {}", profile.name)).await;
    for case in CASES {
        let mut ground = Ground { home: HOME, domain, profile, room };
        match case.run(at, store, &mut ground).await {
            Ok(()) => {
                tally.passed += 1;
                report::say(at, console, format_args!("passed: {}", case.name)).await;
            }
            Err(difference) => {
                tally.failed += 1;
                report::say(at, console, format_args!("FAILED: {difference}")).await;
            }
        }
    }
    tally
}

/// The guest's number, and what is to be expected of the daemon.
async fn ask(at: &Dispatch, store: &Store<Guest>) -> Result<(u16, &'static Profile), StoreError> {
    let domain: u16 = store.read_number(at, "domid").await?;
    let mut room = [0; 32];
    let profile = match optional(store.read(at, DAEMON, &mut room).await)? {
        Some(b"oxenstored") => &Profile::OXENSTORED,
        _ => &Profile::XENSTORED_4_17,
    };
    Ok((domain, profile))
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}
