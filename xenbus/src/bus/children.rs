//! Devices that come and go: the children of a directory of the store.
//!
//! `device` has a directory for each class of devices, and that one for each device of the class.
#![forbid(unsafe_code)]

use core::{fmt, time::Duration};

use heapless::Vec;
use kexec::{
    irql::Dispatch,
    time::{sleep, timeout},
};
use xen_abi::io::xs_wire::XsError;

use crate::store::{Root, StoreError, Text, Watching, Xenstore};

/// The longest name of a class or a device, in bytes: `vif`, `51712`.
pub const NAME: usize = 32;

/// The name of a child.
pub type Name = Text<NAME>;

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is there now.
    Arrived(Name),
    /// It is not there any more. One of the same name may arrive next.
    Departed(Name),
    /// What is there cannot be told, or not all of it. It is looked at again.
    Trouble(Trouble),
}

/// Why it cannot be told what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The store did not answer.
    Store(StoreError),
    /// A name has so many bytes.
    Name(usize),
    /// There are more children than there is room for.
    TooMany(usize),
}

/// How long it is waited before what went wrong is tried again.
pub const RETRY: Duration = Duration::from_secs(10);

/// Follows the children of a directory, and tells of each that comes or goes, for ever: `always` are there whatever the store says, such
/// as the classes of devices that no toolstack makes. Up to `N` can be told apart.
///
/// Each is told as arrived before it is told as departed, and by turns. Two looks at the store may have the same name of different
/// devices: whoever serves the first finds that it is gone.
///
/// `room` is for the list of names, each with a nul.
///
/// **Cancel-safe:** loses what it knows: called again, it tells of all that are there.
pub async fn follow<S: Root, const N: usize>(
    at: &Dispatch,
    store: &S,
    directory: &str,
    always: &[&str],
    room: &mut [u8],
    mut tell: impl AsyncFnMut(Change),
) -> ! {
    let mut known = Vec::<Name, N>::new();
    loop {
        let mut watch = match store.watch(at, directory).await {
            Ok(watch) => watch,
            Err(error) => {
                tell(Change::Trouble(Trouble::Store(error))).await;
                sleep(RETRY).await;
                continue;
            }
        };
        loop {
            let looked = look(at, store, directory, always, room, &mut known, &mut tell).await;
            if let Err(trouble) = looked {
                tell(Change::Trouble(trouble)).await;
            }
            // Without an event, only what went wrong is looked at again.
            let patience = if looked.is_err() { RETRY } else { Duration::MAX };
            if let Ok(Err(error)) = timeout(patience, watch.next()).await {
                tell(Change::Trouble(Trouble::Store(error))).await;
                break;
            }
        }
        drop(watch);
        sleep(RETRY).await;
    }
}

/// Compares what is there with what is known.
async fn look<const N: usize>(
    at: &Dispatch,
    store: &impl Xenstore,
    directory: &str,
    always: &[&str],
    room: &mut [u8],
    known: &mut Vec<Name, N>,
    tell: &mut impl AsyncFnMut(Change),
) -> Result<(), Trouble> {
    let names = match store.directory(at, directory, room).await {
        Err(error) if error.refusal() == Some(XsError::ENOENT) => None,
        answer => Some(answer.map_err(Trouble::Store)?),
    };
    let there = || always.iter().copied().chain(names.clone().into_iter().flatten());
    // Who has gone makes room for who comes.
    let mut index = 0;
    while let Some(name) = known.get(index).copied() {
        if there().any(|there| *there == *name) {
            index = index.saturating_add(1);
        } else {
            known.swap_remove(index);
            tell(Change::Departed(name)).await;
        }
    }
    let mut trouble = Ok(());
    for name in there() {
        match Name::of(name) {
            Err(_) => trouble = Err(Trouble::Name(name.len())),
            Ok(name) if known.contains(&name) => {}
            Ok(name) => match known.push(name) {
                Ok(()) => tell(Change::Arrived(name)).await,
                Err(_) => trouble = Err(Trouble::TooMany(N)),
            },
        }
    }
    trouble
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Name(bytes) => write!(f, "a device's name of {bytes} bytes; {NAME} are the most"),
            Self::TooMany(most) => write!(f, "more devices than {most}, for which there is room"),
        }
    }
}

impl core::error::Error for Trouble {}
