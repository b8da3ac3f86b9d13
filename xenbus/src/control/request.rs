//! `control/shutdown`: what the toolstack asks the guest for.
//!
//! The toolstack writes a word. The guest acknowledges it by writing nothing, which it does in the transaction in
//! which it has read the word: a toolstack that has waited for too long takes its word back in the same way, and so
//! each of them is either had by the guest, or was never asked for.
//!
//! Several may listen, each for [its own](Words) words: the bus driver suspends, an agent shuts down. What is somebody
//! else's is left where it is.
//!
//! Sources: `docs/misc/xenstore-paths.pandoc`, `~/control/shutdown`; `tools/libs/light/libxl_dom_suspend.c`, which
//! waits for 60 seconds until the word is gone, and for 60 more until the guest is.
#![forbid(unsafe_code)]

use core::fmt;

use bitflags::bitflags;
use kexec::irql::Dispatch;

use crate::{
    epoch::{Epoch, Epochs},
    store::{Excerpt, Root, StoreError, TransactionError, Xenstore, optional},
};

/// Where it is.
pub(super) const SHUTDOWN: &str = "control/shutdown";

/// The longest word that is read.
const LONGEST: usize = 64;

/// What the toolstack asks the guest for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// `poweroff`: to shut down, and switch itself off.
    PowerOff,
    /// `reboot`: to shut down, and begin anew.
    Reboot,
    /// `halt`: to shut down, and stop.
    Halt,
    /// `suspend`: to [suspend itself](crate::suspend).
    Suspend,
    /// `crash`: to crash, which makes a dump.
    Crash,
    /// `s3`: to sleep.
    Sleep,
    /// `s4`: to hibernate.
    Hibernate,
    /// Something else.
    Unknown(Excerpt),
}

bitflags! {
    /// Words that somebody listens for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Words: u8 {
        /// [`Request::PowerOff`]
        const POWER_OFF = 1 << 0;
        /// [`Request::Reboot`]
        const REBOOT = 1 << 1;
        /// [`Request::Halt`]
        const HALT = 1 << 2;
        /// [`Request::Suspend`]
        const SUSPEND = 1 << 3;
        /// [`Request::Crash`]
        const CRASH = 1 << 4;
        /// [`Request::Sleep`]
        const SLEEP = 1 << 5;
        /// [`Request::Hibernate`]
        const HIBERNATE = 1 << 6;
        /// [`Request::Unknown`]: one of those who listen acknowledges what none of them knows, so that the toolstack
        /// need not wait for ever.
        const UNKNOWN = 1 << 7;
    }
}

impl Request {
    const KNOWN: [(&'static str, Self); 7] = [
        ("poweroff", Self::PowerOff),
        ("reboot", Self::Reboot),
        ("halt", Self::Halt),
        ("suspend", Self::Suspend),
        ("crash", Self::Crash),
        ("s3", Self::Sleep),
        ("s4", Self::Hibernate),
    ];

    /// What a word asks for; nothing, if it is none.
    fn of(word: &[u8]) -> Option<Self> {
        if word.is_empty() {
            return None;
        }
        let known = Self::KNOWN.into_iter().find(|(name, _)| name.as_bytes() == word);
        Some(known.map_or_else(|| Self::Unknown(Excerpt::from(word)), |(_, request)| request))
    }

    /// Who listens for it.
    #[must_use]
    pub const fn word(&self) -> Words {
        match self {
            Self::PowerOff => Words::POWER_OFF,
            Self::Reboot => Words::REBOOT,
            Self::Halt => Words::HALT,
            Self::Suspend => Words::SUSPEND,
            Self::Crash => Words::CRASH,
            Self::Sleep => Words::SLEEP,
            Self::Hibernate => Words::HIBERNATE,
            Self::Unknown(_) => Words::UNKNOWN,
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Unknown(word) = self {
            return write!(f, "{word}, which nobody knows");
        }
        let known = Self::KNOWN.into_iter().find(|(_, request)| request == self);
        f.write_str(known.map_or("", |(name, _)| name))
    }
}

/// Somebody who listens, and what he knows of the word that he took last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Requests {
    words: Words,
    /// What was to be acknowledged when the caller lost interest, or the answer was lost: it was, or it is still there.
    doubt: Option<(Request, Epoch)>,
}

impl Requests {
    pub(super) const fn new(words: Words) -> Self {
        Self { words, doubt: None }
    }

    /// Takes the word that is there, if it is one of those that are listened for.
    ///
    /// **Cancel-safe:** nothing is lost, and nothing taken twice: what may have been acknowledged is cleared up by
    /// the next call. One case it cannot tell: a word that the toolstack takes back at the very moment at which its
    /// acknowledgement is dropped on the way counts as taken.
    pub(super) async fn take<'a, S: Root>(
        &mut self,
        at: &'a Dispatch,
        store: &'a S,
        epochs: &Epochs,
    ) -> Result<Option<Request>, TransactionError<StoreError>> {
        let (words, now) = (self.words, epochs.now());
        if let Some((request, epoch)) = self.doubt
            && epoch != now
        {
            // Its domain is no more, and cannot be asked. To be suspended it has just been; the rest is still wanted.
            self.doubt = None;
            return Ok(Some(request).filter(|request| *request != Request::Suspend));
        }
        let is_own = move |request: &Request| words.contains(request.word());
        if self.doubt.is_none() {
            // Most of the time there is nothing, which takes no transaction to see.
            let found = look(at, store).await.map_err(TransactionError::Aborted)?;
            if !found.as_ref().is_some_and(is_own) {
                return Ok(None);
            }
        }
        let mut before = self.doubt;
        let doubt = &mut self.doubt;
        let taken = store
            .transaction(at, async |tx| {
                let found = look(at, tx).await?;
                if let Some((request, _)) = before {
                    if found != Some(request) {
                        // It was acknowledged, and what is there now is for the next call.
                        return Ok(Some(request));
                    }
                    // It was not.
                    before = None;
                }
                let Some(request) = found.filter(is_own) else {
                    *doubt = None;
                    return Ok(None);
                };
                tx.write(at, SHUTDOWN, b"").await?;
                *doubt = Some((request, now));
                Ok(Some(request))
            })
            .await;
        match taken {
            Ok(_) => self.doubt = None,
            Err(TransactionError::Unknown(_)) => {}
            Err(_) => self.doubt = before,
        }
        taken
    }
}

/// What is asked for.
async fn look(at: &Dispatch, store: &impl Xenstore) -> Result<Option<Request>, StoreError> {
    let mut room = [0; LONGEST];
    match optional(store.read(at, SHUTDOWN, &mut room).await) {
        Ok(word) => Ok(word.and_then(Request::of)),
        // The beginning is there, and it is no word that anybody knows.
        Err(StoreError::NoRoom { .. }) => Ok(Request::of(&room)),
        Err(error) => Err(error),
    }
}
