//! What a part has found, and how far it is.

use core::fmt;

use kexec::irql::Dispatch;
use xenbus::store::{StoreError, Text, Xenstore as _};

use crate::Body;

/// How far the guest is, for the toolstack.
const SAID: &str = "data/lab/said";

/// What came of all that was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// So much is as it is to be,
    pub passed: u32,
    /// and so much is not.
    pub failed: u32,
}

/// Something is not as it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wrong(Text<320>);

/// What a check comes to.
pub(crate) type Outcome<T = ()> = Result<T, Wrong>;

impl Wrong {
    /// What is wrong; cut, if it is long.
    pub(crate) fn new(what: impl fmt::Display) -> Self {
        Self(Text::of(what).unwrap_or_else(|_| {
            Text::of("what is wrong is too long to be told").unwrap_or_else(|_| unreachable!("it is short"))
        }))
    }
}

/// Something that is to be so.
pub(crate) fn holds(is_so: bool, what: impl fmt::Display) -> Outcome {
    if is_so { Ok(()) } else { Err(Wrong::new(what)) }
}

/// Says it, and counts.
pub(crate) struct Teller<'b, B> {
    pub(crate) at: &'b Dispatch,
    pub(crate) body: &'b B,
    tally: &'b mut Tally,
}

impl<'b, B: Body> Teller<'b, B> {
    /// For a part on this body.
    pub(crate) fn new(at: &'b Dispatch, body: &'b B, tally: &'b mut Tally) -> Self {
        Self { at, body, tally }
    }

    /// Takes note of how something has ended that has a name.
    pub(crate) async fn check<E: fmt::Display>(&mut self, name: impl fmt::Display, outcome: Result<(), E>) {
        match outcome {
            Ok(()) => {
                self.tally.passed += 1;
                self.body.say(self.at, format_args!("passed: {name}")).await;
            }
            Err(wrong) => {
                self.tally.failed += 1;
                self.body.say(self.at, format_args!("FAILED: {name}: {wrong}")).await;
            }
        }
    }

    /// Has the toolstack know how far the part is.
    pub(crate) async fn tell(&mut self, word: impl fmt::Display) {
        if let Err(error) = self.body.store().print(self.at, SAID, &word).await {
            self.check(format_args!("tell {word}"), Err(error)).await;
        }
    }
}

impl From<StoreError> for Wrong {
    fn from(error: StoreError) -> Self {
        Self::new(error)
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}
