//! The conformance suite of xenstore, on whatever xenstored there is.
#![forbid(unsafe_code)]

use core::{fmt, pin::pin};

use futures_util::future::{Either, select};
use kexec::irql::Dispatch;
use xen_abi::{event_channel::EvtchnPort, hvm::params::HVM_PARAM_STORE_EVTCHN};
use xenbus::{
    console::Console,
    event::Events,
    hypercall::{event_channel, hvm},
    store::{Store, StoreError, Xenstore as _, optional},
};
use xenstore_suite::{CASES, Difference, Ground, Profile, ROOM, wire};

use crate::{life::Stopped, report, seam::Guest};

/// Where it works.
pub(crate) const HOME: &str = "data/suite";

/// What the toolstack says of its daemon: `xenstored` if it says nothing.
const DAEMON: &str = "data/lab/store";

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    passed: u32,
    failed: u32,
}

impl Tally {
    /// Counts an outcome, and says it.
    fn count<'o>(
        &mut self,
        name: &'static str,
        outcome: &'o Result<(), Difference>,
    ) -> impl fmt::Display + use<'o> {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(_) => self.failed += 1,
        }
        fmt::from_fn(move |f| match outcome {
            Ok(()) => write!(f, "passed: {name}"),
            Err(difference) => write!(f, "FAILED: {difference}"),
        })
    }
}

/// Runs the cases that go through a store. Returns the guest's number, and what is to be expected of the daemon.
pub(crate) async fn through_the_store(
    at: &Dispatch,
    console: &Console<Guest>,
    store: &Store<Guest>,
    room: &mut [u8; ROOM],
    tally: &mut Tally,
) -> Option<(u16, &'static Profile)> {
    let (domain, profile) = match ask(at, store).await {
        Ok(answers) => answers,
        Err(error) => {
            report::say(at, console, format_args!("FAILED: {error}")).await;
            tally.failed += 1;
            return None;
        }
    };
    report::say(at, console, format_args!("the store is taken for {}", profile.name)).await;
    for case in CASES {
        let mut ground = Ground { home: HOME, domain, profile, room };
        let outcome = case.run(at, store, &mut ground).await;
        report::say(at, console, tally.count(case.name, &outcome)).await;
    }
    Some((domain, profile))
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

/// Runs the cases that send and receive bytes. Nobody else is connected.
pub(crate) async fn on_the_wire(
    at: &Dispatch,
    guest: Guest,
    events: &'static Events<Guest>,
    mut ground: Ground<'_>,
    tally: &mut Tally,
) -> Result<(), Stopped> {
    let port = hvm::get_param(&guest, HVM_PARAM_STORE_EVTCHN).map_err(|_| Stopped::NoStore)?;
    let port = u32::try_from(port).map(EvtchnPort).map_err(|_| Stopped::NoStore)?;
    let page = guest.store_ring().ok_or(Stopped::NoStore)?;
    // If it cannot be told, no answer comes: that is noticed.
    let ring = wire::Ring::new(page, move || _ = event_channel::send(&guest, port));
    let channel = events.fixed(at, port).map_err(Stopped::Channel)?;
    let listen = async {
        while channel.wait(at).await.is_ok() {
            ring.notify();
        }
    };
    let all = async {
        for case in wire::CASES {
            let outcome = case.run(at, &ring, &mut ground).await;
            report::note(tally.count(case.name, &outcome));
        }
    };
    match select(pin!(listen), pin!(all)).await {
        Either::Left(_) => Err(Stopped::NoStore),
        Either::Right(_) => Ok(()),
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}
