//! Hypercalls as futures.
//!
//! A hypercall does not wait, but Xen may answer that it cannot do it just now. Then the task lets others go
//! first and asks again, a bounded number of times: a hypervisor that never says yes costs one request, not
//! the CPU.
//!
//! - `command`: every call that is made, and what it takes;
//! - [`event_channel`], [`grant_table`], [`hvm`], [`sched`]: those that change nobody's memory, for anybody. The others belong
//!   to [pages](crate::page), which answer for it.
#![deny(unsafe_code)]

use core::fmt;

use kexec::yield_now;
use xen_abi::{Errno, Hypervisor};

pub(crate) mod command;
pub mod event_channel;
pub mod grant_table;
pub mod hvm;
pub mod sched;

/// How often a call is made in all, if Xen answers `EAGAIN` or `EBUSY`.
pub const ATTEMPTS: u32 = 16;

/// A version of Xen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// As in **4**.17.
    pub major: u16,
    /// As in 4.**17**.
    pub minor: u16,
}

impl Version {
    /// Of a word with the major version in bits 16 to 31: what the hypercall and the CPUID leaf answer.
    #[must_use]
    pub const fn from_word(word: u32) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
        Self { major: (word >> 16) as u16, minor: word as u16 }
    }

    /// The word that [`from_word`](Self::from_word) takes.
    #[must_use]
    pub const fn to_word(self) -> u32 {
        (self.major as u32) << 16 | self.minor as u32
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Asks for Xen's version (`XENVER_version`).
///
/// **Cancel-safe:** nothing is lost but the answer.
///
/// # Errors
///
/// What Xen answered, if it was an error; after [`ATTEMPTS`] calls also `EAGAIN` and `EBUSY`.
pub async fn version<H: Hypervisor>(hypervisor: &H) -> Result<Version, Errno> {
    let word = patiently(|| command::VERSION.call(hypervisor, &mut ())).await?;
    // Xen answers a C `int`; a value that is none is not believed.
    u32::try_from(word).map(Version::from_word).map_err(|_| Errno::EINVAL)
}

/// Makes a call, and makes it again while Xen answers that it cannot do it just now.
async fn patiently(mut call: impl FnMut() -> Result<u64, Errno>) -> Result<u64, Errno> {
    for _ in 1..ATTEMPTS {
        match call() {
            Err(Errno::EAGAIN | Errno::EBUSY) => yield_now().await,
            answer => return answer,
        }
    }
    call()
}
