//! `xen/include/public/io/xs_wire.h`: the messages between a domain and xenstored, and the page that they go through.
//!
//! What the messages mean is in `docs/misc/xenstore.txt`, how the page is used in `docs/misc/xenstore-ring.txt`.
#![forbid(unsafe_code)]

use core::{error::Error, fmt, mem::offset_of};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::seam::{Place, Places};

/// The most bytes that can follow a [`Header`], either way. Xenstored ends the connection of whoever sends more.
pub const XENSTORE_PAYLOAD_MAX: u32 = 4096;

/// The longest absolute path, in bytes.
pub const XENSTORE_ABS_PATH_MAX: usize = 3072;

/// The longest path that is relative to a domain's own, in bytes.
pub const XENSTORE_REL_PATH_MAX: usize = 2048;

/// `struct xsd_sockmsg`: what every message begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// A [`MessageType`], if the sender knows what it does.
    pub r#type: u32,
    /// The sender's number for the request; the reply has the same. Zero in an event.
    pub req_id: u32,
    /// The transaction, zero being none; the reply has the same. Zero in an event.
    pub tx_id: u32,
    /// The bytes that follow, at most [`XENSTORE_PAYLOAD_MAX`].
    pub len: u32,
}

/// Writes the enumeration of types, their list and their names from one table.
macro_rules! message_types {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $name:literal;)*) => {
        /// `enum xsd_sockmsg_type`: what a message asks for, or answers.
        ///
        /// ```
        /// use xen_abi::io::xs_wire::MessageType;
        ///
        /// assert_eq!(MessageType::try_from(2), Ok(MessageType::Read));
        /// assert_eq!(MessageType::Read.to_string(), "XS_READ");
        /// assert!(MessageType::try_from(20).is_err(), "XS_RESTRICT is no more");
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum MessageType {
            $($(#[doc = $doc])+ $variant = $number,)*
        }

        impl MessageType {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The header's name for it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        impl TryFrom<u32> for MessageType {
            type Error = UnknownType;

            fn try_from(number: u32) -> Result<Self, UnknownType> {
                match number {
                    $($number => Ok(Self::$variant),)*
                    _ => Err(UnknownType(number)),
                }
            }
        }
    };
}

message_types! {
    /// A command to the daemon, for dom0. Once called `XS_DEBUG`.
    Control = 0, "XS_CONTROL";
    /// The names of a node's children.
    Directory = 1, "XS_DIRECTORY";
    /// A node's value.
    Read = 2, "XS_READ";
    /// Who may do what with a node.
    GetPerms = 3, "XS_GET_PERMS";
    /// Tell me when a node, or one below it, changes.
    Watch = 4, "XS_WATCH";
    /// No longer.
    Unwatch = 5, "XS_UNWATCH";
    /// Begins a transaction; the answer is its number.
    TransactionStart = 6, "XS_TRANSACTION_START";
    /// Commits it, or throws it away.
    TransactionEnd = 7, "XS_TRANSACTION_END";
    /// Connects a domain, for dom0.
    Introduce = 8, "XS_INTRODUCE";
    /// Disconnects it, for dom0.
    Release = 9, "XS_RELEASE";
    /// What a domain's relative paths are relative to.
    GetDomainPath = 10, "XS_GET_DOMAIN_PATH";
    /// Sets a node's value, and creates it.
    Write = 11, "XS_WRITE";
    /// Creates a node.
    Mkdir = 12, "XS_MKDIR";
    /// Removes a node and all that is below it.
    Rm = 13, "XS_RM";
    /// Says who may do what with a node.
    SetPerms = 14, "XS_SET_PERMS";
    /// A watch has fired: never a request.
    WatchEvent = 15, "XS_WATCH_EVENT";
    /// The reply to a request that has failed, with the name of an [`XsError`]: never a request.
    Error = 16, "XS_ERROR";
    /// Whether a domain is connected, for dom0.
    IsDomainIntroduced = 17, "XS_IS_DOMAIN_INTRODUCED";
    /// A domain that had shut down runs again, for dom0.
    Resume = 18, "XS_RESUME";
    /// Lets a domain act on the nodes of another, for dom0.
    SetTarget = 19, "XS_SET_TARGET";
    /// Forgets all watches and transactions of the caller.
    ResetWatches = 21, "XS_RESET_WATCHES";
    /// As `XS_DIRECTORY`, in pieces.
    DirectoryPart = 22, "XS_DIRECTORY_PART";
    /// The features that a domain is offered. Later than Xen 4.17's header.
    GetFeature = 23, "XS_GET_FEATURE";
    /// Says which, for dom0. Later than Xen 4.17's header.
    SetFeature = 24, "XS_SET_FEATURE";
    /// The value of a quota, for dom0. Later than Xen 4.17's header.
    GetQuota = 25, "XS_GET_QUOTA";
    /// Sets it, for dom0. Later than Xen 4.17's header.
    SetQuota = 26, "XS_SET_QUOTA";
}

/// `XS_INVALID`: never a [`MessageType`].
pub const XS_INVALID: u32 = 0xFFFF;

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A number that is no [`MessageType`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownType(pub u32);

impl fmt::Display for UnknownType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is no type of a xenstore message", self.0)
    }
}

