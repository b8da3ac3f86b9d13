//! `errno.h`: what a hypercall answers when it fails.
#![forbid(unsafe_code)]

use core::{fmt, num::NonZeroU16};

/// An error number of Xen, as positive as the header writes it.
///
/// ```
/// use xen_abi::Errno;
///
/// assert_eq!(Errno::check(0x0004_0011), Ok(0x0004_0011));
/// assert_eq!(Errno::check(-38), Err(Errno::ENOSYS));
/// assert_eq!(Errno::ENOSYS.to_string(), "ENOSYS (38)");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(NonZeroU16);

macro_rules! errnos {
    ($($name:ident = $number:literal,)*) => {
        impl Errno {
            $(
                #[doc = concat!("Error ", $number, ".")]
                pub const $name: Self = Self(NonZeroU16::new($number).unwrap());
            )*

            /// The header's name for it.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0.get() {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    EPERM = 1,
    ENOENT = 2,
    ESRCH = 3,
    EIO = 5,
    ENXIO = 6,
    E2BIG = 7,
    ENOEXEC = 8,
    EBADF = 9,
    ECHILD = 10,
    EAGAIN = 11,
    ENOMEM = 12,
    EACCES = 13,
    EFAULT = 14,
    EBUSY = 16,
    EEXIST = 17,
    EXDEV = 18,
    ENODEV = 19,
    ENOTDIR = 20,
    EISDIR = 21,
    EINVAL = 22,
    ENFILE = 23,
    EMFILE = 24,
    ENOSPC = 28,
    EROFS = 30,
    EMLINK = 31,
    EDOM = 33,
    ERANGE = 34,
    EDEADLK = 35,
    ENAMETOOLONG = 36,
    ENOLCK = 37,
    ENOSYS = 38,
    ENOTEMPTY = 39,
    ENODATA = 61,
    ETIME = 62,
    EBADMSG = 74,
    EOVERFLOW = 75,
    EILSEQ = 84,
    ENOTSOCK = 88,
    EMSGSIZE = 90,
    EOPNOTSUPP = 95,
    EADDRINUSE = 98,
    EADDRNOTAVAIL = 99,
    ENOBUFS = 105,
    EISCONN = 106,
    ENOTCONN = 107,
    ETIMEDOUT = 110,
    ECONNREFUSED = 111,
}

impl Errno {
    /// The largest number that a result can be: beyond it lie addresses and counts.
    pub const MOST: u16 = 4095;

    /// What a hypercall returned: a value, or one of the 4095 errors below zero.
    ///
    /// # Errors
    ///
    /// The number, if it is one.
    pub const fn check(result: i64) -> Result<u64, Self> {
        if result < 0 && result >= -(Self::MOST as i64) {
            #[expect(clippy::cast_possible_truncation, reason = "at most 4095")]
            let number = result.unsigned_abs() as u16;
            match NonZeroU16::new(number) {
                Some(number) => Err(Self(number)),
                None => Ok(0),
            }
        } else {
            Ok(result.cast_unsigned())
        }
    }

    /// The number, positive.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every answer is exactly one of the two; the ends of the range are where a sign would be lost.
    #[test]
    fn splits_all_results() {
        assert_eq!(Errno::check(-1), Err(Errno::EPERM));
        assert_eq!(Errno::check(-4095).map_err(Errno::number), Err(4095));
        assert_eq!(Errno::check(-4096), Ok((-4096_i64).cast_unsigned()));
        assert_eq!(Errno::check(0), Ok(0));
        assert_eq!(Errno::check(i64::MAX), Ok(i64::MAX.cast_unsigned()));
        assert_eq!(Errno::check(i64::MIN), Ok(i64::MIN.cast_unsigned()));
    }
}
