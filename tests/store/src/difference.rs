//! What a store did that it should not have, told without memory from anywhere.
#![forbid(unsafe_code)]

use core::fmt::{self, Write as _};

use xenbus::store::{Excerpt, Names, StoreError, TransactionError, WatchEvent};

/// A store has done something else than the rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The case that has noticed it.
    pub case: &'static str,
    /// What was done.
    pub step: &'static str,
    /// What should have come of it.
    pub expected: Told,
    /// What came.
    pub came: Told,
}

/// What a case comes to.
pub(crate) type Outcome<T = ()> = Result<T, Difference>;

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { case, step, expected, came } = self;
        write!(f, "{case}: {step}: expected {expected}, and there came {came}")
    }
}

impl core::error::Error for Difference {}

/// What something is displayed as: the beginning of it, if it is long.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Told {
    bytes: [u8; Self::KEPT],
    length: usize,
    is_cut: bool,
}

impl Told {
    const KEPT: usize = 160;

    pub(crate) fn of(what: impl fmt::Display) -> Self {
        let mut told = Self { bytes: [0; Self::KEPT], length: 0, is_cut: false };
        // What does not fit is left out, and nothing else can go wrong.
        let _ = write!(told, "{what}");
        told
    }

    pub(crate) fn as_str(&self) -> &str {
        // It is made of whole characters.
        self.bytes.get(..self.length).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or("")
    }
}

impl fmt::Write for Told {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        for character in more.chars() {
            let end = self.length + character.len_utf8();
            match self.bytes.get_mut(self.length..end).filter(|_| !self.is_cut) {
                Some(room) => {
                    character.encode_utf8(room);
                    self.length = end;
                }
                None => self.is_cut = true,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.as_str(), if self.is_cut { ".." } else { "" })
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A step of a case, by what is done in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step(pub(crate) &'static str);

impl Step {
    pub(crate) fn differs(self, expected: impl fmt::Display, came: impl fmt::Display) -> Difference {
        Difference { case: "", step: self.0, expected: Told::of(expected), came: Told::of(came) }
    }

    /// It can be done.
    pub(crate) fn done<T, E: fmt::Display>(self, came: Result<T, E>) -> Outcome<T> {
        came.map_err(|error| self.differs("that it is done", error))
    }

    /// It is refused, with an error of this name.
    pub(crate) fn refused<T>(self, name: &'static str, came: Result<T, StoreError>) -> Outcome {
        match came.map(drop) {
            Err(StoreError::Refused { error, .. }) if error.name() == name => Ok(()),
            // By a store that gives errors which the header has no name for.
            Err(StoreError::Unnamed { answer, .. }) if answer == named(name) => Ok(()),
            Err(other) => Err(self.differs(name, other)),
            Ok(()) => Err(self.differs(name, "that it was done")),
        }
    }

    /// It is refused, with an error of this name, or with any if there is none.
    pub(crate) fn refused_anyhow<T>(
        self,
        name: Option<&'static str>,
        came: Result<T, StoreError>,
    ) -> Outcome {
        match (name, came.map(drop)) {
            (Some(name), came) => self.refused(name, came),
            (None, Err(StoreError::Refused { .. } | StoreError::Unnamed { .. })) => Ok(()),
            (None, Err(other)) => Err(self.differs("that it is refused", other)),
            (None, Ok(())) => Err(self.differs("that it is refused", "that it was done")),
        }
    }

    /// It is refused with an error of this name, or done if there is none.
    pub(crate) fn refused_if<T>(self, name: Option<&'static str>, came: Result<T, StoreError>) -> Outcome {
        match name {
            Some(name) => self.refused(name, came),
            None => self.done(came).map(drop),
        }
    }

    /// This is the value.
    pub(crate) fn value(self, value: &[u8], came: Result<&[u8], StoreError>) -> Outcome {
        let came = self.done(came)?;
        if came == value { Ok(()) } else { Err(self.differs(Excerpt::from(value), Excerpt::from(came))) }
    }

    /// These are the names, in this order.
    pub(crate) fn names(self, names: &[&str], came: Result<Names<'_>, StoreError>) -> Outcome {
        let came = self.done(came)?;
        if came.clone().eq(names.iter().copied()) {
            Ok(())
        } else {
            Err(self.differs(Listed(names.iter().copied()), Listed(came)))
        }
    }

    /// These are the names, in whatever order.
    pub(crate) fn names_anyhow(self, names: &[&str], came: Result<Names<'_>, StoreError>) -> Outcome {
        let came = self.done(came)?;
        let is_each_there = names.iter().all(|name| came.clone().filter(|other| other == name).count() == 1);
        if is_each_there && came.clone().count() == names.len() {
            Ok(())
        } else {
            Err(self.differs(Listed(names.iter().copied()), Listed(came)))
        }
    }

    /// This is what it is.
    pub(crate) fn equal<T: Copy + PartialEq + fmt::Debug>(self, expected: T, came: T) -> Outcome {
        if expected == came {
            Ok(())
        } else {
            Err(self.differs(format_args!("{expected:?}"), format_args!("{came:?}")))
        }
    }

    /// This is so.
    pub(crate) fn holds(self, is_so: bool, expected: &str, came: impl fmt::Display) -> Outcome {
        if is_so { Ok(()) } else { Err(self.differs(expected, came)) }
    }

    /// The transaction was committed.
    pub(crate) fn committed<T>(self, came: Result<T, TransactionError<Difference>>) -> Outcome<T> {
        came.map_err(|error| match error {
            TransactionError::Aborted(difference) => difference,
            other => self.differs("that it is committed", other),
        })
    }

    /// What a transaction is given up with.
    pub(crate) fn give_up(self) -> Difference {
        self.differs("that it is given up", "something else")
    }

    /// The transaction was given up, and for no other reason.
    pub(crate) fn given_up(self, came: &Result<(), TransactionError<Difference>>) -> Outcome {
        match came {
            Err(TransactionError::Aborted(difference)) if *difference == self.give_up() => Ok(()),
            came => {
                self.committed(*came).and(Err(self.differs("that it is given up", "that it is committed")))
            }
        }
    }

    /// This is the event.
    pub(crate) fn event(self, expected: WatchEvent, came: Option<Result<WatchEvent, StoreError>>) -> Outcome {
        match came {
            Some(Ok(event)) if event == expected => Ok(()),
            Some(Ok(event)) => Err(self.differs(format_args!("{expected:?}"), format_args!("{event:?}"))),
            Some(Err(error)) => Err(self.differs(format_args!("{expected:?}"), error)),
            None => Err(self.differs(format_args!("{expected:?}"), "no event")),
        }
    }
}

/// The name of an error, as the answer that it is.
fn named(name: &str) -> Excerpt {
    let mut answer = [0; 16];
    for (byte, letter) in answer.iter_mut().zip(name.bytes()) {
        *byte = letter;
    }
    Excerpt::from(answer.get(..=name.len()).unwrap_or(&answer))
}

/// Names, one after the other.
pub(crate) struct Listed<I>(pub(crate) I);

impl<'n, I: Iterator<Item = &'n str> + Clone> fmt::Display for Listed<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.clone()).finish()
    }
}
