//! What an answer says: numbers, lists of names, permissions. Nothing in it is believed before it was looked at.
#![forbid(unsafe_code)]

use core::str::FromStr;

use super::permission::Permission;

/// An integer that a node's value can be.
///
/// A value is one if it is a decimal number of the type, and nothing else: no sign that is not needed, no space, no
/// nul and no newline at its end.
pub trait Number: FromStr + sealed::Named {}

mod sealed {
    pub trait Named {
        const NAME: &'static str;
    }
}

macro_rules! numbers {
    ($($number:ty: $name:literal),*) => { $(
        impl sealed::Named for $number {
            const NAME: &'static str = $name;
        }
        impl Number for $number {}
    )* };
}

numbers! {
    u8: "a decimal number of 8 bits", u16: "a decimal number of 16 bits", u32: "a decimal number of 32 bits",
    u64: "a decimal number of 64 bits", i32: "a decimal number of 31 bits and a sign",
    i64: "a decimal number of 63 bits and a sign"
}

/// A number as it is on the wire.
pub(super) fn number<T: Number>(text: &[u8]) -> Option<T> {
    if text.first() == Some(&b'+') { None } else { str::from_utf8(text).ok()?.parse().ok() }
}

/// What a value has to be, to be such a number.
pub(super) const fn name<T: Number>() -> &'static str {
    T::NAME
}

/// The names of a node's children, in the order in which xenstored lists them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names<'b>(&'b [u8]);

impl<'b> Names<'b> {
    /// Of a list in which each name has a nul at its end. None, if one of them is not printable, or has a slash.
    #[must_use]
    pub fn parse(list: &'b [u8]) -> Option<Self> {
        let mut names = list;
        while let Some((name, rest)) = split(names) {
            if name.is_empty() || !name.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'/') {
                return None;
            }
            names = rest;
        }
        names.is_empty().then_some(Self(list))
    }
}

impl<'b> Iterator for Names<'b> {
    type Item = &'b str;

    fn next(&mut self) -> Option<&'b str> {
        let (name, rest) = split(self.0)?;
        self.0 = rest;
        str::from_utf8(name).ok()
    }
}

/// A piece of a list that is too long for one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece<'b> {
    /// That of the whole list: a piece with another one is of another list.
    pub(super) generation: u64,
    pub(super) names: &'b [u8],
    pub(super) is_last: bool,
}

impl<'b> Piece<'b> {
    /// From the wire: the last piece has an empty name at its end, and every other one has a name.
    pub(super) fn parse(answer: &'b [u8]) -> Option<Self> {
        let (generation, names) = split(answer)?;
        let generation = number(generation)?;
        let end = names.strip_suffix(&[0]).filter(|rest| rest.last().is_none_or(|last| *last == 0));
        let is_last = end.is_some();
        let names = end.unwrap_or(names);
        ((is_last || !names.is_empty()) && Names::parse(names).is_some()).then_some(Self {
            generation,
            names,
            is_last,
        })
    }
}

/// The permissions in an answer, which has one at least; none if there is anything else in it.
pub(super) fn permissions(mut answer: &[u8], mut each: impl FnMut(Permission)) -> Option<usize> {
    let mut count = 0_usize;
    while let Some((text, rest)) = split(answer) {
        each(Permission::parse(text)?);
        count = count.saturating_add(1);
        answer = rest;
    }
    (answer.is_empty() && count > 0).then_some(count)
}

/// The first string, and what comes after its nul.
pub(super) fn split(strings: &[u8]) -> Option<(&[u8], &[u8])> {
    let nul = strings.iter().position(|byte| *byte == 0)?;
    let (string, rest) = strings.split_at_checked(nul)?;
    Some((string, rest.get(1..)?))
}
