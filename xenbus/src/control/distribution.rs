//! `drivers/<n>`: which drivers the guest has, and of which version.
//!
//! Each driver says so in a node of its own: vendor, name, version, and `(DEBUG)` if it is a debug build, with a
//! space between any two. Toolstacks parse that, and scanners for old versions do. A driver looks for the node that
//! it had before, a release build's being a debug build's and one version's being another's; otherwise it takes the
//! first that is free.
//!
//! Sources: `docs/misc/xenstore-paths.pandoc`, `~/drivers/$INDEX`, for the node; the form is a convention of all
//! Windows drivers.
#![forbid(unsafe_code)]

use core::fmt;

use kexec::irql::Dispatch;

use super::is_forbidden;
use crate::store::{PRINTED, Path, Root, StoreError, Text, TransactionError, Xenstore, optional};

/// Where they are.
const DRIVERS: &str = "drivers";

/// So many drivers can be published.
pub const DRIVERS_MAX: usize = 256;

/// The longest name of a vendor or a driver, in bytes.
pub const NAME_MAX: usize = 40;

/// The longest that is published: two names, four numbers of 16 bits, `(DEBUG)`, and what is between them.
const LONGEST: usize = 2 * NAME_MAX + 4 * 5 + 3 + "(DEBUG)".len() + 3;

const _: () = assert!(LONGEST <= PRINTED, "a store writes it");

/// More than the names of so many nodes have, each with a nul.
const NAMES: usize = 4 * DRIVERS_MAX;

/// A driver, as it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distribution {
    vendor: &'static str,
    driver: &'static str,
    version: [u16; 4],
    is_debug: bool,
}

/// A name that cannot be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadName {
    /// It has so many bytes.
    Length(usize),
    /// It has this byte, which is none of a printable ASCII character, or a space.
    Byte(u8),
}

impl Distribution {
    /// A release build of a driver. The version is major, minor, micro and build.
    ///
    /// # Errors
    ///
    /// One of the names is not 1 to [`NAME_MAX`] printable ASCII characters without a space.
    pub const fn new(vendor: &'static str, driver: &'static str, version: [u16; 4]) -> Result<Self, BadName> {
        match (check(vendor.as_bytes()), check(driver.as_bytes())) {
            (Ok(()), Ok(())) => Ok(Self { vendor, driver, version, is_debug: false }),
            (Err(bad), _) | (_, Err(bad)) => Err(bad),
        }
    }

    /// The same, of a debug build.
    #[must_use]
    pub const fn debug(self) -> Self {
        Self { is_debug: true, ..self }
    }

    /// Publishes it, and says at which index; none, if there are [`DRIVERS_MAX`] others.
    pub(super) async fn publish<'a, S: Root>(
        &self,
        at: &'a Dispatch,
        store: &'a S,
    ) -> Result<Option<u8>, TransactionError<StoreError>> {
        store
            .transaction(at, async |tx| {
                let place = self.search(at, tx).await?;
                if let Found::Own(index) | Found::Free(index) = place {
                    tx.print(at, Path::new(DRIVERS).join(&name(index)), self).await?;
                    return Ok(Some(index));
                }
                Ok(None)
            })
            .await
    }

    /// Removes it, wherever it is.
    pub(super) async fn withdraw<'a, S: Root>(
        &self,
        at: &'a Dispatch,
        store: &'a S,
    ) -> Result<(), TransactionError<StoreError>> {
        store
            .transaction(at, async |tx| {
                if let Found::Own(index) = self.search(at, tx).await? {
                    tx.remove(at, Path::new(DRIVERS).join(&name(index))).await?;
                }
                Ok(())
            })
            .await
    }

    async fn search(&self, at: &Dispatch, store: &impl Xenstore) -> Result<Found, StoreError> {
        let (mut names, mut value) = ([0; NAMES], [0; LONGEST]);
        let mut used = [false; DRIVERS_MAX];
        let listed = optional(store.directory(at, DRIVERS, &mut names).await)?;
        for name in listed.into_iter().flatten() {
            let Some(index) = index(name) else { continue };
            if let Some(used) = used.get_mut(usize::from(index)) {
                *used = true;
            }
            match store.read(at, Path::new(DRIVERS).join(name), &mut value).await {
                Ok(value) if self.is_own(value) => return Ok(Found::Own(index)),
                Ok(_) | Err(StoreError::NoRoom { .. }) => {}
                // Whatever it is, it is not to be read, and not its own.
                Err(error) if is_forbidden(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let free = (0..=u8::MAX).zip(used).find(|(_, is_used)| !is_used);
        Ok(free.map_or(Found::Full, |(index, _)| Found::Free(index)))
    }

    /// Whether somebody of this vendor and name has published that.
    fn is_own(&self, value: &[u8]) -> bool {
        let mut words = value.split(|byte| *byte == b' ');
        words.next() == Some(self.vendor.as_bytes()) && words.next() == Some(self.driver.as_bytes())
    }
}

/// What is below `drivers`.
enum Found {
    /// The driver has this.
    Own(u8),
    /// It has none, and this is the first that nobody has.
    Free(u8),
    Full,
}

/// The name of an index's node.
fn name(index: u8) -> Text<3> {
    Text::of(index).unwrap_or(Text::EMPTY)
}

/// The index that a node's name is: there is one way to write each.
fn index(name: &str) -> Option<u8> {
    let index = name.parse().ok()?;
    let is_plain = name == "0" || !name.starts_with(['0', '+']);
    is_plain.then_some(index)
}

const fn check(name: &[u8]) -> Result<(), BadName> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(BadName::Length(name.len()));
    }
    let mut rest = name;
    while let [byte, more @ ..] = rest {
        if !byte.is_ascii_graphic() {
            return Err(BadName::Byte(*byte));
        }
        rest = more;
    }
    Ok(())
}

/// As it is published: without `(DEBUG)`, the last space is still there.
impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vendor, driver, version: [major, minor, micro, build], is_debug } = self;
        let debug = if *is_debug { "(DEBUG)" } else { "" };
        write!(f, "{vendor} {driver} {major}.{minor}.{micro}.{build} {debug}")
    }
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => write!(f, "a name of {length} bytes; give it 1 to {NAME_MAX}"),
            Self::Byte(byte) => write!(
                f,
                "a name with the byte {byte:#04x} (`{}`); use printable ASCII characters, and `_` for a space",
                byte.escape_ascii()
            ),
        }
    }
}

impl core::error::Error for BadName {}
