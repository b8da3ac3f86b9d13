//! `io/xenbus.h`: the states of a device's two halves, which each writes, as a decimal number, to its key `state`.
#![forbid(unsafe_code)]

use core::fmt;

/// `enum xenbus_state`: what one half says of itself.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum XenbusState {
    /// `XenbusStateUnknown`: there is no such key, or it says nothing.
    Unknown = 0,
    /// `XenbusStateInitialising`: as the toolstack has made it.
    Initialising = 1,
    /// `XenbusStateInitWait`: ready, and waiting for what the other half offers or chooses.
    InitWait = 2,
    /// `XenbusStateInitialised`: everything is offered; waiting for the other half to connect.
    Initialised = 3,
    /// `XenbusStateConnected`: at work.
    Connected = 4,
    /// `XenbusStateClosing`: about to end, for an error or an unplug.
    Closing = 5,
    /// `XenbusStateClosed`: ended.
    Closed = 6,
    /// `XenbusStateReconfiguring`: something about the device is changing.
    Reconfiguring = 7,
    /// `XenbusStateReconfigured`: it has changed.
    Reconfigured = 8,
}

impl XenbusState {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Unknown,
        Self::Initialising,
        Self::InitWait,
        Self::Initialised,
        Self::Connected,
        Self::Closing,
        Self::Closed,
        Self::Reconfiguring,
        Self::Reconfigured,
    ];

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }
}

/// No state has this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSuchState(pub u32);

impl fmt::Display for NoSuchState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is no state of a device", self.0)
    }
}

impl core::error::Error for NoSuchState {}

impl TryFrom<u32> for XenbusState {
    type Error = NoSuchState;

    fn try_from(number: u32) -> Result<Self, NoSuchState> {
        Self::ALL.into_iter().find(|state| state.number() == number).ok_or(NoSuchState(number))
    }
}

/// Shows its name. What goes into the key is its [`number`](XenbusState::number).
impl fmt::Display for XenbusState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state that is missing from the list could not be read.
    #[test]
    fn numbers_go_there_and_back() {
        for number in 0..9 {
            assert_eq!(XenbusState::try_from(number).map(XenbusState::number), Ok(number));
        }
        assert_eq!(XenbusState::try_from(9), Err(NoSuchState(9)));
    }
}