impl Error for UnknownType {}

/// Writes the enumeration of errors, their list, names and numbers from one table.
macro_rules! errors {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal;)*) => {
        /// `xsd_errors`: what xenstored says when a request fails. On the wire it is the name, and a nul.
        ///
        /// ```
        /// use xen_abi::io::xs_wire::XsError;
        ///
        /// assert_eq!(XsError::try_from(&b"EAGAIN\0"[..]), Ok(XsError::EAGAIN));
        /// assert_eq!(XsError::EAGAIN.number(), 11);
        /// ```
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum XsError {
            $($(#[doc = $doc])+ $name,)*
        }

        impl XsError {
            /// All of them, in the header's order.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What is on the wire, without the nul.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// The number that it has in Xen and in Linux.
            #[must_use]
            pub const fn number(self) -> u16 {
                match self {
                    $(Self::$name => $number,)*
                }
            }
        }
    };
}

errors! {
    /// The request makes no sense: also what stands for an error that has no name here.
    EINVAL = 22;
    /// The caller may not do that, or may not know why not.
    EACCES = 13;
    /// It is there already.
    EEXIST = 17;
    /// Not used by xenstored.
    EISDIR = 21;
    /// It is not there.
    ENOENT = 2;
    /// Xenstored, or the caller's share of it, is full.
    ENOMEM = 12;
    /// A quota of the caller's is used up.
    ENOSPC = 28;
    /// Xenstored could not do it.
    EIO = 5;
    /// Not used by xenstored.
    ENOTEMPTY = 39;
    /// Xenstored does not know the request.
    ENOSYS = 38;
    /// Not used by xenstored.
    EROFS = 30;
    /// Not now.
    EBUSY = 16;
    /// The transaction was overtaken by another change: do it again.
    EAGAIN = 11;
    /// Not used by xenstored.
    EISCONN = 106;
    /// The reply would be longer than [`XENSTORE_PAYLOAD_MAX`].
    E2BIG = 7;
    /// Only dom0 may do that.
    EPERM = 1;
}

impl fmt::Display for XsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for XsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for XsError {}

/// By its name, with or without the nul that ends it on the wire.
impl TryFrom<&[u8]> for XsError {
    type Error = UnknownError;

    fn try_from(name: &[u8]) -> Result<Self, UnknownError> {
        let name = name.strip_suffix(&[0]).unwrap_or(name);
        Self::ALL.iter().copied().find(|error| error.name().as_bytes() == name).ok_or(UnknownError)
    }
}

/// By its number.
impl TryFrom<u16> for XsError {
    type Error = UnknownError;

    fn try_from(number: u16) -> Result<Self, UnknownError> {
        Self::ALL.iter().copied().find(|error| error.number() == number).ok_or(UnknownError)
    }
}

/// What is no [`XsError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownError;

impl fmt::Display for UnknownError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no error that xenstored has a name for")
    }
}

impl Error for UnknownError {}

/// Bytes in each direction's ring. An index counts bytes since the beginning, modulo 2^32; its byte is at the index
/// modulo this.
pub const XENSTORE_RING_SIZE: u32 = 1024;

/// `struct xenstore_domain_interface`: the beginning of the page.
///
/// To be compared with the header; who shares the page uses [`REQ`] to [`ERROR`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DomainInterface {
    /// Requests to xenstored.
    pub req: [u8; XENSTORE_RING_SIZE as usize],
    /// Replies and events from it.
    pub rsp: [u8; XENSTORE_RING_SIZE as usize],
    /// The next byte of `req` that xenstored takes.
    pub req_cons: u32,
    /// The next byte of `req` that the domain writes.
    pub req_prod: u32,
    /// The next byte of `rsp` that the domain takes.
    pub rsp_cons: u32,
    /// The next byte of `rsp` that xenstored writes.
    pub rsp_prod: u32,
    /// What xenstored offers: bits `XENSTORE_SERVER_FEATURE_*`.
    pub server_features: u32,
    /// [`XENSTORE_CONNECTED`] or [`XENSTORE_RECONNECT`].
    pub connection: u32,
    /// Why xenstored has ended the connection: one of `XENSTORE_ERROR_*`.
    pub error: u32,
}

