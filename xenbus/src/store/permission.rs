//! Who may do what with a node.
#![forbid(unsafe_code)]

use super::path::Text;

/// What a domain may do with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    None,
    /// Read it.
    Read,
    /// Write it.
    Write,
    /// Read and write it.
    Both,
}

/// An entry of a node's permissions.
///
/// The first of them names the node's owner, who may do everything, and what all domains may do that have no entry of
/// their own: "permission entries of a node" in `docs/misc/xenstore.txt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Whose entry it is.
    pub domain: u16,
    /// What that domain may do; in the first entry, all others.
    pub access: Access,
}

impl Access {
    const ALL: [(u8, Self); 4] =
        [(b'n', Self::None), (b'r', Self::Read), (b'w', Self::Write), (b'b', Self::Both)];

    fn letter(self) -> char {
        let known = Self::ALL.into_iter().find(|(_, access)| *access == self);
        known.map_or('n', |(letter, _)| letter.into())
    }
}

impl Permission {
    /// An entry.
    #[must_use]
    pub const fn new(domain: u16, access: Access) -> Self {
        Self { domain, access }
    }

    /// As it is on the wire: a letter and a number.
    pub(super) fn text(self) -> Text<6> {
        Text::of(format_args!("{}{}", self.access.letter(), self.domain)).unwrap_or(Text::EMPTY)
    }

    /// From the wire, without the nul.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let (letter, digits) = text.split_first()?;
        let (_, access) = Access::ALL.into_iter().find(|(known, _)| known == letter)?;
        let domain = super::answer::number(digits)?;
        Some(Self { domain, access })
    }
}
