//! How an operation on grants ended: `GNTST_*`, in each argument's `status`.
#![forbid(unsafe_code)]

use core::{fmt, num::NonZeroI16};

/// Why an operation failed: a number below zero, which Xen has written.
///
/// ```
/// use xen_abi::grant_table::status::GrantError;
///
/// assert_eq!(GrantError::check(0), Ok(()));
/// assert_eq!(GrantError::check(-3), Err(GrantError::BAD_GNTREF));
/// assert_eq!(GrantError::BAD_GNTREF.to_string(), "GNTST_bad_gntref (-3): no such grant, or not for this");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct GrantError(NonZeroI16);

/// It was done.
pub const GNTST_OKAY: i16 = 0;

macro_rules! statuses {
    ($($name:ident = $number:literal, $header:literal, $text:literal;)*) => {
        impl GrantError {
            $(
                #[doc = concat!("`", $header, "`: ", $text, ".")]
                pub const $name: Self = Self(NonZeroI16::new($number).unwrap());
            )*

            /// The header's name for it.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0.get() {
                    $($number => Some($header),)*
                    _ => None,
                }
            }

            /// What it means.
            #[must_use]
            pub const fn text(self) -> Option<&'static str> {
                match self.0.get() {
                    $($number => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    GENERAL_ERROR = -1, "GNTST_general_error", "something went wrong";
    BAD_DOMAIN = -2, "GNTST_bad_domain", "no such domain";
    BAD_GNTREF = -3, "GNTST_bad_gntref", "no such grant, or not for this";
    BAD_HANDLE = -4, "GNTST_bad_handle", "no such mapping, or not for this";
    BAD_VIRT_ADDR = -5, "GNTST_bad_virt_addr", "nothing can be mapped at, or read from, that address";
    BAD_DEV_ADDR = -6, "GNTST_bad_dev_addr", "it is not mapped at that address for devices";
    NO_DEVICE_SPACE = -7, "GNTST_no_device_space", "the I/O MMU is full";
    PERMISSION_DENIED = -8, "GNTST_permission_denied", "the domain may not do this";
    BAD_PAGE = -9, "GNTST_bad_page", "not with that page";
    BAD_COPY_ARG = -10, "GNTST_bad_copy_arg", "the bytes to be copied are not in one page";
    ADDRESS_TOO_BIG = -11, "GNTST_address_too_big", "the page's address is too large";
    EAGAIN = -12, "GNTST_eagain", "not now; ask again";
    NO_SPACE = -13, "GNTST_no_space", "there is no room for more";
}

impl GrantError {
    /// Whether it was done.
    ///
    /// # Errors
    ///
    /// The number, if it is not zero.
    pub const fn check(status: i16) -> Result<(), Self> {
        match NonZeroI16::new(status) {
            Some(number) => Err(Self(number)),
            None => Ok(()),
        }
    }

    /// The number, as it is in `status`.
    #[must_use]
    pub const fn number(self) -> i16 {
        self.0.get()
    }
}

impl fmt::Display for GrantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name(), self.text()) {
            (Some(name), Some(text)) => write!(f, "{name} ({}): {text}", self.0),
            _ => write!(f, "grant status {}", self.0),
        }
    }
}

impl fmt::Debug for GrantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for GrantError {}

#[cfg(test)]
mod tests {
    use std::{format, string::ToString};

    use super::*;

    /// A number of a later Xen is an error, too, and is shown.
    #[test]
    fn an_unknown_status_is_kept() {
        for number in [-14, i16::MIN, 1] {
            let error = GrantError::check(number).expect_err("only zero is none");
            assert_eq!(error.number(), number);
            assert_eq!(error.to_string(), format!("grant status {number}"));
        }
    }
}
