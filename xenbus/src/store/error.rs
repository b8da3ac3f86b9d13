//! What can go wrong, with the key and the value that it went wrong with.
#![forbid(unsafe_code)]

use core::{fmt, time::Duration};

use xen_abi::{
    Errno,
    io::xs_wire::{MessageType, XENSTORE_ABS_PATH_MAX, XENSTORE_PAYLOAD_MAX, XENSTORE_REL_PATH_MAX, XsError},
    seam::NoMemory,
};

use super::{path::ToPath, ring::Violation};

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// Xenstored refused it.
    Refused {
        /// What was asked.
        asked: Asked,
        /// Its reason.
        error: XsError,
    },
    /// Xenstored refused it, for a reason that has no name.
    Unnamed {
        /// What was asked.
        asked: Asked,
        /// What it said.
        answer: Excerpt,
    },
    /// The reply is one to something else.
    Mismatch {
        /// What was asked.
        asked: Asked,
        /// The type of the reply,
        kind: u32,
        /// and its transaction.
        transaction: u32,
    },
    /// The reply has the right type, and is none.
    Nonsense {
        /// What was asked.
        asked: Asked,
        /// What came.
        answer: Excerpt,
    },
    /// The node's value is something else than it has to be.
    Value {
        /// What was asked.
        asked: Asked,
        /// The value.
        value: Excerpt,
        /// What it has to be.
        wanted: &'static str,
    },
    /// The answer has so many bytes (of a list that came in pieces, so many at least; of permissions, so many
    /// entries), which is more than there is room for.
    NoRoom {
        /// What was asked.
        asked: Asked,
        /// As much room is needed.
        needed: usize,
    },
    /// A list of children was another whenever the next piece of it was asked for.
    Changing(Asked),
    /// The path is empty, has a nul, has too many parts, or is longer than paths may be.
    Path {
        /// What was to be asked.
        asked: Asked,
        /// So many bytes.
        length: usize,
    },
    /// The message would be longer than messages may be.
    TooLong {
        /// What was to be asked.
        asked: Asked,
        /// So many bytes.
        length: usize,
    },
    /// All so many places for watches are taken.
    Watches(usize),
    /// No reply came for so long.
    TimedOut {
        /// What was asked.
        asked: Asked,
        /// The limit that it had.
        after: Duration,
    },
    /// There is no connection: it was never made, the guest was suspended, or the driver goes.
    Disconnected,
    /// Xenstored has broken the protocol; nothing more is asked before the connection begins anew.
    Violation(Violation),
    /// Xenstored has ended the connection, and says why by this number: one of `XENSTORE_ERROR_*`, if it is known.
    Ended(u32),
}

impl StoreError {
    /// The reason that xenstored has given, if it has.
    #[must_use]
    pub const fn refusal(&self) -> Option<XsError> {
        match self {
            Self::Refused { error, .. } => Some(*error),
            _ => None,
        }
    }
}

/// Takes "there is no such node" (`ENOENT`) for an answer.
///
/// ```
/// use kexec::irql::Dispatch;
/// use xenbus::store::{StoreError, Xenstore, optional};
///
/// /// The queues that a backend can have: one, if it does not say.
/// async fn queues(at: &Dispatch, store: &impl Xenstore, backend: &str) -> Result<u32, StoreError> {
///     let most = optional(store.read_number(at, (backend, "multi-queue-max-queues")).await)?;
///     Ok(most.unwrap_or(1))
/// }
/// ```
///
/// # Errors
///
/// All others.
pub fn optional<T>(answer: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match answer {
        Err(error) if error.refusal() == Some(XsError::ENOENT) => Ok(None),
        answer => answer.map(Some),
    }
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// Xen did not tell where it is.
    Xen(Errno),
    /// There is no xenstore: the parameter that tells its port or its page says so little.
    NoStore {
        /// `HVM_PARAM_STORE_PFN`
        gfn: u64,
        /// `HVM_PARAM_STORE_EVTCHN`
        port: u64,
    },
    /// The page cannot be mapped.
    NoMemory,
}

/// What was asked: a type of message, and the end of the path that it was about, which tells more than its beginning.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    kind: MessageType,
    /// Bytes of the path.
    length: u16,
    tail: [u8; Self::KEPT],
}

impl Asked {
    const KEPT: usize = 40;

