//! What a frontend cannot go on for, and what that says of its backend.
#![forbid(unsafe_code)]

use core::fmt;

use crate::{
    event::{ChannelError, Disconnected, OpenError},
    grant::ShareError,
    ring::{NotPending, Overrun},
    store::StoreError,
};

/// Why a frontend cannot go on.
///
/// A [`Fault`], and all that makes one, is converted by `?`, and judged by where it comes from: what the bus does not
/// give now may be there later; a ring in which something impossible is written was written by the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed<E> {
    /// It may be better next time: the connection is closed, and another made after a while.
    Now(E),
    /// The backend breaks the protocol: the connection is closed, and no other made with this backend.
    Broken(E),
}

/// What the frontends of all classes can fail with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The store did not answer what it was asked.
    Store(StoreError),
    /// There is no event channel.
    Open(OpenError),
    /// The channel cannot be used.
    Channel(ChannelError),
    /// A page cannot be shared.
    Share(ShareError),
    /// The backend's index is where it cannot be.
    Overrun(Overrun),
    /// A response to nothing.
    NotPending(NotPending),
}

impl<E> Failed<E> {
    /// Whether the backend breaks the protocol.
    #[must_use]
    pub const fn is_broken(&self) -> bool {
        matches!(self, Self::Broken(_))
    }
}

impl<E: From<Fault>> From<Fault> for Failed<E> {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Store(_) | Fault::Open(_) | Fault::Channel(_) | Fault::Share(_) => Self::Now(fault.into()),
            Fault::Overrun(_) | Fault::NotPending(_) => Self::Broken(fault.into()),
        }
    }
}

/// By way of a fault.
macro_rules! from {
    ($($error:ty => $fault:expr,)*) => {$(
        impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                $fault(error)
            }
        }

        impl<E: From<Fault>> From<$error> for Failed<E> {
            fn from(error: $error) -> Self {
                Fault::from(error).into()
            }
        }
    )*};
}

from! {
    StoreError => Self::Store,
    OpenError => Self::Open,
    ChannelError => Self::Channel,
    Disconnected => |Disconnected| Self::Channel(ChannelError::Disconnected),
    ShareError => Self::Share,
    Overrun => Self::Overrun,
    NotPending => Self::NotPending,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Open(error) => error.fmt(f),
            Self::Channel(error) => error.fmt(f),
            Self::Share(error) => error.fmt(f),
            Self::Overrun(error) => error.fmt(f),
            Self::NotPending(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for Fault {}

impl<E: fmt::Display> fmt::Display for Failed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(error) => error.fmt(f),
            Self::Broken(error) => write!(f, "{error}; the device is closed until it has another backend"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for Failed<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whose fault it is decides whether a backend gets another chance: what the bus does not give now is nobody's,
    /// what is in a ring is the backend's. Whichever way a failure comes, the judgement is the same.
    #[test]
    fn who_is_to_blame() {
        fn judged<T: Copy>(error: T) -> (Failed<Fault>, Failed<Fault>)
        where
            Fault: From<T>,
            Failed<Fault>: From<T>,
        {
            (error.into(), <Failed<Fault> as From<Fault>>::from(error.into()))
        }
        let overrun = Overrun { produced: 9, taken: 0, published: 1 };
        for ((direct, by_way), expected) in [
            (judged(StoreError::Disconnected), Failed::Now(Fault::Store(StoreError::Disconnected))),
            (judged(OpenError::NotStarted), Failed::Now(Fault::Open(OpenError::NotStarted))),
            (judged(ChannelError::Disconnected), Failed::Now(Fault::Channel(ChannelError::Disconnected))),
            (judged(Disconnected), Failed::Now(Fault::Channel(ChannelError::Disconnected))),
            (judged(ShareError::Full), Failed::Now(Fault::Share(ShareError::Full))),
            (judged(overrun), Failed::Broken(Fault::Overrun(overrun))),
            (judged(NotPending(7)), Failed::Broken(Fault::NotPending(NotPending(7)))),
        ] {
            assert_eq!((direct, by_way), (expected, expected));
        }
    }
}
