//! A backend: the other half of a device, in the control domain.
//!
//! What every class has in common is here, as the state machine that all of Xen's backends go through. What a class
//! adds is a [`Protocol`]: what it offers, what it does with the keys of a frontend that connects, with an event, and
//! with time.
//!
//! The backend looks at its frontend's `state` whenever that changes, and is in this state then:
//!
//! | it is | `Initialising` | `Initialised`, `Connected` | `Closing` | `Closed`, or no state | any other |
//! |---|---|---|---|---|---|
//! | `Initialising` | offers: `InitWait` | offers, and looks again | offers, and looks again | offers, and looks again | offers, and looks again |
//! | `InitWait` | | connects: `Connected` | `Closing` | `Closed` | cannot go on: `Closing` |
//! | `Connected` | | | `Closing` | lets go: `Closed` | cannot go on: `Closing` |
//! | `Closing` | | | | lets go: `Closed` | |
//! | `Closed` | offers: `InitWait` | offers, and looks again | `Closing` | | cannot go on: `Closing` |
//!
//! One that is not `online` any more is `Closing` from `InitWait` and `Connected` on, whatever its frontend is; and
//! when it is `Closed`, it has ended: the toolstack removes the keys of both halves. Who cannot go on, because the
//! frontend's keys make no sense or its ring runs away, says why, lets go, and waits in `Closing` for its frontend to
//! close.
#![forbid(unsafe_code)]

use std::{collections::BTreeSet, fmt, time::Duration};

use xen_abi::io::xenbus::XenbusState;

pub use self::side::Side;
use crate::{
    hypervisor::{DOM0, Dom0Port, grant::backend::Mapping},
    machine::GuestId,
    rule::rules,
};

pub mod echo;
mod side;

rules! {
    /// A backend that has said what it offers waits in `InitWait`.
    WAITS_FOR_FRONTEND: "xen/include/public/io/xenbus.h", "XenbusStateInitWait";
    /// It connects when the frontend is `Initialised` or `Connected`, and is `Connected` then. A frontend may be so before anything is offered.
    CONNECTS: "xen/include/public/io/blkif.h", "STATE DIAGRAMS, Startup";
    /// When the frontend is `Closing`, so is the backend.
    CLOSES_WITH_FRONTEND: "xen/include/public/io/xenbus.h", "XenbusStateClosing";
    /// When the frontend is `Closed`, or has no state, the backend lets go of its rings and is `Closed`. Until then it serves them.
    CLOSED_WITH_FRONTEND: "xen/include/public/io/xenbus.h", "XenbusStateClosed";
    /// A backend that is `Closed` and still `online` begins again when its frontend does (Linux, `frontend_changed` in
    /// drivers/block/xen-blkback/xenbus.c).
    BEGINS_AGAIN: "xen/include/public/io/xenbus.h", "XenbusStateInitialising";
    /// A frontend is never in a state that has no number, nor waits for information, nor is reconfigured: a backend cannot go on then (Linux,
    /// as above).
    NO_STATE_OF_A_FRONTEND: "xen/include/public/io/xenbus.h", "enum xenbus_state";
    /// A backend that cannot go on says why in an `error` key of its domain's, and closes.
    SAYS_WHY: "docs/misc/xenstore-paths.pandoc", "~/error";
}

/// A device, and its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub u32);

/// What a class of device adds to the life that all have.
///
/// Every method gets the control domain's means: keys, grants, event channels, a clock, a seed. An `Err` closes the
/// device, and its text is what the toolstack reads.
pub trait Protocol: Send {
    /// The class's name in the store: `vif`, `vbd`.
    fn class(&self) -> &str;

