//! What is in a payload: strings, each ended by a nul, and numbers in them.
#![forbid(unsafe_code)]

use xen_abi::io::xs_wire::XsError;

use super::rules::{NUMBER_SYNTAX, PAYLOAD_SYNTAX, Refusal};

/// The only string of a payload.
pub(super) fn one(payload: &[u8]) -> Result<&[u8], Refusal> {
    match payload.split_last() {
        Some((0, string)) if !string.contains(&0) => Ok(string),
        _ => Err(PAYLOAD_SYNTAX.answers(XsError::EINVAL)),
    }
}

/// The strings of a payload. What comes after the last nul is not looked at.
pub(super) fn strings(payload: &[u8]) -> Vec<&[u8]> {
    let Some(last) = payload.iter().rposition(|&byte| byte == 0) else { return Vec::new() };
    payload[..last].split(|&byte| byte == 0).collect()
}

/// The strings of a payload that has so many.
pub(super) fn exactly<const N: usize>(payload: &[u8]) -> Result<[&[u8]; N], Refusal> {
    strings(payload).try_into().map_err(|_| PAYLOAD_SYNTAX.answers(XsError::EINVAL))
}

/// The first string of a payload, and all the bytes after its nul.
pub(super) fn string_and_rest(payload: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let nul = payload.iter().position(|&byte| byte == 0).ok_or(PAYLOAD_SYNTAX.answers(XsError::EINVAL))?;
    Ok((&payload[..nul], &payload[nul + 1..]))
}

/// What a payload begins with, for who reads a trace.
pub(super) fn first(payload: &[u8]) -> String {
    String::from_utf8_lossy(string_and_rest(payload).map_or(payload, |(first, _)| first)).into_owned()
}

/// A decimal number. (The C daemon takes what `strtol` takes, which the document does not ask for.)
pub(super) fn number(digits: &[u8]) -> Option<u32> {
    if digits.iter().all(u8::is_ascii_digit) { str::from_utf8(digits).ok()?.parse().ok() } else { None }
}

pub(super) fn required_number(digits: &[u8]) -> Result<u32, Refusal> {
    number(digits).ok_or(NUMBER_SYNTAX.answers(XsError::EINVAL))
}

pub(super) fn domid(digits: &[u8]) -> Result<u16, Refusal> {
    let number = required_number(digits)?;
    u16::try_from(number).map_err(|_| NUMBER_SYNTAX.answers(XsError::EINVAL))
}

/// Strings as they go into a payload.
pub(super) fn payload<S: AsRef<[u8]>>(strings: impl IntoIterator<Item = S>) -> Vec<u8> {
    let mut payload = Vec::new();
    for string in strings {
        payload.extend_from_slice(string.as_ref());
        payload.push(0);
    }
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A nul too few or too many is where a C program reads on.
    #[test]
    fn strings_end_with_a_nul() {
        assert_eq!(one(b"a\0"), Ok(&b"a"[..]));
        assert_eq!(one(b"\0"), Ok(&b""[..]));
        for bad in [&b""[..], b"a", b"a\0b\0", b"a\0\0"] {
            assert!(one(bad).is_err(), "{bad:?}");
        }
        assert_eq!(strings(b"a\0\0b"), [&b"a"[..], b""]);
        assert_eq!(strings(b"a"), [&b""[..]; 0]);
        assert_eq!(strings(b"\0"), [b""]);
        assert!(exactly::<2>(b"a\0b\0c\0").is_err());
        assert_eq!(string_and_rest(b"a\0b\0c"), Ok((&b"a"[..], &b"b\0c"[..])));
    }

    /// What is no number, or none of the width, is refused and not cut.
    #[test]
    fn numbers_are_decimal() {
        assert_eq!(number(b"4294967295"), Some(u32::MAX));
        for bad in [&b""[..], b"-1", b"+1", b" 1", b"0x1", b"1 ", b"4294967296", b"\xFF"] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
        assert_eq!(domid(b"65535"), Ok(u16::MAX));
        assert!(domid(b"65536").is_err());
    }
}
