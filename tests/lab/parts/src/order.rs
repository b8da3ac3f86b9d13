//! What the toolstack wants of a guest: it writes that to xenstore before the guest begins.
//!
//! | node | |
//! |---|---|
//! | `data/lab/part` | the part |
//! | `data/lab/abi` | how event channels are to come: `fifo`, or `bitmaps`; `fifo`, if it is not there |
//! | `data/lab/store` | the xenstored |
//! | `data/lab/said` | how far the guest is: it writes that itself |

use core::fmt;

use kexec::irql::Dispatch;
use xenbus::store::{StoreError, Xenstore, optional};
use xenstore_suite::Profile;

const PART: &str = "data/lab/part";
const ABI: &str = "data/lab/abi";
const STORE: &str = "data/lab/store";

macro_rules! parts {
    ($($(#[$says:meta])+ $part:ident = $name:literal;)+) => {
        /// What a guest does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Part {
            $($(#[$says])+ $part,)+
        }

        impl Part {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$part),+];

            /// Its word in a scenario.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$part => $name,)+
                }
            }
        }
    };
}

parts! {
    /// The cases of the conformance suite that go through the bus.
    Store = "store";
    /// Those that send and receive bytes.
    Wire = "wire";
    /// Event channels of its own.
    Events = "events";
    /// Pages that the control domain maps, and does not let go of in time.
    Grants = "grants";
    /// Events to the control domain, each of which it answers.
    Echo = "echo";
    /// Events from the control domain, as fast as it can send them.
    Storm = "storm";
    /// What crosses from one virtual CPU to another.
    Cpus = "cpus";
    /// Clocks.
    Time = "time";
    /// Talk with xenstore and events, until it is asked to end.
    Traffic = "traffic";
    /// A crash.
    Crash = "crash";
}

/// What one guest is to do.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// Its part.
    pub part: Part,
    /// Whether events come by the FIFO ABI.
    pub fifo: bool,
    /// The domain that it is when it begins.
    pub domain: u16,
    /// What to expect of its xenstored.
    pub profile: &'static Profile,
}

/// Why it is not known what a guest is to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NoOrder {
    /// It cannot be read.
    Store(StoreError),
    /// There is something else than one of the words for it. It is in this node.
    Unknown(&'static str),
}

impl From<StoreError> for NoOrder {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Order {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// It is not there, or makes no sense.
    pub async fn read(at: &Dispatch, store: &impl Xenstore) -> Result<Self, NoOrder> {
        let mut room = [0; 32];
        let domain = store.read_number(at, "domid").await?;
        let word = store.read(at, PART, &mut room).await?;
        let part = Part::ALL.iter().find(|part| part.name().as_bytes() == word);
        let part = *part.ok_or(NoOrder::Unknown(PART))?;
        let fifo = match optional(store.read(at, ABI, &mut room).await)? {
            None | Some(b"fifo") => true,
            Some(b"bitmaps") => false,
            Some(_) => return Err(NoOrder::Unknown(ABI)),
        };
        let profile = match store.read(at, STORE, &mut room).await? {
            b"xenstored" => &Profile::XENSTORED_4_17,
            b"oxenstored" => &Profile::OXENSTORED,
            b"todays-xenstored" => &Profile::XENSTORED,
            _ => return Err(NoOrder::Unknown(STORE)),
        };
        Ok(Self { part, fifo, domain, profile })
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for NoOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Unknown(node) => write!(f, "{node} has a word that the guest does not know"),
        }
    }
}

impl core::error::Error for NoOrder {}
