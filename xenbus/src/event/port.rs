//! A port, as the guest sees it: by whichever ABI.
#![forbid(unsafe_code)]

use xen_abi::seam::Access;

use super::{fifo::Word, two_level::Bits};

/// What a port's owner may do to it.
///
/// A port is masked when it is opened and whenever its event was told. Until the owner arms it again, the event after
/// that waits in the page, and costs nothing.
pub(super) enum Port<'a, F> {
    TwoLevel(Bits<'a, F>),
    Fifo(Word<'a, F>),
}

/// What came of an attempt to unmask a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Armed {
    /// It is unmasked: the next event makes an upcall.
    Yes,
    /// It is masked, and has an event, which the owner can take.
    Pending,
    /// It is masked, and Xen is at work on it: Xen is to do it.
    Busy,
}

impl<F: Access> Port<'_, F> {
    pub(super) fn mask(&self) {
        match self {
            Self::TwoLevel(bits) => bits.mask(),
            Self::Fifo(word) => word.mask(),
        }
    }

    /// Unmasks the port, unless there is an event.
    pub(super) fn arm(&self) -> Armed {
        match self {
            Self::TwoLevel(bits) => bits.arm(),
            Self::Fifo(word) => word.arm(),
        }
    }

    /// Takes the event of a masked port; whether there was one.
    pub(super) fn take(&self) -> bool {
        match self {
            Self::TwoLevel(bits) => bits.take(),
            Self::Fifo(word) => word.take(),
        }
    }
}