    /// Writes the keys that say what it offers. Again each time that it begins anew.
    ///
    /// # Errors
    ///
    /// It has nothing to offer.
    fn offer(&mut self, side: &mut Side<'_>) -> Result<(), String>;

    /// Reads the frontend's keys, and connects to its rings and event channels.
    ///
    /// # Errors
    ///
    /// Keys are missing or make no sense, or a ring cannot be mapped.
    fn connect(&mut self, side: &mut Side<'_>) -> Result<(), String>;

    /// Something has come at an event channel, or a key changed, or it is time: does a bounded amount of work, and says whether there is more.
    /// It is asked from [`connect`](Self::connect) to [`disconnect`](Self::disconnect), also while either half is `Closing`.
    ///
    /// # Errors
    ///
    /// The frontend broke the protocol.
    fn work(&mut self, side: &mut Side<'_>) -> Result<bool, String>;

    /// Forgets rings and channels: what is mapped and bound is let go of for it.
    fn disconnect(&mut self);

    /// From now on it answers with nonsense, if it can, drawn from the machine's seed; once, or until it connects again.
    fn garbage(&mut self);
}

/// How a backend behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// As it should.
    Well,
    /// It is to close of its own accord, and says so to its frontend.
    Leaving,
    /// It does nothing any more: it hangs, or is dead.
    Silent,
}

/// A device's other half.
pub(crate) struct Backend {
    pub(crate) guest: GuestId,
    pub(crate) class: String,
    pub(crate) index: u32,
    /// What the toolstack writes into the frontend's directory and its own, besides what every device has.
    pub(crate) keys: [Vec<(String, String)>; 2],
    pub(crate) protocol: Option<Box<dyn Protocol>>,
    /// What it has said last.
    pub(crate) state: XenbusState,
    pub(crate) mood: Mood,
    /// It has rings and channels, and serves them.
    pub(crate) is_connected: bool,
    /// A key that it watches has changed.
    pub(crate) keys_changed: bool,
    /// It has said that there is more to do.
    pub(crate) is_busy: bool,
    /// When it wants to be woken.
    pub(crate) alarm: Option<Duration>,
    pub(crate) ports: BTreeSet<Dom0Port>,
    pub(crate) mappings: Vec<Mapping>,
}

impl Backend {
    pub(crate) fn new(
        guest: GuestId,
        class: String,
        index: u32,
        keys: [Vec<(String, String)>; 2],
        protocol: Box<dyn Protocol>,
    ) -> Self {
        Self {
            guest,
            class,
            index,
            keys,
            protocol: Some(protocol),
            state: XenbusState::Initialising,
            mood: Mood::Well,
            is_connected: false,
            keys_changed: true,
            is_busy: false,
            alarm: None,
            ports: BTreeSet::new(),
            mappings: Vec::new(),
        }
    }

    /// Nothing has happened yet: it is the backend of a device that was [released](Side::release_all), and is published anew.
    pub(crate) fn begin_again(&mut self) {
        self.state = XenbusState::Initialising;
        self.mood = Mood::Well;
        self.keys_changed = true;
    }

    // What goes wrong.

    /// It closes of its own accord, if it has not closed already.
    pub(crate) fn leave(&mut self) {
        if self.mood == Mood::Well && !matches!(self.state, XenbusState::Closing | XenbusState::Closed) {
            self.mood = Mood::Leaving;
            self.keys_changed = true;
        }
    }

    /// It does nothing any more, and keeps what it has.
    pub(crate) fn wedge(&mut self) {
        self.mood = Mood::Silent;
    }

    /// It answers with nonsense.
    pub(crate) fn garbage(&mut self) {
        if let Some(protocol) = &mut self.protocol {
            protocol.garbage();
        }
    }

    // Where it is.

    /// Its directory in the store.
    pub(crate) fn directory(&self, domain: u16) -> String {
        format!("/local/domain/{DOM0}/{}", self.directory_at_home(domain))
    }

    /// The same, in the control domain's.
    pub(crate) fn directory_at_home(&self, domain: u16) -> String {
        format!("backend/{}/{domain}/{}", self.class, self.index)
    }

    /// The directory of its frontend, in this domain.
    pub(crate) fn frontend_directory(&self, domain: u16) -> String {
        format!("/local/domain/{domain}/device/{}/{}", self.class, self.index)
    }

    /// Whether it does anything at all.
    pub(crate) fn is_alive(&self) -> bool {
        self.mood != Mood::Silent
    }

    /// Whether it would do something if it were asked to.
    pub(crate) fn is_ready(&self, notified: &BTreeSet<Dom0Port>, now: Duration) -> bool {
        self.is_alive()
            && (self.keys_changed
                || self.is_busy
                || self.alarm.is_some_and(|at| at <= now)
                || self.ports.iter().any(|port| notified.contains(port)))
    }
}

impl Side<'_> {
    /// Lets the backend do something. True, if it has ended.
    pub(crate) fn step(&mut self, protocol: &mut dyn Protocol) -> bool {
        if self.take_keys_changed() {
            return self.follow(protocol);
        }
        self.take_events();
        if self.is_connected() {
            match protocol.work(self) {
                Ok(more) => self.set_busy(more),
                Err(why) => self.fail(protocol, &why),
            }
        }
        false
    }

    /// Goes from state to state as the frontend does. True, if it has ended.
    fn follow(&mut self, protocol: &mut dyn Protocol) -> bool {
        use XenbusState::{
            Closed, Closing, Connected, InitWait, Initialised, Initialising, Reconfigured, Reconfiguring,
            Unknown,
        };

        let is_online = self.is_online();
        match self.state() {
            Closed if !is_online => return true,
            InitWait | Connected if self.take_leaving() || !is_online => self.switch(Closing),
            _ => {}
        }
        match (self.state(), self.frontend_state()) {
            (Initialising, _) | (Closed, Ok(Initialising | Initialised | Connected)) => self.offer(protocol),
            (_, Ok(Closed | Unknown)) => {
                self.let_go(protocol);
                self.switch(Closed);
                return !is_online;
            }
            (_, Ok(Closing)) => self.switch(Closing),
            (Closing, _) => {}
            (_, Err(error)) => self.fail(protocol, &format!("the frontend's state: {error}")),
            (_, Ok(state @ (InitWait | Reconfiguring | Reconfigured))) => {
                self.fail(protocol, &format!("the frontend's state: {state}, in which none ever is"));
            }
            (InitWait, Ok(Initialised | Connected)) => self.connect(protocol),
            // What it looks at besides may have changed.
            (Connected, Ok(_)) => self.set_busy(true),
            (_, Ok(Initialising | Initialised | Connected)) => {}
        }
        false
    }

    fn offer(&mut self, protocol: &mut dyn Protocol) {
        match protocol.offer(self) {
            Ok(()) => {
                self.switch(XenbusState::InitWait);
                // The frontend may have gone on without waiting for that.
                self.look_again();
            }
            Err(why) => self.fail(protocol, &why),
        }
    }

    fn connect(&mut self, protocol: &mut dyn Protocol) {
        match protocol.connect(self) {
            Ok(()) => {
                self.set_connected();
                self.switch(XenbusState::Connected);
                // What came before there was anybody to look at it.
                self.set_busy(true);
            }
            Err(why) => self.fail(protocol, &why),
        }
    }

    /// It cannot go on.
    fn fail(&mut self, protocol: &mut dyn Protocol, why: &str) {
        self.write_error(why);
        self.say(|| format!("cannot go on: {why}"));
        self.let_go(protocol);
        self.switch(XenbusState::Closing);
    }

    fn let_go(&mut self, protocol: &mut dyn Protocol) {
        protocol.disconnect();
        self.release_all();
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend")
            .field("index", &self.index)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
