//! A backend: the other half of a device, in the control domain.
//!
//! What every class has in common is here, as the state machine that all of Xen's backends go through. What a class adds is a
//! [`Protocol`]: what it offers, what it does with the keys of a frontend that connects, with an event, and with time.
//!
//! ```text
//!                  offer                  frontend Initialised or Connected: connect
//!   Initialising ─────────▶ InitWait ───────────────────────────────────────────────▶ Connected
//!                             ▲  ▲                                                        │
//!       frontend Initialising │  └──────────────── connect refused: stays ─────────┐      │ frontend Closing
//!                             │                                                    │      ▼
//!                          Closed ◀──────────────────────────────────────────────────  Closing
//!                             │             frontend Closed: disconnect
//!                             ▼ not online, or the frontend's keys are gone
//!                           (gone)
//! ```
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
    /// It connects when the frontend is `Initialised` or `Connected`, and is `Connected` then.
    CONNECTS: "xen/include/public/io/blkif.h", "STATE DIAGRAMS, Startup";
    /// When the frontend is `Closing`, so is the backend.
    CLOSES_WITH_FRONTEND: "xen/include/public/io/xenbus.h", "XenbusStateClosing";
    /// When the frontend is `Closed`, the backend lets go of its rings and is `Closed`.
    CLOSED_WITH_FRONTEND: "xen/include/public/io/xenbus.h", "XenbusStateClosed";
    /// A backend that is `Closed` and still `online` begins again when its frontend does.
    BEGINS_AGAIN: "xen/include/public/io/blkif.h", "STATE DIAGRAMS, Shutdown and reconnection";
    /// The toolstack takes a device away by `online` = 0 and `state` = 5, and removes its keys when the backend is `Closed`.
    UNPLUGGED_BY_TOOLSTACK: "tools/libs/light/libxl_device.c", "libxl__initiate_device_generic_remove";
    /// A backend that cannot go on says why in an `error` key, and closes.
    SAYS_WHY: "docs/misc/xenstore-paths.pandoc", "~/error";
}

/// A device, and its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub u32);

/// What a class of device adds to the life that all have.
///
/// Every method gets the control domain's means: keys, grants, event channels, a clock, a seed. An `Err` closes the device, and its
/// text is what the toolstack reads.
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
    /// It does nothing any more, and keeps what it has.
    Wedged,
    /// It is no more: its channels are closed and its mappings gone, and nobody has told the store.
    Dead,
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
    /// It is to close of its own accord, and says so to its frontend.
    pub(crate) is_leaving: bool,
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
            state: XenbusState::Unknown,
            mood: Mood::Well,
            is_leaving: false,
            keys_changed: true,
            is_busy: false,
            alarm: None,
            ports: BTreeSet::new(),
            mappings: Vec::new(),
        }
    }

    /// Nothing has happened yet: it is the backend of a device that was published anew.
    pub(crate) fn begin_again(&mut self) {
        self.state = XenbusState::Unknown;
        self.mood = Mood::Well;
        self.is_leaving = false;
        self.keys_changed = true;
        self.is_busy = false;
        self.alarm = None;
    }

    /// Its directory in the store.
    pub(crate) fn directory(&self, domain: u16) -> String {
        format!("/local/domain/{DOM0}/backend/{}/{domain}/{}", self.class, self.index)
    }

    /// The directory of its frontend, in this domain.
    pub(crate) fn frontend_directory(&self, domain: u16) -> String {
        format!("/local/domain/{domain}/device/{}/{}", self.class, self.index)
    }

    /// Whether it would do something if it were asked to.
    pub(crate) fn is_ready(&self, notified: &BTreeSet<Dom0Port>, now: Duration) -> bool {
        self.mood == Mood::Well
            && (self.keys_changed
                || self.is_busy
                || self.alarm.is_some_and(|at| at <= now)
                || self.ports.iter().any(|port| notified.contains(port)))
    }
}

impl Side<'_> {
    /// Lets the backend do something. True, if it is gone after that.
    pub(crate) fn step(&mut self, protocol: &mut dyn Protocol) -> bool {
        if self.take_keys_changed() {
            return self.follow(protocol);
        }
        self.take_events();
        if self.state() == XenbusState::Connected {
            match protocol.work(self) {
                Ok(more) => self.set_busy(more),
                Err(why) => self.fail(protocol, &why),
            }
        }
        false
    }

    /// Goes from state to state as the frontend does. True, if the device is gone.
    fn follow(&mut self, protocol: &mut dyn Protocol) -> bool {
        use XenbusState::{Closed, Closing, Connected, InitWait, Initialised, Initialising, Unknown};

        let frontend = self.frontend_state();
        match (self.state(), frontend) {
            (Unknown, _) => self.offer(protocol),
            (Closed, Initialising) if self.is_online() => self.offer(protocol),
            (InitWait, Initialised | Connected) => match protocol.connect(self) {
                Ok(()) => {
                    self.switch(Connected);
                    // What came before there was anybody to look at it.
                    self.set_busy(true);
                }
                Err(why) => self.fail(protocol, &why),
            },
            (Connected, Connected) if self.is_leaving() => {
                self.let_go(protocol);
                self.switch(Closing);
            }
            (Connected, Connected) => self.set_busy(true),
            (_, Closing) => self.switch(Closing),
            (_, Closed) => {
                self.let_go(protocol);
                self.switch(Closed);
                return !self.is_online();
            }
            (_, Unknown) => {
                self.let_go(protocol);
                return true;
            }
            _ => {}
        }
        false
    }

    fn offer(&mut self, protocol: &mut dyn Protocol) {
        match protocol.offer(self) {
            Ok(()) => self.switch(XenbusState::InitWait),
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
        self.set_busy(false);
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