    pub(super) const NOTHING: Self = Self { kind: MessageType::Read, length: 0, tail: [0; Self::KEPT] };

    /// So it was asked, about this path.
    #[must_use]
    pub fn new(kind: MessageType, path: impl ToPath) -> Self {
        let (path, mut tail) = (path.to_path(), [0; Self::KEPT]);
        let length = path.len();
        let skipped = length.saturating_sub(Self::KEPT);
        for (kept, byte) in tail.iter_mut().zip(path.bytes().skip(skipped)) {
            *kept = byte;
        }
        Self { kind, length: u16::try_from(length).unwrap_or(u16::MAX), tail }
    }

    /// The type of the message.
    #[must_use]
    pub const fn kind(&self) -> MessageType {
        self.kind
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = usize::from(self.length);
        let (tail, cut) = (self.tail.get(..length).unwrap_or(&self.tail), length > Self::KEPT);
        let gap = if tail.is_empty() { "" } else { " " };
        write!(f, "{}{gap}{}{}", self.kind, if cut { ".." } else { "" }, tail.escape_ascii())
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The beginning of a value that came, and its length.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Excerpt {
    /// Bytes of the value.
    length: u16,
    head: [u8; Self::KEPT],
}

impl Excerpt {
    pub(super) const KEPT: usize = 24;

    /// Of a value of which there is only the beginning, perhaps, and which has so many bytes.
    #[must_use]
    pub fn of(head: &[u8], length: usize) -> Self {
        let mut excerpt = Self { length: u16::try_from(length).unwrap_or(u16::MAX), head: [0; Self::KEPT] };
        for (kept, byte) in excerpt.head.iter_mut().zip(head) {
            *kept = *byte;
        }
        excerpt
    }
}

impl From<&[u8]> for Excerpt {
    fn from(value: &[u8]) -> Self {
        Self::of(value, value.len())
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = usize::from(self.length);
        match self.head.get(..length) {
            Some(whole) => write!(f, "`{}`", whole.escape_ascii()),
            None => write!(f, "`{}`.. of {length} bytes", self.head.escape_ascii()),
        }
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { asked, error } => write!(f, "{asked}: xenstored answered {error}"),
            Self::Unnamed { asked, answer } => {
                write!(f, "{asked}: xenstored answered with an error that has no name, {answer}")
            }
            Self::Mismatch { asked, kind, transaction } => {
                write!(f, "{asked} was answered with a message of type {kind} in transaction {transaction}")
            }
            Self::Nonsense { asked, answer } => {
                write!(f, "{asked} was answered with {answer}, which is no answer")
            }
            Self::Value { asked, value, wanted } => {
                write!(f, "{asked}: {value} is not {wanted}; correct the node")
            }
            Self::NoRoom { asked, needed } => write!(f, "{asked}: ask again with room for {needed}"),
            Self::Changing(asked) => {
                write!(f, "{asked}: the list changes faster than it can be read; ask again later")
            }
            Self::Path { asked, length } => write!(
                f,
                "{asked}: a path of {length} bytes; xenstore takes 1 to {XENSTORE_ABS_PATH_MAX} without a nul, \
                 {XENSTORE_REL_PATH_MAX} if it is relative"
            ),
            Self::TooLong { asked, length } => {
                write!(f, "{asked}: a message of {length} bytes; xenstore takes {XENSTORE_PAYLOAD_MAX}")
            }
            Self::Watches(places) => {
                write!(f, "all {places} places for watches are taken; drop one, or give the store more")
            }
            Self::TimedOut { asked, after } => write!(f, "{asked}: xenstored did not answer for {after:?}"),
            Self::Disconnected => {
                f.write_str("there is no connection to xenstored; ask again after the next connect")
            }
            Self::Violation(violation) => {
                write!(f, "{violation}; the connection is broken until it begins anew")
            }
            Self::Ended(error) => {
                write!(f, "xenstored has ended the connection with error {error}; connect again")
            }
        }
    }
}

impl core::error::Error for StoreError {}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xen(errno) => write!(f, "Xen did not tell where xenstore is: {errno}"),
            Self::NoStore { gfn, port } => {
                write!(f, "the toolstack has given this domain no xenstore: page {gfn:#x}, port {port}")
            }
            Self::NoMemory => write!(f, "the page of the xenstore ring cannot be mapped: {NoMemory}"),
        }
    }
}

impl core::error::Error for ConnectError {}
