//! Who may do what with a node.
#![forbid(unsafe_code)]

use std::{fmt, ops::BitOr};

use xen_abi::io::xs_wire::XsError;

use super::{
    message::number,
    rules::{PERMISSION_SYNTAX, Refusal},
};

/// What a permission allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `n`
    None,
    /// `r`
    Read,
    /// `w`
    Write,
    /// `b`
    Both,
}

/// A permission as it is written: `r5`.
///
/// The first of a node's is its owner, who may do everything, and says what all those may do that no other names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    /// What is allowed,
    pub access: Access,
    /// to this domain.
    pub domid: u32,
}

impl Permission {
    /// A permission of a domain's.
    #[must_use]
    pub const fn new(access: Access, domid: u16) -> Self {
        Self { access, domid: domid as u32 }
    }

    pub(super) fn parse(text: &[u8]) -> Result<Self, Refusal> {
        let malformed = PERMISSION_SYNTAX.answers(XsError::EINVAL);
        let (letter, domid) = text.split_first().ok_or(malformed)?;
        let access = match letter {
            b'n' => Access::None,
            b'r' => Access::Read,
            b'w' => Access::Write,
            b'b' => Access::Both,
            _ => return Err(malformed),
        };
        Ok(Self { access, domid: number(domid).ok_or(malformed)? })
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self.access {
            Access::None => 'n',
            Access::Read => 'r',
            Access::Write => 'w',
            Access::Both => 'b',
        };
        write!(f, "{letter}{}", self.domid)
    }
}

impl fmt::Debug for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What somebody may do with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rights(u8);

impl Rights {
    pub(super) const READ: Self = Self(1);
    pub(super) const WRITE: Self = Self(2);
    pub(super) const OWN: Self = Self(4);
    const ALL: Self = Self(7);

    pub(super) const fn have_all(self, needed: Self) -> bool {
        self.0 & needed.0 == needed.0
    }

    pub(super) const fn have_any(self, needed: Self) -> bool {
        self.0 & needed.0 != 0
    }
}

impl BitOr for Rights {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl From<Access> for Rights {
    fn from(access: Access) -> Self {
        match access {
            Access::None => Self(0),
            Access::Read => Self::READ,
            Access::Write => Self::WRITE,
            Access::Both => Self::READ | Self::WRITE,
        }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// The control domain, which may do everything.
    Control,
    /// A guest, which may also do what its target may.
    Guest { domid: u16, target: Option<u16> },
}

impl Caller {
    fn is(self, domid: u32) -> bool {
        match self {
            Self::Control => false,
            Self::Guest { domid: own, target } => {
                domid == u32::from(own) || target.is_some_and(|target| domid == u32::from(target))
            }
        }
    }
}

/// The permissions of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Permissions {
    pub(super) owner: u16,
    /// What those may do that no entry names.
    others: Access,
    entries: Vec<Entry>,
}

/// The permission of a domain that is not the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    permission: Permission,
    whom: Whom,
}

/// Whom an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// The domain that it names.
    Named,
    /// All: it names `DOMID_ANY`.
    All,
    /// Nobody: the domain did not exist when the entry was written, and a later one of the same number does not inherit it.
    Nobody,
}

impl Permissions {
    pub(super) const fn of(owner: u16, others: Access) -> Self {
        Self { owner, others, entries: Vec::new() }
    }

    pub(super) fn with(mut self, permission: Permission, whom: Whom) -> Self {
        self.entries.push(Entry { permission, whom });
        self
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        1 + self.entries.len()
    }

    /// As they are written.
    pub(super) fn list(&self) -> Vec<Permission> {
        let owner = Permission::new(self.others, self.owner);
        [owner].into_iter().chain(self.entries.iter().map(|entry| entry.permission)).collect()
    }

    /// What a caller may do.
    pub(super) fn rights(&self, caller: Caller) -> Rights {
        if caller == Caller::Control || caller.is(self.owner.into()) {
            return Rights::ALL;
        }
        let named = self.entries.iter().find(|entry| match entry.whom {
            Whom::Named => caller.is(entry.permission.domid),
            Whom::All => true,
            Whom::Nobody => false,
        });
        named.map_or(self.others, |entry| entry.permission.access).into()
    }

    /// A domain is no more. Whether it had an entry.
    pub(super) fn forget(&mut self, domid: u16) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.permission.domid != u32::from(domid));
        self.entries.len() != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOM5: Caller = Caller::Guest { domid: 5, target: None };

    fn rights(permissions: &Permissions) -> Rights {
        permissions.rights(DOM5)
    }

    /// The first entry that names the caller counts, and only without one what is for all others.
    #[test]
    fn the_first_entry_decides() {
        let node = Permissions::of(0, Access::Read);
        assert_eq!(rights(&node), Rights::READ);
        let node = node.with(Permission::new(Access::None, 5), Whom::Named);
        assert_eq!(rights(&node), Rights::from(Access::None));
        let node = node.with(Permission::new(Access::Both, 5), Whom::Named);
        assert_eq!(rights(&node), Rights::from(Access::None), "it comes later");
    }

    /// An entry for a domain that did not exist gives nothing to the one that has its number now.
    #[test]
    fn an_entry_for_nobody_is_for_nobody() {
        let node = Permissions::of(0, Access::None).with(Permission::new(Access::Both, 5), Whom::Nobody);
        assert!(!rights(&node).have_any(Rights::READ | Rights::WRITE));
        assert_eq!(node.count(), 2, "but it is still listed");
    }

    /// The owner, and whoever has the owner as its target, may do everything.
    #[test]
    fn a_target_is_as_good_as_oneself() {
        let node = Permissions::of(7, Access::None);
        assert_eq!(rights(&node), Rights::from(Access::None));
        let device_model = Caller::Guest { domid: 5, target: Some(7) };
        assert!(node.rights(device_model).have_all(Rights::ALL));
    }
}
