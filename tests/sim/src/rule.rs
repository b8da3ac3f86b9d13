//! What the simulation follows, and where that is written.
#![forbid(unsafe_code)]

use std::fmt;

use crate::{backend, console, hypervisor, platform, toolstack, xenstored};

/// A rule of Xen's, in the simulation's own words.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The name that traces, verdicts and the code call it by.
    pub name: &'static str,
    /// What it says.
    pub says: &'static str,
    /// The document, as a path in Xen's sources.
    pub document: &'static str,
    /// The section in it, or the name of what the document describes there.
    pub section: &'static str,
}

impl Rule {
    /// All that the simulation follows.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        let others = [
            xenstored::RULES,
            toolstack::RULES,
            toolstack::build::RULES,
            toolstack::devices::RULES,
            toolstack::suspend::RULES,
            backend::RULES,
            platform::RULES,
            console::RULES,
        ];
        hypervisor::RULES.iter().copied().chain(others).flatten()
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Declares the rules of a module, each with its source, and the list of them.
macro_rules! rules {
    ($($(#[doc = $says:literal])+ $name:ident: $document:literal, $section:literal;)*) => {
        $(
            $(#[doc = $says])+
            pub(crate) const $name: $crate::rule::Rule = $crate::rule::Rule {
                name: stringify!($name),
                says: concat!($($says),+),
                document: $document,
                section: $section,
            };
        )*

        /// All of them.
        pub(crate) const RULES: &[$crate::rule::Rule] = &[$($name),*];
    };
}
pub(crate) use rules;
