//! Paths: which are valid, and how they lie to each other.
#![forbid(unsafe_code)]

use std::{fmt, sync::Arc};

use xen_abi::io::xs_wire::{XENSTORE_ABS_PATH_MAX, XsError};

use super::{
    quota::{Quota, Quotas},
    rules::{PATH_CHARACTERS, PATH_LENGTH, PATH_SLASHES, PATH_SPECIAL, Refusal},
};

/// The path of a node: an absolute one, or that of a special watch, which begins with an `@`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Path(Arc<str>);

/// Whether a path may be that of a special watch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Special {
    Allowed,
    Refused,
}

impl Path {
    /// One of the daemon's own.
    pub(super) fn own(path: &str) -> Self {
        Self(path.into())
    }

    pub(super) fn root() -> Self {
        Self::own("/")
    }

    /// What the relative paths of a domain are relative to.
    pub(super) fn home(domid: u16) -> String {
        format!("/local/domain/{domid}")
    }

    /// The path that a request names.
    pub(super) fn resolve(
        path: &[u8],
        home: &str,
        special: Special,
        quotas: Option<&Quotas>,
    ) -> Result<Self, Refusal> {
        let valid = |&byte: &u8| byte.is_ascii_alphanumeric() || b"-/_@".contains(&byte);
        let path = match str::from_utf8(path) {
            Ok(text) if path.iter().all(valid) => text,
            _ => return Err(PATH_CHARACTERS.answers(XsError::EINVAL)),
        };
        let is_special = path.starts_with('@');
        if is_special && special == Special::Refused {
            return Err(PATH_SPECIAL.answers(XsError::EINVAL));
        }
        let path: Arc<str> = if is_relative(path) { format!("{home}/{path}").into() } else { path.into() };
        if path.contains("//") || (path.ends_with('/') && &*path != "/") {
            return Err(PATH_SLASHES.answers(XsError::EINVAL));
        }
        let beyond_quota = quotas
            .is_some_and(|quotas| quotas.is_reached(Quota::PathLength, path.len() - domain_prefix(&path)));
        if path.len() > XENSTORE_ABS_PATH_MAX || beyond_quota {
            return Err(PATH_LENGTH.answers(XsError::EINVAL));
        }
        Ok(Self(path))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn is_root(&self) -> bool {
        &*self.0 == "/"
    }

    pub(super) fn is_special(&self) -> bool {
        self.0.starts_with('@')
    }

    /// The node above. The root, and what stands beside it, are below the root.
    pub(super) fn parent(&self) -> Self {
        match self.0.rfind('/') {
            None | Some(0) => Self::root(),
            Some(slash) => Self::own(&self.0[..slash]),
        }
    }

    /// The last part: what the parent calls it.
    pub(super) fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
    }

    /// The path of a child.
    pub(super) fn child(&self, name: &str) -> Self {
        let parent = if self.is_root() { "" } else { self.as_str() };
        Self(format!("{parent}/{name}").into())
    }

    /// Levels below another path, zero if it is the same; none if it is not below.
    pub(super) fn levels_below(&self, other: &Self) -> Option<usize> {
        let above = if other.is_root() { "" } else { other.as_str() };
        let rest = self.0.strip_prefix(above)?;
        match rest {
            "" | "/" => Some(0),
            _ if rest.starts_with('/') => Some(rest.bytes().filter(|&byte| byte == b'/').count()),
            _ => None,
        }
    }
}

/// Whether a path is relative to the caller's home.
pub(super) fn is_relative(path: &str) -> bool {
    !path.starts_with(['/', '@'])
}

/// The length of `/local/domain/N/` where a path begins with that: it does not count for the quota.
fn domain_prefix(path: &str) -> usize {
    let Some(rest) = path.strip_prefix("/local/domain/") else { return 0 };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    if matches!(digits, 1..=5) && rest[digits..].starts_with('/') {
        path.len() - rest.len() + digits + 1
    } else {
        0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(child: &str, parent: &str) -> Option<usize> {
        Path::own(child).levels_below(&Path::own(parent))
    }

    /// A watch fires for what is below its path, and a name that begins alike is not below.
    #[test]
    fn below_is_by_whole_names() {
        assert_eq!(levels("/a/b", "/a/b"), Some(0));
        assert_eq!(levels("/a/b/c/d", "/a/b"), Some(2));
        assert_eq!(levels("/a/bc", "/a/b"), None);
        assert_eq!(levels("/a", "/a/b"), None);
        assert_eq!(levels("/a", "/"), Some(1));
        assert_eq!(levels("/", "/"), Some(0));
        assert_eq!(levels("@releaseDomain", "/"), None);
        assert_eq!(levels("@releaseDomain/3", "@releaseDomain"), Some(1));
    }

    /// Parent, name and child fit together, at the root as well.
    #[test]
    fn a_path_is_the_child_of_its_parent() {
        for path in ["/a", "/a/b", "/local/domain/1/device"] {
            let path = Path::own(path);
            assert_eq!(path.parent().child(path.name()), path);
        }
        assert_eq!(Path::own("@releaseDomain").parent(), Path::root());
        assert_eq!(Path::root().parent(), Path::root());
    }

    /// The quota is for what a domain adds to its home: else a domain with a long number could store less.
    #[test]
    fn the_home_does_not_count() {
        assert_eq!(domain_prefix("/local/domain/12345/x"), 20);
        for whole in ["/local/domain/123456/x", "/local/domain//x", "/local/domain/1", "/vm/1/x"] {
            assert_eq!(domain_prefix(whole), 0, "{whole}");
        }
    }
}
