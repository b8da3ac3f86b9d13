//! `NTSTATUS`, as the error of a `Result`.
#![forbid(unsafe_code)]

use core::fmt;

use nt_sys::NTSTATUS;

/// What NT says of a call that failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(NTSTATUS);

impl Status {
    /// The failure that `status` says; a success, which is none, becomes `STATUS_UNSUCCESSFUL`.
    #[must_use]
    pub const fn failure(status: NTSTATUS) -> Self {
        Self(if status < 0 { status } else { nt_sys::STATUS_UNSUCCESSFUL })
    }

    /// `NT_SUCCESS`: successes and informational values are not negative.
    ///
    /// # Errors
    ///
    /// Warnings and errors.
    pub const fn check(status: NTSTATUS) -> Result<(), Self> {
        if status < 0 { Err(Self(status)) } else { Ok(()) }
    }

    /// The number.
    #[must_use]
    pub const fn code(self) -> NTSTATUS {
        self.0
    }
}

/// The status that a routine returns to NT.
pub(crate) fn code(result: Result<(), Status>) -> NTSTATUS {
    result.map_or_else(Status::code, |()| nt_sys::STATUS_SUCCESS)
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {:#010x}", self.0)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for Status {}