/// The bytes of `req`.
pub const REQ: Places<u8> = Places::new(offset_of!(DomainInterface, req), 1, XENSTORE_RING_SIZE as usize);
/// The bytes of `rsp`.
pub const RSP: Places<u8> = Places::new(offset_of!(DomainInterface, rsp), 1, XENSTORE_RING_SIZE as usize);
/// [`DomainInterface::req_cons`].
pub const REQ_CONS: Place<u32> = Place::new(offset_of!(DomainInterface, req_cons));
/// [`DomainInterface::req_prod`].
pub const REQ_PROD: Place<u32> = Place::new(offset_of!(DomainInterface, req_prod));
/// [`DomainInterface::rsp_cons`].
pub const RSP_CONS: Place<u32> = Place::new(offset_of!(DomainInterface, rsp_cons));
/// [`DomainInterface::rsp_prod`].
pub const RSP_PROD: Place<u32> = Place::new(offset_of!(DomainInterface, rsp_prod));
/// [`DomainInterface::server_features`].
pub const SERVER_FEATURES: Place<u32> = Place::new(offset_of!(DomainInterface, server_features));
/// [`DomainInterface::connection`].
pub const CONNECTION: Place<u32> = Place::new(offset_of!(DomainInterface, connection));
/// [`DomainInterface::error`].
pub const ERROR: Place<u32> = Place::new(offset_of!(DomainInterface, error));

/// The domain can ask for the connection to begin anew: see [`XENSTORE_RECONNECT`].
pub const XENSTORE_SERVER_FEATURE_RECONNECTION: u32 = 1;
/// [`DomainInterface::error`] means something.
pub const XENSTORE_SERVER_FEATURE_ERROR: u32 = 2;
/// A watch can have a depth. Later than Xen 4.17's header.
pub const XENSTORE_SERVER_FEATURE_WATCHDEPTH: u32 = 4;
/// Permissions can name every domain, by `DOMID_ANY`. Later than Xen 4.17's header.
pub const XENSTORE_SERVER_FEATURE_DOMID_ANY: u32 = 8;

/// [`DomainInterface::connection`]: as ever.
pub const XENSTORE_CONNECTED: u32 = 0;
/// [`DomainInterface::connection`]: the domain wants to begin anew; nothing else in the page means anything until
/// xenstored has made it [`XENSTORE_CONNECTED`].
pub const XENSTORE_RECONNECT: u32 = 1;

/// [`DomainInterface::error`]: the connection lives.
pub const XENSTORE_ERROR_NONE: u32 = 0;
/// [`DomainInterface::error`]: the event channel does not work.
pub const XENSTORE_ERROR_COMM: u32 = 1;
/// [`DomainInterface::error`]: a producer index is more than a ring ahead of its consumer's.
pub const XENSTORE_ERROR_RINGIDX: u32 = 2;
/// [`DomainInterface::error`]: a message was longer than [`XENSTORE_PAYLOAD_MAX`].
pub const XENSTORE_ERROR_PROTO: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    /// Names and numbers go over the wire, and back to what they were.
    #[test]
    fn names_are_found_again() {
        for &error in XsError::ALL {
            assert_eq!(XsError::try_from(error.name().as_bytes()), Ok(error));
            assert_eq!(XsError::try_from(error.number()), Ok(error));
        }
        for stranger in [&b""[..], b"\0", b"eagain", b"EAGAIN\0\0", b"EAGAINS", b"ENOTTY"] {
            assert_eq!(XsError::try_from(stranger), Err(UnknownError), "{stranger:?}");
        }
        for &kind in MessageType::ALL {
            assert_eq!(MessageType::try_from(kind as u32), Ok(kind));
        }
        for stranger in [20, 27, XS_INVALID, u32::MAX] {
            assert_eq!(MessageType::try_from(stranger), Err(UnknownType(stranger)));
        }
    }

    /// The table of `docs/misc/xenstore-ring.txt`.
    #[test]
    fn the_page_is_laid_out_as_documented() {
        assert_eq!(REQ.get(1023).map(Place::offset), Some(1023));
        assert_eq!(RSP.get(0).map(Place::offset), Some(1024));
        let words = [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, SERVER_FEATURES, CONNECTION, ERROR];
        assert_eq!(words.map(Place::offset), [2048, 2052, 2056, 2060, 2064, 2068, 2072]);
        assert_eq!(size_of::<Header>(), 16);
    }
}
