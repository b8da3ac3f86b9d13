//! Grants and memory, as Xen's headers describe them: every command, and every way in which it can end.
#![deny(unsafe_code)]

mod backend;
mod copy;
#[path = "../kernel/mod.rs"]
mod kernel;
mod map;
mod physmap;
mod reservation;
mod table;

use std::collections::BTreeSet;

use xen_sim::{GuestConfig, Rule};

use kernel::Kernel;

/// A guest with 64 pages, two pages of grants, and room for three mappings.
fn small() -> Kernel {
    Kernel::new(GuestConfig { pages: 64, grant_frames: 2, mappings: 3, ..GuestConfig::default() })
}

/// A rule is called by its name, in verdicts and by who tolerates it: no two have the same, and each says where it is from.
#[test]
fn each_rule_has_a_name_and_a_source() {
    let mut names = BTreeSet::new();
    for rule in Rule::all() {
        assert!(names.insert(rule.name), "{rule:?} is there twice");
        assert!(!rule.document.is_empty() && !rule.section.is_empty(), "{rule:?}");
    }
    assert!(!names.is_empty());
}
